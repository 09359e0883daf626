"""Keras as an oracle: its masks per gate, and its hard sigmoid."""

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.core.noise import Draws, number
from tests.support.helpers import assert_close

keras = pytest.importorskip("keras", reason="needs keras: `make oracle-test` installs it")

TIME, BATCH, FEATURES, HIDDEN, RATE = 6, 3, 4, 5, 0.4
KEY = jax.random.key(7)


KINDS: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "LSTM": (jaxrnn.LSTM(HIDDEN), lambda **rate: keras.layers.LSTMCell(HIDDEN, **rate), ()),
    "GRU": (
        jaxrnn.GRU(HIDDEN, reset_gate="before"),
        lambda **rate: keras.layers.GRUCell(HIDDEN, reset_after=False, **rate),
        (),
    ),
    "ConvLSTM": (
        jaxrnn.ConvLSTM(HIDDEN, 3, rank=1),
        lambda **rate: keras.layers.ConvLSTM1D(HIDDEN, 3, padding="same", **rate).cell,
        (7,),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_dropout_per_gate(kind):
    """Keras' cell, handed the masks that jaxrnn drew: one for each gate, the same at all steps."""
    inner, make, space = KINDS[kind]
    own, gates = ("rzn", "zrn") if kind == "GRU" else ("ifgo", "ifgo")
    cell = jaxrnn.RecurrentDropout(inner, RATE, draws=len(gates))
    params = cell.init(jax.random.key(0), FEATURES)
    xs = jax.random.normal(jax.random.key(1), (TIME, BATCH, *space, FEATURES))
    carry, ys = jaxrnn.scan(cell, params, xs, key=KEY)

    theirs = make(recurrent_dropout=RATE)
    theirs.build((BATCH, *space, FEATURES))

    def reorder(leaf: jax.Array) -> np.ndarray:
        parts = dict(zip(own, np.split(np.asarray(leaf), len(own), axis=-1), strict=True))
        return np.concatenate([parts[gate] for gate in gates], axis=-1)

    theirs.set_weights([reorder(params.w_x), reorder(params.w_h), reorder(params.b)])
    _, drawn = cell.project(params, xs, Draws(KEY, number((TIME, BATCH), None))(cell.draw))
    masks = dict(zip(own, [mask[0] / (1 - RATE) for mask in jax.tree.leaves(drawn)], strict=True))
    theirs._recurrent_dropout_mask = [jnp.asarray(masks[gate]) for gate in gates]
    states, wanted = [jnp.zeros((BATCH, *space, HIDDEN))] * len(jax.tree.leaves(carry)), []
    for x in xs:
        y, states = theirs(x, states, training=True)
        wanted.append(y)
    assert_close((jax.tree.leaves(carry), ys), (list(states), jnp.stack(wanted)), 1e-6)


def test_hard_sigmoid():
    z = jnp.linspace(-4, 4, 101)
    assert_close(
        jaxrnn.activations.activation("hard_sigmoid")(z), keras.activations.hard_sigmoid(z), 1e-6
    )
