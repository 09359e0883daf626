"""Random draws for cells that need them.

Every step of every row of the batch has a number, and so has every sequence of every row; a reset
begins a new sequence. A draw depends on nothing but the driver's key and such a number. It is
therefore the same for every block size, every device, and every arrangement of the batch axes. The
backward pass draws again what it needs, so no dropout mask is stored.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn.core.cell import Cell, Params
from jaxrnn.core.composite import Fed
from jaxrnn.core.kinds import Keys
from jaxrnn.core.trees import Tree

_IMPLEMENTATION = "threefry2x32"
"""The key type whose draws under `vmap` depend on each key. With others ("rbg"), only the first key
counts.
"""


def threefry(key: Array) -> Array:
    """Return a threefry key: this one, or one derived from all bits of a key of another type."""
    if jax.random.key_impl(key) == _IMPLEMENTATION:
        return key
    made = jax.random.key(0, impl=_IMPLEMENTATION)
    for word in jax.random.key_data(key).ravel():
        made = jax.random.fold_in(made, word)
    return made


class Numbers(NamedTuple):
    """The numbers of steps and of sequences.

    Both are uint32 `[time, *batch]`, or `[*batch]` for a single step.
    """

    step: Array
    sequence: Array


def number(steps: tuple[int, ...], reset: Array | None) -> Numbers:
    """Give each step and each sequence a number; inputs have the axes `steps = (time, *batch)`."""
    time, *batch = steps
    rows = jnp.arange(math.prod(batch), dtype=jnp.uint32).reshape(1, *batch)
    stride = jnp.uint32(max(rows.size, 1))
    t = jnp.arange(time, dtype=jnp.uint32).reshape(time, *[1] * len(batch))
    before = (
        jnp.zeros(steps, jnp.uint32)
        if reset is None
        else lax.cumsum(reset.astype(jnp.uint32), axis=0)
    )
    return Numbers(t * stride + rows, before * stride + rows)


def for_each(function: Callable[[Any], Any], given: Tree) -> Any:
    """Apply `function` to each entry of equally shaped arrays.

    The axes of the entries stand in front of the axes of every array that `function` returns.
    """
    shape = jax.tree.leaves(given)[0].shape
    drawn = jax.vmap(function)(jax.tree.map(lambda leaf: leaf.reshape(-1), given))
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), drawn)


class Draws(NamedTuple):
    """The source of draws: a key, and the numbers of all steps and sequences."""

    key: Array  # as `threefry` returns it
    numbers: Numbers

    def __call__(self, function: Callable[[Keys], Any]) -> Any:
        """Call `function(keys)` for every step and row.

        The axes of the numbers stand in front of the axes of every array that it returns.
        """
        k_step, k_sequence = jax.random.split(self.key)

        def one(at: Numbers) -> Any:
            own = jax.random.fold_in(k_step, at.step), jax.random.fold_in(k_sequence, at.sequence)
            return function(Keys(*own))

        return for_each(one, self.numbers)

    def part(self, k: int) -> "Draws":
        """Return draws for part k, which are independent of these and of every other part's."""
        return self._replace(key=jax.random.fold_in(self.key, k))

    def fed_to(self, cell: Cell, params: Params, xs: Tree) -> tuple[Cell, Params, Tree]:
        """Wrap a noisy cell so that any method can run it.

        The parameters then also hold the key, and the inputs the numbers. The wrapped cell draws in
        `project`.
        """
        keyed = _Keyed(params, jax.random.key_data(self.key))
        return _Drawing(cell), keyed, _Numbered(xs, self.numbers)


class _Keyed(NamedTuple):
    params: Params
    key_data: Array


class _Numbered(NamedTuple):
    xs: Tree
    numbers: Numbers


class _Drawing(Fed):
    """A noisy cell that draws its random numbers in `project`."""

    def project(self, params: _Keyed, xs: _Numbered) -> Tree:
        key = jax.random.wrap_key_data(params.key_data, impl=_IMPLEMENTATION)
        draw: Callable[[Keys], Any] = self.cell.draw  # type: ignore[attr-defined]  # it is noisy
        return super().project(params, xs.xs, Draws(key, xs.numbers)(draw))

    def read(self, params: _Keyed, ys: Tree, xs: _Numbered) -> Tree:
        return super().read(params, ys, xs.xs)


def keep(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
    """Draw which numbers dropout at this rate keeps: bool, of this shape.

    With a rate in float32, JAX draws the same whether it holds float64 or not.
    """
    return jax.random.bernoulli(key, np.float32(1 - rate), shape)


def drop(values: Array, kept: Array | None, rate: float) -> Array:
    """Zero what is not kept, and divide the rest by `1 - rate`, so that the mean is `values`.

    If `kept` is None, return the values as they are.
    """
    if kept is None:
        return values
    return jnp.where(kept, values / (1 - rate), jnp.zeros((), values.dtype))
