"""`examples/truncation_bias.py` and `exploding_gradients.py`: their tasks are the papers', their
figures what training really does.
"""

import math
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.support.helpers import assert_close

for needed in ("matplotlib", "tqdm", "tyro"):
    pytest.importorskip(needed)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

import exploding_gradients as exploding
import jaxrnn
import truncation_bias as truncation
from jaxrnn.streams import tbptt

T, LONGEST = 20, 22
adding_problem = jax.jit(truncation.adding_problem, static_argnums=(1, 2))
CELLS = {"Elman": jaxrnn.Elman(4), "LSTM": jaxrnn.LSTM(4), "GRU": jaxrnn.GRU(4)}


def check_adding(pairs: np.ndarray, target: float, length: int) -> tuple[int, ...]:
    """One sequence, by the rules of Hochreiter & Schmidhuber (1997), section 5.4. Returns the
    places of its marks.
    """
    numbers, markers = pairs.T
    assert length <= len(pairs) <= length + length // 10
    assert np.all(np.abs(numbers) <= 1)
    assert markers[0] == markers[-1] == -1
    assert set(markers[1:-1]) <= {0.0, 1.0}
    (marked,) = np.nonzero(markers == 1)
    assert 1 <= len(marked) <= 2  # one, where the first pair was drawn too
    assert len(marked) == 1 or marked[0] < 10
    assert marked[-1] < length // 2
    np.testing.assert_allclose(target, 0.5 + numbers[marked].sum() / 4, rtol=1e-6)
    return tuple(marked.tolist())


def test_the_adding_problem_is_the_papers():
    sequences = jax.device_get(adding_problem(jax.random.key(0), 100, (2000,)))
    marks = [check_adding(p[:n], target, 100) for p, n, target in zip(*sequences, strict=True)]
    assert set(sequences.steps) == set(range(100, 111))
    assert {second for places in marks if len(places) == 2 for second in places} == set(
        range(1, 50)
    )
    assert np.mean([len(places) == 1 for places in marks]) == pytest.approx(
        0.1 + 0.9 / 49, abs=0.03
    )
    assert np.std(sequences.pairs[:, :100, 0]) == pytest.approx(3**-0.5, abs=0.01)
    always_half = np.mean(np.abs(sequences.target - 0.5) < truncation.RIGHT)
    assert always_half == pytest.approx(truncation.CHANCE, abs=0.03)


def test_a_stream_is_sequences_one_after_the_other():
    stream = jax.device_get(truncation.adding_stream(jax.random.key(0), 40, 500, 6))
    first_resets = []
    for b in range(6):
        begins = np.flatnonzero(stream.reset[:, b])
        first_resets.append(begins[0])
        # the cut one at the start is not asked
        assert np.array_equal(np.flatnonzero(stream.asked[: begins[-1], b]), begins[1:] - 1)
        for begin, end in pairwise(begins):
            check_adding(stream.pairs[begin:end, b], stream.target[end - 1, b], 40)
    assert len(set(first_resets)) > 3


def test_the_temporal_order_problem_is_the_papers():
    draw = jax.jit(exploding.temporal_order, static_argnums=(1, 2))
    symbols, order = jax.device_get(draw(jax.random.key(0), 100, 2000))
    assert symbols.shape == (100, 2000)
    for sequence, label in zip(symbols.T, order, strict=True):
        first, second = np.flatnonzero(sequence < 2)
        assert 10 <= first < 20
        assert 50 <= second < 60
        assert label == sequence[first] + 2 * sequence[second]
    assert np.all(np.abs(np.bincount(order) / 2000 - 0.25) < 0.04)
    assert set(np.unique(symbols)) == set(range(6))


def gradients_by_trainer(
    model: Any, params: Any, sequences: Any, size: int, windows: int
) -> np.ndarray:
    """What `tbptt` sums up at fixed parameters, where the question falls on each step of a chunk
    once for every sequence.
    """
    number = len(sequences.steps)
    time = size * (LONGEST // size + 2)
    ends = np.repeat(time - size + np.arange(size), number)
    place = np.arange(time)[:, None] - (ends + 1 - np.tile(sequences.steps, size))
    which = np.tile(np.arange(number), size)
    inside = (place >= 0) & (place < sequences.steps[which])
    pairs = np.where(
        inside[..., None], np.asarray(sequences.pairs)[which, np.clip(place, 0, LONGEST - 1)], 0.0
    )
    asked = np.arange(time)[:, None] == ends
    target = np.broadcast_to(sequences.target[which], asked.shape)
    stream: Any = truncation.Stream(pairs, place == 0, asked, target)  # pyright: ignore[reportArgumentType]

    trainer = model.trainer(optax.chain(optax.trace(decay=1.0), optax.set_to_zero()), windows, T)
    chunks = list(tbptt.chunks(stream, size))
    state = jax.jit(trainer.init)(
        params, model.cell.initial_carry(params["rnn"], (len(which), 2)), chunk=chunks[0]
    )
    for chunk in chunks:
        state, _ = trainer.step(state, chunk)
    summed = optax.tree.get(state.optimizer, "trace")["rnn"]
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(summed)])
    return flat * size / (1.05 * T)  # the trainer's loss is a mean over steps


@cache
def by_lag_of(name: str) -> tuple[Any, Any, Any, np.ndarray]:
    model = truncation.Adder(CELLS[name])
    params = jax.jit(model.init, static_argnums=1)(jax.random.key(1), jnp.float64)
    sequences = jax.device_get(adding_problem(jax.random.key(2), T, (5,)))
    return model, params, sequences, np.asarray(jax.jit(model.gradient_by_lag)(params, sequences))


@pytest.mark.parametrize(("name", "windows"), [("Elman", 2), ("LSTM", 2), ("GRU", 1), ("GRU", 5)])
def test_the_expected_gradient_is_that_of_tbptt(x64, name, windows):
    model, params, sequences, by_lag = by_lag_of(name)
    got = truncation.truncated(by_lag, 6, 6 * windows)
    assert_close(got, gradients_by_trainer(model, params, sequences, 6, windows), 1e-12)
    if 6 * (windows - 1) >= LONGEST - 1:
        assert truncation.bias(by_lag, 6, 6 * windows) == pytest.approx((0, 1), abs=1e-12)
    else:
        assert truncation.bias(by_lag, 6, 6 * windows)[0] > 1e-3


@pytest.mark.parametrize("name", list(CELLS))
def test_all_lags_together_are_the_full_gradient(x64, name):
    model, params, sequences, by_lag = by_lag_of(name)

    def loss(cell_params: Any) -> jax.Array:
        xs = jnp.swapaxes(sequences.pairs, 0, 1)
        _, ys = jaxrnn.scan(model.cell, cell_params, xs, lengths=sequences.steps, method="autodiff")
        last = ys[sequences.steps - 1, jnp.arange(5)]
        return jnp.mean((last @ params["w"] + params["b"] - sequences.target) ** 2)

    full = np.concatenate(
        [np.ravel(leaf) for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params["rnn"]))]
    )
    assert_close(by_lag.sum(axis=0), full, 1e-12)


def test_the_bias_falls_as_windows_grow(x64):
    """Once a window is longer than all sequences, the share of those that it cuts is their length
    in it.
    """
    by_lag = by_lag_of("LSTM")[-1]
    alone = [truncation.bias(by_lag, k, k)[0] for k in (2, 4, 8, 16, 32, 64, 128)]
    overlapping = [truncation.bias(by_lag, k // 2, k)[0] for k in (2, 4, 8, 16, 32, 64)]
    assert np.all(np.diff(alone) < 0)
    assert np.all(np.diff(overlapping) < 0)
    assert np.all(np.array(overlapping) < alone[:-1])
    assert overlapping[-1] < 1e-12
    np.testing.assert_allclose(np.divide(alone[4:6], alone[5:7]), 2, rtol=1e-10)


CLIPPING = exploding.Options(learning_rates=(0.03,), seeds=3, updates=8)
"""The default size and the largest default learning rate, where all runs diverge within the first
updates.
"""


@pytest.fixture(scope="module")
def descended() -> dict[bool, Any]:
    return {clip: exploding.descend(CLIPPING, clip) for clip in (True, False)}


def test_clipping_keeps_runs_that_diverge_without_it(descended):
    kept, lost = descended[True], descended[False]
    # the same weights and batches
    np.testing.assert_allclose(kept.loss[..., 0], lost.loss[..., 0], rtol=1e-6)
    np.testing.assert_allclose(kept.gradient_norm[..., 0], lost.gradient_norm[..., 0], rtol=1e-6)
    assert np.all(kept.gradient_norm[..., 0] > 10 * CLIPPING.norm)
    assert not kept.diverged().any()
    assert lost.diverged().all()


def test_what_counts_as_diverged_and_as_solved():
    fine, far, bad = 1.0, 1.01 * exploding.DIVERGED, float("nan")
    losses: Any = np.array(
        [
            [fine, fine],
            [fine, far],
            [bad, fine],
            [float("inf"), fine],
            [fine, 0.99 * exploding.DIVERGED],
        ]
    )
    accuracy: Any = np.array([1.0, 0.99, 0.98, 0.5, 0.25], np.float32)
    skipped: Any = np.zeros(5)
    result = exploding.Result(losses, losses, skipped, accuracy)
    assert result.diverged().tolist() == [False, True, True, True, False]
    assert result.solved().tolist() == [True, True, False, False, False]
    assert math.isclose(exploding.GUESSING, math.log(4))


def test_the_study_of_truncation_runs(tmp_path, capsys, monkeypatch):
    # one is enough
    monkeypatch.setattr(
        truncation, "cells", lambda options: {"GRU": truncation.Adder(jaxrnn.GRU(options.hidden))}
    )
    flags = ["--length", "20", "--hidden", "4", "--windows", "8", "--steps", "80", "--batch", "2"]
    truncation.main([*flags, "--out", str(tmp_path)])
    rows = (tmp_path / "table.txt").read_text().splitlines()[1:]
    assert [row.split()[:3] for row in rows] == [["GRU", k1, "8"] for k1 in ("8", "4")]
    assert (tmp_path / "bias.png").read_bytes().startswith(b"\x89PNG")
    assert rows[0] in capsys.readouterr().out


def test_the_study_of_clipping_runs(tmp_path, capsys, monkeypatch, descended):
    monkeypatch.setattr(exploding, "descend", lambda options, clip: descended[clip])
    exploding.main(
        ["--learning-rates", "0.03", "--seeds", "3", "--updates", "8", "--out", str(tmp_path)]
    )
    rows = (tmp_path / "table.txt").read_text().splitlines()[1:]
    assert [row.split()[:3] for row in rows] == [
        ["0.03", "with", "0/3"],
        ["0.03", "without", "3/3"],
    ]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert rows[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "flags", "message"),
    [
        (
            truncation.main,
            ["--windows", "7"],
            "--windows must be even and between 2 and --steps 30000, not 7",
        ),
        (truncation.main, ["--length", "10"], "--length must be at least 20, not 10"),
        (truncation.main, ["--learning-rate", "0"], "--learning-rate must be positive, not 0.0"),
        (exploding.main, ["--length", "9"], "--length must be at least 10, not 9"),
        (
            exploding.main,
            ["--learning-rates", "0.1", "-1"],
            "--learning-rates must be positive, not 0.1 -1.0",
        ),
        (exploding.main, ["--norm", "inf"], "--norm must be positive, not inf"),
    ],
)
def test_bad_options_are_one_line(capsys, tmp_path, main, flags, message):
    with pytest.raises(SystemExit) as stopped:
        main([*flags, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
