"""Flax's own cells in jaxrnn's engine, beside the same cells in Flax's own RNN."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from benchmarks.comparison import Comparison
from benchmarks.measure import normal, training_step
from benchmarks.plan import Shape
from benchmarks.sides import Apply, drawn, scan_apply
from jaxrnn.core.trees import Tree

Sides = dict[str, tuple[Apply, Tree]]


class DeepTransition(nn.RNNCellBase):
    """`h_t = tanh(tanh(x_t W_x + h_{t-1} W_1) W_2)`, two dependent products (Pascanu 2014)."""

    features: int

    @nn.compact
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        inner = jnp.tanh(
            nn.Dense(self.features, name="x")(inputs)
            + nn.Dense(self.features, use_bias=False, name="first")(carry)
        )
        h = jnp.tanh(nn.Dense(self.features, name="second")(inner))
        return h, h

    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> jax.Array:
        del rng
        return jnp.zeros((*input_shape[:-1], self.features))

    @property
    def num_feature_axes(self) -> int:
        return 1


def _linen(make: Callable[[int], nn.RNNCellBase]) -> Callable[[Shape], Sides]:
    def sides(shape: Shape) -> Sides:
        cell = jaxrnn.linen.as_cell(make(shape.hidden))
        params = drawn(cell, shape.in_features)
        rnn = nn.RNN(make(shape.hidden), time_major=True)
        return {
            "jaxrnn": (scan_apply(cell), params),
            "flax": (lambda params, xs: rnn.apply({"params": {"cell": params}}, xs), params),
        }

    return sides


def _nnx(make: Callable[..., Any]) -> Callable[[Shape], Sides]:
    def sides(shape: Shape) -> Sides:
        module = make(shape.in_features, shape.hidden, rngs=nnx.Rngs(0))
        cell, params = jaxrnn.nnx.as_cell(module), nnx.state(module, nnx.Param)
        graph, weights, rest = nnx.split(nnx.RNN(module, time_major=True), nnx.Param, ...)

        def apply(weights: Tree, xs: jax.Array) -> Any:
            # a copy: Flax's RNN counts up in it
            return nnx.merge(graph, weights, jax.tree.map(lambda leaf: leaf, rest))(xs)

        return {"jaxrnn": (scan_apply(cell), params), "flax": (apply, weights)}

    return sides


CELLS: dict[str, Callable[[Shape], Sides]] = {
    "nn.OptimizedLSTMCell": _linen(nn.OptimizedLSTMCell),
    "nn.LSTMCell": _linen(nn.LSTMCell),
    "nn.GRUCell": _linen(nn.GRUCell),
    "nnx.LSTMCell": _nnx(nnx.LSTMCell),
    "nnx.OptimizedLSTMCell": _nnx(nnx.OptimizedLSTMCell),
    "nnx.GRUCell": _nnx(nnx.GRUCell),
    "two dependent products": _linen(DeepTransition),
}


def comparison(name: str, shape: Shape) -> Comparison:
    """A training step of both sides."""
    xs = normal(1, shape.time, shape.batch, shape.in_features)
    dys = normal(2, shape.time, shape.batch, shape.hidden)
    sides = {
        side: (training_step(apply), (weights, xs, dys))
        for side, (apply, weights) in CELLS[name](shape).items()
    }
    return Comparison(f"{name} {shape.label}", sides)
