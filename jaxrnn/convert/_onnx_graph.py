"""The graphs of ONNX models. Read: their constants, their recurrent nodes, and whether these stand
on each other. Written: one recurrent node for each layer, its directions put side by side for the
next.
"""

import collections
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn.convert._common import refuse

OPSET = 22
_IR_VERSION = 10  # the first that knows this opset

_RECURRENT = ("RNN", "GRU", "LSTM")
_DOMAINS = ("", "ai.onnx")  # both names of ONNX's own operators

_TYPES = {
    "float16": "FLOAT16",
    "bfloat16": "BFLOAT16",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "int32": "INT32",
    "int64": "INT64",
}

Node = Any
"""An `onnx.NodeProto`."""

Axes = tuple[str, ...]
"""What the axes of an array are."""

_TIME_MAJOR: tuple[Axes, Axes] = (
    ("time", "batch", "features"),
    ("time", "directions", "batch", "features"),
)
_BATCH_MAJOR: tuple[Axes, Axes] = (
    ("batch", "time", "features"),
    ("batch", "time", "directions", "features"),
)
"""What X and Y are with layout 0 and 1."""


def import_onnx() -> Any:
    """The package.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "jaxrnn.convert reads and writes ONNX files with the package onnx; install it: pip "
            "install onnx"
        ) from error
    return onnx


def inputs_of(operator: str) -> tuple[str, ...]:
    """The names that ONNX gives to the inputs of an operator."""
    return tuple(each.name for each in import_onnx().defs.get_schema(operator, OPSET, "").inputs)


def name_of(node: Node) -> str:
    """Its name; that of its first output if it has none, as ONNX allows."""
    return node.name or next((name for name in node.output if name), "")


def attributes_of(node: Node) -> dict[str, Any]:
    """By name; words as `str`."""
    values = {a.name: import_onnx().helper.get_attribute_value(a) for a in node.attribute}

    def text(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return [text(item) for item in value] if isinstance(value, list) else value

    return {name: text(value) for name, value in values.items()}


def check_attributes(source: str, node: Node) -> None:
    """Refuse attributes that are there twice, or that ONNX's schema does not know so."""
    onnx = import_onnx()
    known = onnx.defs.get_schema(node.op_type, OPSET, "").attributes
    times = collections.Counter(attribute.name for attribute in node.attribute)
    for attribute in node.attribute:
        if times[attribute.name] > 1:
            refuse(source, f"attribute {attribute.name} is there {times[attribute.name]} times")
        if attribute.name not in known:
            refuse(
                source, f"attribute {attribute.name} is unknown, expected some of {sorted(known)}"
            )
        if attribute.type != (wanted := known[attribute.name].type).value:
            given = onnx.AttributeProto.AttributeType.Name(attribute.type)
            refuse(source, f"attribute {attribute.name} has type {given}, expected {wanted.name}")


def load_model(path_or_model: Any) -> Any:
    """The model itself, or that of a file, with its external data.

    Raises:
        ValueError: it is no whole ONNX file.
        OSError: it cannot be read.
    """
    onnx = import_onnx()
    from google.protobuf.message import DecodeError  # onnx needs it, so it is there

    if isinstance(path_or_model, onnx.ModelProto):
        return path_or_model
    path = os.fspath(path_or_model)
    try:
        return onnx.load(path, format="protobuf")
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise ValueError(
            f"from_onnx: {path} is no whole ONNX file ({error}); was it cut off, or is it of "
            "another kind?"
        ) from error


class Graph:
    """The graph of a model that is read.

    Args:
        model: an `onnx.ModelProto`.
    """

    def __init__(self, model: Any) -> None:
        self._nodes = model.graph.node
        made = [name for node in self._nodes for name in node.output if name]
        self._made = collections.Counter([*made, *(t.name for t in model.graph.initializer)])
        self._given = {each.name for each in model.graph.input}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self._nodes:
            if node.op_type == "Constant":
                self._tensors |= {
                    name: a.t for name in node.output for a in node.attribute if a.name == "value"
                }

    def check_names(self, source: str, node: Node) -> None:
        """Refuse inputs that ONNX's schema does not know, and names of no array or of several."""
        known = inputs_of(node.op_type)
        if surplus := [*node.input][len(known) :]:
            refuse(source, f"inputs {surplus} are too many, expected at most {list(known)}")
        for key, name in zip(known, node.input, strict=False):
            if name and not self._made[name] and name not in self._given:
                refuse(source, f"{key} is {name!r}, a name of no array in the model")
            if self._made[name] > 1:
                refuse(source, f"{key} is {name!r}, and {self._made[name]} arrays are named so")

    def constant(self, name: str) -> np.ndarray | None:
        """The array of that name; None if it is computed, or an input of the model."""
        tensor, onnx = self._tensors.get(name), import_onnx()
        if tensor is None:
            return None
        if any(size < 0 for size in tensor.dims):
            given = f"tensor {name!r} has the sizes {[*tensor.dims]}"
            refuse("from_onnx", f"{given}, expected none below 0")
        try:
            array = onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError, OSError, onnx.checker.ValidationError) as error:
            raise ValueError(f"from_onnx: tensor {name!r} cannot be read: {error}") from error
        # onnx 1.18 gives bfloat16 as float32
        return (
            array.astype(jnp.bfloat16) if tensor.data_type == onnx.TensorProto.BFLOAT16 else array
        )

    def layers(self, wanted: str | None) -> list[Node]:
        """The recurrent node of that name, or all of them, bottom first, if each stands on the one
        before.

        Raises:
            ValueError: there is no such node, there are two, or the nodes form no chain; the
                message lists those that exist.
        """
        recurrent = [node for node in self._nodes if _is_recurrent(node)]
        names = [name_of(node) for node in recurrent]
        if not recurrent:
            refuse("from_onnx", f"the model's graph has no {', '.join(_RECURRENT)} node")
        if wanted is None:
            self._check_chain(names)
            return recurrent
        found = [node for node in recurrent if name_of(node) == wanted]
        if len(found) != 1:
            refuse(
                "from_onnx",
                f"{len(found)} recurrent nodes are named {wanted!r}, expected one; there are "
                f"{names}",
            )
        return found

    def _check_chain(self, names: list[str]) -> None:
        """Refuse unless each recurrent node takes all that the one before gives, its directions
        side by side.
        """
        below: str | None = None
        # of the arrays that are made of the last recurrent node's: their axes, or what else they
        # are
        made: dict[str, Axes | str] = {}
        for node in self._nodes:  # sorted: each stands behind what it needs
            if _is_recurrent(node):
                takes, gives = (
                    _BATCH_MAJOR if attributes_of(node).get("layout") == 1 else _TIME_MAJOR
                )
                given = made.get(node.input[0] if node.input else "", "it comes from elsewhere")
                if below is not None and given != takes:
                    reason = f"does not take all that {below!r} gives as its X: "
                    reason += (
                        given
                        if isinstance(given, str)
                        else f"it comes with the axes {list(given)}, expected {list(takes)}"
                    )
                    refuse(
                        "from_onnx",
                        f"{node.op_type} node {name_of(node)!r} {reason}; name one node to read, "
                        f"of {names}",
                    )
                below, state = name_of(node), "it is a final state"
                made = {
                    name: what
                    for name, what in zip(node.output, (gives, state, state), strict=False)
                    if name
                }
            elif node.input and node.input[0] in made:
                axes = made[node.input[0]]
                made |= dict.fromkeys(
                    node.output[:1], axes if isinstance(axes, str) else self._axes_after(node, axes)
                )

    def _axes_after(self, node: Node, axes: Axes) -> Axes | str:
        """What the axes of an array are after a node that moves or joins some; words about any
        other node.
        """
        try:
            after = self._moved(node, axes)
        except (IndexError, TypeError):  # it names axes that are not there
            after = None
        return (
            after
            or f"{node.op_type} node {name_of(node)!r} does more than put directions side by side"
        )

    def _moved(self, node: Node, axes: Axes) -> Axes | None:
        attributes = attributes_of(node)
        if node.domain not in _DOMAINS:
            return None
        if node.op_type in ("Identity", "Dropout"):
            return axes
        if node.op_type == "Transpose":
            return tuple(axes[k] for k in attributes.get("perm", range(len(axes))[::-1]))
        if node.op_type == "Squeeze":  # its axes were an attribute before opset 13
            squeezed = attributes["axes"] if "axes" in attributes else self._integers(node.input[1])
            if squeezed is not None and [axes[k] for k in squeezed] == ["directions"]:
                return tuple(axis for axis in axes if axis != "directions")
        if (
            node.op_type == "Reshape"
            and axes[2:] == ("directions", "features")
            and not attributes.get("allowzero", 0)
        ):
            shape = self._integers(node.input[1])
            if shape is not None and len(shape) == 3 and not shape[:2].any():  # 0 keeps an axis
                return (*axes[:2], "features")
        return None

    def _integers(self, name: str) -> np.ndarray | None:
        """A constant that is a list of axes or sizes."""
        array = self.constant(name)
        return array if array is not None and array.dtype == np.int64 and array.ndim == 1 else None


def _is_recurrent(node: Node) -> bool:
    return node.op_type in _RECURRENT and node.domain in _DOMAINS


class LayerNode(NamedTuple):
    """A recurrent node that is to be written."""

    operator: str
    attributes: dict[str, Any]
    weights: dict[str, np.ndarray]  # by the name of the input


class _Writer:
    """What a graph is made of, as it grows."""

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self._nodes, self._constants, self._inputs, self._outputs = [], [], [], []

    def node(
        self,
        operator: str,
        inputs: Iterable[str],
        outputs: Sequence[str],
        name: str = "",
        **attributes: Any,
    ) -> None:
        self._nodes.append(
            self._onnx.helper.make_node(
                operator, list(inputs), outputs, name or outputs[0], **attributes
            )
        )

    def constant(self, name: str, array: np.ndarray) -> str:
        kind = self._kind(array.dtype)
        self._constants.append(
            self._onnx.helper.make_tensor(name, kind, array.shape, array.tobytes(), raw=True)
        )
        return name

    def input(self, name: str, dtype: Any, shape: Sequence[str | int]) -> str:
        self._inputs.append(
            self._onnx.helper.make_tensor_value_info(name, self._kind(dtype), shape)
        )
        return name

    def output(self, name: str, dtype: Any, shape: Sequence[str | int]) -> None:
        self._outputs.append(
            self._onnx.helper.make_tensor_value_info(name, self._kind(dtype), shape)
        )

    def model(self) -> Any:
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, "jaxrnn", self._inputs, self._outputs, self._constants
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="jaxrnn"
        )

    def _kind(self, dtype: Any) -> int:
        if str(dtype) not in _TYPES:
            refuse(
                "to_onnx",
                f"params have dtype {dtype}, expected one of "
                f"{[name for name in _TYPES if 'float' in name]}",
            )
        return self._onnx.TensorProto.DataType.Value(_TYPES[str(dtype)])


def build_model(layers: Sequence[LayerNode], lengths: bool, carry: bool) -> Any:
    """The model of `to_onnx`, which says what it takes and gives.

    Args:
        layers: bottom first.
        lengths: whether the model takes lengths.
        carry: whether it takes initial states.
    """
    writer = _Writer()
    dtype = layers[0].weights["W"].dtype
    xs = writer.input("xs", dtype, ["time", "batch", layers[0].weights["W"].shape[2]])
    if lengths:
        writer.input("lengths", "int32", ["batch"])
    # where a sequence has no step, ONNX Runtime gives zeros as its final states, instead of the
    # initial ones
    if lengths and carry:
        writer.node(
            "Equal", ["lengths", writer.constant("no_step", np.array(0, np.int32))], ["empty"]
        )
        writer.node(
            "Unsqueeze",
            ["empty", writer.constant("feature_axis", np.array([1], np.int64))],
            ["empty_rows"],
        )
    ways, _, hidden = layers[-1].weights["R"].shape
    writer.output("ys", dtype, ["time", "batch", ways * hidden])
    for k, layer in enumerate(layers):
        ys = "ys" if layer is layers[-1] else f"layer_{k}.ys"
        _write_layer(writer, k, layer, xs, ys, lengths, carry)
        xs = ys
    return writer.model()


def _write_layer(
    writer: _Writer, k: int, layer: LayerNode, xs: str, ys: str, lengths: bool, carry: bool
) -> None:
    """One layer from `xs` to `ys`."""
    ways, _, hidden = layer.weights["R"].shape
    form = layer.weights["R"].dtype, [ways, "batch", hidden]
    taken = dict.fromkeys(inputs_of(layer.operator), "") | {"X": xs}
    states = {
        initial: f"{initial.removeprefix('initial_')}_{k}"
        for initial in taken
        if initial.startswith("initial_")
    }
    taken |= {
        name: writer.constant(f"layer_{k}.{name}", array) for name, array in layer.weights.items()
    }
    if lengths:
        taken["sequence_lens"] = "lengths"
    if carry:
        taken |= {
            initial: writer.input(f"initial_{state}", *form) for initial, state in states.items()
        }
    given = [f"layer_{k}.{state}" if lengths and carry else state for state in states.values()]
    writer.node(
        layer.operator,
        taken.values(),
        [f"layer_{k}.Y", *given],
        f"layer_{k}",
        hidden_size=hidden,
        **layer.attributes,
    )
    for (initial, state), last in zip(states.items(), given, strict=True):
        writer.output(state, *form)
        if last != state:
            writer.node("Where", ["empty_rows", taken[initial], last], [state])
    writer.node("Transpose", [f"layer_{k}.Y"], [f"layer_{k}.rows"], perm=[0, 2, 1, 3])
    # 0 keeps time and batch as they are
    shape = writer.constant(f"layer_{k}.shape", np.array([0, 0, ways * hidden]))
    writer.node("Reshape", [f"layer_{k}.rows", shape], [ys])
