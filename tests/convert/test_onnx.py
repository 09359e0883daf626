"""ONNX models, both ways; ONNX Runtime says what their nodes compute, ONNX's own evaluator what
they do in float64.
"""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, LearnedCarry, Reversed, Stack
from jaxrnn.activations import ELU, Affine, HardSigmoid, LeakyReLU, ScaledTanh, ThresholdedReLU
from jaxrnn.convert import carry_from_onnx, carry_to_onnx, from_onnx, to_onnx
from tests.support.conversions import (
    BATCH,
    FEATURES,
    HIDDEN,
    TIME,
    assert_refused,
    each_dtype,
    random_inputs,
    random_like,
    random_params,
    without_start,
)
from tests.support.helpers import assert_close
from tests.support.onnx_models import GATES, run_onnx
from tests.support.specs import BY_ID, every

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")

# with a sequence of no step, for which ONNX Runtime has a way of its own
LENGTHS = np.array([6, 2, 0, 4], np.int32)
WAYS: dict[str, Any] = {
    "forward": lambda cell: cell,
    "reverse": Reversed,
    "bidirectional": Bidirectional,
}

PLAIN = """
elman_tanh elman_relu elman_irnn elman_no_bias
lstm lstm_no_bias lstm_chrono lstm_activations lstm_coupled
gru_activations gru_after gru_after_no_bias gru_before gru_before_no_bias
stack stack_of_one both_concat reversed stack_with_both
"""
HELD: dict[str, Any] = {id: without_start(BY_ID[id].cell) for id in PLAIN.split()} | {
    "stack_of_one": LSTM(4)
}

# All numbers are float32, so that they can be held for float64 too.
CELLS: dict[str, jaxrnn.Cell] = {
    **{f"elman-{clip}": Elman(HIDDEN, activation="softsign", clip=clip) for clip in (None, 0.5)},
    **{
        f"gru-{reset}-{bias}-{clip}": GRU(HIDDEN, reset_gate=reset, bias=bias, clip=clip)
        for reset, bias, clip in itertools.product(("after", "before"), (True, False), (None, 0.5))
    },
    **{
        f"lstm-{peepholes}-{coupled}-{bias}-{clip}": LSTM(
            HIDDEN, peepholes=peepholes, coupled=coupled, bias=bias, clip=clip
        )
        for peepholes, coupled, bias, clip in itertools.product(
            (False, True), (False, True), (True, False), (None, 0.5)
        )
    },
    "lstm-functions": LSTM(
        HIDDEN,
        coupled=True,
        gate_activation=HardSigmoid(0.25),
        candidate_activation=ScaledTanh(1.5, 0.75),
        output_activation=LeakyReLU(0.125),
    ),
    "gru-functions": GRU(
        HIDDEN, gate_activation=HardSigmoid(0.25, 0.75), candidate_activation=Affine(0.75, 0.125)
    ),
    "elman-functions": Elman(HIDDEN, activation=ThresholdedReLU(0.25)),
}
MADE_OF_CELLS = {
    "unlike": Bidirectional(
        GRU(HIDDEN), GRU(HIDDEN, gate_activation=HardSigmoid(0.25), candidate_activation="elu")
    ),
    "deep": Stack(
        [
            Bidirectional(LSTM(HIDDEN, peepholes=True)),
            Reversed(GRU(3, reset_gate="before")),
            Elman(2, clip=0.5),
            GRU(5),
        ]
    ),
}
ONCE = MADE_OF_CELLS | {
    f"{name}-{way}": WAYS[way](cell)
    for (name, cell), way in zip(CELLS.items(), itertools.cycle(WAYS), strict=False)
}


def bits(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()), tree)


@partial(jax.jit, static_argnums=0)
def scan(
    cell: jaxrnn.Cell, params: Any, xs: Any, start: Any = None, lengths: Any = None
) -> tuple[Any, Any]:
    return jaxrnn.scan(cell, params, xs, start, lengths=lengths)


def run(model: Any, **feeds: Any) -> list[np.ndarray]:
    return run_onnx(model, feeds)


def states_of(cell: jaxrnn.Cell, carry: Any) -> list[np.ndarray]:
    """A carry as the states of ONNX, `[directions, batch, hidden]` for each layer; LSTM's h before
    its c.
    """
    return [*carry_to_onnx(cell, carry).values()]


def side_by_side(y: np.ndarray) -> np.ndarray:
    """ONNX's Y `[time, directions, batch, hidden]` as jaxrnn has it."""
    return np.swapaxes(y, 1, 2).reshape(TIME, BATCH, -1)


@pytest.mark.parametrize("cell", ONCE.values(), ids=ONCE)
def test_onnxruntime_computes_the_same(cell):
    """Outputs and final states, of sequences of all lengths, 0 among them, from a carry that is not
    zero.
    """
    params, xs = random_params(cell), random_inputs("float32")
    start = random_like(cell.initial_carry(params, xs.shape[1:]), seed=2)
    carry, ys = scan(cell, params, xs, start, lengths=LENGTHS)
    model = to_onnx(cell, params, lengths=True, carry=True)
    got = run(model, xs=xs, lengths=LENGTHS, **carry_to_onnx(cell, start))
    assert_close(got, [ys, *states_of(cell, carry)], 1e-5)
    names = [output.name for output in model.graph.output][1:]
    read = carry_from_onnx(cell, dict(zip(names, got[1:], strict=True)))
    assert jax.tree.structure(read) == jax.tree.structure(carry)
    assert_close(read, carry, 1e-5)
    assert {node.op_type for node in model.graph.node} <= {
        *GATES,
        "Transpose",
        "Reshape",
        "Equal",
        "Unsqueeze",
        "Where",
    }


@pytest.mark.parametrize("steps", [(5, 2), (3, 7), (1, 1)])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "lengths"])
def test_one_file_runs_at_every_batch_and_time(steps, ragged, tmp_path):
    cell = MADE_OF_CELLS["deep"]
    params, xs = (
        random_params(cell),
        np.random.default_rng(1).normal(size=(*steps, FEATURES)).astype(np.float32),
    )
    to_onnx(cell, params, tmp_path / "model.onnx", lengths=ragged)
    lengths = np.arange(steps[1], dtype=np.int32) % (steps[0] + 1) if ragged else None
    carry, ys = scan(cell, params, xs, lengths=lengths)
    got = run(onnx.load(tmp_path / "model.onnx"), xs=xs, **({"lengths": lengths} if ragged else {}))
    assert_close(got, [ys, *states_of(cell, carry)], 1e-5)


def test_a_file_runs_in_pieces():
    cell = Stack([LSTM(HIDDEN), GRU(3)])
    params, xs = random_params(cell), random_inputs("float32")
    model, whole = to_onnx(cell, params, carry=True), scan(cell, params, xs)
    initial = carry_to_onnx(cell, cell.initial_carry(params, xs.shape[1:]))
    assert [*initial] == ["initial_h_0", "initial_c_0", "initial_h_1"]
    first, *states = run(model, xs=xs[:2], **initial)
    second, *last = run(model, xs=xs[2:], **dict(zip(initial, states, strict=True)))
    assert_close(
        [np.concatenate([first, second]), *last], [whole[1], *states_of(cell, whole[0])], 1e-5
    )


@pytest.mark.parametrize(
    "cell",
    [Elman(HIDDEN), GRU(HIDDEN), GRU(HIDDEN, reset_gate="before"), LSTM(HIDDEN, peepholes=True)],
)
@pytest.mark.parametrize("way", WAYS)
def test_float64_is_that_of_the_evaluator(cell, way, x64):
    """ONNX Runtime has no float64; ONNX's own evaluator no lengths, coupling, clip, functions."""
    cell = WAYS[way](cell)
    params, xs = random_params(cell, "float64"), random_inputs("float64")
    carry, ys = scan(cell, params, xs)
    got = reference.ReferenceEvaluator(to_onnx(cell, params)).run(None, {"xs": np.asarray(xs)})
    assert_close(got, [ys, *states_of(cell, carry)], 1e-12)


def test_coupled_gates_are_right_even_where_a_runtime_does_not_know_them():
    cell = LSTM(HIDDEN, coupled=True, peepholes=True)
    params, xs = random_params(cell), random_inputs("float32")
    model = to_onnx(cell, params)
    (coupled,) = [a for a in model.graph.node[0].attribute if a.name == "input_forget"]
    assert coupled.i == 1
    coupled.i = 0
    assert_close(run(model, xs=xs)[0], scan(cell, params, xs)[1], 1e-5)


@each_dtype
@pytest.mark.parametrize("id", [*HELD, *ONCE])
def test_bits_come_back(id, dtype):
    """Through bytes that ONNX's checker finds in order."""
    if dtype == "float64" and id.endswith("_activations"):
        pytest.skip(
            "their 0.2 is no float32, which is refused: test_numbers_that_float64_would_notice"
        )
    cell = BY_ID[id].cell if id in HELD else ONCE[id]
    params = jax.tree.map(with_odd_numbers, random_params(cell, dtype))
    model = onnx.load_model_from_string(
        to_onnx(cell, params, lengths=True, carry=True).SerializeToString()
    )
    onnx.checker.check_model(model, full_check=True)
    again, read = from_onnx(model)
    assert again == (HELD | ONCE)[id]
    assert bits(jax.tree.leaves(read)) == bits(jax.tree.leaves(params))


def with_odd_numbers(array: jax.Array) -> jax.Array:
    """An array with zeros of both signs, subnormal numbers and infinity among its numbers."""
    flat, tiny = np.array(array).reshape(-1), jnp.finfo(array.dtype).smallest_subnormal
    odd = np.array([0.0, -0.0, tiny, -tiny, np.inf]).astype(array.dtype)
    flat[: odd.size] = odd[: flat.size]
    return jax.device_put(flat.reshape(array.shape))


@every
def test_every_other_cell_is_refused(spec):
    if spec.id not in {*HELD, "learned_carry"}:
        assert_refused(spec, to_onnx)


LEARNED: dict[str, jaxrnn.Cell] = {
    "gru": LearnedCarry(GRU(HIDDEN)),
    "deep": Stack([Bidirectional(LearnedCarry(LSTM(4))), Reversed(LearnedCarry(Elman(3))), GRU(2)]),
}


@pytest.mark.parametrize("cell", LEARNED.values(), ids=LEARNED)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_a_learned_start_is_a_constant_of_the_model(cell, lengths):
    """For every batch, and where a sequence has no step; it comes back bit by bit."""
    params, xs = random_params(cell), random_inputs("float32")
    model = to_onnx(cell, params, lengths=lengths is not None)
    onnx.checker.check_model(model, full_check=True)
    carry, ys = scan(cell, params, xs, lengths=lengths)
    got = run(model, xs=xs, **({} if lengths is None else {"lengths": lengths}))
    assert_close(got, [ys, *states_of(cell, carry)], 1e-5)
    again, read = from_onnx(model)
    assert again == without_start(cell)
    assert bits(read) == bits(params)


def test_one_direction_may_start_at_zero():
    cell = Bidirectional(LSTM(HIDDEN), LearnedCarry(LSTM(HIDDEN)))
    params, xs = random_params(cell), random_inputs("float32")
    wanted = scan(cell, params, xs)[1]
    assert_close(run(to_onnx(cell, params), xs=xs)[0], wanted, 1e-5)
    with pytest.raises(ValueError, match=r"to_onnx: a LearnedCarry .* carry=True .* one of them"):
        to_onnx(cell, params, carry=True)


UNLIKE = Bidirectional(GRU(4), GRU(4, reset_gate="before"))
REFUSED: dict[str, tuple[Any, str]] = {
    "function": (
        LSTM(4, output_activation=jnp.sin),
        r"to_onnx: LSTM has output_activation=<.*, expected one of \['elu', 'hard_sigmoid'",
    ),
    "mirror": (
        LSTM(4, coupled=True, gate_activation=HardSigmoid(0.2, 0.4)),
        "to_onnx: the gates of the LSTM are coupled, in ONNX as",
    ),
    "unlike": (
        UNLIKE,
        r"to_onnx: both directions of a node have the same operator and options, "
        r"but GRU\(.*before.* differs from GRU\(",
    ),
    "kinds": (
        Bidirectional(LSTM(4), GRU(4)),
        "to_onnx: both directions of a node have the same operator",
    ),
    "sizes": (
        Bidirectional(GRU(4), GRU(5)),
        "to_onnx: both directions of a node have the same operator",
    ),
    "within": (
        Bidirectional(Reversed(GRU(4))),
        "holds no Reversed, expected .* in one Reversed or Bidirectional",
    ),
    "reversed": (
        Reversed(Stack([GRU(4)])),
        "to_onnx: a node of ONNX holds no Stack, expected Elman, GRU or LSTM",
    ),
}


@pytest.mark.parametrize(("cell", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_node_holds(cell, message):
    with pytest.raises(ValueError, match=message):
        to_onnx(cell, random_params(cell))


def test_parameters_of_another_cell_are_refused():
    params = random_params(GRU(4))
    for cell, given, message in (
        (GRU(4), {}, r"to_onnx: params are a dict, expected what GRU\.init makes"),
        (
            Stack([GRU(4)]),
            params,
            r"to_onnx: params are a GRUParams, expected what Stack\.init makes",
        ),
        (
            Bidirectional(GRU(4)),
            params,
            r"to_onnx: params are a GRUParams, expected what Bidirectional\.init makes",
        ),
        (LSTM(4), params, r"LSTM: params has the structure .*GRUParams"),
        (
            GRU(4),
            params._replace(b=params.b.astype(jnp.float16)),
            r"the dtypes \['float16', 'float32'\], but a node of ONNX has one",
        ),
        (
            GRU(4),
            params._replace(b=np.zeros(12, int)),
            r"GRU: params\.b has dtype int64, expected floating",
        ),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            to_onnx(cell, given)


def test_numbers_that_float64_would_notice(x64):
    for cell, message in (
        (
            GRU(4, clip=0.1),
            "clip of GRU is 0.1, but ONNX holds it as float32, which would change a cell in "
            "float64; round it",
        ),
        (
            GRU(4, candidate_activation=ELU(0.1)),
            r"GRU has candidate_activation=ELU\(alpha=0\.1\), whose activation_alpha is 0\.1, but",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            to_onnx(cell, random_params(cell, "float64"))
        assert from_onnx(to_onnx(cell, random_params(cell)))[0] == cell
