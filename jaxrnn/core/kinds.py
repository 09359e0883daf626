"""Cells that draw random numbers, that read a context, or whose recurrence is linear."""

from abc import abstractmethod
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import C, Cell, P, Params
from jaxrnn.core.dtypes import as_wide
from jaxrnn.core.trees import Tree


class LinearCell(Cell[P, C]):
    """A cell with an elementwise linear recurrence, real or complex.

        h_t = a_t ⊙ h_{t-1} + b_t,    y_t = h_t

    `a` and `b` do not depend on `h`. A subclass defines `coefficients` in place of `step`. It
    overrides `read` to make something else of the states.

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Average(jaxrnn.LinearCell):
    ...     features: int
    ...     decay: float
    ...     def init(self, key, in_features, dtype=jnp.float32):
    ...         return jnp.ones(in_features, dtype)
    ...     def initial_carry(self, params, input_shape):
    ...         return jnp.zeros(input_shape)
    ...     def coefficients(self, params, u):
    ...         return self.decay, (1 - self.decay) * params * u
    ...     @property
    ...     def out_features(self):
    ...         return self.features
    >>> cell = Average(1, decay=0.5)
    >>> jaxrnn.scan(cell, jnp.ones(1), jnp.ones((3, 1)))[1][:, 0].tolist()
    [0.5, 0.75, 0.875]
    """

    @abstractmethod
    def coefficients(self, params: P, u: Tree) -> tuple[Any, C]:
        """Return `a` and `b`, of one step or of many.

        Both are pytrees with the structure of the carry. `a` may also be a single array or number,
        which then multiplies every leaf.
        """

    def step(
        self, params: P, carry: C, u: Tree, affine: Affine = default_affine
    ) -> tuple[C, Array]:
        """Compute `a ⊙ h + b` in the dtype of the carry."""
        del affine
        a, b = self.coefficients(params, u)
        if jax.tree_util.all_leaves([a]):
            a = jax.tree.map(lambda _: a, carry)

        def leaf(a: Array, h: Array, b: Array) -> Array:
            return as_wide(a, h) * h + as_wide(b, h)

        after = jax.tree.map(leaf, a, carry, b)
        return after, after


class Keys(NamedTuple):
    """The random keys that a `NoisyCell` gets for one step of one row of the batch."""

    step: Array  # a new one at every step
    sequence: Array  # the same at all steps of a sequence

    def split(self) -> tuple["Keys", "Keys"]:
        """Return two pairs of keys that are independent of each other."""
        (a, b), (c, d) = jax.random.split(self.step), jax.random.split(self.sequence)
        return Keys(a, c), Keys(b, d)


class NoisyCell(Cell[P, C]):
    """A cell that draws random numbers when a driver gets a `key`.

    `draw` defines what one step of one row of the batch draws. `project` gets the draws of all
    steps and rows as `noise`, and puts into `u` what `step` needs of them. Without a key, `noise`
    is None and nothing is random.

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class RandomWalk(jaxrnn.NoisyCell):
    ...     features: int
    ...     def init(self, key, in_features, dtype=jnp.float32):
    ...         return ()
    ...     def initial_carry(self, params, input_shape):
    ...         return jnp.zeros(input_shape)
    ...     def draw(self, keys):
    ...         return jax.random.normal(keys.step, (self.features,))
    ...     def project(self, params, xs, noise=None):
    ...         return xs if noise is None else xs + noise
    ...     def step(self, params, carry, u, affine=jaxrnn.affine):
    ...         h = carry + u
    ...         return h, h
    ...     @property
    ...     def out_features(self):
    ...         return self.features
    >>> cell, xs = RandomWalk(3), jnp.ones((7, 2, 3))
    >>> drift, _ = jaxrnn.scan(cell, (), xs)
    >>> noisy, _ = jaxrnn.scan(cell, (), xs, key=jax.random.key(0))
    >>> drift.tolist(), bool(jnp.any(noisy == drift))
    ([[7.0, 7.0, 7.0], [7.0, 7.0, 7.0]], False)
    """

    @abstractmethod
    def draw(self, keys: Keys) -> Tree:
        """Draw the random numbers of one step of one row of the batch.

        `keys.step` is new at each step, and `keys.sequence` in each sequence. Prefer bools to
        floats: bools have no gradient.
        """

    @abstractmethod
    def project(self, params: P, xs: Tree, noise: Any = None) -> Tree:
        """Compute the part of a step that needs no carry, as `Cell.project` does.

        `noise` is what `draw` returns, with the leading axes of `xs` in front. Without a key it is
        None.
        """

    @property
    def noisy(self) -> bool:
        return True


class WithContext(NamedTuple):
    """The `params` that the step of a `ContextCell` gets: the cell's parameters and the context.

    `jaxrnn.substep` takes one, too, for an inner cell that needs a context.

    >>> import jax.numpy as jnp, jaxrnn
    >>> both = jaxrnn.WithContext(params=jnp.full(3, 0.5), context=jnp.ones((2, 3)))
    >>> params, context = both
    >>> context.shape
    (2, 3)
    """

    params: Params  # the cell's own
    context: Tree  # as `prepare` returns it


class ContextCell(Cell[P, C]):
    """A cell that reads a context: a pytree `[*batch, ...]` that stays the same over time.

    Examples are the memory that a decoder attends to, the features of an image, a goal, and static
    covariates. Drivers and Flax modules take it as `context=`. It is stored once, gradients reach
    it, and it is split over devices as the batch is.

    `step` gets a `WithContext`: it reads the context from `params.context` and the parameters from
    `params.params`. `prepare` may transform the context once, before the first step. No other
    method gets the context.

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Towards(jaxrnn.ContextCell):
    ...     features: int
    ...     def init(self, key, in_features, dtype=jnp.float32):
    ...         return jnp.full(in_features, 0.5, dtype)
    ...     def initial_carry(self, params, input_shape):
    ...         return jnp.zeros(input_shape)
    ...     def step(self, params, carry, u, affine=jaxrnn.affine):
    ...         rate, goal = params
    ...         h = carry + rate * (goal - carry) + u
    ...         return h, h
    ...     @property
    ...     def out_features(self):
    ...         return self.features
    >>> goal = jnp.ones((2, 3))
    >>> h, ys = jaxrnn.scan(Towards(3), jnp.full(3, 0.5), jnp.zeros((2, 2, 3)), context=goal)
    >>> float(h[0, 0])
    0.75
    """

    @abstractmethod
    def step(
        self, params: Any, carry: C, u: Tree, affine: Affine = default_affine
    ) -> tuple[C, Array]:
        """Compute the recurrence of one step, as `Cell.step` does; `params` is a `WithContext`."""

    def prepare(self, params: P, context: Tree) -> Tree:
        """Transform the context once, before the first step. The default returns it as it is.

        `step` gets the result in place of the context.
        """
        del params
        return context

    @property
    def takes_context(self) -> bool:
        return True
