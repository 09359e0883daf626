"""GRUs that read the same context at every step: features of a picture or a goal, or a label."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxrnn


class ConditionedParams(NamedTuple):
    """Parameters of `FeatureConditionedGRU` and `LabelConditionedGRU`."""

    gru: jaxrnn.GRUParams
    w_c: jax.Array  # [features or labels, 3 * hidden]


@dataclasses.dataclass(frozen=True)
class _ConditionedGRU(jaxrnn.ContextCell[ConditionedParams, jax.Array]):
    """A GRU. What its context adds to the gates and the candidate is computed once, by `prepare`.

    A subclass has `init` and `prepare`, which returns the form that `GRU.project` returns.
    """

    gru: jaxrnn.GRU

    def initial_carry(self, params: ConditionedParams, input_shape: tuple[int, ...]) -> jax.Array:
        return self.gru.initial_carry(params.gru, input_shape)

    def project(self, params: ConditionedParams, xs: jax.Array) -> Any:
        return self.gru.project(params.gru, xs)

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        own, added = params
        return self.gru.step(own.gru, carry, jax.tree.map(jnp.add, u, added), affine)

    def in_features(self, params: ConditionedParams) -> int:
        return self.gru.in_features(params.gru)

    @property
    def out_features(self) -> int:
        return self.gru.out_features


@dataclasses.dataclass(frozen=True)
class FeatureConditionedGRU(_ConditionedGRU):
    """A GRU whose context c, features `[*batch, features]`, adds c W_c to the projected input."""

    features: int

    def init(self, key: jax.Array, in_features: int, dtype: Any = jnp.float32) -> ConditionedParams:
        k_gru, k_c = jax.random.split(key)
        w_c = jax.nn.initializers.lecun_normal()(k_c, (self.features, 3 * self.gru.hidden), dtype)
        return ConditionedParams(self.gru.init(k_gru, in_features, dtype), w_c)

    def prepare(self, params: ConditionedParams, context: jax.Array) -> Any:
        return self.gru.project(params.gru._replace(w_x=params.w_c, b=None), context)


@dataclasses.dataclass(frozen=True)
class LabelConditionedGRU(_ConditionedGRU):
    """A GRU whose context, a label `[*batch]` below `labels`, selects the row of W_c that is added.

    W_c is zero at first.
    """

    labels: int

    def init(self, key: jax.Array, in_features: int, dtype: Any = jnp.float32) -> ConditionedParams:
        w_c = jnp.zeros((self.labels, 3 * self.gru.hidden), dtype)
        return ConditionedParams(self.gru.init(key, in_features, dtype), w_c)

    def prepare(self, params: ConditionedParams, context: jax.Array) -> Any:
        return tuple(jnp.split(params.w_c[context], 3, axis=-1))
