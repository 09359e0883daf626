"""ONNX's RNN, LSTM and GRU operators, both ways, as they are in opset 22.

A node is one layer: its directions stand on the first axis of W `[directions, gates * hidden, in]`,
R `[directions, gates * hidden, hidden]`, B `[directions, 2 * gates * hidden]`, whose halves are
added, and P `[directions, 3 * hidden]`. Its gates stand in the order `i o f g` or `z r n`. Coupled
gates are f = 1 - i there and i = 1 - f here: where a(-z) = 1 - a(z), as for σ, each gate is the
other with the sign of its parameters changed."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMParams
from jaxrnn.combinators import Reversed
from jaxrnn.convert._common import (
    Layer,
    Weights,
    check_options,
    is_traced,
    join_layers,
    layers_of,
    own_params,
    refuse,
    reorder,
    said_by,
    to_numpy,
)
from jaxrnn.convert._onnx_activations import (
    Precision,
    mirrors,
    precision_of,
    read_activations,
    read_number,
    write_activations,
    write_number,
)
from jaxrnn.convert._onnx_graph import (
    Graph,
    LayerNode,
    Node,
    attributes_of,
    build_model,
    check_attributes,
    inputs_of,
    load_model,
    name_of,
)
from jaxrnn.core.cell import Cell, Params
from jaxrnn.storage import write_whole

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclasses.dataclass(frozen=True)
class _Operator:
    """An operator of ONNX, and the cell that it is."""

    name: str
    cell: type[Any]
    params: type[Any]
    theirs: str  # the order of its gates
    ours: str
    activations: dict[str, str]  # ONNX's defaults for the cell's options
    # of the cell, besides its activations, that the operator has, alike for both directions
    options: tuple[str, ...]


_GATES = {"gate_activation": "Sigmoid", "candidate_activation": "Tanh"}
_OPERATORS = {
    "RNN": _Operator("RNN", Elman, ElmanParams, "n", "n", {"activation": "Tanh"}, ("bias", "clip")),
    "GRU": _Operator("GRU", GRU, GRUParams, "zrn", "rzn", _GATES, ("bias", "clip", "reset")),
    "LSTM": _Operator(
        "LSTM",
        LSTM,
        LSTMParams,
        "iofg",
        "ifgo",
        _GATES | {"output_activation": "Tanh"},
        ("bias", "clip", "coupled", "peepholes"),
    ),
}
_BY_CELL = {operator.cell: operator for operator in _OPERATORS.values()}

_CHOICES: dict[str, tuple[Any, ...]] = {
    "direction": ("forward", "reverse", "bidirectional"),
    "layout": (0, 1),
    "input_forget": (0, 1),
    "linear_before_reset": (0, 1),
}


def from_onnx(
    path_or_model: "str | os.PathLike[str] | ModelProto", node: str | None = None
) -> tuple[Cell, Params]:
    """Read the recurrent nodes of an ONNX model.

    All attributes of opset 22 are read: `direction`, `activations` with alpha and beta, `clip`,
    `hidden_size`, `input_forget`, `layout` and `linear_before_reset`. What goes in at run time
    (lengths, initial states) is not looked at; Dropout between nodes is passed over.

    Args:
        path_or_model: a file, with its external data beside it, or an `onnx.ModelProto`.
        node: the name of one RNN, LSTM or GRU node (of its first output, if it has none). If left
            out, all of them are read, and each must take all that the one before gives.

    Returns:
        An `Elman`, `LSTM` or `GRU`, within a `Reversed` or a `Bidirectional` if it runs so, and a
        `Stack` if there are several nodes; and its parameters, in the dtype of the weights. The
        cell is time-major whatever `layout` says.

    Raises:
        ValueError: the file is no whole ONNX file; there is no such node or no chain of nodes; or a
            node has an attribute, activation, input, weight or initial state that cannot be read,
            or constant lengths. The message names it.
        TypeError: the weights are float64 where JAX has no float64.
        OSError: the file cannot be read.
        ImportError: the package `onnx` is not installed.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Bidirectional(jaxrnn.GRU(4))
    >>> model = jaxrnn.convert.to_onnx(cell, cell.init(jax.random.key(0), in_features=3))
    >>> again, params = jaxrnn.convert.from_onnx(model)
    >>> again == cell, params.forward.w_x.shape
    (True, (3, 12))
    """
    graph = Graph(load_model(path_or_model))
    return join_layers([_read(graph, found) for found in graph.layers(node)])


def _read(graph: Graph, node: Node) -> Layer:
    """One node."""
    operator, source = _OPERATORS[node.op_type], f"from_onnx: {node.op_type} node {name_of(node)!r}"
    check_attributes(source, node)
    attributes = attributes_of(node)
    for name, choices in _CHOICES.items():
        if attributes.get(name, choices[0]) not in choices:
            refuse(
                source, f"attribute {name} is {attributes[name]!r}, expected one of {list(choices)}"
            )
    arrays = _constants(graph, node, source)
    weights = Weights(arrays, source)
    _, rows, in_features = weights.sizes("W", "directions", "gates * hidden", "in")
    direction, gates = attributes.get("direction", "forward"), len(operator.theirs)
    ways, hidden = 1 + (direction == "bidirectional"), attributes.get("hidden_size", rows // gates)
    shapes = {
        "W": (ways, gates * hidden, in_features),
        "R": (ways, gates * hidden, hidden),
        "B": (ways, 2 * gates * hidden),
        "P": (ways, 3 * hidden),
    }
    present = {key: form for key, form in shapes.items() if key in "WR" or key in weights}
    weights.check(present, one_dtype=True)

    precision = precision_of(arrays["W"].dtype)
    options: dict[str, Any] = {"bias": "B" in arrays}
    if "clip" in attributes:
        options["clip"] = read_number(attributes["clip"], precision)
    if operator.cell is GRU:
        options["reset"] = "after" if attributes.get("linear_before_reset") else "before"
    if operator.cell is LSTM:
        options |= {"coupled": bool(attributes.get("input_forget")), "peepholes": "P" in arrays}

    defaults = [*operator.activations.values()]
    names = attributes.get("activations", defaults * ways)
    if names == defaults * 2:  # the default of RNN in ONNX's own schema, whatever the direction
        names = defaults * ways
    if len(names) != len(defaults) * ways:
        refuse(source, f"activations are {names}, expected {len(defaults) * ways}")
    functions = iter(read_activations(source, names, attributes, precision))
    layer: Layer = []
    for k in range(ways):
        chosen: dict[str, Any] = {option: next(functions) for option in operator.activations}
        with said_by(source):
            cell = operator.cell(hidden, **options, **chosen)
        _check_coupling(source, cell)
        layer.append(
            (cell, _read_params(operator, cell, {key: array[k] for key, array in arrays.items()}))
        )
    return [(Reversed(cell), params) for cell, params in layer] if direction == "reverse" else layer


def _constants(graph: Graph, node: Node, source: str) -> dict[str, np.ndarray]:
    """The weights of a node by their name in the operator."""
    arrays = {}
    graph.check_names(source, node)
    for key, name in zip(inputs_of(node.op_type), node.input, strict=False):
        array = graph.constant(name) if name else None
        if key.startswith("initial_") and array is not None and np.any(array):
            refuse(
                source,
                f"{key} is {name!r}, a constant that is not zero; a cell of jaxrnn starts at "
                "zero. Make it an input of the model, "
                "and pass it as the carry",
            )
        if key == "sequence_lens" and array is not None:
            reason = "a constant, so the node is for these lengths alone; make it an input"
            refuse(source, f"{key} is {name!r}, {reason}")
        if key in "WRBP" and name:
            if array is None:
                refuse(
                    source,
                    f"{key} is {name!r}, which is computed or an input; expected a constant: fold "
                    "constants first",
                )
            arrays[key] = array
    return arrays


def _read_params(operator: _Operator, cell: Any, arrays: dict[str, np.ndarray]) -> Params:
    """One direction of a node; in NumPy, for XLA makes zeros of subnormal numbers that it adds."""
    coupled = getattr(cell, "coupled", False)

    def ordered(a: np.ndarray) -> np.ndarray:
        if coupled:
            i, o, _, g = np.split(a, 4, axis=-1)
            return np.concatenate([-i, g, o], axis=-1)
        return reorder(a, operator.theirs, operator.ours)

    read: dict[str, Any] = {"w_x": ordered(arrays["W"].T), "w_h": ordered(arrays["R"].T), "b": None}
    if operator.cell is GRU:
        read["b_hn"] = None
    if cell.bias:
        b_x, b_h = np.split(arrays["B"], 2)
        if operator.cell is GRU and cell.reset == "after":
            own = slice(-cell.hidden, None)  # n is the last gate there, too
            read["b_hn"] = b_h[own]
            b_h = np.concatenate([b_h[: -cell.hidden], _nothing(b_h[own])])
        read["b"] = ordered(b_x + b_h)
    if "P" in arrays:
        p_i, p_o, p_f = np.split(arrays["P"], 3)
        read |= {"p_f": -p_i, "p_o": p_o} if coupled else {"p_i": p_i, "p_f": p_f, "p_o": p_o}
    return operator.params(
        **{name: None if a is None else jnp.asarray(a) for name, a in read.items()}
    )


def to_onnx(
    cell: Cell,
    params: Params,
    path: str | os.PathLike[str] | None = None,
    *,
    lengths: bool = False,
    carry: bool = False,
) -> "ModelProto":
    """Write an ONNX model (opset 22) of RNN, LSTM and GRU nodes, for ONNX Runtime and others.

    Time and batch are free. The model takes

        xs              [time, batch, in]
        lengths         [batch] int32, if asked for: valid steps of each sequence
        initial_h_0     [directions, batch, hidden], if the carry is asked for; initial_c_0 too for an LSTM, and so for each layer

    and gives

        ys              [time, batch, out], zero beyond the lengths
        h_0, c_0, ...   final states as `initial_h_0`

    as `jaxrnn.scan(cell, params, xs, carry, lengths=lengths)` does; feed `h_0` as the next piece's
    `initial_h_0` to run in pieces.

    Args:
        cell: an `Elman`, `LSTM` or `GRU`, a `Reversed` or a concatenating `Bidirectional` one, or a
            `Stack` of such, whose dropout acts in training only and is not written.
        params: its parameters, all of one dtype; it is that of the model.
        path: of the file; one that is there is replaced when the new one is whole. Without a path
            nothing is written.
        lengths: whether the model takes lengths.
        carry: whether the model takes the initial states; else they are zero.

    Returns:
        The `onnx.ModelProto`.

    Raises:
        ValueError: no operator holds the cell or an option or an activation of it, or the
            parameters are not the cell's; the message says which.
        TypeError: a parameter is not floating, or traced.
        ImportError: the package `onnx` is not installed.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.LSTM(4)
    >>> model = jaxrnn.convert.to_onnx(cell, cell.init(jax.random.key(0), in_features=3), lengths=True)
    >>> [i.name for i in model.graph.input], [o.name for o in model.graph.output]
    (['xs', 'lengths'], ['ys', 'h_0', 'c_0'])
    """
    for layer in layers_of("to_onnx", cell, params):
        _form(layer)
    params = own_params("to_onnx", cell, params)
    if any(map(is_traced, jax.tree.leaves(params))):
        reason = "a model holds their numbers; call it outside of jit, grad and vmap"
        raise TypeError(f"to_onnx: params are traced, but {reason}")
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
    if len(dtypes) > 1:
        refuse(
            "to_onnx",
            f"params have the dtypes {sorted(map(str, dtypes))}, but a node of ONNX has one; cast "
            "them",
        )
    precision = precision_of(*dtypes)
    model = build_model(
        [_write(layer, precision) for layer in layers_of("to_onnx", cell, params)], lengths, carry
    )
    if path is not None:
        write_whole(Path(path), model.SerializeToString())
    return model


def _form(layer: Layer) -> tuple[_Operator, str, Layer]:
    """The operator that holds a layer, its direction, and its cells; a layer that no operator holds
    is refused.
    """
    direction, within = (
        ("bidirectional", " within Bidirectional") if len(layer) == 2 else ("forward", "")
    )
    if isinstance(reverse := layer[0][0], Reversed) and len(layer) == 1:
        direction, within, layer = "reverse", " within Reversed", [(reverse.cell, layer[0][1])]
    for cell, _ in layer:
        if type(cell) not in _BY_CELL:
            refuse("to_onnx", f"ONNX has no operator for {type(cell).__name__}{within}")
        operator = _BY_CELL[type(cell)]
        check_options(
            "to_onnx", cell, {*operator.options, *operator.activations}, f"ONNX's {operator.name}"
        )
        _check_coupling("to_onnx", cell)
    forward, backward = layer[0][0], layer[-1][0]
    operator = _BY_CELL[type(forward)]
    for option in ("hidden", *operator.options):
        if type(backward) is not type(forward) or getattr(backward, option) != getattr(
            forward, option
        ):
            refuse(
                "to_onnx",
                f"both directions of a node have one operator and options, but {backward} differs "
                f"from {forward}",
            )
    return operator, direction, layer


def _check_coupling(source: str, cell: Any) -> None:
    if getattr(cell, "coupled", False) and not mirrors(cell.gate_activation):
        refuse(
            source,
            "the gates of the LSTM are coupled, in ONNX as f = 1 - i and in jaxrnn as i = 1 - f; "
            "that is the same only for a gate "
            "activation with a(-z) = 1 - a(z), such as 'sigmoid', not for "
            f"{cell.gate_activation!r}",
        )


def _write(layer: Layer, precision: Precision) -> LayerNode:
    """The node of a layer."""
    operator, direction, layer = _form(layer)
    first: Any = layer[0][0]
    attributes: dict[str, Any] = {"direction": direction}
    if first.clip is not None:
        attributes["clip"] = write_number(
            f"clip of {operator.cell.__name__}", first.clip, precision
        )
    if operator.cell is GRU:
        attributes["linear_before_reset"] = int(first.reset == "after")
    if operator.cell is LSTM:
        attributes["input_forget"] = int(first.coupled)
    functions = [write_activations(cell, operator.activations, precision) for cell, _ in layer]
    attributes |= {
        name: values
        for name in functions[0]
        if (values := [value for each in functions for value in each[name]])
    }
    directions = [_write_params(operator, cell, params) for cell, params in layer]
    return LayerNode(
        operator.name,
        attributes,
        {key: np.stack([arrays[key] for arrays in directions]) for key in directions[0]},
    )


def _write_params(operator: _Operator, cell: Any, params: Any) -> dict[str, np.ndarray]:
    """One direction of a node."""
    params, coupled = jax.tree.map(to_numpy, params), getattr(cell, "coupled", False)

    def ordered(a: np.ndarray) -> np.ndarray:
        # ONNX does not look at the weights of f; with these, a runtime that knows no coupling
        # computes the same
        if coupled:
            f, g, o = np.split(a, 3, axis=-1)
            return np.concatenate([-f, o, f, g], axis=-1)
        return reorder(a, operator.ours, operator.theirs)

    arrays = {"W": ordered(params.w_x).T, "R": ordered(params.w_h).T}
    if cell.bias:
        b = ordered(params.b)
        b_h = _nothing(b)
        if operator.cell is GRU and cell.reset == "after":
            b_h[-cell.hidden :] = params.b_hn
        arrays["B"] = np.concatenate([b, b_h])
    if getattr(cell, "peepholes", False):
        arrays["P"] = np.concatenate(
            [-params.p_f if coupled else params.p_i, params.p_o, params.p_f]
        )
    return arrays


def _nothing(a: np.ndarray) -> np.ndarray:
    """What changes no number of `a` that it is added to: minus zero, which leaves minus zero too."""
    return np.full_like(a, -0.0)
