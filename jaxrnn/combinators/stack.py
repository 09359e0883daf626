"""Stacked layers."""

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
    """Stacked cells: the output of each layer is the input of the next (Graves 2013).

    Parameters and carry are tuples with one entry per layer. The stack is causal if every layer is.

    Args:
        cells: the layers, from bottom to top. A pointwise function, or the name of one, becomes a
            `Pointwise` layer, whose carry is `()`.
        dropout: the rate at which features between two layers are dropped, with a new draw at each
            step, if the driver gets a key (Zaremba, Sutskever & Vinyals 2014).
        dense: whether the input of each layer is the stack's input, concatenated with the outputs
            of all layers below (Huang et al. 2017).
        outputs: `"top"` returns the outputs of the top layer. `"all"` concatenates the outputs of
            all layers, from bottom to top (Graves 2013; Peters et al. 2018).

    Raises:
        ValueError: there is no layer; a layer cannot take the output of the layer below, as above
            `Bidirectional(merge=None)` or in a `Residual` of another size; the bottom layer is a
            function; `dropout` is not in [0, 1); `dense` is not a bool; or `outputs` is unknown.
            From `init`: a layer of a dense stack cannot take its input.
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

    if TYPE_CHECKING:  # the argument may hold functions, the field holds nothing but cells

        def __init__(
            self,
            cells: Sequence[Cell | Activation],
            *,
            dropout: float = 0.0,
            dense: bool = False,
            outputs: Literal["top", "all"] = "top",
        ) -> None: ...

    def __post_init__(self) -> None:
        # tuples are hashable, lists are not
        object.__setattr__(self, "cells", as_layers(self, tuple(self.cells)))
        if not self.cells:
            raise ValueError("Stack: cells is empty, expected at least one layer; add one")
        for cell in self.cells:
            check_inner(self, "cells", cell)
        check_fields(self, check_rate, "dropout")
        check_fields(self, check_flag, "dense")
        check_choice(self, "outputs", self.outputs, ("top", "all"))
        # raises for a layer with two outputs
        sizes = [cell.out_features for cell in self.cells[:-1]]
        if not self.dense:  # in a dense stack, the sizes also depend on the stack's input
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
        """Build a stack of equal layers.

        `torch.nn.LSTM(num_layers=..., bidirectional=..., dropout=...)` corresponds to it.

        Args:
            cell: the cell of each layer and each direction.
            layers: the number of layers.
            bidirectional: whether each layer is a `Bidirectional`.
            dropout: as in `Stack`.
            connection: `"residual"` and `"highway"` put a `Residual` or a `Highway` around each
                layer but the first, whose input may have another size. `"dense"` is `dense=True`.
            outputs: as in `Stack`.

        Raises:
            ValueError: `layers` is not positive, a word is unknown, or as in `Stack`.
            TypeError: `cell` is not a cell.

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
        """Return the size of each layer's input."""
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
        """Return the shape of one step's input of each layer."""
        shapes = [input_shape]
        for cell, size in zip(self.cells, self._sizes(input_shape[-1])[1:], strict=False):
            shapes.append((*cell.output_shape(shapes[-1])[:-1], size))
        return shapes

    def in_features(self, params: tuple[Params, ...]) -> int:
        """Return the size of the bottom layer's input."""
        return self.cells[0].in_features(params[0])

    def labels(self, params: tuple[Params, ...]) -> tuple[Params, ...]:
        return tuple(cell.labels(p) for cell, p in zip(self.cells, params, strict=True))

    def run(
        self, params: tuple[Params, ...], xs: Tree, carry: tuple[Carry, ...], runner: Runner
    ) -> tuple[tuple[Carry, ...], Tree]:
        """Run the layers from bottom to top."""
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
        """Take the ends of the top layer, or of each layer if the output has all of them."""
        if self.outputs == "top":
            return self._ends(len(self.cells), ys, take, backwards)
        edges = [*accumulate(cell.out_features for cell in self.cells)]
        each = [
            self._ends(k, part, take, backwards)
            for k, part in enumerate(jnp.split(ys, edges[:-1], axis=-1), start=1)
        ]
        return jnp.concatenate(each, axis=-1)

    def _ends(self, layers: int, ys: Tree, take: Take, backwards: bool) -> Tree:
        """Take the ends of the lowest `layers` layers. A layer without state ends as that below."""
        mixed = False
        for cell in reversed(self.cells[:layers]):
            if not isinstance(cell, Layer):
                return ends_below(cell, mixed, ys, take, backwards)
            mixed |= cell.mixes
        return take(ys, backwards)

    @property
    def out_features(self) -> int:
        """The output size of the top layer, or the sum over all layers if `outputs="all"`."""
        if self.outputs == "top":
            return self.cells[-1].out_features
        return sum(cell.out_features for cell in self.cells)

    @property
    def noisy(self) -> bool:
        """Whether features are dropped between layers, or a layer is noisy."""
        return self.dropout > 0 or super().noisy
