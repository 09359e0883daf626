"""A learned initial carry."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn._cell import Affine, Carry, Cell, Params
from jaxrnn._numerics import affine as default_affine
from jaxrnn._numerics import wide
from jaxrnn.combinators.wrapper import Wrapper

Array = jax.Array


class LearnedCarryParams(NamedTuple):
    """Parameters of `LearnedCarry`."""

    inner: Params
    start: Carry  # as the cell's carry, without batch axes


@dataclasses.dataclass(frozen=True)
class LearnedCarry(Wrapper):
    """The cell, with an initial carry that is a parameter, at first zero: every sequence starts from it, after a reset, too.

    A carry that is computed from data (an image, an encoder) is no parameter: pass it to the driver.

    Args:
        cell: any cell.

    Raises:
        ValueError: the cell is made of cells: wrap those inside.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.LearnedCarry(jaxrnn.GRU(4))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> params.start.shape, cell.initial_carry(params, input_shape=(2, 3)).shape
    ((4,), (2, 4))
    """

    cell: Cell

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> LearnedCarryParams:
        """Draw the cell's parameters; the carry starts as the cell has it."""
        params = self.cell.init(key, in_features, dtype)
        start = self.cell.initial_carry(params, (in_features,) * self.cell.feature_axes)
        return LearnedCarryParams(params, jax.tree.map(lambda leaf: leaf.astype(dtype), start))

    def initial_carry(self, params: LearnedCarryParams, input_shape: tuple[int, ...]) -> Carry:
        """The parameter, for each row of the batch."""
        batch = input_shape[: len(input_shape) - self.feature_axes]
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch, *leaf.shape)).astype(wide(leaf)), params.start)

    def project(self, params: LearnedCarryParams, xs: Any, noise: Any = None) -> tuple[Any, Any]:
        """The cell's projection."""
        return super().project(params.inner, xs, noise)

    def step(
        self, params: LearnedCarryParams, carry: Carry, u: tuple[Any, Any], affine: Affine = default_affine
    ) -> tuple[Carry, Array]:
        """The cell's step."""
        return super().step(params.inner, carry, u, affine)
