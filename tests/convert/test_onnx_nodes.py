"""Single nodes with every option, against ONNX Runtime."""

import itertools
from typing import Any

import numpy as np
import pytest

from jaxrnn import GRU, Elman
from jaxrnn.convert import from_onnx, to_onnx
from tests.convert.test_onnx import LENGTHS, WAYS, run, scan, side_by_side, states_of
from tests.support.conversions import (
    HIDDEN,
    random_inputs,
)
from tests.support.helpers import assert_close
from tests.support.onnx_models import GATES, node_model

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")

FUNCTIONS: dict[str, tuple[list[float], list[float]]] = {
    "Affine": ([0.75], [0.125]),
    "Elu": ([0.3], []),
    "HardSigmoid": ([], []),
    "HardSigmoid-given": ([0.3], [0.4]),
    "LeakyRelu": ([], []),
    "LeakyRelu-given": ([0.2], []),
    "Relu": ([], []),
    "ScaledTanh": ([1.7159], [0.6667]),
    "Sigmoid": ([], []),
    "Softplus": ([], []),
    "Softsign": ([], []),
    "Tanh": ([], []),
    "ThresholdedRelu": ([0.3], []),
}
NODES: dict[str, tuple[str, dict[str, Any], bool]] = {
    **{
        f"rnn-{name}": (
            "RNN",
            {
                "activations": [name.split("-")[0]],
                "activation_alpha": alpha,
                "activation_beta": beta,
            },
            False,
        )
        for name, (alpha, beta) in FUNCTIONS.items()
    },
    "rnn-clip": ("RNN", {"clip": 0.6}, False),
    **{
        f"gru-{after}-{clip}": ("GRU", {"linear_before_reset": after} | clip, False)
        for after, clip in itertools.product((0, 1), ({}, {"clip": 0.6}))
    },
    "gru-functions": (
        "GRU",
        {
            "activations": ["HARDSIGMOID", "elu"],
            "activation_alpha": [0.3, 0.7],
            "activation_beta": [0.4],
        },
        False,
    ),
    **{
        f"lstm-{coupled}-{peepholes}-{clip}": ("LSTM", {"input_forget": coupled} | clip, peepholes)
        for coupled, peepholes, clip in itertools.product(
            (0, 1), (False, True), ({}, {"clip": 0.6})
        )
    },
    "lstm-functions": (
        "LSTM",
        {
            "activations": ["hardsigmoid", "LeakyRelu", "ScaledTanh"],
            "activation_alpha": [0.3, 0.1, 1.2],
            "activation_beta": [0.5, 0.7],
        },
        False,
    ),
}


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize(
    ("operator", "attributes", "peepholes"), list(NODES.values()), ids=list(NODES)
)
def test_nodes_compute_what_onnxruntime_computes(operator, attributes, peepholes, direction):
    ways = 1 + (direction == "bidirectional")
    attributes = {
        name: value * ways if isinstance(value, list) else value
        for name, value in attributes.items()
        if value != []
    }
    model = node_model(operator, {**attributes, "direction": direction}, peepholes=peepholes)
    cell, params = from_onnx(model)
    xs = random_inputs("float32")
    carry, ys = scan(cell, params, xs, lengths=LENGTHS)
    y, *states = run(model, X=xs, lengths=LENGTHS)
    assert_close([side_by_side(y), *states], [ys, *states_of(cell, carry)], 1e-5)
    assert from_onnx(to_onnx(cell, params))[0] == cell


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize("operator", GATES)
def test_batch_major_nodes(operator, direction):
    """ONNX's evaluator knows this layout, ONNX Runtime refuses it."""
    model, xs = (
        node_model(operator, {"layout": 1, "direction": direction}),
        random_inputs("float32"),
    )
    cell, params = from_onnx(model)
    carry, ys = scan(cell, params, xs)
    y, *states = reference.ReferenceEvaluator(model).run(
        None, {"X": np.swapaxes(xs, 0, 1), "lengths": LENGTHS}
    )
    y, states = np.moveaxis(y, 0, 2), [np.swapaxes(state, 0, 1) for state in states]
    assert_close([side_by_side(y), *states], [ys, *states_of(cell, carry)], 1e-5)


def test_what_a_node_may_leave_out():
    """`hidden_size`, the biases, and its name; and RNN's default activations may be written out in
    full.
    """
    cell, params = from_onnx(node_model("GRU", replaced={"B": None}, opset=14))
    assert cell == GRU(HIDDEN, reset_gate="before", bias=False)
    model = node_model("RNN", {"activations": ["Tanh", "Tanh"]})
    del model.graph.node[0].attribute[:1]
    model.graph.node[0].name = ""
    assert from_onnx(model, "Y")[0] == Elman(HIDDEN)
    assert params.b is params.b_hn is None
