"""A cell that is told something once, before the first step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn


@dataclasses.dataclass(frozen=True)
class Conditioned(jaxrnn.ContextCell):
    """A GRU whose gates are shifted by what it is told once, a number `[*batch]` below `kinds`."""

    gru: jaxrnn.GRU
    kinds: int

    def init(self, key: jax.Array, in_features: int, dtype: Any = jnp.float32) -> Any:
        shifts = jnp.zeros((self.kinds, 3 * self.gru.hidden), dtype)
        return {"gru": self.gru.init(key, in_features, dtype), "shifts": shifts}

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> jax.Array:
        return self.gru.initial_carry(params["gru"], input_shape)

    def prepare(self, params: Any, context: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jnp.split(params["shifts"][context], 3, axis=-1))

    def project(self, params: Any, xs: jax.Array) -> tuple[jax.Array, ...]:
        return self.gru.project(params["gru"], xs)

    def step(self, params: Any, carry: jax.Array, u: Any, affine: Any = jaxrnn.affine) -> Any:
        own, shifts = params
        return self.gru.step(own["gru"], carry, jax.tree.map(jnp.add, u, shifts), affine)

    @property
    def out_features(self) -> int:
        return self.gru.hidden
