"""A GRU that sees the same features at every step: of a picture, a speaker, a goal."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxrnn


class WatchingParams(NamedTuple):
    """Parameters of `Watching`."""

    gru: jaxrnn.GRUParams
    w_c: jax.Array  # [features, 3 * hidden]


@dataclasses.dataclass(frozen=True)
class Watching(jaxrnn.ContextCell[WatchingParams, jax.Array]):
    """A GRU whose context, features `[*batch, features]`, is added to its input: c W_c in each gate
    and the candidate.
    """

    gru: jaxrnn.GRU
    features: int

    def init(self, key: jax.Array, in_features: int, dtype: Any = jnp.float32) -> WatchingParams:
        k_gru, k_c = jax.random.split(key)
        w_c = jax.nn.initializers.lecun_normal()(k_c, (self.features, 3 * self.gru.hidden), dtype)
        return WatchingParams(self.gru.init(k_gru, in_features, dtype), w_c)

    def initial_carry(self, params: WatchingParams, input_shape: tuple[int, ...]) -> jax.Array:
        return self.gru.initial_carry(params.gru, input_shape)

    def project(self, params: WatchingParams, xs: jax.Array) -> Any:
        return self.gru.project(params.gru, xs)

    def prepare(self, params: WatchingParams, context: jax.Array) -> Any:
        """The products, once for all steps, in the form of a projected input."""
        return self.gru.project(params.gru._replace(w_x=params.w_c, b=None), context)

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        own, seen = params
        return self.gru.step(own.gru, carry, jax.tree.map(jnp.add, u, seen), affine)

    def in_features(self, params: WatchingParams) -> int:
        return self.gru.in_features(params.gru)

    @property
    def out_features(self) -> int:
        return self.gru.out_features
