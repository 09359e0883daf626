"""A learned initial carry."""

import dataclasses
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.combinators.wrapper import Wrapper
from jaxrnn.core.cell import C, Carry, Cell, Params
from jaxrnn.core.check import check_no_variables


class LearnedCarryParams(NamedTuple):
    """Parameters of `LearnedCarry`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.LearnedCarry(jaxrnn.GRU(4)).init(jax.random.key(0), in_features=3)
    >>> params.inner.w_x.shape, params.start.shape
    ((3, 12), (4,))
    """

    inner: Params  # the cell's
    start: Carry  # the cell's carry without batch axes; None in place of integers


@dataclasses.dataclass(frozen=True)
class LearnedCarry(Wrapper[LearnedCarryParams, C]):
    """A cell whose initial carry is a parameter.

        carry_0 = start

    `start` begins as the cell's own initial carry. Every sequence starts from it, also after a
    reset. Integers in the carry are not learned. If there are several feature axes, only the last
    one has its own numbers, and all positions on the others share them.

    A carry that is computed from data, such as an image or an encoder's state, is not a parameter:
    pass it to the driver.

    Args:
        cell: any causal cell that is not made of cells.

    Raises:
        ValueError: the cell is made of cells, or is not causal. Wrap the cells inside. From `init`:
            the carry is complex.
        TypeError: `cell` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.LearnedCarry(jaxrnn.GRU(4))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> params.start.shape, cell.initial_carry(params, input_shape=(2, 3)).shape
    ((4,), (2, 4))
    """

    cell: Cell[Any, C]

    def inner(self, params: LearnedCarryParams) -> Params:
        """Return the parameters without the initial carry."""
        return params.inner

    def init(
        self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32
    ) -> LearnedCarryParams:
        """Draw the cell's parameters, and take its own initial carry as the first `start`."""
        params = self.cell.init(key, in_features, dtype)
        start = self.cell.initial_carry(params, _smallest_input(self.cell, in_features))
        one_position = (slice(1),) * (self.feature_axes - 1)

        if any(jnp.iscomplexobj(own) for own in jax.tree.leaves(start)):
            raise ValueError(
                f"LearnedCarry: the carry of {type(self.cell).__name__} is complex, expected a real"
                " one, for parameters are real; let the cell make its carry of a parameter"
            )

        def leaf(own: Array) -> Array | None:
            floating = jnp.issubdtype(own.dtype, jnp.floating)
            return own[one_position].astype(dtype) if floating else None

        return LearnedCarryParams(params, jax.tree.map(leaf, start))

    def initial_carry(self, params: LearnedCarryParams, input_shape: tuple[int, ...]) -> C:
        """Return the parameter, broadcast to all rows of the batch."""
        check_no_variables(self, params)
        carry = self.cell.initial_carry(params.inner, input_shape)

        def leaf(start: Array | None, own: Array) -> Array:
            if start is None:
                return own
            # a copy, because whoever gets it may donate it, and without a batch it is the parameter
            return jnp.array(jnp.broadcast_to(start, own.shape), own.dtype)

        return jax.tree.map(leaf, params.start, carry, is_leaf=lambda start: start is None)

    def labels(self, params: LearnedCarryParams) -> LearnedCarryParams:
        """Return the roles of the cell's parameters, and "carry" for the initial carry."""
        start = jax.tree.map(lambda _: "carry", params.start)
        return LearnedCarryParams(self.cell.labels(params.inner), start)


def _smallest_input(cell: Cell, in_features: int) -> tuple[int, ...]:
    """Return the smallest shape of a step's input that gives an output, `(*space, in_features)`.

    All spatial axes are equally long. A convolution without padding needs an image of its kernel's
    size.
    """
    shapes = ((*[size] * (cell.feature_axes - 1), in_features) for size in count(1))
    return next(shape for shape in shapes if 0 not in cell.output_shape(shape))
