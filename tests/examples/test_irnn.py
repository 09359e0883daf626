"""The tasks of `irnn.py`, training with several rates side by side, and the gradient's way back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("tyro")

import irnn
import jaxrnn
from kit import memory
from kit.fitting import side_by_side
from tests.support.helpers import assert_close


def test_the_sum_of_what_is_marked():
    data = memory.adding(0, 50)
    assert data.xs.shape == (50, memory.LENGTH, 2)
    marks = data.xs[..., 1]
    half = memory.LENGTH // 2
    assert np.all(marks[:, :half].sum(1) == 1)
    assert np.all(marks[:, half:].sum(1) == 1)
    np.testing.assert_allclose((data.xs[..., 0] * marks).sum(1), data.targets, rtol=1e-6)


def test_no_digit_is_held_out_and_trained_on():
    plain, permuted = memory.digits(0, permuted=False), memory.digits(0, permuted=True)
    parts = [plain.train, plain.validation, plain.held_out]
    assert sum(len(part.targets) for part in parts) == 1797
    for a, b in ((plain.train, permuted.train), (plain.held_out, permuted.held_out)):
        assert np.array_equal(a.targets, b.targets)
        assert not np.array_equal(a.xs, b.xs)
        np.testing.assert_array_equal(np.sort(a.xs, axis=1), np.sort(b.xs, axis=1))


def test_rates_side_by_side_know_nothing_of_each_other():
    """Each as by itself; one that is too high takes no other along."""
    rates = (0.1, 0.5)
    several, start = side_by_side(rates), {"w": jnp.array([3.0, -2.0])}
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), start)
    state = several.init(params)
    for _ in range(3):
        updates, state = several.update(jax.tree.map(lambda w: 2 * w, params), state, params)
        params = optax.apply_updates(params, updates)
    for k, rate in enumerate(rates):
        one = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
        alone, state = start, one.init(start)
        for _ in range(3):
            updates, state = one.update(jax.tree.map(lambda w: 2 * w, alone), state, alone)
            alone = optax.apply_updates(alone, updates)
        assert_close(jax.tree.map(lambda leaf, k=k: leaf[k], params), alone, 1e-5)


def test_the_identity_passes_the_gradient_on():
    """With units that are all positive, unchanged; a gradient of tanh units vanishes."""
    cells = irnn.networks(16)
    task = memory.Task(*[memory.adding(k, 32) for k in range(3)], classes=1)
    kept, lost = (memory.gradient_flow(cells[name], task, 0) for name in ("IRNN", "tanh"))
    assert kept.shape == (memory.LENGTH,)
    assert 0.3 < kept[-1] / kept[0] <= 1
    assert lost[-1] / lost[0] < 0.01 < kept[-1]


def test_scores():
    answers, targets = jnp.array([[0.0, 2.0], [3.0, 1.0]]), np.array([1, 1])
    assert memory.score(answers, targets) == 0.5
    assert_close(memory.score(jnp.array([[1.0], [3.0]]), np.array([1.0, 1.0])), -2.0, 1e-6)
    assert isinstance(irnn.networks(4)["LSTM"], jaxrnn.LSTM)
