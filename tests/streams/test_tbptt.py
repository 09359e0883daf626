"""Truncated back-propagation through time: what a gradient reaches, and what a run survives."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jaxrnn
from jaxrnn.streams import tbptt
from tests.support.helpers import assert_close, assert_equal

CELL = jaxrnn.Dropout(jaxrnn.Stack((jaxrnn.LSTM(5), jaxrnn.GRU(4))), 0.3)
BATCH, FEATURES = 3, 2
draw = jax.jit(CELL.init, static_argnums=(1, 2))
scan = jax.jit(partial(jaxrnn.scan, CELL))


def loss(params: Any, carry: Any, chunk: Any, key: Any) -> Any:
    carry, ys = jaxrnn.scan(CELL, params, chunk["x"], carry, reset=chunk.get("reset"), key=key)
    return jnp.mean((ys - chunk["y"]) ** 2), carry


def setup(time: int, dtype: Any = jnp.float32) -> tuple[Any, Any, dict[str, Any]]:
    params = draw(jax.random.key(0), FEATURES, dtype)
    rng = np.random.default_rng(0)
    stream = {
        "x": np.asarray(rng.normal(size=(time, BATCH, FEATURES)), dtype),
        "y": np.asarray(rng.normal(size=(time, BATCH, 4)), dtype),
    }
    return params, CELL.initial_carry(params, (BATCH, FEATURES)), stream


def frozen_until(last: int) -> optax.GradientTransformation:
    """Gradient descent that moves at one update alone: the difference of parameters is that
    update's gradient.
    """
    return optax.sgd(lambda count: jnp.where(count == last, 1.0, 0.0))


def train(
    trainer: tbptt.Trainer, state: tbptt.State, stream: Any, size: int
) -> tuple[tbptt.State, list[tbptt.Report]]:
    reports = []
    for chunk in tbptt.chunks(stream, size):
        state, report = trainer.step(state, chunk)
        reports.append(report)
    return state, reports


@pytest.mark.parametrize(("size", "windows"), [(12, 1), (4, 3), (3, 4), (4, 4)])
def test_a_window_that_covers_the_sequence_gives_the_full_gradient(x64, size, windows):
    params, carry, stream = setup(12, jnp.float64)
    trainer = tbptt.Trainer(loss, frozen_until(12 // size - 1), windows)
    first = jax.jit(trainer.init)(params, carry, chunk=next(tbptt.chunks(stream, size)))
    state, reports = train(trainer, first, stream, size)
    value, gradient, norm = full_gradient(params, carry, stream, size)
    assert_close(jax.tree.map(np.subtract, params, state.params), gradient, 1e-12)
    assert_close((reports[-1].loss, reports[-1].gradient_norm), (value, norm), 1e-12)


@jax.jit
def full_gradient(params: Any, carry: Any, stream: Any, size: Any) -> Any:
    """The loss of the last `size` steps, its gradient, and the norm of that."""

    def loss(params: Any) -> jax.Array:
        _, ys = jaxrnn.scan(CELL, params, stream["x"], carry)
        last = jnp.arange(len(ys)) >= len(ys) - size
        return jnp.mean((ys - stream["y"]) ** 2, where=last[:, None, None])

    value, gradient = jax.value_and_grad(loss)(params)
    return value, gradient, optax.tree.norm(gradient)


@pytest.mark.parametrize("windows", [1, 2, 3])
def test_nothing_before_the_window_has_a_gradient(x64, windows):
    params, carry, stream = setup(12, jnp.float64)
    trainer = tbptt.Trainer(loss, frozen_until(5), windows)
    start = jax.jit(trainer.init)(params, carry, chunk=next(tbptt.chunks(stream, 2)))
    state, _ = train(trainer, start, stream, 2)
    first = 12 - 2 * windows

    @jax.jit
    def truncated(params: Any) -> Any:
        before, _ = jaxrnn.scan(CELL, params, stream["x"][:first], carry)

        def loss(params: Any) -> jax.Array:
            _, ys = jaxrnn.scan(CELL, params, stream["x"][first:], before)
            return jnp.mean((ys[-2:] - stream["y"][-2:]) ** 2)

        return jax.grad(loss)(params)

    assert_close(jax.tree.map(np.subtract, params, state.params), truncated(params), 1e-12)


@pytest.mark.parametrize("windows", [1, 3])
def test_resumed_training_is_uninterrupted_training(tmp_path, windows):
    """Through a file of orbax, bit for bit, draws included."""
    params, carry, stream = setup(40)
    trainer = tbptt.Trainer(loss, optax.adam(1e-2), windows)
    all_chunks = list(tbptt.chunks(stream, 4))
    state = trainer.init(params, carry, jax.random.key(3), all_chunks[0])
    for chunk in all_chunks[:6]:
        state, _ = trainer.step(state, chunk)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "state", jax.eval_shape(lambda: state))
    for chunk in all_chunks[6:]:
        state, _ = trainer.step(state, chunk)
    for chunk in all_chunks[int(restored.position) :]:
        restored, _ = trainer.step(restored, chunk)
    for got, want in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert np.array_equal(numbers(got), numbers(want))


def numbers(leaf: jax.Array) -> np.ndarray:
    """Those of a key, too."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_chunk_that_is_not_finite_leaves_no_trace(windows, bad):
    params, carry, stream = setup(24)
    trainer = tbptt.Trainer(loss, optax.adam(1e-2), windows)
    good = list(tbptt.chunks(stream, 4))
    poisoned = {**good[0], "x": good[0]["x"].copy()}
    poisoned["x"][1, 0, 0] = bad
    clean, _ = train(trainer, trainer.init(params, carry, chunk=good[0]), stream, 4)
    state, reports = trainer.init(params, carry, chunk=good[0]), []
    for chunk in [*good[:3], poisoned, poisoned, *good[3:]]:
        state, report = trainer.step(state, chunk)
        reports.append(int(report.skipped))
    assert_equal(state.params, clean.params)
    assert_equal(state.carry, clean.carry)
    assert reports == [0, 0, 0, 1, 2, 2, 2, 2]
    assert int(state.position) == 8


def test_a_carry_that_is_not_finite_is_not_handed_on():
    """Its gradient is: the loss does not see the unit that overflows."""

    def blind(params: Any, carry: Any, chunk: Any, key: Any) -> Any:
        carry = carry + chunk
        return jnp.sum(params * jnp.where(jnp.isfinite(carry), carry, 0.0)), carry

    trainer = tbptt.Trainer(blind, optax.sgd(0.1))
    state = trainer.init(jnp.ones(2), jnp.zeros(2))
    state, report = trainer.step(state, jnp.array([jnp.inf, 1.0]))
    assert int(report.skipped) == 1
    assert_equal((state.params, state.carry), (jnp.ones(2), jnp.zeros(2)))


def test_a_gradient_whose_norm_overflows_is_skipped():
    """Its numbers are finite, the sum of their squares is not: clipping would make nothing of it,
    and a plain step ruin.
    """
    trainer: tbptt.Trainer[Any, Any, Any] = tbptt.Trainer(
        lambda params, carry, chunk, key: (jnp.sum(params * chunk), carry), optax.sgd(0.1)
    )
    state, report = trainer.step(trainer.init(jnp.ones(2), ()), jnp.array([1e30, 1e30]))
    assert int(report.skipped) == 1
    assert_equal(state.params, jnp.ones(2))


def test_a_reset_within_a_chunk_begins_a_sequence():
    params, carry, stream = setup(8)
    reset = np.zeros((8, BATCH), bool)
    reset[5] = True
    trainer = tbptt.Trainer(loss, optax.sgd(0.0))
    state, _ = train(trainer, trainer.init(params, carry), stream | {"reset": reset}, 4)
    assert_close(state.carry, scan(params, stream["x"][5:])[0], 1e-6)


def test_every_chunk_draws_anew_and_a_past_one_draws_again(x64):
    """The loss is the draw itself; the parameters' gradient sums those that the window reaches."""

    def drawing(params: Any, carry: Any, chunk: Any, key: Any) -> Any:
        drawn = params * jax.random.normal(key)
        return carry + drawn, carry + drawn

    key = jax.random.key(5)
    draws = [float(jax.random.normal(jax.random.fold_in(key, k))) for k in range(4)]
    trainer = tbptt.Trainer(drawing, frozen_until(3), windows=2)
    state = trainer.init(jnp.float64(1), jnp.float64(0), key, jnp.zeros(1))
    for _ in range(4):
        state, _ = trainer.step(state, jnp.zeros(1))
    np.testing.assert_allclose(1 - state.params, draws[2] + draws[3], rtol=1e-12)


def test_one_program_for_the_whole_stream():
    traced = []

    def counting(params: Any, carry: Any, chunk: Any, key: Any) -> Any:
        traced.append(1)
        return loss(params, carry, chunk, key)

    params, carry, stream = setup(40)
    trainer = tbptt.Trainer(counting, optax.adam(1e-2))
    state = trainer.init(params, carry)
    state, _ = trainer.step(state, next(tbptt.chunks(stream, 4)))
    once = len(traced)
    train(trainer, state, stream, 4)
    assert len(traced) == once


def test_the_callers_arrays_are_left_alone():
    params, carry, stream = setup(8)
    trainer = tbptt.Trainer(loss, optax.sgd(0.1))
    train(trainer, trainer.init(params, carry), stream, 4)
    jax.block_until_ready((params, carry))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((params, carry)))


def test_bad_arguments_are_refused():
    params, carry, stream = setup(8)
    with pytest.raises(ValueError, match="Trainer: windows is 0, expected a positive integer"):
        tbptt.Trainer(loss, optax.sgd(0.1), windows=0)
    with pytest.raises(ValueError, match=r"Trainer\.init: chunk is None with windows=2, expected"):
        tbptt.Trainer(loss, optax.sgd(0.1), windows=2).init(params, carry)
    trainer = tbptt.Trainer(loss, optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"Trainer\.init: carry is None, .* cell\.initial_carry\("):
        trainer.init(params, None)
    wrong: Any
    for wrong, shape in (
        (lambda params, carry, chunk, key: params.sum(), r"\(\)"),
        (lambda params, carry, chunk, key: (carry, params.sum()), r"\(\(2,\), \(\)\)"),
    ):
        trainer = tbptt.Trainer(wrong, optax.sgd(0.1))
        message = rf"loss returns .* shape {shape}, expected \(loss, carry\) .*\(\(\), \(2,\)\); "
        with pytest.raises(ValueError, match=message):
            trainer.step(trainer.init(jnp.ones(3), jnp.ones(2)), stream)
    with pytest.raises(ValueError, match="chunks: size is 9, expected at most 8, the number of st"):
        tbptt.chunks(stream, 9)
    with pytest.raises(ValueError, match=r"chunks: the leaves of stream have \[7, 8\] steps, exp"):
        tbptt.chunks(stream | {"y": stream["y"][1:]}, 4)
