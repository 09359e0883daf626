"""The decoupling loss of PredRNN-V2, and what an ST-LSTM refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.cells import decoupling_loss
from tests.support.papers import sigmoid
from tests.support.pictures import convolve


def test_decoupling_loss():
    """Against loops over steps, rows and channels."""
    cell = jaxrnn.STLSTM(2, 3, layers=2, rank=1)
    params = cell.init(jax.random.key(0), 1)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 5, 1)), jnp.float32)
    adapter = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2)), jnp.float32)
    states, _ = jaxrnn.trajectory(cell, params, xs)
    got = decoupling_loss(cell, params, xs, states, adapter)

    xs_, adapter_ = np.asarray(xs), np.asarray(adapter)
    cosines = []
    for t, row in np.ndindex(3, 2):
        x, m = xs_[t, row], np.asarray(states.m)[t, row]
        for k, own in enumerate(jax.tree.map(np.asarray, params)):
            h = np.asarray(states.h[k])[t, row]
            i, _, g, i_m, f_m, g_m, _ = np.split(convolve(x, own.w_x), 7, axis=-1)
            i_h, _, g_h, _ = np.split(convolve(h, own.w_h), 4, axis=-1)
            from_m = np.split(convolve(m, own.w_m), 3, axis=-1)
            to_c = sigmoid(i + i_h) * np.tanh(g + g_h)
            to_m = sigmoid(i_m + from_m[0]) * np.tanh(g_m + from_m[2])
            m = sigmoid(f_m + from_m[1] + 1) * m + to_m
            x = np.asarray(states.h[k])[t + 1, row]
            for a, b in zip((to_c @ adapter_).T, (to_m @ adapter_).T, strict=True):
                cosines.append(abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    np.testing.assert_allclose(got, np.mean(cosines), rtol=1e-4)

    with pytest.raises(ValueError, match=r"states has 3 entries, expected .* 4; pass what"):
        decoupling_loss(cell, params, xs, jax.tree.map(lambda s: s[1:], states), adapter)
    with pytest.raises(ValueError, match=r"adapter has shape \(2, 1\), expected \(2, 2\)"):
        decoupling_loss(cell, params, xs, states, adapter[:, :1])
    with pytest.raises(ValueError, match="STLSTM: params is a dict with the keys"):
        cell.initial_carry({"params": params}, (1, 5, 1))  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused():
    for make, message in (
        (lambda: jaxrnn.STLSTM(4, 3, layers=0), "STLSTM: layers is 0, expected a positive"),
        (lambda: jaxrnn.STLSTM(4, (3,)), r"kernel_size is \(3,\), .* one for each of rank=2"),
        (lambda: jaxrnn.STLSTM(4, 3, layer_norm="gates"), "layer_norm is 'gates', expected True"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=message):
            make()
    cell = jaxrnn.STLSTM(4, 3, layers=2)
    with pytest.raises(ValueError, match="STLSTM"):
        jaxrnn.scan(cell, cell.init(jax.random.key(0), 2), jnp.ones((3, 2, 5, 5, 3)))
