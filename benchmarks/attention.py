"""A decoder that attends, beside the same written by hand in `lax.scan`."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

import jaxrnn
from benchmarks.comparison import Comparison
from benchmarks.measure import normal, training_step
from benchmarks.plan import Attended
from benchmarks.sides import STEPS, drawn, zero_carry

SCORES = ("general", "dot", "additive")


def attention_by_hand(params: Any, xs: Array, memory: Array) -> Array:
    """The outputs of an LSTM that attends before each step, by the dot product if its score has no
    parameters, else by a general or an additive one.
    """
    cell: Any = params.inner
    score: Any = params.score
    if hasattr(score, "v"):
        keys = memory @ score.w_k + score.b
    else:
        keys = memory if score is None else memory @ score.w_k
    scores_of = partial(_scores, score, keys)

    def body(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        h, _ = carry
        seen = jnp.einsum("bp,bpn->bn", jax.nn.softmax(scores_of(h)), memory)
        z = jnp.concatenate([x, seen], axis=-1) @ cell.w_x + cell.b
        return STEPS["LSTM"](cell, carry, z)

    return lax.scan(body, zero_carry("LSTM", cell, xs.shape[1:-1]), xs)[1]


def _scores(score: Any, keys: Array, h: Array) -> Array:
    """Of each place, `[batch, places]`."""
    if hasattr(score, "v"):
        return jnp.tanh((h @ score.w_q)[:, None] + keys) @ score.v
    return jnp.einsum("bn,bpn->bp", h, keys)


def attention(score: str, sizes: Attended) -> Comparison:
    """A training step: outputs, and the gradients of parameters, inputs and memory."""
    batch, time, places, hidden = sizes
    cell = jaxrnn.Attention(jaxrnn.LSTM(hidden), score)
    xs, dys = (normal(seed, time, batch, hidden) for seed in (1, 2))
    # small: where scores are large, a softmax of float32 multiplies their errors
    memory = 0.25 * normal(3, batch, places, hidden)

    def ours(given: Any, xs: Array) -> Array:
        params, memory = given
        return jaxrnn.scan(cell, params, xs, context=jaxrnn.Memory(memory))[1]

    def by_hand(given: Any, xs: Array) -> Array:
        params, memory = given
        return attention_by_hand(params, xs, memory)

    given = ((drawn(cell, hidden), memory), xs, dys)
    return Comparison(
        f"{score}, batch {batch}, {time} steps, {places} places, hidden {hidden}",
        {"jaxrnn": (training_step(ours), given), "by hand": (training_step(by_hand), given)},
    )
