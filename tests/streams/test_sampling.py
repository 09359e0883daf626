"""How symbols are drawn: temperature, `top_k`, `top_p`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.streams import Categorical
from tests.support.helpers import assert_close, assert_equal


def test_top_k_leaves_only_so_many():
    logits = jnp.arange(6.0)
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = jax.vmap(lambda key: Categorical(5.0, top_k=2)(key, logits))(keys)
    assert set(np.asarray(drawn).tolist()) == {4, 5}
    assert set(
        np.asarray(jax.vmap(lambda key: Categorical(5.0)(key, logits))(keys)).tolist()
    ) == set(range(6))


def in_nucleus(probabilities: list[float], top_p: float) -> set[int]:
    """By hand: the likeliest, until they are enough."""
    chosen, total = set(), 0.0
    for k in np.argsort(-np.array(probabilities), kind="stable"):
        if total >= top_p:
            break
        chosen.add(int(k))
        total += probabilities[k]
    return chosen


def test_a_nucleus_has_enough_and_no_more():
    """Of three rows, one of them with ties, at every `top_p` and with `top_k`; one program."""
    rows = [[0.1, 0.5, 0.05, 0.3, 0.05], [0.2] * 5, [0.9, 0.025, 0.025, 0.025, 0.025]]
    logits, keys = jnp.log(jnp.array(rows)), jax.random.split(jax.random.key(0), 400)
    draw: Any = jax.jit(lambda sample: jax.vmap(lambda key: sample(key, logits))(keys))
    for top_p in (1e-9, 0.45, 0.55, 0.85, 0.97, 1.0):
        drawn = np.asarray(draw(Categorical(top_p=top_p)))
        for row, probabilities in enumerate(rows):
            assert set(drawn[:, row].tolist()) == in_nucleus(probabilities, top_p)
    assert draw._cache_size() == 1
    assert_equal(draw(Categorical(top_p=1.0)), draw(Categorical()))
    # 0.5 and 0.3 are 0.625 and 0.375 of what top_k leaves; at a low temperature 0.74 and 0.26
    assert set(np.asarray(draw(Categorical(top_k=2, top_p=0.63)))[:, 0].tolist()) == {1, 3}
    assert set(np.asarray(draw(Categorical(0.5, top_k=2, top_p=0.63)))[:, 0].tolist()) == {1}


def test_draws_have_their_probabilities():
    logits, temperature = jnp.array([0.0, 1.0, 2.0]), 0.7
    drawn = jax.vmap(lambda key: Categorical(temperature)(key, logits))(
        jax.random.split(jax.random.key(0), 20_000)
    )
    share = jnp.bincount(drawn, length=3) / drawn.size
    assert_close(share, jax.nn.softmax(logits / temperature), 0.02)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_logits_are_drawn_from_as_wide_ones(dtype):
    """Noise of 8 bits has ties, of which the first wins; logits over a temperature may overflow."""
    keys = jax.random.split(jax.random.key(0), 2000)
    drawn = jax.vmap(lambda key: Categorical()(key, jnp.zeros(256, dtype)))(keys)
    assert abs(jnp.mean(drawn < 128) - 0.5) < 0.05
    logits = jnp.array([30.0, 60.0, 50.0], dtype)
    assert set(jax.vmap(lambda key: Categorical(1e-4)(key, logits))(keys[:9]).tolist()) == {1}
    assert int(Categorical(1e-40)(keys[0], 1e9 * jnp.arange(3.0))) == 2


def test_a_temperature_is_positive():
    """Of any real type."""
    temperature: Any
    for temperature in (0, -1.0, np.float32(0), np.float64(-1), jnp.bfloat16(-1), np.nan, True):
        with pytest.raises(ValueError, match=r"temperature is .*, expected a positive number"):
            Categorical(temperature)
    for temperature in (1, np.float32(1), jnp.ones(()), np.int64(1)):
        assert Categorical(temperature)(jax.random.key(0), jnp.array([0.0, 99.0])) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"top_k": 0}, "top_k is 0, expected a positive integer"),
        ({"top_p": 0.0}, r"top_p is 0\.0, expected a probability in \(0, 1\]"),
        ({"top_p": np.float32(1.5)}, r"top_p is .*1\.5"),
        ({"top_p": np.nan}, "top_p is nan"),
    ],
)
def test_mistakes(wrong, message):
    with pytest.raises(ValueError, match=message):
        Categorical(**wrong)
