"""What the Flax homes draw from, and when they ask for it."""

import dataclasses
from functools import partial
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.combinators.wrapper import Around
from tests.support.homes import CELLS, IN, B, T, by_name

NOISY = jaxrnn.Zoneout(jaxrnn.GRU(4), h=0.5)
XS = np.ones((B, T, IN), "f")


def test_linen_draws_from_its_dropout_stream():
    """With the key of the stream, a module gives what `jaxrnn.scan` gives with a key; without,
    inference.
    """
    rnn = jaxrnn.linen.RNN(NOISY)
    variables = rnn.init(jax.random.key(0), XS, deterministic=True)

    def draw(seed: int) -> Any:
        return rnn.apply(variables, XS, deterministic=False, rngs={"dropout": jax.random.key(seed)})

    inference: Any = rnn.apply(variables, XS, deterministic=True)
    (_, drawn), (_, again), (_, other) = map(draw, (1, 1, 2))
    np.testing.assert_array_equal(drawn, again)
    assert not np.allclose(drawn, other)
    assert not np.allclose(drawn, inference[1])
    built: Any = jaxrnn.linen.RNN(NOISY, deterministic=True).apply(variables, XS)
    np.testing.assert_array_equal(built[1], inference[1])


def test_linen_asks_whether_it_is_training():
    """As `flax.linen.Dropout` does; a cell that draws nothing is not asked."""
    draws = r"deterministic is not set, but Zoneout draws random numbers in training; set it"
    key = jax.random.key(0)
    for module in (jaxrnn.linen.RNN(NOISY), nn.Dropout(0.5)):
        with pytest.raises(ValueError, match="deterministic"):
            jax.eval_shape(module.init, key, XS)
    rnn = jaxrnn.linen.RNN(NOISY)
    with pytest.raises(ValueError, match=rf"jaxrnn\.linen\.RNN: {draws}"):
        jax.eval_shape(rnn.init, key, XS)
    with pytest.raises(TypeError, match=r"keyword argument 'train', expected .*'deterministic'\]"):
        jax.eval_shape(partial(rnn.init, train=True), key, XS)
    step = partial(rnn.init, method="step")
    with pytest.raises(ValueError, match=rf"jaxrnn\.linen\.RNN\.step: {draws}"):
        jax.eval_shape(step, key, XS[:, 0], None)
    twice = partial(jaxrnn.linen.RNN(NOISY, deterministic=True).init, deterministic=True)
    with pytest.raises(ValueError, match="deterministic is set in the constructor and in the cal"):
        jax.eval_shape(twice, key, XS)


def test_nnx_keeps_a_stream_of_its_own():
    """It draws anew at each call, and follows `train` and `eval`; `rngs` of a call go before."""
    model = jaxrnn.nnx.RNN(NOISY, IN, rngs=nnx.Rngs(0))
    run = nnx.jit(lambda model: model(XS)[1])
    first, second = run(model), run(model)
    assert not np.allclose(first, second)
    twin = jaxrnn.nnx.RNN(NOISY, IN, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(twin(XS)[1], first)
    given = [model(XS, rngs=rngs)[1] for rngs in (nnx.Rngs(dropout=3), nnx.Rngs(3))]
    np.testing.assert_array_equal(*given)
    own = nnx.Rngs(3).dropout.fork()
    key = jax.random.fold_in(own.key[...], 0)
    np.testing.assert_array_equal(model(XS, rngs=own)[1], model(XS, rngs=key)[1])
    np.testing.assert_array_equal(twin(XS)[1], second)  # which calls with rngs left alone

    model.eval()
    quiet = model(XS)[1]
    _, wanted = jaxrnn.scan(NOISY, model.params, XS.swapaxes(0, 1))
    np.testing.assert_allclose(quiet, wanted.swapaxes(0, 1), atol=1e-6)
    np.testing.assert_array_equal(quiet, model(XS, rngs=nnx.Rngs(3))[1])
    assert not np.allclose(model(XS, deterministic=False)[1], quiet)
    assert nnx.view(twin, deterministic=True).deterministic
    model.train()
    assert not np.allclose(model(XS)[1], quiet)


def test_the_stream_of_nnx_goes_through_gradients():
    """The loss draws anew each time, and the gradients are those of the parameters alone."""
    model: Any = jaxrnn.nnx.RNN(NOISY, IN, rngs=nnx.Rngs(0))

    @nnx.jit
    def train(model: Any) -> Any:
        return nnx.value_and_grad(lambda m: jnp.sum(jnp.sin(m(XS)[1])))(model)

    (first, grads), (second, _) = train(model), train(model)
    assert not np.allclose(first, second)
    assert set(grads) == {"w_x", "w_h", "b", "b_hn"}
    assert float(jnp.max(jnp.abs(grads["w_h"][...]))) > 0
    assert int(model.rngs.count[...]) == 2


def test_nnx_without_a_stream_says_so():
    model = jaxrnn.nnx.RNN(NOISY, IN, rngs=nnx.Rngs(params=0))
    for call in (lambda: model(XS), lambda: model.step(XS[:, 0], None)):
        with pytest.raises(ValueError, match=r"Zoneout draws .* no stream .* rngs=nnx\.Rngs\(drop"):
            call()
    assert model.step(XS[:, 0], None, rngs=nnx.Rngs(0))[1].shape == (B, 4)
    quiet = jaxrnn.nnx.RNN(NOISY, IN, deterministic=True, rngs=nnx.Rngs(params=0))
    assert quiet.step(XS[:, 0], None)[1].shape == (B, 4)


def test_what_draws_nothing_keeps_no_stream():
    model = jaxrnn.nnx.RNN(jaxrnn.GRU(4), IN, rngs=nnx.Rngs(0))
    nnx.split(model, nnx.Param)  # raises if anything is left over
    assert model.rngs is None


def test_flaxs_loop_is_not_given_a_cell_that_draws():
    in_nnx = partial(jaxrnn.nnx.RNNCell, in_features=3, rngs=nnx.Rngs(0))
    for build in (jaxrnn.linen.RNNCell, in_nnx):
        with pytest.raises(TypeError, match=r"RNNCell: Zoneout draws .*run it with jaxrnn\..*RNN"):
            build(NOISY)


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
        assert model.rngs is not None
    else:
        jax.eval_shape(train, variables)
        nnx.eval_shape(lambda model: model(xs, rngs=nnx.Rngs(params=0)), model)
        assert model.rngs is None
