"""What `docs/generation.md` says of scheduled sampling is so."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn.streams import greedy
from tests.docs.blocks import ROOT, run_blocks
from tests.support.helpers import assert_close, assert_equal


@cache
def page() -> Any:
    return run_blocks(ROOT / "docs" / "generation.md")


def test_blocks():
    assert page()


def test_scheduled_sampling_reads_the_mixture():
    """With greedy choices, what is read tells at which steps it is not the truth: there it is what
    the model chooses after all that it has read.
    """
    names, time, batch = page(), 8, 40
    params, cell = names["weights"], names["speller"]
    truth = np.random.default_rng(5).integers(names["symbols"], size=(time, batch), dtype=np.int32)
    mixed: Any = jax.jit(lambda p, epsilon, key: names["mixed"](p, truth, epsilon, key, greedy))

    @jax.jit
    def after(read: Any) -> Any:
        """The likeliest symbol after each that is read."""
        _, ys = jaxrnn.scan(cell, params["rnn"], params["embedding"][read])
        return jnp.argmax(ys @ params["w"], axis=-1)

    assert_equal(mixed(params, 1.0, jax.random.key(0)), truth)
    for epsilon in (0.0, 0.3):
        read = np.asarray(mixed(params, epsilon, jax.random.key(0)))
        chosen, known = np.asarray(after(read))[:-1], truth[1:]
        differ = chosen != known
        own = (read[1:] == chosen) & differ
        assert_equal(read[0], truth[0])
        assert np.all((read[1:] == chosen) | (read[1:] == known))
        # 250 coins or so: 0.1 is more than three times their standard deviation
        assert abs(own.sum() / differ.sum() - (1 - epsilon)) < (0.1 if epsilon else 1e-9)


def test_its_gradient_is_that_of_the_step_by_step_loop():
    """Where the choice is made inside the differentiated function, by numbers drawn alike."""
    names = page()
    params, text, key = names["weights"], names["text"], jax.random.key(3)
    truth, targets, cell = text[:-1], text[1:], names["speller"]
    k_coins, k_choices = jax.random.split(key)
    coins = jax.random.bernoulli(k_coins, 0.5, truth.shape).at[0].set(True)
    sample = jaxrnn.streams.Categorical()

    def plain(params: Any) -> Any:
        carry, token, total = cell.initial_carry(params["rnn"], (truth.shape[1], 4)), truth[0], 0.0
        for t, coin in enumerate(coins):
            x = params["embedding"][jnp.where(coin, truth[t], token)]
            carry, y = jaxrnn.step(cell, params["rnn"], carry, x)
            logits = y @ params["w"]
            log_p = jax.nn.log_softmax(logits)
            total -= jnp.mean(jnp.take_along_axis(log_p, targets[t][:, None], axis=-1))
            token = sample(jax.random.fold_in(k_choices, t), logits)
        return total / len(truth)

    wanted = jax.jit(jax.value_and_grad(plain))(params)
    assert_close(names["loss_and_gradient"](params, text, 0.5, key), wanted, 1e-5)
    assert abs(names["loss"](params, truth, targets) - wanted[0]) > 1e-3  # not teacher forcing
