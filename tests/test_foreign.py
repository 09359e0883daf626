"""Step functions that know nothing of jaxrnn, and Flax's cells, against Flax's own RNN: values, gradients, products, memory."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import DRIVERS, assert_close

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.foreign import FunctionCell
from jaxrnn.testing import check_cell

T, B, IN, H = 6, 3, 4, 5
XS = jax.random.normal(jax.random.key(1), (T, B, IN))
LINEN = [nn.LSTMCell(H), nn.OptimizedLSTMCell(H), nn.GRUCell(H), nn.MGUCell(H), nn.SimpleCell(H)]
NNX = [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell]


def by_name(value):
    return type(value).__name__ if isinstance(value, nn.Module) else value.__name__


@pytest.mark.parametrize("module", LINEN, ids=by_name)
@pytest.mark.parametrize("driver", ["bptt", "carries_in_blocks", "sums_in_blocks", "checkpointed_in_blocks"])
def test_linen_cells_give_what_flaxs_rnn_gives(module, driver):
    cell, rnn = jaxrnn.linen.as_cell(module), nn.RNN(module, time_major=True)
    params = jax.tree.map(lambda leaf: leaf + 0.1, cell.init(jax.random.key(0), IN))
    got = jax.value_and_grad(lambda p, x: jnp.sum(jnp.sin(DRIVERS[driver](cell, p, x)[1])), (0, 1))(params, XS)

    def flaxs(p: Any, x: Any) -> Any:
        ys: Any = rnn.apply({"params": {"cell": p}}, x)
        return jnp.sum(jnp.sin(ys))

    wanted = jax.value_and_grad(flaxs, (0, 1))(params, XS)
    assert_close(got, wanted, 1e-5)


@pytest.mark.parametrize("make", NNX, ids=by_name)
def test_nnx_cells_give_what_flaxs_rnn_gives(make):
    module = make(IN, H, rngs=nnx.Rngs(0))
    cell, params = jaxrnn.nnx.as_cell(module)
    carry, ys = jaxrnn.scan(cell, params, XS)
    np.testing.assert_allclose(ys, nnx.RNN(module, time_major=True)(XS), atol=1e-6)
    lengths = np.array([T, 2, 4])
    _, ragged = jaxrnn.scan(cell, params, XS, lengths=lengths)
    np.testing.assert_allclose(ragged[:2], ys[:2], atol=1e-6)
    assert not np.any(ragged[2:, 1])
    assert jax.tree.leaves(carry)[0].shape == (B, H)


def test_equal_modules_make_equal_cells():
    """So that they share one compilation."""
    first, second = (jaxrnn.linen.as_cell(nn.GRUCell(H)) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


def _step(params, h, x):
    a = jnp.einsum("...i,ij->...j", x, params["w"]) + jnp.matmul(h, params["v"])
    b = 0.5 + (h @ params["u"] + x[..., :1])
    h = jnp.tanh(a) * jax.nn.sigmoid(b @ params["v"]) + 0.1 * x[..., :1]
    return h, h + x[..., :1]


def _make_params(key, in_features, dtype):
    w, v, u = (0.5 * jax.random.normal(k, (n, H)) for k, n in zip(jax.random.split(key, 3), (in_features, H, H), strict=True))
    return {"w": w.astype(dtype), "v": v.astype(dtype), "u": u.astype(dtype)}


def _make_carry(params, input_shape):
    del params
    return jnp.zeros((*input_shape[:-1], H))


FUNCTION = FunctionCell(_step, _make_params, _make_carry, H)


def test_a_function_keeps_the_contract():
    """Products inside nested functions, one that depends on another, an input that is used beside the carry."""
    check_cell(FUNCTION)


def test_its_products_are_found():
    """Two of one operand are one, the one that depends on it is another; that of the input stands outside the loop."""
    params = FUNCTION.init(jax.random.key(0), IN)
    carry = FUNCTION.initial_carry(params, (B, IN))
    made = []

    def affine(u, h, w, *linear):
        made.append(w.shape)
        return jaxrnn.affine(u, h, w, *linear)

    FUNCTION.step(params, carry, FUNCTION.project(params, XS[0]), affine)
    assert made == [(H, 2 * H), (H, H)]


def test_what_cannot_be_a_cell_is_refused():
    with pytest.raises(TypeError, match="expected a function"):
        FunctionCell(_step, None, _make_carry, H)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a flax.linen.RNNCellBase"):
        jaxrnn.linen.as_cell(nn.Dense(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a flax.nnx.RNNCellBase"):
        jaxrnn.nnx.as_cell(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))

    @jax.jit
    def closing_over(v):
        def step(params: Any, h: Any, x: Any) -> Any:
            h = jnp.tanh(h @ v + x @ params["w"])
            return h, h

        cell = FunctionCell(step, _make_params, _make_carry, H)
        return jaxrnn.scan(cell, FUNCTION.init(jax.random.key(0), IN), XS)[1]

    with pytest.raises(TypeError, match="closes over a value that is being traced"):
        closing_over(jnp.eye(H))
