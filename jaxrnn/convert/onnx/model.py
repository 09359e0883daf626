"""An ONNX model that is written: a recurrent node for each layer.

The directions of a layer are put side by side for the next one.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxrnn.convert._errors import refuse
from jaxrnn.convert.onnx.schema import OPSET, Attributes, import_onnx, inputs_of

if TYPE_CHECKING:
    from onnx import ModelProto

_IR_VERSION = 10  # the first that knows the opset

_TYPES = {
    "float16": "FLOAT16",
    "bfloat16": "BFLOAT16",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "int32": "INT32",
    "int64": "INT64",
}


class LayerNode(NamedTuple):
    """A recurrent node that is to be written."""

    operator: str
    attributes: Attributes
    weights: dict[str, np.ndarray]  # by the name of the input
    starts: dict[str, np.ndarray]  # initial states [directions, 1, hidden], if it has its own


def build_model(layers: Sequence[LayerNode], lengths: bool, carry: bool) -> "ModelProto":
    """The model of `to_onnx`, which says what it takes and gives.

    Args:
        layers: the nodes, the bottom one first.
        lengths: whether the model takes lengths.
        carry: whether the model takes initial states.
    """
    writer = _Writer()
    dtype = layers[0].weights["W"].dtype
    xs = writer.input("xs", dtype, ["time", "batch", layers[0].weights["W"].shape[2]])
    if lengths:
        writer.input("lengths", np.dtype("int32"), ["batch"])
    starts = any(layer.starts for layer in layers)
    if lengths and (carry or starts):
        _write_empty_rows(writer)
    if starts:
        _write_start_shape(writer)
    ways, _, hidden = layers[-1].weights["R"].shape
    writer.output("ys", dtype, ["time", "batch", ways * hidden])
    for k, layer in enumerate(layers):
        ys = "ys" if layer is layers[-1] else f"layer_{k}.ys"
        _write_layer(writer, k, layer, xs, ys, lengths, carry)
        xs = ys
    return writer.model()


class _Writer:
    """The parts of a graph, as it grows."""

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self._nodes, self._constants, self._inputs, self._outputs = [], [], [], []

    def node(
        self,
        operator: str,
        inputs: Iterable[str],
        outputs: Sequence[str],
        name: str = "",
        **attributes: object,
    ) -> None:
        make, name = self._onnx.helper.make_node, name or outputs[0]
        self._nodes.append(make(operator, list(inputs), outputs, name, **attributes))

    def constant(self, name: str, array: np.ndarray) -> str:
        make, kind = self._onnx.helper.make_tensor, self._kind(array.dtype)
        self._constants.append(make(name, kind, array.shape, array.tobytes(), raw=True))
        return name

    def input(self, name: str, dtype: np.dtype, shape: Sequence[str | int]) -> str:
        make = self._onnx.helper.make_tensor_value_info
        self._inputs.append(make(name, self._kind(dtype), shape))
        return name

    def output(self, name: str, dtype: np.dtype, shape: Sequence[str | int]) -> None:
        make = self._onnx.helper.make_tensor_value_info
        self._outputs.append(make(name, self._kind(dtype), shape))

    def model(self) -> "ModelProto":
        helper = self._onnx.helper
        parts = self._nodes, "jaxrnn", self._inputs, self._outputs, self._constants
        return helper.make_model(
            helper.make_graph(*parts),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="jaxrnn",
        )

    def _kind(self, dtype: np.dtype) -> int:
        if str(dtype) not in _TYPES:
            floats = [name for name in _TYPES if "float" in name]
            refuse("to_onnx", f"params have dtype {dtype}, expected one of {floats}")
        return self._onnx.TensorProto.DataType.Value(_TYPES[str(dtype)])


def _write_empty_rows(writer: _Writer) -> None:
    """Mark the sequences without a step, in `empty_rows`.

    ONNX Runtime gives zeros as their final states, where the initial ones are wanted.
    """
    no_step = writer.constant("no_step", np.array(0, np.int32))
    writer.node("Equal", ["lengths", no_step], ["empty"])
    feature_axis = writer.constant("feature_axis", np.array([1], np.int64))
    writer.node("Unsqueeze", ["empty", feature_axis], ["empty_rows"])


def _write_start_shape(writer: _Writer) -> None:
    """The shape `[1, batch, 1]` to which initial states are expanded, in `start_shape`."""
    writer.node("Shape", ["xs"], ["batch_size"], start=1, end=2)
    one = writer.constant("one", np.array([1], np.int64))
    writer.node("Concat", [one, "batch_size", one], ["start_shape"], axis=0)


def _write_layer(
    writer: _Writer, k: int, layer: LayerNode, xs: str, ys: str, lengths: bool, carry: bool
) -> None:
    """Layer k, from `xs` to `ys`."""
    ways, _, hidden = layer.weights["R"].shape
    form = layer.weights["R"].dtype, [ways, "batch", hidden]
    taken = dict.fromkeys(inputs_of(layer.operator), "") | {"X": xs}
    initials = [name for name in taken if name.startswith("initial_")]
    states = {initial: f"{initial.removeprefix('initial_')}_{k}" for initial in initials}
    weights = layer.weights.items()
    taken |= {name: writer.constant(f"layer_{k}.{name}", array) for name, array in weights}
    if lengths:
        taken["sequence_lens"] = "lengths"
    if carry:
        taken |= {name: writer.input(f"initial_{states[name]}", *form) for name in initials}
    for name, start in layer.starts.items():
        taken[name] = f"layer_{k}.{name}"
        one_row = writer.constant(f"{taken[name]}_of_a_row", start)
        writer.node("Expand", [one_row, "start_shape"], [taken[name]])
    held = lengths and (carry or layer.starts)
    finals = [f"layer_{k}.{state}" if held else state for state in states.values()]
    outputs, settings = [f"layer_{k}.Y", *finals], {"hidden_size": hidden, **layer.attributes}
    writer.node(layer.operator, taken.values(), outputs, f"layer_{k}", **settings)
    for (initial, state), final in zip(states.items(), finals, strict=True):
        writer.output(state, *form)
        if final != state:
            writer.node("Where", ["empty_rows", taken[initial], final], [state])
    writer.node("Transpose", [f"layer_{k}.Y"], [f"layer_{k}.rows"], perm=[0, 2, 1, 3])
    # A size of 0 keeps time and batch as they are.
    shape = writer.constant(f"layer_{k}.shape", np.array([0, 0, ways * hidden]))
    writer.node("Reshape", [f"layer_{k}.rows", shape], [ys])
