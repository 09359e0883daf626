"""Layers of cells."""

import dataclasses
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.activations import Activation
from jaxrnn.combinators.bidirectional import Bidirectional
from jaxrnn.combinators.dropout import dropped
from jaxrnn.combinators.layers import Layer, as_layers, ends_below
from jaxrnn.combinators.residual import Highway, Residual
from jaxrnn.core.cell import Carry, Cell, Params, Take
from jaxrnn.core.check import (
    check_choice,
    check_fields,
    check_flag,
    check_in_features,
    check_inner,
    check_no_variables,
    check_rate,
    check_size,
)
from jaxrnn.core.composite import Composite, Runner
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True)
class Stack(Composite[tuple[Params, ...], tuple[Carry, ...]]):
    """Cells on top of each other: each layer's output is the next one's input (Graves 2013).

    Parameters and carry are tuples with one entry per layer. A stack with a `Bidirectional` layer
    needs the future too.

    Args:
        cells: the layers, bottom first. A pointwise function, or its name, is a layer, too: a
            `Pointwise`, whose carry is `()`.
        dropout: how often a feature is dropped between two layers (Zaremba, Sutskever & Vinyals
            2014), if the driver has a key.
        dense: each layer sees the stack's input and the outputs of all layers below, side by side
            (Huang et al. 2017).
        outputs: those of the `"top"` layer, or of `"all"` layers side by side, bottom first (Graves
            2013; Peters et al. 2018).

    Raises:
        ValueError: there is no layer, a layer cannot take what the one below gives
            (`Bidirectional(merge=None)`, a `Residual` of another size), the bottom layer, or any of
            a dense stack, is a function, the rate is not in [0, 1), or `outputs` is another word.
        TypeError: a layer is neither a cell nor a function of one argument.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.GRU(5)])
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> carry[0].c.shape, carry[1].shape, ys.shape
    ((2, 4), (2, 5), (7, 2, 5))
    """

    cells: Sequence[Cell]
    _: dataclasses.KW_ONLY
    dropout: float = 0.0
    dense: bool = False
    outputs: Literal["top", "all"] = "top"

    if TYPE_CHECKING:  # the field holds cells alone

        def __init__(
            self,
            cells: Sequence[Cell | Activation],
            *,
            dropout: float = 0.0,
            dense: bool = False,
            outputs: Literal["top", "all"] = "top",
        ) -> None: ...

    def __post_init__(self) -> None:
        # tuples hash, lists do not
        object.__setattr__(self, "cells", as_layers(self, tuple(self.cells)))
        if not self.cells:
            raise ValueError("Stack: cells is empty, expected at least one layer")
        for cell in self.cells:
            check_inner(self, "cells", cell)
        check_fields(self, check_rate, "dropout")
        check_fields(self, check_flag, "dense")
        check_choice(self, "outputs", self.outputs, ("top", "all"))
        # a layer with two outputs says so here
        sizes = [cell.out_features for cell in self.cells[:-1]]
        if not self.dense:  # else the size of the stack's input is part of all of them
            for cell, size in zip(self.cells[1:], sizes, strict=True):
                cell.check_in_features(size)

    @classmethod
    def repeat(
        cls,
        cell: Cell,
        layers: int,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        connection: Literal["residual", "highway", "dense"] | None = None,
        outputs: Literal["top", "all"] = "top",
    ) -> "Stack":
        """A stack of equal layers, as `torch.nn.LSTM(num_layers=..., bidirectional=...,
        dropout=...)` makes one.

        Args:
            cell: the cell of each layer, and of each direction.
            layers: how many.
            bidirectional: whether each layer is a `Bidirectional`.
            dropout: as in `Stack`.
            connection: around each layer but the first, whose input has another size.
            outputs: as in `Stack`.

        >>> import jaxrnn
        >>> stack = jaxrnn.Stack.repeat(jaxrnn.LSTM(4), 2, bidirectional=True, dropout=0.1)
        >>> stack.out_features
        8
        """
        check_choice(cls, "connection", connection, (None, "residual", "highway", "dense"))
        layers = check_size(cls, "layers", layers)
        check_flag(cls, "bidirectional", bidirectional)
        layer = Bidirectional(cell) if bidirectional else cell
        around = {"residual": Residual, "highway": Highway}.get(connection or "", lambda cell: cell)
        return cls(
            (layer, *[around(layer)] * (layers - 1)),
            dropout=dropout,
            dense=connection == "dense",
            outputs=outputs,
        )

    def init(
        self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32
    ) -> tuple[Params, ...]:
        in_features = check_in_features(self, in_features)
        keys = jax.random.split(key, len(self.cells))
        return tuple(
            cell.init(k, size, dtype)
            for cell, k, size in zip(self.cells, keys, self._sizes(in_features), strict=True)
        )

    def _sizes(self, in_features: int) -> list[int]:
        """The size of each layer's input."""
        sizes = [in_features]
        for cell in self.cells[:-1]:
            sizes.append(cell.out_features + (sizes[-1] if self.dense else 0))
        return sizes

    def initial_carry(
        self, params: tuple[Params, ...], input_shape: tuple[int, ...]
    ) -> tuple[Carry, ...]:
        check_no_variables(self, params)
        shapes = self._shapes(input_shape)
        return tuple(
            cell.initial_carry(p, shape)
            for cell, p, shape in zip(self.cells, params, shapes, strict=True)
        )

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        top = self.cells[-1].output_shape(self._shapes(input_shape)[-1])
        return (*top[:-1], self.out_features)

    def _shapes(self, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Those of one step's input of each layer."""
        shapes = [input_shape]
        for cell, size in zip(self.cells, self._sizes(input_shape[-1])[1:], strict=False):
            shapes.append((*cell.output_shape(shapes[-1])[:-1], size))
        return shapes

    def in_features(self, params: tuple[Params, ...]) -> int:
        """What the bottom layer says."""
        return self.cells[0].in_features(params[0])

    def labels(self, params: tuple[Params, ...]) -> tuple[Params, ...]:
        return tuple(cell.labels(p) for cell, p in zip(self.cells, params, strict=True))

    def run(
        self, params: tuple[Params, ...], xs: Tree, carry: tuple[Carry, ...], runner: Runner
    ) -> tuple[tuple[Carry, ...], Tree]:
        """Run the layers one after the other."""
        carries, outputs, ys = [], [], xs
        for k, (cell, p, c) in enumerate(zip(self.cells, params, carry, strict=True)):
            below, own = runner.part(2 * k), runner.part(2 * k + 1)
            if k:
                ys = dropped(ys, self.dropout, locked=False, runner=below)
                xs = jnp.concatenate([xs, ys], axis=-1) if self.dense else ys
            c, ys = own(cell, p, xs, c)
            carries.append(c)
            outputs.append(ys)
        return tuple(carries), ys if self.outputs == "top" else jnp.concatenate(outputs, axis=-1)

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Tree:
        """Where those of the top layer are, or each layer's own."""
        if self.outputs == "top":
            return self._ends(len(self.cells), ys, take, backwards)
        edges = [*accumulate(cell.out_features for cell in self.cells)]
        each = [
            self._ends(k, part, take, backwards)
            for k, part in enumerate(jnp.split(ys, edges[:-1], axis=-1), start=1)
        ]
        return jnp.concatenate(each, axis=-1)

    def _ends(self, layers: int, ys: Tree, take: Take, backwards: bool) -> Tree:
        """Those of the lowest so many layers; one without a state ends where the one below does."""
        mixed = False
        for cell in reversed(self.cells[:layers]):
            if not isinstance(cell, Layer):
                return ends_below(cell, mixed, ys, take, backwards)
            mixed |= cell.mixes
        return take(ys, backwards)

    @property
    def out_features(self) -> int:
        """That of the top layer, or the sum over all."""
        if self.outputs == "top":
            return self.cells[-1].out_features
        return sum(cell.out_features for cell in self.cells)

    @property
    def noisy(self) -> bool:
        """Whether a feature is ever dropped between layers, or a layer is noisy."""
        return self.dropout > 0 or super().noisy

    @property
    def causal(self) -> bool:
        return all(cell.causal for cell in self.cells)
