"""Random draws for cells that need them: reproducible from one key, whatever the block, the device
or the batch axes.

Every step of every row has a number, and so has every sequence of every row (a reset begins a new
one). A draw depends on the driver's key and on such a number alone, so it can be repeated when the
backward pass needs it again: no mask is kept."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.cell import Cell, Keys, Params
from jaxrnn.core.composite import Fed
from jaxrnn.core.trees import Tree

_IMPLEMENTATION = "threefry2x32"
"""Under `vmap`, each key draws for itself; of other kinds ("rbg"), the first draws for all."""


def threefry(key: Array) -> Array:
    """A key that draws by number: this one, or one made of every bit of a key of another kind."""
    if jax.random.key_impl(key) == _IMPLEMENTATION:
        return key
    made = jax.random.key(0, impl=_IMPLEMENTATION)
    for word in jax.random.key_data(key).ravel():
        made = jax.random.fold_in(made, word)
    return made


class Numbers(NamedTuple):
    """The numbers of steps and of sequences, uint32 `[time, *batch]`, or `[*batch]` for a single
    step.
    """

    step: Array
    sequence: Array


def number(steps: tuple[int, ...], reset: Array | None) -> Numbers:
    """Number all steps and sequences of `steps = (time, *batch)`."""
    time, *batch = steps
    rows = jnp.arange(math.prod(batch), dtype=jnp.uint32).reshape(batch)
    stride = jnp.uint32(max(rows.size, 1))
    t = jnp.arange(time, dtype=jnp.uint32).reshape(time, *[1] * len(batch))
    before = (
        jnp.zeros(steps, jnp.uint32)
        if reset is None
        else lax.cumsum(reset.astype(jnp.uint32), axis=0)
    )
    return Numbers(t * stride + rows, before * stride + rows)


def for_each(function: Callable[[Any], Any], given: Any) -> Any:
    """`function` of each entry of equally shaped arrays: every array it returns gets their axes in
    front.
    """
    shape = jax.tree.leaves(given)[0].shape
    drawn = jax.vmap(function)(jax.tree.map(lambda leaf: leaf.reshape(-1), given))
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), drawn)


class Draws(NamedTuple):
    """What is drawn from: a key, and the numbers of all steps and sequences."""

    key: Array  # as `threefry` gives it
    numbers: Numbers

    def __call__(self, function: Callable[[Keys], Any]) -> Any:
        """`function(keys)` for each number: every array it returns gets their leading axes."""
        k_step, k_sequence = jax.random.split(self.key)

        def one(at: Numbers) -> Any:
            own = jax.random.fold_in(k_step, at.step), jax.random.fold_in(k_sequence, at.sequence)
            return function(Keys(*own))

        return for_each(one, self.numbers)

    def part(self, k: int) -> "Draws":
        """Draws that are independent of these, and of those of other parts."""
        return self._replace(key=jax.random.fold_in(self.key, k))

    def fed_to(self, cell: Cell, params: Params, xs: Tree) -> tuple[Cell, Params, Tree]:
        """A cell, parameters and inputs for any loop: the parameters hold the key, too, and the
        inputs the numbers.
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
    """A cell that draws what it needs when it projects its inputs."""

    def project(self, params: _Keyed, xs: _Numbered) -> Tree:
        key = jax.random.wrap_key_data(params.key_data, impl=_IMPLEMENTATION)
        draw: Callable[[Keys], Any] = self.cell.draw  # type: ignore[attr-defined]  # it is noisy
        return super().project(params, xs.xs, Draws(key, xs.numbers)(draw))

    def read(self, params: _Keyed, ys: Any, xs: _Numbered) -> Any:
        return super().read(params, ys, xs.xs)


def keep(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
    """Which numbers survive dropout at this rate: bool, of this shape."""
    return jax.random.bernoulli(key, 1 - rate, shape)


def drop(values: Array, kept: Array | None, rate: float) -> Array:
    """Zero what is not kept and scale the rest up, so that the expectation is `values`; as they are
    if `kept` is None.
    """
    if kept is None:
        return values
    return jnp.where(kept, values / (1 - rate), jnp.zeros((), values.dtype))
