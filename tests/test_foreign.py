"""Step functions that know nothing of jaxrnn, and Flax's cells, against Flax's own RNN: values, gradients, products, memory."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import DRIVERS, assert_close
from jax.extend.core import jaxprs_in_params

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


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a program, those inside of loops and calls too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def precisions(program: Any, *args: Any) -> set[Any]:
    found = equations(jax.make_jaxpr(program)(*args).jaxpr)
    return {e.params["precision"] for e in found if e.primitive is jax.lax.dot_general_p}


EXACT = (jax.lax.Precision.HIGHEST,) * 2


def _exact_step(params, h, x):
    dot = partial(jnp.matmul, precision="highest")
    a = jnp.tanh(dot(x, params["w"]) + dot(h, params["v"]))
    h = a * jax.nn.sigmoid(dot(h, params["u"]) + 0.1)
    return h, h


def _mixed_step(params, h, x):
    h, _ = _exact_step(params, h, x)
    return jnp.tanh(h @ params["v"]), h


@pytest.mark.parametrize("gradient", ["bptt", "checkpointed", "autodiff"])
def test_a_product_keeps_its_precision(gradient):
    """In every product of the program, forward and backward; one beside it that asks for none gets none."""
    exact, mixed = (FunctionCell(step, _make_params, _make_carry, H) for step in (_exact_step, _mixed_step))
    flaxs = jaxrnn.linen.as_cell(nn.GRUCell(H))

    def asked(cell: jaxrnn.Cell) -> set[Any]:
        def loss(params: Any, xs: Any) -> Any:
            return jnp.sum(jnp.sin(jaxrnn.scan(cell, params, xs, gradient=gradient)[1]))

        return precisions(jax.value_and_grad(loss, (0, 1)), cell.init(jax.random.key(0), IN), XS)

    assert (asked(exact), asked(mixed), asked(flaxs)) == ({EXACT}, {EXACT, None}, {None})


def _odd_step(params, h, x):
    """Products of every kind but the plain one."""
    w, v, u = params["w"], params["v"], params["u"]
    a = x @ w + jnp.einsum("ij,...j->...i", v, h)  # contracts the weight's last axis
    b = jnp.einsum("...gi,gio->...go", h[..., None] * jnp.ones(2), u.reshape(1, H, H)[:, :2].repeat(H, 0))
    c = (h.astype(jnp.bfloat16) @ v.astype(jnp.bfloat16)).astype(jnp.float32)
    d = jnp.sum((jnp.round(4 * h).astype(jnp.int32) @ jnp.ones((H, 2), jnp.int32)), axis=-1, keepdims=True)
    h = jnp.tanh(a + jnp.sum(b, axis=-2) + 0.01 * (c + d))
    return h, h


def _transformed_step(params, h, x):
    """Products inside of vmap, jit, grad, checkpoint and a loop."""

    def energy(h: Any) -> Any:
        return jnp.sum(jnp.tanh(h @ params["v"]))

    a = jax.vmap(lambda column: h @ column, in_axes=1, out_axes=-1)(params["v"])
    b = jax.jit(lambda h: jax.checkpoint(lambda h: jnp.sin(h @ params["u"]))(h))(h)
    c = jax.grad(energy)(h)
    d = jax.lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h @ params["u"]), h)
    h = jnp.tanh(a + b + c + 0.1 * d + x @ params["w"])
    return h, h


@pytest.mark.parametrize("step", [_odd_step, _transformed_step])
def test_any_product_is_right(step):
    """Against a loop that calls the function itself: values, and gradients by every method."""
    cell = FunctionCell(step, _make_params, _make_carry, H)
    params = cell.init(jax.random.key(0), IN)

    def looped(params: Any, xs: Any) -> Any:
        return jax.lax.scan(partial(step, params), jnp.zeros((B, H)), xs)

    def value_and_gradient(run: Any) -> Any:
        def loss(params: Any, xs: Any) -> Any:
            h, ys = run(params, xs)
            return jnp.sum(jnp.sin(ys)) + jnp.sum(h), (h, ys)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, XS)

    wanted = value_and_gradient(looped)
    for gradient in ("bptt", "checkpointed", "autodiff"):
        assert_close(value_and_gradient(partial(jaxrnn.scan, cell, gradient=gradient)), wanted, 1e-4)


def test_every_recurrent_product_goes_through_affine():
    cell = FunctionCell(_odd_step, _make_params, _make_carry, H)
    params = cell.init(jax.random.key(0), IN)
    h = _make_carry(params, (B, IN)) + 1
    made = []

    def affine(u, h, w, *linear):
        made.append((u is None, h.dtype.name, w.shape))
        return jaxrnn.affine(u, h, w, *linear)

    cell.step(params, h, cell.project(params, XS[0]), affine)
    assert made == [(True, "float32", (H, H)), (True, "float32", (H, 2, H)), (True, "bfloat16", (H, H))]


@pytest.mark.parametrize("ordered", [False, True])
def test_debug_prints_print(ordered, capfd):
    """Once per step in its order, of the carry, of the input alone, and of nothing."""

    def step(params: Any, h: Any, x: Any) -> Any:
        jax.debug.print("h {}", h[0, 0], ordered=ordered)
        jax.debug.print("x {}", x[0, 0], ordered=ordered)
        jax.debug.print("tick", ordered=ordered)
        return h + 1.0, h

    cell = FunctionCell(step, _make_params, _make_carry, H)
    params, xs = cell.init(jax.random.key(0), IN), jnp.full((2, B, IN), 7.0)
    for gradient in ("bptt", "checkpointed", "autodiff"):
        jax.block_until_ready(jaxrnn.scan(cell, params, xs, gradient=gradient))
        jax.effects_barrier()
        lines = capfd.readouterr().out.splitlines()
        wanted = ["h 0.0", "x 7.0", "tick", "h 1.0", "x 7.0", "tick"]
        if ordered:
            assert lines[-len(wanted) :] == wanted
        else:
            assert {line: lines.count(line) >= wanted.count(line) for line in wanted} == dict.fromkeys(wanted, True)


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
