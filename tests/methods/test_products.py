"""Products of any dtypes and of any bilinear function, by every method, against `unroll`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.core.affine import matmul
from tests.support.helpers import assert_close


def einsum(h: jax.Array, w: jax.Array) -> jax.Array:
    """A `linear` of the cell's own."""
    return jnp.einsum("...i,ij->...j", h, w)


@dataclasses.dataclass(frozen=True)
class Mixed(jaxrnn.Cell):
    """`h_t = tanh(gain ⊙ (x_t W_x + h_{t-1} W_h))`, each part in a dtype of its own."""

    w_x: str
    w_h: str
    operand: str | None = None  # what h is cast to before it is multiplied
    own: bool = False  # a product of its own
    pointwise: bool = False  # with the gain
    carried: str | None = None

    def init(self, key: jax.Array, in_features: int, dtype: Any = jnp.float32) -> Any:
        keys = jax.random.split(key, 3)

        def draw(key: jax.Array, shape: tuple[int, ...], dtype: str) -> jax.Array:
            real, imaginary = 0.4 * jax.random.normal(key, (2, *shape), jnp.float64)
            return (real + 1j * imaginary if "complex" in dtype else real).astype(dtype)

        gain = draw(keys[2], (4,), self.w_h) if self.pointwise else None
        return {
            "w_x": draw(keys[0], (in_features, 4), self.w_x),
            "w_h": draw(keys[1], (4, 4), self.w_h),
            "gain": gain,
        }

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> jax.Array:
        return jnp.zeros(
            (*input_shape[:-1], 4), self.carried or jnp.result_type(params["w_h"], jnp.float32)
        )

    def project(self, params: Any, xs: jax.Array) -> jax.Array:
        return matmul(xs, params["w_x"])

    def step(self, params: Any, carry: jax.Array, u: jax.Array, affine: Any = jaxrnn.affine) -> Any:
        h = carry if self.operand is None else carry.astype(self.operand)
        (z,) = affine((u,), h, params["w_h"], linear=einsum if self.own else matmul)
        h = jnp.tanh(z if params["gain"] is None else params["gain"] * z).astype(carry.dtype)
        return h, jnp.real(h) if self.carried else h

    @property
    def out_features(self) -> int:
        return 4


CELLS = {
    "a wider weight": Mixed("float32", "float64"),
    "a wider part": Mixed("float64", "float32"),
    "a narrow operand": Mixed("float32", "float32", operand="bfloat16"),
    "narrow inputs": Mixed("bfloat16", "float64"),
    "own product and gain": Mixed("float64", "float64", own=True, pointwise=True),
    "complex weight": Mixed("float32", "complex64", carried="complex64"),
    "complex part": Mixed("complex64", "float32", carried="complex64"),
    "complex throughout": Mixed("complex128", "complex128", pointwise=True, carried="complex128"),
    "complex, own product": Mixed(
        "complex128", "complex128", own=True, pointwise=True, carried="complex128"
    ),
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=list(CELLS))
def test_gradients(cell, x64):
    params = cell.init(jax.random.key(0), 2)
    xs = jax.random.normal(jax.random.key(1), (5, 3, 2), jnp.float32)
    tolerance = 2e-2 if "bfloat16" in (cell.w_x, cell.operand) else 1e-5

    def loss(driver: Any, params: Any, xs: Any) -> jax.Array:
        carry, ys = driver(cell, params, xs)
        return jnp.sum(jnp.sin(ys).astype(jnp.float64)) + jnp.sum(jnp.abs(carry) ** 2).astype(
            jnp.float64
        )

    def gradients(params: Any, xs: Any) -> Any:
        def by(method: Any) -> Any:
            return jax.grad(
                lambda *at: loss(lambda *given: jaxrnn.scan(*given, method=method), *at), (0, 1)
            )(params, xs)

        return [
            jax.grad(lambda *at: loss(jaxrnn.unroll, *at), (0, 1))(params, xs),
            *map(by, ("bptt", "checkpointed", "autodiff")),
        ]

    want, *others = jax.jit(gradients)(params, xs)
    for got in others:
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert a.dtype == b.dtype
            wide = np.complex128 if jnp.iscomplexobj(b) else np.float64
            a, b = np.asarray(a, wide), np.asarray(b, wide)
            assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)
            assert not jnp.iscomplexobj(b) or np.linalg.norm(b.imag) > 0.1 * np.linalg.norm(b)


class TwoKinds(Mixed):
    """A real part and a complex one of one product: what is joined is cut into both kinds."""

    def step(self, params: Any, carry: jax.Array, u: jax.Array, affine: Any = jaxrnn.affine) -> Any:
        real, imaginary = jnp.split(u, 2, axis=-1)
        a, b = affine((real, jax.lax.complex(real, imaginary)), carry, params["w_h"])
        h = jnp.concatenate([jnp.tanh(a), jnp.real(jnp.tanh(1j * b))], axis=-1)
        return h, h


@pytest.mark.filterwarnings("error")
def test_a_real_part_and_a_complex_one(x64):
    cell = TwoKinds("float64", "float64")
    params = cell.init(jax.random.key(0), 2)
    xs = jax.random.normal(jax.random.key(1), (4, 3, 2), jnp.float64)

    def gradients(method: Any) -> Any:
        def loss(params: Any, xs: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(jaxrnn.scan(cell, params, xs, method=method)[1]))

        return jax.jit(jax.grad(loss, (0, 1)))(params, xs)

    assert_close(gradients("bptt"), gradients("autodiff"), 1e-12)
