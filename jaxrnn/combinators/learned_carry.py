"""A learned initial carry."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.combinators.wrapper import Wrapper
from jaxrnn.core.cell import C, Carry, Cell, Params
from jaxrnn.core.check import check_no_variables


class LearnedCarryParams(NamedTuple):
    """Parameters of `LearnedCarry`."""

    inner: Params
    start: Carry  # as the cell's carry, without batch axes; None for what is no floating number


@dataclasses.dataclass(frozen=True)
class LearnedCarry(Wrapper[LearnedCarryParams, C]):
    """The cell, with an initial carry that is a parameter, at first the cell's.

    Every sequence starts from it, after a reset, too.

    A carry that is computed from data (an image, an encoder) is no parameter: pass it to the
    driver. Integers in the carry start as the cell has them. Of several feature axes the last alone
    has numbers of its own, which all positions on the others share.

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

    cell: Cell[Any, C]

    def inner(self, params: LearnedCarryParams) -> Params:
        """Without the initial carry."""
        return params.inner

    def init(
        self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32
    ) -> LearnedCarryParams:
        """Draw the cell's parameters; the carry starts as the cell has it."""
        params = self.cell.init(key, in_features, dtype)
        one_position = (*[1] * (self.feature_axes - 1), in_features)
        start = self.cell.initial_carry(params, one_position)

        def leaf(own: Array) -> Array | None:
            return own.astype(dtype) if jnp.issubdtype(own.dtype, jnp.floating) else None

        return LearnedCarryParams(params, jax.tree.map(leaf, start))

    def initial_carry(self, params: LearnedCarryParams, input_shape: tuple[int, ...]) -> C:
        """The parameter, for each row of the batch."""
        check_no_variables(self, params)
        carry = self.cell.initial_carry(params.inner, input_shape)

        def leaf(start: Array | None, own: Array) -> Array:
            return own if start is None else jnp.broadcast_to(start, own.shape).astype(own.dtype)

        return jax.tree.map(leaf, params.start, carry, is_leaf=lambda start: start is None)

    def labels(self, params: LearnedCarryParams) -> LearnedCarryParams:
        """The cell's, and "carry"."""
        start = jax.tree.map(lambda _: "carry", params.start)
        return LearnedCarryParams(self.cell.labels(params.inner), start)
