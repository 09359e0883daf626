"""What the Flax homes draw from, and when they ask for it."""

import dataclasses
from functools import partial
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.combinators.wrapper import Around
from tests.support.homes import CELLS, IN, B, T, by_name


def test_both_homes_draw_from_their_dropout_stream():
    """With the key of the stream, a module gives what `jaxrnn.scan` gives with it; without,
    inference.
    """
    cell, xs = jaxrnn.Zoneout(jaxrnn.GRU(4), h=0.5), jnp.ones((B, T, IN))
    home = jaxrnn.linen.RNN(cell)
    variables = home.init(jax.random.key(0), xs)
    inference: Any = home.apply(variables, xs)

    def draw(seed: int) -> Any:
        return home.apply(
            variables, xs, deterministic=False, rngs={"dropout": jax.random.key(seed)}
        )

    (_, drawn), (_, again), (_, other) = map(draw, (1, 1, 2))
    np.testing.assert_array_equal(drawn, again)
    assert not np.allclose(drawn, other)
    assert not np.allclose(drawn, inference[1])

    model = jaxrnn.nnx.RNN(cell, IN, rngs=nnx.Rngs(0))
    quiet = model(xs)[1]
    loud = model(xs, rngs=nnx.Rngs(dropout=3))[1]
    np.testing.assert_array_equal(loud, model(xs, rngs=nnx.Rngs(dropout=3))[1])
    assert not np.allclose(quiet, loud)
    model.eval()
    np.testing.assert_array_equal(quiet, model(xs, rngs=nnx.Rngs(dropout=3))[1])
    model.train()
    np.testing.assert_array_equal(loud, model(xs, rngs=nnx.Rngs(dropout=3))[1])


@dataclasses.dataclass(frozen=True)
class Handed(Around):
    """A user's combinator, which hands its cell to the runner."""

    def run(self, params, xs, carry, runner):
        return runner(self.cell, params, xs, carry)


DRAWING = {
    "handed": Handed(jaxrnn.Stack((jaxrnn.LSTM(4),) * 2, dropout=0.5)),
    "dropout": jaxrnn.Dropout(jaxrnn.LSTM(4), 0.5),
    "no_dropout": jaxrnn.Dropout(jaxrnn.LSTM(4), 0.0),
    "dropconnect": jaxrnn.Residual(jaxrnn.DropConnect(jaxrnn.LSTM(IN), 0.5)),
    "stack_dropout": jaxrnn.Bidirectional(jaxrnn.Stack((jaxrnn.LSTM(4),) * 2, dropout=0.5)),
    "recurrent": jaxrnn.Stack((jaxrnn.LSTM(4), jaxrnn.RecurrentDropout(jaxrnn.LSTM(4), 0.5))),
}


@pytest.mark.parametrize("name", [*CELLS, *DRAWING])
def test_a_home_asks_for_randomness_only_if_the_cell_draws(name):
    """Whether it does is seen from what `jaxrnn.scan` traces; `noisy` has to say the same."""
    cell, xs = {**CELLS, **DRAWING}[name], jnp.ones((B, T, IN))
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), IN))
    scanned = partial(jaxrnn.scan, cell, xs=xs.swapaxes(0, 1))
    program = jax.make_jaxpr(lambda key, params: scanned(params=params, key=key))
    assert cell.noisy == ("random_bits" in str(program(jax.random.key(0), params)))

    home, model = jaxrnn.linen.RNN(cell), jaxrnn.nnx.RNN(cell, IN, rngs=nnx.Rngs(0))
    variables = jax.eval_shape(lambda: {"params": by_name(cell.init(jax.random.key(0), IN))})

    def train(variables: Any) -> Any:
        return home.apply(variables, xs, deterministic=False)

    if cell.noisy:
        with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
            jax.eval_shape(train, variables)
    else:
        jax.eval_shape(train, variables)
        nnx.eval_shape(lambda model: model(xs, rngs=nnx.Rngs(params=0)), model)
