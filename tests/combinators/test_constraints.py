"""What weights are made to satisfy, and how parameters are told apart."""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
import jaxrnn.linen
from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Constrained,
    Dale,
    DropConnect,
    Elman,
    Residual,
    Sparse,
    SpectralNorm,
    Stack,
)
from tests.support.conversions import random_like
from tests.support.user_cells import Ring

W = random_like(np.zeros((6, 24)))


def test_dale():
    w = np.asarray(Dale(excitatory=0.5)(W))
    assert np.all(w[:3] >= 0)
    assert np.all(w[3:] <= 0)
    np.testing.assert_array_equal(abs(w), abs(W))


def test_sparse():
    """Its pattern belongs to the seed alone, not to JAX's configuration."""
    w = np.asarray(Sparse(0.3, seed=1)(W))
    assert 0.2 < (w != 0).mean() < 0.4
    np.testing.assert_array_equal(w[w != 0], np.asarray(W)[w != 0])
    assert np.any(w != Sparse(0.3, seed=2)(W))
    with jax.default_prng_impl("rbg"), jax.enable_x64(True):
        np.testing.assert_array_equal(w, Sparse(0.3, seed=1)(W))


def test_spectral_norm():
    """What is below the bound is left alone; a matrix of zeros has a gradient."""
    assert np.linalg.norm(W, 2) > 0.7
    norm = np.linalg.norm(SpectralNorm(0.7, iterations=300)(W), 2)
    assert norm == pytest.approx(0.7, rel=1e-3)
    small = 0.01 * W
    np.testing.assert_array_equal(SpectralNorm(0.7)(small), small)
    value, slope = jax.value_and_grad(lambda w: jnp.sum(SpectralNorm(0.7)(w)))(jnp.zeros((4, 4)))
    assert value == 0
    np.testing.assert_array_equal(slope, 1)


def each_gate(cell, constraint, params):
    """`params` with the constraint on every gate of every layer, by hand."""
    if isinstance(cell, Stack):
        layers = zip(cell.cells, params, strict=True)
        return tuple(each_gate(layer, constraint, own) for layer, own in layers)
    gates = {Elman: 1, LSTM: 4, GRU: 3}[type(cell)]
    bounded = [constraint(w) for w in jnp.split(params.w_h, gates, axis=1)]
    return params._replace(w_h=jnp.concatenate(bounded, axis=1))


STACK = Stack((LSTM(5, projection=3), GRU(4)))


@pytest.mark.parametrize(
    "constraint", [Dale(), Sparse(0.5), SpectralNorm(0.5)], ids=lambda c: type(c).__name__
)
@pytest.mark.parametrize("make", [Elman(5), STACK], ids=["elman", "stack"])
def test_a_constrained_cell_is_the_cell_with_constrained_weights(make, constraint):
    params, xs = make.init(jax.random.key(1), 3), jax.random.normal(jax.random.key(2), (6, 2, 3))
    by_hand = jax.jit(partial(each_gate, make, constraint))(params)
    cell = Constrained(make, constraint)
    got, wanted = jaxrnn.scan(cell, params, xs)[1], jaxrnn.scan(make, by_hand, xs)[1]
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    slopes = jax.jit(jax.grad(lambda p: jnp.sum(jaxrnn.scan(cell, p, xs)[1] ** 2)))(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slopes))
    carry = make.initial_carry(params, (2, 3))
    one = jaxrnn.step(cell, params, carry, xs[0])[1]
    np.testing.assert_allclose(one, jaxrnn.step(make, by_hand, carry, xs[0])[1], atol=1e-6)


def test_gates_are_bounded_whatever_stands_between():
    """Each gate of a cell inside other combinators, whose weights are not square."""
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Seen:
        def __call__(self, w):
            seen.append(w.shape)
            return w

    inner = jaxrnn.LearnedCarry(jaxrnn.Zoneout(LSTM(8, projection=4), h=0.1))
    cell = Constrained(Bidirectional(jaxrnn.DropConnect(inner, 0.2), jaxrnn.MGU(4)), Seen())
    xs = jnp.ones((5, 2, 3))
    jaxrnn.scan(cell, cell.init(jax.random.key(0), 3), xs, key=jax.random.key(1))
    assert set(seen) == {(4, 8), (4, 4)}

    seen.clear()
    within = Constrained(jaxrnn.Attention(jaxrnn.Stack([LSTM(4), LSTM(4)]), memory=5), Seen())
    memory = jaxrnn.Memory(jnp.ones((2, 2, 5)))
    jaxrnn.scan(within, within.init(jax.random.key(0), 3), xs, context=memory)
    assert set(seen) == {(4, 4)}
    mixed = Constrained(jaxrnn.Attention(jaxrnn.Stack([LSTM(4), Elman(4)]), memory=5), Seen())
    with pytest.raises(ValueError, match=r"Stack: its cells have \[1, 4\] gates, expected one"):
        jaxrnn.scan(mixed, mixed.init(jax.random.key(0), 3), xs, context=memory)


def test_labels_choose_what_optax_does():
    cell = jaxrnn.LearnedCarry(LSTM(4, peepholes=True, projection=3, layer_norm="gates_and_cell"))
    params = cell.init(jax.random.key(0), 3)
    kinds = jaxrnn.labels(cell, params)
    assert set(jax.tree.leaves(kinds)) == {
        "input",
        "recurrent",
        "projection",
        "peephole",
        "bias",
        "gain",
        "carry",
    }
    assert tuple(kinds.start) == ("carry", "carry")
    frozen: dict[Any, Any] = {kind: optax.set_to_zero() for kind in set(jax.tree.leaves(kinds))} | {
        "recurrent": optax.sgd(1.0)
    }
    transform = optax.multi_transform(frozen, kinds)
    updates, _ = transform.update(
        jax.tree.map(jnp.ones_like, params), transform.init(params), params
    )
    moved = jax.tree.map(lambda leaf: bool(jnp.any(leaf != 0)), updates)
    assert moved.inner.w_h
    assert sum(jax.tree.leaves(moved)) == 1


def test_what_cannot_be_constrained_is_refused():
    with pytest.raises(TypeError, match="expected a function of a matrix"):
        Constrained(Elman(4), Dale)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Sparse: seed is -1"):
        Sparse(0.5, seed=-1)
    flax = jaxrnn.linen.as_cell(nn.SimpleCell(4))
    for combinator in (lambda cell: Constrained(cell, Dale()), lambda cell: DropConnect(cell, 0.5)):
        with pytest.raises(ValueError, match="FunctionCell has no recurrent weight"):
            combinator(flax)
        with pytest.raises(ValueError, match="Residual has no recurrent weight"):
            combinator(Residual(Residual(flax))).init(jax.random.key(0), 4)
        combinator(Residual(Elman(4))).init(jax.random.key(0), 4)
    assert Dale(1.0)(jnp.array([[-1.0]])) == 1
    assert jnp.all(Sparse(1.0)(jnp.ones((2, 2))) == 1)
    ring = Constrained(Ring(4), Dale())
    params, xs = ring.init(jax.random.key(0), 3), jnp.ones((5, 2, 5, 3))
    with pytest.raises(ValueError, match=r"w_h of Ring has shape \(3, 4, 4\), expected a matrix"):
        jaxrnn.scan(ring, params, xs)
