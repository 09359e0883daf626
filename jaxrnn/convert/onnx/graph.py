"""The graph of an ONNX model that is read: its nodes, and the constants that they use."""

import collections
import os
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from jaxrnn.convert._errors import refuse
from jaxrnn.convert.onnx.schema import import_onnx, inputs_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def load_model(path_or_model: "str | os.PathLike[str] | ModelProto") -> "ModelProto":
    """Return the model itself, or load it from a file, with its external data.

    Raises:
        ValueError: the file is not a complete ONNX file.
        OSError: the file cannot be read.
    """
    onnx = import_onnx()
    from google.protobuf.message import DecodeError  # a requirement of onnx
    from onnx import ModelProto

    if isinstance(path_or_model, ModelProto):
        return path_or_model
    path = os.fspath(path_or_model)
    try:
        return onnx.load(path, format="protobuf")
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        hint = "was it cut off, or is it of another kind?"
        reason = f"from_onnx: {path} is not a complete ONNX file ({error}); {hint}"
        raise ValueError(reason) from error


class Graph:
    """The nodes of a model, each after the nodes that it reads from, and its arrays by name."""

    def __init__(self, model: "ModelProto") -> None:
        self.nodes = [*model.graph.node]
        made = [name for node in self.nodes for name in node.output if name]
        self._made = collections.Counter([*made, *(t.name for t in model.graph.initializer)])
        self._given = {each.name for each in model.graph.input}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                values = [a.t for a in node.attribute if a.name == "value"]
                self._tensors |= {name: tensor for name in node.output for tensor in values}
        expands = [node for node in self.nodes if node.op_type == "Expand"]
        self._expanded = {name: node.input[0] for node in expands for name in node.output}

    def check_names(self, caller: str, node: "NodeProto") -> None:
        """Refuse inputs that ONNX's schema does not have, and names of no array or of several."""
        known = inputs_of(node.op_type)
        if surplus := [*node.input][len(known) :]:
            refuse(caller, f"inputs {surplus} are too many, expected at most {list(known)}")
        for key, name in zip(known, node.input, strict=False):
            if name and not self._made[name] and name not in self._given:
                refuse(caller, f"{key} is {name!r}, but the model has no array of this name")
            if (count := self._made[name]) > 1:
                refuse(caller, f"{key} is {name!r}, but the model has {count} arrays of this name")

    def constant(self, name: str) -> np.ndarray | None:
        """Return the constant of a name; None if the array is computed or an input of the model."""
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
        is_bfloat16 = tensor.data_type == onnx.TensorProto.BFLOAT16
        return array.astype(jnp.bfloat16) if is_bfloat16 else array  # onnx 1.18 gives float32

    def expanded(self, name: str) -> np.ndarray | None:
        """Return the constant of a name, or the constant that an Expand repeats for each row."""
        return self.constant(self._expanded.get(name, name))

    def integers(self, name: str) -> np.ndarray | None:
        """Return the constant of a name if it can be a list of axes or sizes, else None."""
        array = self.constant(name)
        return array if array is not None and array.dtype == np.int64 and array.ndim == 1 else None
