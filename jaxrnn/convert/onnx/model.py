"""An ONNX model that is written: a recurrent node for each layer.

After each node, the outputs of its directions are concatenated.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxrnn.convert._errors import refuse
from jaxrnn.convert.onnx.schema import OPSET, Attributes, import_onnx, inputs_of

if TYPE_CHECKING:
    from onnx import ModelProto

_IR_VERSION = 10  # the first version that has the opset

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
    weights: dict[str, np.ndarray]  # by the names of the operator's inputs
    starts: dict[str, np.ndarray]  # likewise, initial states [directions, 1, hidden] of its own


def build_model(layers: Sequence[LayerNode], lengths: bool, carry: bool) -> "ModelProto":
    """Return the model of `to_onnx`, whose docstring lists its inputs and outputs.

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
    """The parts of a graph that is being built."""

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
        """Add a node. Its name is by default that of its first output."""
        make, name = self._onnx.helper.make_node, name or outputs[0]
        self._nodes.append(make(operator, list(inputs), outputs, name, **attributes))

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant, and return its name."""
        make, kind = self._onnx.helper.make_tensor, self._kind(array.dtype)
        self._constants.append(make(name, kind, array.shape, array.tobytes(), raw=True))
        return name

    def input(self, name: str, dtype: np.dtype, shape: Sequence[str | int]) -> str:
        """Add an input of the model, and return its name."""
        make = self._onnx.helper.make_tensor_value_info
        self._inputs.append(make(name, self._kind(dtype), shape))
        return name

    def output(self, name: str, dtype: np.dtype, shape: Sequence[str | int]) -> None:
        """Declare an array as an output of the model."""
        make = self._onnx.helper.make_tensor_value_info
        self._outputs.append(make(name, self._kind(dtype), shape))

    def model(self) -> "ModelProto":
        """Return the model of all parts."""
        helper = self._onnx.helper
        parts = self._nodes, "jaxrnn", self._inputs, self._outputs, self._constants
        return helper.make_model(
            helper.make_graph(*parts),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="jaxrnn",
        )

    def _kind(self, dtype: np.dtype) -> int:
        """Return ONNX's number of a dtype."""
        if str(dtype) not in _TYPES:
            floats = [name for name in _TYPES if "float" in name]
            refuse("to_onnx", f"params have dtype {dtype}, expected one of {floats}")
        return self._onnx.TensorProto.DataType.Value(_TYPES[str(dtype)])


def _write_empty_rows(writer: _Writer) -> None:
    """Add the array `empty_rows`, which is True for sequences of length 0.

    Their final states should be the initial ones, but ONNX Runtime returns zeros.
    """
    no_step = writer.constant("no_step", np.array(0, np.int32))
    writer.node("Equal", ["lengths", no_step], ["empty"])
    feature_axis = writer.constant("feature_axis", np.array([1], np.int64))
    writer.node("Unsqueeze", ["empty", feature_axis], ["empty_rows"])


def _write_start_shape(writer: _Writer) -> None:
    """Add the array `start_shape`, the shape `[1, batch, 1]` to which initial states expand."""
    writer.node("Shape", ["xs"], ["batch_size"], start=1, end=2)
    one = writer.constant("one", np.array([1], np.int64))
    writer.node("Concat", [one, "batch_size", one], ["start_shape"], axis=0)


def _write_layer(
    writer: _Writer, k: int, layer: LayerNode, xs: str, ys: str, lengths: bool, carry: bool
) -> None:
    """Add layer k, which reads the array `xs` and makes the array `ys`."""
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
    # A size of 0 in the shape keeps the axis: time and batch.
    shape = writer.constant(f"layer_{k}.shape", np.array([0, 0, ways * hidden]))
    writer.node("Reshape", [f"layer_{k}.rows", shape], [ys])
