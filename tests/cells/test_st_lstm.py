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
    xs = np.random.default_rng(0).normal(size=(3, 2, 5, 1)).astype(np.float32)
    adapter = np.random.default_rng(1).normal(size=(2, 2)).astype(np.float32)
    states, _ = jaxrnn.trajectory(cell, params, jnp.asarray(xs))
    got = decoupling_loss(cell, params, jnp.asarray(xs), states, jnp.asarray(adapter))

    cosines = []
    for t, row in np.ndindex(3, 2):
        x, m = xs[t, row], np.asarray(states.m)[t, row]
        for k, own in enumerate(jax.tree.map(np.asarray, params)):
            h = np.asarray(states.h[k])[t, row]
            i, _, g, i_m, f_m, g_m, _ = np.split(convolve(x, own.w_x), 7, axis=-1)
            i_h, _, g_h, _ = np.split(convolve(h, own.w_h), 4, axis=-1)
            from_m = np.split(convolve(m, own.w_m), 3, axis=-1)
            to_c = sigmoid(i + i_h) * np.tanh(g + g_h)
            to_m = sigmoid(i_m + from_m[0]) * np.tanh(g_m + from_m[2])
            m = sigmoid(f_m + from_m[1] + 1) * m + to_m
            x = np.asarray(states.h[k])[t + 1, row]
            for a, b in zip((to_c @ adapter).T, (to_m @ adapter).T, strict=True):
                cosines.append(abs(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)))
    np.testing.assert_allclose(got, np.mean(cosines), rtol=1e-4)


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
