"""The package `onnx`, and what its schema says about a node."""

import collections
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict, cast

from jaxrnn.convert._errors import refuse

if TYPE_CHECKING:
    from onnx import NodeProto

OPSET = 22  # the version of ONNX's operators

RECURRENT = ("RNN", "GRU", "LSTM")
DOMAINS = ("", "ai.onnx")  # both are names of ONNX's own operators


class Attributes(TypedDict, total=False):
    """The attributes that are read or written, of all nodes."""

    activations: list[str]
    activation_alpha: list[float]
    activation_beta: list[float]
    clip: float
    direction: str
    hidden_size: int
    input_forget: int
    layout: int
    linear_before_reset: int
    perm: list[int]  # of a Transpose
    axes: list[int]  # of a Squeeze, before opset 13
    allowzero: int  # of a Reshape


def import_onnx() -> ModuleType:
    """Import the package `onnx`, which is not a requirement of jaxrnn.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "jaxrnn.convert reads and writes ONNX files with the package onnx; install it: "
            "pip install onnx"
        ) from error
    return onnx


def is_recurrent(node: "NodeProto") -> bool:
    """Return whether a node is an RNN, GRU or LSTM of ONNX itself."""
    return node.op_type in RECURRENT and node.domain in DOMAINS


def name_of(node: "NodeProto") -> str:
    """Return the name of a node, or that of its first output if the node has none."""
    return node.name or next((name for name in node.output if name), "")


def inputs_of(operator: str) -> tuple[str, ...]:
    """Return the names that ONNX gives to the inputs of an operator."""
    return tuple(each.name for each in import_onnx().defs.get_schema(operator, OPSET, "").inputs)


def attributes_of(node: "NodeProto") -> Attributes:
    """Return the attributes of a node, by name. Strings are `str`."""
    value_of = import_onnx().helper.get_attribute_value

    def text(value: object) -> object:
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return [text(item) for item in value] if isinstance(value, list) else value

    return cast(Attributes, {each.name: text(value_of(each)) for each in node.attribute})


def check_attributes(caller: str, node: "NodeProto") -> None:
    """Refuse attributes that occur twice, are not in ONNX's schema, or have another type there."""
    onnx = import_onnx()
    known = onnx.defs.get_schema(node.op_type, OPSET, "").attributes
    times = collections.Counter(attribute.name for attribute in node.attribute)
    for attribute in node.attribute:
        name = attribute.name
        if times[name] > 1:
            refuse(caller, f"attribute {name} is there {times[name]} times")
        if name not in known:
            refuse(caller, f"attribute {name} is unknown, expected some of {sorted(known)}")
        if attribute.type != (wanted := known[name].type).value:
            given = onnx.AttributeProto.AttributeType.Name(attribute.type)
            refuse(caller, f"attribute {name} has type {given}, expected {wanted.name}")
