"""Cells and their parameters as layers of directions, and checks of what a framework can hold.

Each converter has a table of the classes that its framework has, and of the options of each class.
`check_cell` refuses every other class and option. Classes are compared exactly, because a subclass
may compute something else.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMParams
from jaxrnn.combinators import Bidirectional, BidirectionalParams, Stack
from jaxrnn.convert._arrays import to_jax
from jaxrnn.convert._errors import refuse
from jaxrnn.core.call import check_params
from jaxrnn.core.cell import Cell, Params, abstract_params

Plain = Elman | LSTM | GRU
"""The cells that every framework has."""

PlainParams = ElmanParams | LSTMParams | GRUParams
"""The parameters of a plain cell."""

Layer = Sequence[tuple[Cell, Params]]
"""The cell and parameters of each direction of one layer, the forward direction first."""

_HOW_TO_START = {"forget_bias", "update_bias", "w_x_init", "w_h_init", "b_init", "p_init"}
"""Options that say how parameters are drawn, not what the cell computes. None is converted."""


def is_plain(params: object) -> TypeGuard[PlainParams]:
    """Return whether these are the parameters of one plain cell."""
    return isinstance(params, PlainParams)


def check_cell(
    caller: str,
    cell: Cell,
    held: Mapping[type[Cell], Collection[str]],
    framework: str,
    within: str = "",
) -> None:
    """Refuse a cell if the framework does not have its class, or one of its options.

    Args:
        caller: the function that writes, for messages.
        cell: the cell to write.
        held: the classes that the framework has, and the options of each.
        framework: its name, for messages.
        within: the combinators in which it has them, for messages.
    """
    kind = type(cell)
    if kind not in held:
        *others, last = [each.__name__ for each in held]
        known = f"{', '.join(others)} or {last}" if others else last
        refuse(caller, f"{framework} holds no {kind.__name__}, expected {known}{within}")
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  (every cell is a dataclass)
        known = field.name == "hidden" or field.name in {*_HOW_TO_START, *held[kind]}
        if not known and (value := getattr(cell, field.name)) != field.default:
            option = f"{kind.__name__} has {field.name}={value!r}"
            refuse(caller, f"{option}, which {framework} cannot hold")


def check_alike(caller: str, layers: Sequence[Layer], options: Collection[str], law: str) -> None:
    """Refuse layers and directions of different classes, sizes or values of these options.

    Args:
        caller: the function that writes, for messages.
        layers: the layers to write.
        options: the names of the options, fields of the cells.
        law: the framework's requirement, for the message.
    """
    first = layers[0][0][0]
    for layer in layers:
        for cell, _ in layer:
            same = type(cell) is type(first) and all(
                getattr(cell, name) == getattr(first, name) for name in ("hidden", *options)
            )
            if not same or len(layer) != len(layers[0]):
                refuse(caller, f"{law}, but {cell} differs from {first}")


def check_one_dtype(caller: str, params: Params, holder: str) -> None:
    """Refuse parameters of several dtypes, because `holder` has one for all."""
    dtypes = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(params)})
    if len(dtypes) > 1:
        refuse(caller, f"params have the dtypes {dtypes}, but {holder} has one; cast them")


def _refuse_params(caller: str, cell: Cell, params: Params) -> NoReturn:
    """Refuse parameters that are of another type than the cell's."""
    given, expected = type(params).__name__, f"what {type(cell).__name__}.init makes"
    refuse(caller, f"params are a {given}, expected {expected}")


def own_params(caller: str, cell: Cell, params: Params) -> Params:
    """Return the parameters as arrays of JAX, once they are known to fit the cell.

    The input size is read from their first array, which must be a weight of the input.

    Raises:
        ValueError: they do not have the structure and shapes of the cell's parameters.
    """
    shape = [*np.shape(next(iter(jax.tree.leaves(params)), ()))]
    if len(shape) != cell.feature_axes + 1:
        _refuse_params(caller, cell, params)
    check_params(cell, params, in_features=shape[-2])
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: to_jax(leaf, f"{caller}: params{jax.tree_util.keystr(path)}"), params
    )


def with_bias(cell: Cell, params: Params) -> tuple[Cell, Params]:
    """Return a cell with biases that computes the same, for a framework that always has them.

    The biases that the cell did not have are zero.
    """
    biased: Cell = dataclasses.replace(cell, bias=True)  # type: ignore[type-var]
    in_features, dtype = params.w_x.shape[-2], params.w_x.dtype
    forms = abstract_params(biased, in_features, dtype)
    zeros = {
        name: jnp.zeros(form.shape, form.dtype)
        for name, form in forms._asdict().items()
        if form is not None and getattr(params, name) is None
    }
    return biased, params._replace(**zeros)


def layers_of(caller: str, cell: Cell, params: Params) -> list[Layer]:
    """Return the layers of a cell, of a concatenating `Bidirectional`, or of a `Stack` of these.

    Raises:
        ValueError: an option of a combinator is not the default, or the parameters do not fit it.
    """
    if isinstance(cell, Stack):
        if cell.dense:
            refuse(caller, "Stack has dense=True; its layers can only be converted one by one")
        if cell.outputs != "top":
            refuse(caller, f"Stack has outputs={cell.outputs!r}, expected 'top'")
        if not isinstance(params, tuple) or len(params) != len(cell.cells):
            _refuse_params(caller, cell, params)
        parts = zip(cell.cells, params, strict=True)
        return [layer for inner, p in parts for layer in layers_of(caller, inner, p)]
    if isinstance(cell, Bidirectional):
        if cell.merge != "concat":
            refuse(caller, f"Bidirectional has merge={cell.merge!r}, expected 'concat'")
        if not isinstance(params, BidirectionalParams):
            _refuse_params(caller, cell, params)
        return [[(cell.forward, params.forward), (cell.backward, params.backward)]]
    return [[(cell, params)]]


def own_layers(
    caller: str, cell: Cell, params: Params, check: Callable[[list[Layer]], object]
) -> list[Layer]:
    """Return the layers of a cell with parameters as arrays of JAX, after `check` of the layers.

    `check` refuses what the framework cannot hold. It runs before the parameters are checked, so
    that the message about a cell that cannot be converted does not blame the parameters.
    """
    check(layers_of(caller, cell, params))
    return layers_of(caller, cell, own_params(caller, cell, params))


def join_layers(layers: Sequence[Layer]) -> tuple[Cell, Params]:
    """Return a cell, a `Bidirectional`, or a `Stack` of several layers: invert `layers_of`."""
    joined = [_join_directions(layer) for layer in layers]
    if len(joined) == 1:
        return joined[0]
    cells, params = zip(*joined, strict=True)
    return Stack(cells), tuple(params)


def _join_directions(layer: Layer) -> tuple[Cell, Params]:
    """Return a cell, or a `Bidirectional` if the layer has two directions."""
    if len(layer) == 1:
        return layer[0]
    (forward, p_forward), (backward, p_backward) = layer
    return Bidirectional(forward, backward), BidirectionalParams(p_forward, p_backward)
