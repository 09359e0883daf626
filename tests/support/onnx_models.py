"""Models of one recurrent node, for the tests that read them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.support.conversions import FEATURES, HIDDEN

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def node_model(
    operator: str,
    attributes: dict[str, Any] | None = None,
    *,
    peepholes: bool = False,
    opset: int = 22,
    dtype: Any = np.float32,
    replaced: dict[str, Any] | None = None,
    nodes: Sequence[Any] | None = None,
) -> Any:
    """A model of one node with random weights, some `replaced` by others or, by None, left out; or
    of the `nodes`.
    """
    attributes, rng = {"hidden_size": HIDDEN, **(attributes or {})}, np.random.default_rng(5)
    ways, rows = 1 + (attributes.get("direction") == "bidirectional"), GATES[operator] * HIDDEN
    shapes: dict[str, Any] = {
        "W": (ways, rows, FEATURES),
        "R": (ways, rows, HIDDEN),
        "B": (ways, 2 * rows),
        "P": (ways, 3 * HIDDEN),
    }
    arrays = {
        key: (rng.normal(size=shape) / 2).astype(dtype)
        for key, shape in shapes.items()
        if key != "P" or peepholes
    }
    arrays |= replaced or {}
    names = ["X", "W", "R", "B", "lengths", "initial_h", "initial_c", "P"][
        : 8 if operator == "LSTM" else 6
    ]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if operator == "LSTM" else 2]
    given = [key if key in ("X", "lengths") or arrays.get(key) is not None else "" for key in names]
    helper, kind = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = [
        ("X", kind, ["time", "batch", FEATURES]),
        ("lengths", onnx.TensorProto.INT32, ["batch"]),
    ]
    graph = helper.make_graph(
        [helper.make_node(operator, given, outputs, "node", **attributes)]
        if nodes is None
        else nodes,
        "graph",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(output, kind, None) for output in outputs],
        [onnx.numpy_helper.from_array(a, key) for key, a in arrays.items() if a is not None],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 22 else 10
    )


def run_onnx(model: Any, feeds: dict[str, Any]) -> list[np.ndarray]:
    """What ONNX Runtime computes, on one thread: others would spin, at ten times the cost."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {name: np.asarray(array) for name, array in feeds.items()})
