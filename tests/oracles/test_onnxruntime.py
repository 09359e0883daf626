"""ONNX Runtime as an oracle: its RNN, LSTM and GRU on random weights, states and lengths."""

from typing import Any

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn.activations import HardSigmoid
from tests.support.onnx_models import run_onnx

onnx = pytest.importorskip("onnx")

TIME, BATCH, FEATURES, HIDDEN = 7, 4, 3, 5
# our gate k stands at this place among ONNX's, which are i o f c, z r h and one
ORDERS = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}

CASES = {
    "rnn_tanh": ("RNN", {}, jaxrnn.Elman(HIDDEN)),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}, jaxrnn.Elman(HIDDEN, activation="relu")),
    "lstm": ("LSTM", {}, jaxrnn.LSTM(HIDDEN)),
    "rnn_clip": ("RNN", {"clip": 0.6}, jaxrnn.Elman(HIDDEN, clip=0.6)),
    "lstm_peepholes": ("LSTM", {}, jaxrnn.LSTM(HIDDEN, peepholes=True)),
    "lstm_clip": ("LSTM", {"clip": 0.6}, jaxrnn.LSTM(HIDDEN, clip=0.6)),
    "lstm_coupled": ("LSTM", {"input_forget": 1}, jaxrnn.LSTM(HIDDEN, coupled=True)),
    "lstm_activations": (
        "LSTM",
        {
            "activations": ["HardSigmoid", "Softsign", "Relu"],
            "activation_alpha": [0.2],
            "activation_beta": [0.5],
        },
        jaxrnn.LSTM(
            HIDDEN,
            gate_activation=HardSigmoid(0.2),
            candidate_activation="softsign",
            output_activation="relu",
        ),
    ),
    "gru_clip": ("GRU", {"linear_before_reset": 1, "clip": 0.6}, jaxrnn.GRU(HIDDEN, clip=0.6)),
    "gru_activations": (
        "GRU",
        {
            "linear_before_reset": 1,
            "activations": ["HardSigmoid", "Softsign"],
            "activation_alpha": [0.2],
            "activation_beta": [0.5],
        },
        jaxrnn.GRU(HIDDEN, gate_activation=HardSigmoid(0.2), candidate_activation="softsign"),
    ),
    "gru_after": ("GRU", {"linear_before_reset": 1}, jaxrnn.GRU(HIDDEN)),
    "gru_before": ("GRU", {"linear_before_reset": 0}, jaxrnn.GRU(HIDDEN, reset_gate="before")),
}


def to_params(
    operator: str, cell: jaxrnn.Cell, w: np.ndarray, r: np.ndarray, b: np.ndarray, p: np.ndarray
) -> Any:
    """One direction of ONNX's `W [gates * hidden, in]`, `R [gates * hidden, hidden]`, `B [2 * gates
    * hidden]`, `P [3 * hidden]`.
    """
    gates = len(ORDERS[operator])

    def ordered(a: np.ndarray) -> Any:
        return np.concatenate([a.reshape(gates, HIDDEN, -1)[k] for k in ORDERS[operator]])

    w_x, w_h = ordered(w).T, ordered(r).T
    b_x, b_h = (ordered(half)[:, 0] for half in np.split(b, 2))
    if isinstance(cell, jaxrnn.LSTM):
        weights: Any = (w_x, w_h, b_x + b_h)
        if cell.coupled:  # ONNX keeps i and has f = 1 - i; with the opposite sign, i is f
            first = np.arange(4 * HIDDEN) < HIDDEN
            weights = (
                np.delete(np.where(first, -a, a), slice(HIDDEN, 2 * HIDDEN), axis=-1)
                for a in weights
            )
        params = jaxrnn.LSTMParams(*weights)
        p_i, p_o, p_f = np.split(p, 3)
        return params._replace(p_i=p_i, p_f=p_f, p_o=p_o) if cell.peepholes else params
    if operator == "RNN":
        return jaxrnn.ElmanParams(w_x, w_h, b_x + b_h)
    if isinstance(cell, jaxrnn.GRU) and cell.reset_gate == "before":
        return jaxrnn.GRUParams(w_x, w_h, b_x + b_h, None)
    gates_alone = np.where(np.arange(3 * HIDDEN) < 2 * HIDDEN, b_h, 0)
    return jaxrnn.GRUParams(w_x, w_h, b_x + gates_alone, b_h[2 * HIDDEN :])


def draw_feeds(
    operator: str, peepholes: bool, ways: int, lengths: list[int], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Random inputs of the operator, by ONNX's names."""
    gates = len(ORDERS[operator])

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    feeds = {
        "X": draw(TIME, BATCH, FEATURES),
        "W": draw(ways, gates * HIDDEN, FEATURES),
        "R": draw(ways, gates * HIDDEN, HIDDEN),
        "B": draw(ways, 2 * gates * HIDDEN),
        "sequence_lens": np.array(lengths, np.int32),
        "initial_h": draw(ways, BATCH, HIDDEN),
    }
    if operator == "LSTM":
        feeds["initial_c"] = draw(ways, BATCH, HIDDEN)
        feeds["P"] = draw(ways, 3 * HIDDEN) * np.float32(peepholes)
    return feeds


def ours(
    operator: str, cell: jaxrnn.Cell, direction: str, feeds: dict[str, np.ndarray]
) -> tuple[Any, list[Any]]:
    """ONNX's `Y [time, ways, batch, hidden]`, and the last states `[ways, batch, hidden]`."""
    weights = [feeds[name] for name in ("W", "R", "B")] + [feeds.get("P", feeds["B"])]
    params = [to_params(operator, cell, *one) for one in zip(*weights, strict=True)]
    states: Any = [feeds[name] for name in ("initial_h", "initial_c") if name in feeds]
    carries = [
        jaxrnn.LSTMCarry(*one) if operator == "LSTM" else one[0]
        for one in zip(*states, strict=True)
    ]
    xs, lengths = feeds["X"], feeds["sequence_lens"]
    if direction == "bidirectional":
        both, start = jaxrnn.BidirectionalParams(*params), jaxrnn.BidirectionalCarry(*carries)
        carry, ys = jaxrnn.scan(
            jaxrnn.Bidirectional(cell, merge=None), both, xs, start, lengths=lengths
        )
    else:
        reverse = direction == "reverse"
        last, y = jaxrnn.scan(cell, params[0], xs, carries[0], lengths=lengths, reverse=reverse)
        carry, ys = (last,), (y,)
    pairs = zip(*map(jax.tree.leaves, carry), strict=True)
    return np.stack(ys, axis=1), [np.stack(leaves) for leaves in pairs]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "lengths"])
def test_outputs_and_last_states_are_those_of_onnxruntime(case, direction, ragged):
    operator, attributes, cell = CASES[case]
    ways = 1 + (direction == "bidirectional")
    peepholes = isinstance(cell, jaxrnn.LSTM) and cell.peepholes
    lengths = [TIME, 3, 0, 5] if ragged else [TIME] * BATCH
    feeds = draw_feeds(operator, peepholes, ways, lengths, np.random.default_rng(len(case)))
    attributes = {
        name: value * ways if isinstance(value, list) else value
        for name, value in attributes.items()
    }
    wanted_ys, *wanted = run(
        operator, {**attributes, "direction": direction, "hidden_size": HIDDEN}, feeds
    )
    ys, last = ours(operator, cell, direction, feeds)
    np.testing.assert_allclose(ys, wanted_ys, atol=2e-6, rtol=1e-5)
    # there ONNX Runtime gives zeros, jaxrnn the carry that was passed
    empty = feeds["sequence_lens"] == 0
    starts = [feeds[name] for name in ("initial_h", "initial_c") if name in feeds]
    for got, want, start in zip(last, wanted, starts, strict=True):
        np.testing.assert_allclose(got[:, ~empty], want[:, ~empty], atol=2e-6, rtol=1e-5)
        np.testing.assert_array_equal(got[:, empty], start[:, empty])


def run(
    operator: str, attributes: dict[str, Any], feeds: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """The operator alone, as a model of its own."""
    outputs = ["Y", "Y_h", "Y_c"][: 3 if operator == "LSTM" else 2]
    node = onnx.helper.make_node(operator, list(feeds), outputs, **attributes)
    types = {
        name: onnx.TensorProto.INT32 if a.dtype == np.int32 else onnx.TensorProto.FLOAT
        for name, a in feeds.items()
    }
    inputs = [
        onnx.helper.make_tensor_value_info(name, types[name], a.shape) for name, a in feeds.items()
    ]
    results = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs
    ]
    graph = onnx.helper.make_graph([node], "cell", inputs, results)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8
    )
    return run_onnx(model, feeds)
