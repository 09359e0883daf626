"""From an ONNX model to a cell and its parameters."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxrnn.activations import Activation
from jaxrnn.cells import GRU, LSTM, LSTMCarry
from jaxrnn.combinators import LearnedCarry, LearnedCarryParams, Reversed
from jaxrnn.convert._arrays import no_bias, reorder_gates
from jaxrnn.convert._errors import refuse, said_by
from jaxrnn.convert._layers import Layer, Plain, join_layers
from jaxrnn.convert._weights import Weights
from jaxrnn.convert.onnx.activations import (
    Precision,
    precision_of,
    read_activations,
    read_number,
)
from jaxrnn.convert.onnx.chain import recurrent_nodes
from jaxrnn.convert.onnx.graph import Graph, load_model
from jaxrnn.convert.onnx.operators import OPERATORS, Operator, check_coupling
from jaxrnn.convert.onnx.schema import (
    Attributes,
    attributes_of,
    check_attributes,
    inputs_of,
    name_of,
)
from jaxrnn.core.cell import Cell, Params

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_CHOICES = {
    "direction": ("forward", "reverse", "bidirectional"),
    "layout": (0, 1),
    "input_forget": (0, 1),
    "linear_before_reset": (0, 1),
}
"""The values that some attributes can have, the default first."""


def from_onnx(
    path_or_model: "str | os.PathLike[str] | ModelProto", node: str | None = None
) -> tuple[Cell, Params]:
    """Read the recurrent nodes of an ONNX model.

    The function reads all attributes of opset 22: `direction`, `activations` with alpha and beta,
    `clip`, `hidden_size`, `input_forget`, `layout` and `linear_before_reset`. It ignores inputs at
    run time (lengths, initial states) and Dropout between nodes. A constant initial state that is
    not zero, and the same for all rows, becomes that of a `LearnedCarry`.

    Args:
        path_or_model: a file, with its external data beside it, or an `onnx.ModelProto`.
        node: the name of one RNN, LSTM or GRU node, or of its first output if it has no name. By
            default all nodes are read, and each must take all outputs of the one before.

    Returns:
        An `Elman`, `LSTM` or `GRU`, within a `Reversed` or a `Bidirectional` according to its
        direction, and within a `Stack` if there are several nodes; and its parameters, in the dtype
        of the weights. The cell is time-major whatever `layout` says.

    Raises:
        ValueError: the file is not a complete ONNX file; there is no such node; the nodes do not
            form a chain; or a node has an attribute, activation, input, weight or initial state
            that cannot be read, or constant lengths. The message names it.
        TypeError: the weights are float64 and JAX's float64 is off.
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
    return join_layers([_read_node(graph, found) for found in recurrent_nodes(graph, node)])


def _read_node(graph: Graph, node: "NodeProto") -> Layer:
    """Return the layer that a node holds."""
    caller = f"from_onnx: {node.op_type} node {name_of(node)!r}"
    operator, attributes = OPERATORS[node.op_type], _checked_attributes(caller, node)
    arrays = _constants(graph, node, caller, attributes.get("layout", 0))
    direction = attributes.get("direction", "forward")
    ways = 2 if direction == "bidirectional" else 1
    hidden = _check_arrays(caller, operator, arrays, attributes, ways)
    precision = precision_of(arrays["W"].dtype)
    options = _options(operator, arrays, attributes, precision)
    functions = iter(_functions(caller, operator, attributes, ways, precision))
    layer: Layer = []
    for k in range(ways):
        options |= {option: next(functions) for option in operator.activations}
        with said_by(caller):
            cell = operator.cell(hidden, **options)
        check_coupling(caller, cell)
        way = {key: array[k] for key, array in arrays.items()}
        layer.append(_started(cell, _read_params(operator, cell, way), way))
    return [(Reversed(cell), params) for cell, params in layer] if direction == "reverse" else layer


def _checked_attributes(caller: str, node: "NodeProto") -> Attributes:
    """Return the attributes of a node, after a check of their names, types and values."""
    check_attributes(caller, node)
    attributes = attributes_of(node)
    for name, choices in _CHOICES.items():
        if (value := attributes.get(name, choices[0])) not in choices:
            refuse(caller, f"attribute {name} is {value!r}, expected one of {list(choices)}")
    return attributes


def _of_one_row(caller: str, key: str, start: np.ndarray, layout: int) -> np.ndarray:
    """Return an initial state `[directions, hidden]`, which must be the same for all rows."""
    rows = np.moveaxis(start, 0, 1) if layout and start.ndim == 3 else start
    if rows.ndim != 3 or not rows.shape[1] or np.any(rows != rows[:, :1]):
        given = f"{key} is a constant of shape {start.shape}, not zero"
        hint = "Make it an input of the model, and pass it as the carry"
        refuse(caller, f"{given}, and not one state for all rows. {hint}")
    return rows[:, 0]


def _constants(graph: Graph, node: "NodeProto", caller: str, layout: int) -> dict[str, np.ndarray]:
    """Return the weights of a node, and its constant initial states that are not zero.

    The keys are the names of the operator's inputs.
    """
    arrays = {}
    graph.check_names(caller, node)
    for key, name in zip(inputs_of(node.op_type), node.input, strict=False):
        array = graph.constant(name) if name else None
        if key.startswith("initial_") and name:
            start = graph.expanded(name)
            if start is not None and np.any(start):
                arrays[key] = _of_one_row(caller, key, start, layout)
        if key == "sequence_lens" and array is not None:
            reason = "a constant, so the node is for these lengths alone; make it an input"
            refuse(caller, f"{key} is {name!r}, {reason}")
        if key in "WRBP" and name:
            if array is None:
                reason = "computed or an input; expected a constant: fold constants first"
                refuse(caller, f"{key} is {name!r}, which is {reason}")
            arrays[key] = array
    return arrays


def _check_arrays(
    caller: str,
    operator: Operator,
    arrays: Mapping[str, np.ndarray],
    attributes: Attributes,
    ways: int,
) -> int:
    """Refuse weights whose shapes do not fit the node. Return the size of its state."""
    weights, gates = Weights(arrays, caller), len(operator.theirs)
    _, rows, in_features = weights.sizes("W", "directions", "gates * hidden", "in")
    hidden = attributes.get("hidden_size", rows // gates)
    shapes = {
        "W": (ways, gates * hidden, in_features),
        "R": (ways, gates * hidden, hidden),
        "B": (ways, 2 * gates * hidden),
        "P": (ways, 3 * hidden),
        "initial_h": (ways, hidden),
        "initial_c": (ways, hidden),
    }
    present = {key: shape for key, shape in shapes.items() if key in "WR" or key in weights}
    weights.check(present, one_dtype=True)
    return hidden


def _options(
    operator: Operator,
    arrays: Mapping[str, np.ndarray],
    attributes: Attributes,
    precision: Precision,
) -> dict[str, Any]:
    """Return the options of the cell, except its size and activations."""
    options: dict[str, Any] = {"bias": "B" in arrays}
    if "clip" in attributes:
        options["clip"] = read_number(attributes["clip"], precision)
    if operator.cell is GRU:
        options["reset_gate"] = "after" if attributes.get("linear_before_reset") else "before"
    if operator.cell is LSTM:
        options |= {"coupled": bool(attributes.get("input_forget")), "peepholes": "P" in arrays}
    return options


def _functions(
    caller: str, operator: Operator, attributes: Attributes, ways: int, precision: Precision
) -> list[Activation]:
    """Return the activations of all directions, one direction after the other."""
    defaults = [*operator.activations.values()]
    names = attributes.get("activations", defaults * ways)
    if names == defaults * 2:  # ONNX's schema has this default for RNN, whatever the direction
        names = defaults * ways
    if len(names) != len(defaults) * ways:
        refuse(caller, f"activations are {names}, expected {len(defaults) * ways} of them")
    return read_activations(caller, names, attributes, precision)


def _started(cell: Cell, params: Params, arrays: Mapping[str, np.ndarray]) -> tuple[Cell, Params]:
    """Return the cell and its parameters, in a `LearnedCarry` if the node has an initial state."""
    states = ("initial_h", "initial_c") if isinstance(cell, LSTM) else ("initial_h",)
    if not arrays.keys() & {*states}:
        return cell, params
    zero = np.zeros(cell.out_features, arrays["W"].dtype)
    start = [jax.device_put(arrays.get(name, zero)) for name in states]
    carry = LSTMCarry(*start) if isinstance(cell, LSTM) else start[0]
    return LearnedCarry(cell), LearnedCarryParams(params, carry)


def _read_params(operator: Operator, cell: Plain, arrays: Mapping[str, np.ndarray]) -> Params:
    """Return the parameters of one direction.

    NumPy adds the biases, because XLA rounds subnormal sums to zero.
    """
    coupled = isinstance(cell, LSTM) and cell.coupled

    def ordered(array: np.ndarray) -> np.ndarray:
        if coupled:
            i, o, _, g = np.split(array, 4, axis=-1)
            return np.concatenate([-i, g, o], axis=-1)
        return reorder_gates(array, operator.theirs, operator.ours)

    read = {"w_x": ordered(arrays["W"].T), "w_h": ordered(arrays["R"].T)}
    if cell.bias:
        b_x, b_h = np.split(arrays["B"], 2)
        if isinstance(cell, GRU) and cell.reset_gate == "after":
            candidate = slice(-cell.hidden, None)  # n is the last gate in both orders
            read["b_hn"] = b_h[candidate]
            b_h = np.concatenate([b_h[: -cell.hidden], no_bias(b_h[candidate])])
        read["b"] = ordered(b_x + b_h)
    if "P" in arrays:
        p_i, p_o, p_f = np.split(arrays["P"], 3)
        read |= {"p_f": -p_i, "p_o": p_o} if coupled else {"p_i": p_i, "p_f": p_f, "p_o": p_o}
    absent = dict.fromkeys({"b", *(["b_hn"] if operator.cell is GRU else [])} - read.keys())
    return operator.params(**absent, **{name: jax.device_put(a) for name, a in read.items()})
