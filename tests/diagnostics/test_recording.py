"""What is recorded during training, and how it is shown."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn.diagnostics import (
    GradientFlow,
    Recorder,
    Snapshot,
    Spectrum,
    by_distance,
    gate_values,
    gradient_flow,
    saturation,
    snapshot,
)
from jaxrnn.streams import tbptt
from tests.support.helpers import assert_close


def made(loss: float, time: int = 12, gated: bool = True) -> Snapshot:
    norms = 10.0 ** -np.arange(time + 1)
    gates = saturation([jnp.array([[0.05, 0.5], [0.95, 0.5]])]) if gated else None
    radii = {"w_h": Spectrum(jnp.array([1.5, 0.25]), jnp.array([2.0, 1.0]))}
    return Snapshot(np.float32(loss), norms, radii, gates)  # type: ignore[arg-type]


def test_a_recorder_looks_when_it_is_time() -> None:
    recorder = Recorder(lambda value: made(0)._replace(loss=2 * value), every=3)
    for step in range(7):
        recorder(step, jnp.float32(step))
    assert recorder.steps == [0, 3, 6]
    assert [float(found.loss) for found in recorder.snapshots] == [0, 6, 12]
    with pytest.raises(ValueError, match="every is 0, expected a positive integer"):
        Recorder(lambda: made(0), every=0)


def test_the_table() -> None:
    recorder = Recorder(lambda: made(0))
    recorder.steps = [0, 100]
    recorder.snapshots = [made(1.25), made(0.5, gated=False)]
    assert recorder.table(distances=(10, 100)) == (
        "step    loss  gradient 10 back  gradient 100 back  radius w_h   shut   open\n"
        "   0  1.2500           1.0e-10                      1.50 0.25  25.0%  25.0%\n"
        " 100  0.5000           1.0e-10                      1.50 0.25"
    )
    with pytest.raises(ValueError, match=r"Recorder.table: a distance is -1, expected an integer"):
        recorder.table(distances=(0, -1))
    assert Recorder(lambda: made(0)).table() == ""


def test_norms_of_all_looks() -> None:
    recorder = Recorder(lambda: made(0))
    recorder.snapshots = [made(1.0), made(0.5)]
    assert recorder.norms().shape == (2, 13)
    recorder.snapshots.append(made(0.25, time=7))
    with pytest.raises(ValueError, match=r"sequences have \[7, 12\] steps, expected one length"):
        recorder.norms()


def test_by_distance_counts_from_each_end() -> None:
    norms, lengths = np.random.default_rng(0).random((6, 2, 3)), np.array([[5, 0, 2], [3, 5, 4]])
    expected = [
        np.mean([norms[n - d, *at] for at, n in np.ndenumerate(lengths) if n >= d])
        for d in range(6)
    ]
    assert_close(by_distance(jnp.asarray(norms), lengths), np.array(expected), 1e-6)
    assert_close(by_distance(jnp.asarray(norms)), norms[::-1].mean((1, 2)), 1e-6)
    assert np.isnan(by_distance(jnp.asarray(norms), np.full((2, 3), 4))[5])
    flow: Any = GradientFlow(jnp.float32(0), jnp.asarray(norms))
    with pytest.raises(
        TypeError, match=r"norms is a GradientFlow, expected .* pass flow.total\(\)"
    ):
        by_distance(flow)


def test_a_snapshot_is_made_of_the_diagnostics() -> None:
    cell = jaxrnn.Stack([jaxrnn.GRU(4), jaxrnn.LSTM(3)])
    params = cell.init(jax.random.key(0), in_features=2)
    xs, lengths = jax.random.normal(jax.random.key(1), (8, 5, 2)), jnp.array([8, 6, 7, 3, 1])

    def loss(carry, ys):
        return jnp.sum(jnp.sin(ys[0]) + carry[1].h)

    @jax.jit
    def looked(params):
        flow = gradient_flow(loss, cell, params, xs, lengths=lengths)
        gates = saturation(gate_values(cell, params, xs, lengths=lengths))
        found = snapshot(loss, cell, params, xs, lengths=lengths)
        return found, by_distance(flow.total(), lengths), gates

    found, norms, gates = looked(params)
    assert_close((found.norms, found.gates), (norms, gates), 1e-5)
    assert list(found.spectra) == ["0.w_h", "1.w_h"]
    both = jaxrnn.Bidirectional(jaxrnn.GRU(3))
    params = both.init(jax.random.key(0), in_features=2)
    assert snapshot(lambda _, ys: jnp.sum(ys), both, params, xs).gates is None


def test_snapshots_of_several_networks_in_bfloat16() -> None:
    """Under `vmap`, each as by itself."""
    cell, xs = jaxrnn.LSTM(4), jnp.ones((5, 2, 3), jnp.bfloat16)

    @jax.jit
    def look(params):
        return snapshot(lambda _, ys: jnp.sum(ys[-1]), cell, params, xs)

    draw = jax.jit(lambda seed: cell.init(jax.random.key(seed), 3, jnp.bfloat16))
    found = jax.vmap(look)(jax.vmap(draw)(jnp.arange(2)))
    for k in range(2):
        assert_close(jax.tree.map(lambda leaf, k=k: leaf[k], found), look(draw(k)), 2e-2)
    np.testing.assert_allclose(found.spectra["w_h"].radius, np.ones((2, 4)), rtol=0.02)


def test_beside_truncated_backpropagation() -> None:
    """Before each update of a trainer, whose state is used up: what is recorded is the parameters
    then and the carry that the chunk begins with.
    """
    cell = jaxrnn.Elman(4)

    def loss(params, carry, chunk, key):
        carry, ys = jaxrnn.scan(cell, params, chunk, carry)
        return jnp.mean(ys**2), carry

    def look(params, carry, chunk):
        return snapshot(lambda _, ys: jnp.mean(ys**2), cell, params, chunk, carry)

    trainer, recorder = tbptt.Trainer(loss, optax.sgd(0.1)), Recorder(look, every=2)
    params = cell.init(jax.random.key(0), in_features=1)
    state = trainer.init(params, cell.initial_carry(params, (3, 1)))
    reported = []
    for step, chunk in enumerate(tbptt.chunks(jnp.ones((20, 3, 1)), 5)):
        recorder(step, state.params, state.carry, chunk)
        state, report = trainer.step(state, chunk)
        reported.append(float(report.loss))
    assert recorder.steps == [0, 2]
    assert_close([found.loss for found in recorder.snapshots], reported[::2], 1e-5)
