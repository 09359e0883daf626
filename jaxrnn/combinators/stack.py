"""Layers of cells."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._cell import Carry, Cell, Composite, Params
from jaxrnn._check import check_inner

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Stack(Composite):
    """Cells on top of each other: each layer's output is the next one's input (Graves 2013).

    Parameters and carry are tuples with one entry per layer. A stack with a `Bidirectional` layer needs the future too.

    Args:
        cells: the layers, bottom first.

    Raises:
        ValueError: there is no layer, or one below the top has two outputs (`Bidirectional(merge=None)`).
        TypeError: a layer is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.GRU(5)])
    >>> carry, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> carry[0].c.shape, carry[1].shape, ys.shape
    ((2, 4), (2, 5), (7, 2, 5))
    """

    cells: Sequence[Cell]

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self.cells))  # a list would not hash
        if not self.cells:
            raise ValueError("Stack: cells is empty, expected at least one layer")
        for cell in self.cells:
            check_inner(self, "cells", cell)
        for cell in self.cells[:-1]:
            cell.out_features  # noqa: B018  (a layer with two outputs says so here)

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> tuple[Params, ...]:
        """Draw every layer's parameters."""
        keys = jax.random.split(key, len(self.cells))
        sizes = [in_features, *(cell.out_features for cell in self.cells[:-1])]
        return tuple(cell.init(k, size, dtype) for cell, k, size in zip(self.cells, keys, sizes, strict=True))

    def initial_carry(self, params: tuple[Params, ...], input_shape: tuple[int, ...]) -> tuple[Carry, ...]:
        """Every layer's initial carry."""
        carries = []
        for cell, p in zip(self.cells, params, strict=True):
            carries.append(cell.initial_carry(p, input_shape))
            if len(carries) < len(self.cells):
                input_shape = (*input_shape[:-1], cell.out_features)
        return tuple(carries)

    def run(self, params: tuple[Params, ...], xs: Any, carry: tuple[Carry, ...], drive: Any) -> tuple[tuple[Carry, ...], Any]:
        """Run the layers one after the other."""
        carries = []
        for cell, p, c in zip(self.cells, params, carry, strict=True):
            c, xs = cell.run(p, xs, c, drive)
            carries.append(c)
        return tuple(carries), xs

    @property
    def out_features(self) -> int:
        """That of the top layer."""
        return self.cells[-1].out_features

    @property
    def causal(self) -> bool:
        """Whether all layers are."""
        return all(cell.causal for cell in self.cells)
