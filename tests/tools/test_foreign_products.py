"""The products of step functions that know nothing of jaxrnn: they are found, whatever they are,
keep their precision, and give the gradients of JAX's own loop.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jaxrnn
import jaxrnn.linen
from jaxrnn.core.affine import matmul
from jaxrnn.foreign import FunctionCell
from tests.support.helpers import assert_close
from tests.support.jaxprs import equations
from tests.tools.test_foreign import FUNCTION, IN, XS, B, H, make_carry, make_params


def test_its_products_are_found():
    """Two of one operand are one, the one that depends on it is another; that of the input stands
    outside the loop.
    """
    params = FUNCTION.init(jax.random.key(0), IN)
    carry = FUNCTION.initial_carry(params, (B, IN))
    made = []

    def affine(u, h, w, linear: Any = matmul):
        made.append(w.shape)
        return jaxrnn.affine(u, h, w, linear)

    FUNCTION.step(params, carry, FUNCTION.project(params, XS[0]), affine)
    assert made == [(H, 2 * H), (H, H)]


def precisions(program: Any, *args: Any) -> set[Any]:
    found = equations(jax.make_jaxpr(program)(*args).jaxpr)
    return {e.params["precision"] for _, e in found if e.primitive is jax.lax.dot_general_p}


EXACT = (jax.lax.Precision.HIGHEST,) * 2


def _exact_step(params, h, x):
    dot = partial(jnp.matmul, precision="highest")
    a = jnp.tanh(dot(x, params["w"]) + dot(h, params["v"]))
    h = a * jax.nn.sigmoid(dot(h, params["u"]) + 0.1)
    return h, h


def _mixed_step(params, h, x):
    h, _ = _exact_step(params, h, x)
    return jnp.tanh(h @ params["v"]), h


@pytest.mark.parametrize("method", ["bptt", "checkpointed", "autodiff"])
def test_a_product_keeps_its_precision(method):
    """In every product of the program, forward and backward; one that asks for none gets none."""
    steps = (_exact_step, _mixed_step)
    exact, mixed = (FunctionCell(step, make_params, make_carry, H) for step in steps)
    flaxs = jaxrnn.linen.as_cell(nn.GRUCell(H))

    def asked(cell: jaxrnn.Cell) -> set[Any]:
        def loss(params: Any, xs: Any) -> Any:
            return jnp.sum(jnp.sin(jaxrnn.scan(cell, params, xs, method=method)[1]))

        return precisions(jax.value_and_grad(loss, (0, 1)), cell.init(jax.random.key(0), IN), XS)

    assert (asked(exact), asked(mixed), asked(flaxs)) == ({EXACT}, {EXACT, None}, {None})


def _odd_step(params, h, x):
    """Products of every kind but the plain one."""
    w, v, u = params["w"], params["v"], params["u"]
    a = x @ w + jnp.einsum("ij,...j->...i", v, h)  # contracts the weight's last axis
    blocks = u.reshape(1, H, H)[:, :2].repeat(H, 0)
    b = jnp.einsum("...gi,gio->...go", h[..., None] * jnp.ones(2), blocks)
    c = (h.astype(jnp.bfloat16) @ v.astype(jnp.bfloat16)).astype(jnp.float32)
    d = (jnp.round(4 * h).astype(jnp.int32) @ jnp.ones((H, 1), jnp.int32)).astype(jnp.float32)
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
    cell = FunctionCell(step, make_params, make_carry, H)
    params = cell.init(jax.random.key(0), IN)

    def looped(params: Any, xs: Any) -> Any:
        return jax.lax.scan(partial(step, params), jnp.zeros((B, H)), xs)

    def value_and_gradient(run: Any) -> Any:
        def loss(params: Any, xs: Any) -> Any:
            h, ys = run(params, xs)
            return jnp.sum(jnp.sin(ys)) + jnp.sum(h), (h, ys)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, XS)

    wanted = value_and_gradient(looped)
    for method in ("bptt", "checkpointed", "autodiff"):
        got = value_and_gradient(partial(jaxrnn.scan, cell, method=method))
        assert_close(got, wanted, 1e-4)  # one of the products is of bfloat16


def test_every_recurrent_product_goes_through_affine():
    cell = FunctionCell(_odd_step, make_params, make_carry, H)
    params = cell.init(jax.random.key(0), IN)
    h = make_carry(params, (B, IN)) + 1
    made = []

    def affine(u, h, w, linear: Any = matmul):
        made.append((u is None, h.dtype.name, w.shape))
        return jaxrnn.affine(u, h, w, linear)

    cell.step(params, h, cell.project(params, XS[0]), affine)
    kinds = [("float32", (H, H)), ("float32", (H, 2, H)), ("bfloat16", (H, H))]
    assert made == [(True, *kind) for kind in kinds]
