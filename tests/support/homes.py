"""What the tests of both Flax homes share: cells, parameters under their names, and a home as a
function of cell and parameters.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.core.cell import abstract_params

CELLS = {
    "elman": jaxrnn.Elman(4),
    "lstm": jaxrnn.LSTM(4),
    "lstm_no_bias": jaxrnn.LSTM(4, bias=False),
    "gru_after": jaxrnn.GRU(4),
    "gru_before": jaxrnn.GRU(4, reset_gate="before"),
    "gru_no_bias": jaxrnn.GRU(4, bias=False),
    "lstm_all": jaxrnn.LSTM(
        4, projection=3, peepholes=True, coupled=True, layer_norm="gates_and_cell"
    ),
    "mgu": jaxrnn.MGU(4),
    "learned_carry": jaxrnn.LearnedCarry(jaxrnn.LSTM(4)),
    "zoneout": jaxrnn.Zoneout(jaxrnn.GRU(4), h=0.1),
    "stack": jaxrnn.Stack((jaxrnn.LSTM(4), jaxrnn.GRU(5))),
    "bidirectional": jaxrnn.Bidirectional(jaxrnn.LSTM(4), jaxrnn.Elman(3)),
    "pair": jaxrnn.Stack(
        (jaxrnn.Bidirectional(jaxrnn.Elman(4)), jaxrnn.Bidirectional(jaxrnn.GRU(4), merge=None))
    ),
}
B, T, IN = 3, 6, 5


@dataclasses.dataclass(frozen=True)
class Leaky(jaxrnn.Cell):
    """A user's cell: one bare parameter, which is also where the state starts; it takes images of
    any size.
    """

    feature_axes = 2

    def init(self, key, in_features, dtype=jnp.float32):
        return jax.random.normal(key, (in_features,)).astype(dtype)

    def initial_carry(self, params, input_shape):
        return jnp.broadcast_to(params.astype(jnp.float32), input_shape)

    def step(self, params, carry, u, affine=jaxrnn.affine):
        carry = jnp.tanh(params) * carry + u
        return carry, carry

    @property
    def out_features(self):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Decay(jaxrnn.Cell):
    """A user's cell whose input is a pair: features and elapsed time."""

    def init(self, key, in_features, dtype=jnp.float32):
        return {"gate": {"rate": jnp.ones(in_features, dtype)}}

    def initial_carry(self, params, input_shape):
        return jnp.zeros(input_shape)

    def step(self, params, carry, u, affine=jaxrnn.affine):
        x, elapsed = u
        carry = jnp.exp(-elapsed[..., None] * params["gate"]["rate"]) * carry + x
        return carry, carry

    @property
    def out_features(self):
        raise NotImplementedError


def by_name(params):
    """Nested dicts under the names that the homes promise."""
    if hasattr(params, "_fields"):
        return {
            name: by_name(value) for name, value in params._asdict().items() if value is not None
        }
    if isinstance(params, tuple):
        return {f"layer_{k}": by_name(value) for k, value in enumerate(params)}
    return params


def linen_home(cell, params, **options):
    """The cell in linen with these parameters: a function like the module's call, for inference."""
    module = jaxrnn.linen.RNN(cell, deterministic=True, **options)
    return lambda *args, **flags: module.apply({"params": by_name(params)}, *args, **flags)


def nnx_home(cell, params, in_features=IN, **options):
    """The same in nnx."""
    module = jaxrnn.nnx.RNN(cell, in_features, deterministic=True, rngs=nnx.Rngs(0), **options)
    nnx.update(module, by_name(params))
    return module


def linen_tree(cell, **options):
    rnn = jaxrnn.linen.RNN(cell, deterministic=True, **options)
    return rnn.init(jax.random.key(0), jnp.ones((B, T, IN)))["params"]


def nnx_tree(cell, **options):
    rnn = jaxrnn.nnx.RNN(cell, IN, rngs=nnx.Rngs(0), **options)
    return nnx.to_pure_dict(nnx.state(rnn, nnx.Param))


HOMES = {"linen": linen_home, "nnx": nnx_home}
TREES = {"linen": linen_tree, "nnx": nnx_tree}
each_home = pytest.mark.parametrize("home", HOMES.values(), ids=HOMES)
each_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


def random_params(cell) -> Any:
    """Parameters without zeros, so that a bias that is left out would be seen."""
    rng, shapes = np.random.default_rng(0), abstract_params(cell, IN)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 2, shapes)


def inputs(*shape) -> Any:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def transposed(tree, axis=1):
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, axis), tree)
