"""Models that `from_onnx` refuses, and what it says."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from jaxrnn.convert import from_onnx
from tests.support.conversions import FEATURES, HIDDEN
from tests.support.onnx_models import node_model

onnx = pytest.importorskip("onnx")


def mutated(model: Any, change: Any) -> Any:
    """The model, after a change in its node."""
    change(model.graph.node[0])
    return model


def resized(name: str, sizes: list[int]) -> Any:
    """A model whose tensor of that name says that it has other sizes."""
    model = node_model("RNN")
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    tensor.dims[:] = sizes
    return model


WRONG = np.ones((1, HIDDEN, HIDDEN), np.float32)
MISTAKES: dict[str, tuple[Any, str | None, str]] = {
    "no node": (
        lambda: node_model("RNN", nodes=[]),
        None,
        "the model's graph has no RNN, GRU, LSTM node",
    ),
    "another": (
        lambda: node_model("RNN"),
        "rnn",
        r"0 recurrent nodes are named 'rnn', expected one; there are \['node'\]",
    ),
    "attribute": (
        lambda: node_model("RNN", {"speed": 1}),
        None,
        r"RNN node 'node': attribute speed is unknown, expected some of \['act",
    ),
    "others' attribute": (
        lambda: node_model("RNN", {"input_forget": 1}),
        None,
        "attribute input_forget is unknown",
    ),
    "type": (
        lambda: node_model("GRU", {"clip": 1}),
        None,
        "GRU node 'node': attribute clip has type INT, expected FLOAT",
    ),
    "direction": (
        lambda: node_model("RNN", {"direction": "up"}),
        None,
        r"direction is 'up', expected one of \['forward', 'reverse', 'b",
    ),
    "layout": (
        lambda: node_model("RNN", {"layout": 2}),
        None,
        r"attribute layout is 2, expected one of \[0, 1\]",
    ),
    "coupled": (
        lambda: node_model("LSTM", {"input_forget": 2}),
        None,
        r"attribute input_forget is 2, expected one of \[0, 1\]",
    ),
    "reset": (
        lambda: node_model("GRU", {"linear_before_reset": 3}),
        None,
        r"attribute linear_before_reset is 3, expected one of \[0, 1\]",
    ),
    "clip": (
        lambda: node_model("GRU", {"clip": -1.0}),
        None,
        "GRU node 'node': GRU: clip is -1.0, expected a positive number",
    ),
    "function": (
        lambda: node_model("GRU", {"activations": ["Sigmoid", "Gelu"]}),
        None,
        r"GRU node 'node': activation 'Gelu' is unknown, expected one of \['Affine', 'Elu'",
    ),
    "functions": (
        lambda: node_model("GRU", {"activations": ["Tanh"]}),
        None,
        r"activations are \['Tanh'\], expected 2 of them",
    ),
    "alpha": (
        lambda: node_model("RNN", {"activations": ["ThresholdedRelu"]}),
        None,
        "activation_alpha has no number for ThresholdedRelu, and runtimes do not agree on a "
        "default",
    ),
    "beta": (
        lambda: node_model("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [1.0]}),
        None,
        "activation_beta has no number for ScaledTanh",
    ),
    "left over": (
        lambda: node_model("RNN", {"activation_alpha": [1.0]}),
        None,
        r"activation_alpha has 1 more than .*\['Tanh'\] take",
    ),
    "mirror": (
        lambda: node_model("LSTM", {"input_forget": 1, "activations": ["Tanh"] * 3}),
        None,
        "LSTM node 'node': the gates of the LSTM are coupled, in ONNX as f = 1 - i .*, such as "
        "'sigmoid', not for 'tanh'",
    ),
    "axes": (
        lambda: node_model("RNN", replaced={"W": WRONG[0]}),
        None,
        r"W has shape \(5, 5\), expected \[directions, gates",
    ),
    "shape": (
        lambda: node_model("LSTM", replaced={"R": WRONG}),
        None,
        r"R has shape \(1, 5, 5\), expected \(1, 20, 5\)",
    ),
    "hidden": (
        lambda: node_model("RNN", {"hidden_size": 4}),
        None,
        r"W has shape \(1, 5, 3\), expected \(1, 4, 3\)",
    ),
    "ways": (
        lambda: mutated(
            node_model("RNN"),
            lambda node: node.attribute.append(
                onnx.helper.make_attribute("direction", "bidirectional")
            ),
        ),
        None,
        r"W has shape \(1, 5, 3\), expected \(2, 5, 3\)",
    ),
    "missing": (
        lambda: node_model("RNN", replaced={"R": None}),
        None,
        r"R is missing; there are \['B', 'W'\]",
    ),
    "inputs": (
        lambda: mutated(node_model("RNN"), lambda node: node.input.__delitem__(slice(2, None))),
        None,
        r"R is missing; there are \['W'\]",
    ),
    "computed": (
        lambda: mutated(node_model("RNN"), lambda node: node.input.__setitem__(1, "X")),
        None,
        "W is 'X', which is computed or an input; expected a constant: fold constants first",
    ),
    "initial": (
        lambda: node_model("RNN", replaced={"initial_h": np.eye(HIDDEN, dtype="f")[None]}),
        None,
        r"initial_h is a constant of shape \(1, 5, 5\), not zero, and not one .* Make it an input",
    ),
    "integers": (
        lambda: node_model("RNN", replaced={"W": np.ones((1, HIDDEN, 3), int)}),
        None,
        "W has dtype int64, expected floating",
    ),
    "float64": (
        lambda: node_model("RNN", dtype=np.float64),
        None,
        "W has dtype float64, which JAX would round",
    ),
    "surplus": (
        lambda: mutated(node_model("RNN"), lambda node: node.input.extend(["initial_c", "P"])),
        None,
        r"RNN node 'node': inputs \['initial_c', 'P'\] are too many, expected at most \['X', 'W', ",
    ),
    "dtypes": (
        lambda: node_model("RNN", replaced={"R": np.ones((1, HIDDEN, HIDDEN), np.float16)}),
        None,
        "RNN node 'node': R has dtype float16, expected float32, that of W; cast one of them",
    ),
    "negative": (
        lambda: resized("W", [-1, HIDDEN, FEATURES]),
        None,
        r"tensor 'W' has the sizes \[-1, 5, 3\], expected none below 0",
    ),
    "eight bits": (
        lambda: node_model("RNN", replaced={"W": np.ones((1, HIDDEN, 3), ml_dtypes.float8_e5m2)}),
        None,
        "RNN node 'node': W has dtype float8_e5m2, expected floating numbers: bfloat16, float16",
    ),
    "twice": (
        lambda: mutated(node_model("RNN"), lambda node: node.output.__setitem__(0, "W")),
        None,
        "RNN node 'node': W is 'W', but the model has 2 arrays of this name",
    ),
    "from nowhere": (
        lambda: mutated(node_model("RNN"), lambda node: node.input.__setitem__(5, "start")),
        None,
        "initial_h is 'start', but the model has no array of this name",
    ),
    "attribute twice": (
        lambda: mutated(node_model("RNN"), lambda node: node.attribute.append(node.attribute[0])),
        None,
        "RNN node 'node': attribute hidden_size is there 2 times",
    ),
    "lengths": (
        lambda: node_model("RNN", replaced={"lengths": np.ones(2, np.int32)}),
        None,
        "sequence_lens is 'lengths', a constant, so the node is for these lengths alone; make",
    ),
    "no path": (lambda: {"W": 1}, None, "expected str, bytes or os.PathLike object, not dict"),
}


@pytest.mark.parametrize(("model", "node", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(model, node, message):
    with pytest.raises((ValueError, TypeError), match=message):
        from_onnx(model(), node)
