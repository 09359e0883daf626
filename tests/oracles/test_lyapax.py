"""lyapax as an oracle: spectra of cells without inputs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.diagnostics import lyapunov
from jaxrnn.diagnostics._state import flat, unflat

lyapax = pytest.importorskip("lyapax", reason="needs lyapax: `make oracle-test` installs it")

CELLS = {
    "Elman": (jaxrnn.Elman(6, w_h_init=jax.nn.initializers.normal(0.9)), 0),
    "LSTM": (jaxrnn.LSTM(3, w_h_init=jax.nn.initializers.normal(0.7)), 3),
}
"""And how many directions are lost: this LSTM comes to rest at 0, near which h = c / 2."""


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_left_to_itself(name: str, x64: None) -> None:
    """Other first tangents, so no more than the same limit. Of a lost direction, lyapax takes the
    logarithm of what rounding leaves, which is -inf on some processors and not on others.
    """
    (cell, lost), steps, warm_up = CELLS[name], 6000, 1000
    params = cell.init(jax.random.key(3), 1, jnp.float64)
    x = jnp.zeros(1)
    like = cell.initial_carry(params, x.shape)
    start = 0.5 * jax.random.normal(jax.random.key(1), flat(like).shape)

    def step(state: Any) -> Any:
        return flat(jaxrnn.step(cell, params, unflat(state, like), x)[0])

    spectrum = lyapax.lyapunov_spectrum(step, start, 1.0, steps, t_transient=float(warm_up))
    expected = np.array(spectrum.exponents)
    rounding = expected < np.log(np.finfo(expected.dtype).eps)
    assert np.sum(rounding) == lost
    expected[rounding] = -np.inf
    xs = jnp.zeros((warm_up + steps, 1))
    carry = unflat(start, like)
    found = lyapunov(cell, params, xs, carry, key=jax.random.key(2), warm_up=warm_up)
    np.testing.assert_allclose(found.exponents, expected, atol=1e-3)
