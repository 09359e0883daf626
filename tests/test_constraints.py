"""What weights are made to satisfy, and how parameters are told apart."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn import LSTM, Constrained, Dale, Elman, Sparse, SpectralNorm, Stack

W = jax.random.normal(jax.random.key(0), (6, 24))


def test_dale():
    w = np.asarray(Dale(excitatory=0.5)(W))
    assert np.all(w[:3] >= 0)
    assert np.all(w[3:] <= 0)
    np.testing.assert_array_equal(abs(w), abs(W))


def test_sparse():
    w = np.asarray(Sparse(0.3, seed=1)(W))
    assert 0.2 < (w != 0).mean() < 0.4
    np.testing.assert_array_equal(w[w != 0], np.asarray(W)[w != 0])
    np.testing.assert_array_equal(w, Sparse(0.3, seed=1)(W))


def test_spectral_norm():
    """Each gate's matrix by itself; what is below the bound is left alone."""
    w = np.asarray(SpectralNorm(0.7, iterations=300)(W))
    for before, after in zip(np.split(np.asarray(W), 4, axis=1), np.split(w, 4, axis=1), strict=True):
        assert np.linalg.norm(before, 2) > 0.7
        assert np.linalg.norm(after, 2) == pytest.approx(0.7, rel=1e-3)
    small = 0.01 * W
    np.testing.assert_array_equal(SpectralNorm(0.7)(small), small)


@pytest.mark.parametrize("constraint", [Dale(), Sparse(0.5), SpectralNorm(0.5)], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("make", [Elman(5), Stack((LSTM(5, projection=3), LSTM(4)))], ids=["elman", "stack"])
def test_a_constrained_cell_is_the_cell_with_constrained_weights(make, constraint):
    params, xs = make.init(jax.random.key(1), 3), jax.random.normal(jax.random.key(2), (6, 2, 3))
    by_hand = jax.tree.map(lambda leaf, kind: constraint(leaf) if kind == "recurrent" else leaf, params, jaxrnn.labels(params))
    np.testing.assert_allclose(jaxrnn.scan(Constrained(make, constraint), params, xs)[1], jaxrnn.scan(make, by_hand, xs)[1], atol=1e-6)
    slopes = jax.grad(lambda p: jnp.sum(jaxrnn.scan(Constrained(make, constraint), p, xs)[1] ** 2))(params)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(slopes))
    carry = make.initial_carry(params, (2, 3))
    one = jaxrnn.step(Constrained(make, constraint), params, carry, xs[0])[1]
    np.testing.assert_allclose(one, jaxrnn.step(make, by_hand, carry, xs[0])[1], atol=1e-6)


def test_labels_choose_what_optax_does():
    cell = jaxrnn.LearnedCarry(LSTM(4, peepholes=True, projection=3, layer_norm="gates_and_cell"))
    params = cell.init(jax.random.key(0), 3)
    kinds = jaxrnn.labels(params)
    assert set(jax.tree.leaves(kinds)) == {"input", "recurrent", "projection", "peephole", "bias", "gain", "carry"}
    assert tuple(kinds.start) == ("carry", "carry")
    frozen: dict[Any, Any] = {kind: optax.set_to_zero() for kind in set(jax.tree.leaves(kinds))} | {"recurrent": optax.sgd(1.0)}
    transform = optax.multi_transform(frozen, kinds)
    updates, _ = transform.update(jax.tree.map(jnp.ones_like, params), transform.init(params), params)
    moved = jax.tree.map(lambda leaf: bool(jnp.any(leaf != 0)), updates)
    assert moved.inner.w_h
    assert sum(jax.tree.leaves(moved)) == 1


def test_what_is_no_constraint_is_refused():
    with pytest.raises(TypeError, match="expected a function of a matrix"):
        Constrained(Elman(4), Dale)  # type: ignore[arg-type]
