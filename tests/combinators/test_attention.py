"""Attention: against equations written by hand, in composition, and what it refuses."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Attention, Elman, Memory, Stack, Zoneout
from jaxrnn.combinators import Additive, Dot, General, Score
from jaxrnn.methods import BPTT, Checkpointed
from tests.support.helpers import assert_close, perturb

T, B, IN, H, PLACES, M = 5, 3, 2, 4, 6, 3
KEY = jax.random.key(0)
METHODS = {"bptt": BPTT(2), "checkpointed": Checkpointed(3), "autodiff": "autodiff"}
VALID = np.arange(PLACES) < np.array([[6], [0], [2]])
FLAGS = {
    "lengths": np.array([5, 3, 0]),
    "mask": np.arange(T * B).reshape(T, B) % 4 > 0,
    "reset": np.arange(T * B).reshape(T, B) % 5 == 2,
}


@dataclasses.dataclass(frozen=True)
class Distance(Score):
    """A score of a user: keys that are a pair, a parameter that is used pointwise."""

    def init(self, key: Any, query: int, memory: int, dtype: Any = jnp.float32) -> Any:
        return {"w": jax.random.normal(key, (memory, query), dtype), "b": jnp.ones(query, dtype)}

    def keys(self, params: Any, values: Any) -> Any:
        keys = jaxrnn.affine(None, values, params["w"])
        return keys, jnp.sum(keys**2, axis=-1)

    def __call__(self, params: Any, h: Any, keys: Any, affine: Any) -> Any:
        keys, norms = keys
        product = affine(None, h * params["b"], keys, linear=_inner)
        return 2 * product - norms


def _inner(h: Any, keys: Any) -> Any:
    return jnp.einsum("...n,...pn->...p", h, keys)


CELLS: dict[str, jaxrnn.Cell] = {
    "before": Attention(LSTM(H), Additive(5), memory=M),
    "after": Attention(GRU(H), "general", memory=M, attend="after", features=5),
    "of_a_stack": Attention(Stack([Elman(H), "relu", GRU(M)]), Dot(scaled=True)),
    "own_score": Attention(jaxrnn.LearnedCarry(Elman(H)), Distance(), memory=M),
    "around": Stack(
        [
            jaxrnn.Dropout(Zoneout(Attention(LSTM(H), General(), memory=M), h=0.3), 0.2),
            Attention(GRU(M, reset="before"), "dot", attend="after"),
        ]
    ),
}


def memory() -> Memory:
    """A memory whose padding is NaN; one row has nothing in it."""
    values = jax.random.normal(jax.random.key(7), (B, PLACES, M))
    return Memory(jnp.where(VALID[..., None], values, jnp.nan), jnp.asarray(VALID))


def problem(cell: jaxrnn.Cell) -> tuple[Any, Any, Any, Any]:
    params = perturb(cell.init(KEY, IN), 0.3, 0)
    carry = perturb(cell.initial_carry(params, (B, IN)), 0.5, 1)
    return params, jax.random.normal(jax.random.key(1), (T, B, IN)), carry, memory()


def gradients(run: Any, *given: Any) -> Any:
    """What `run(params, xs, carry, memory)` gives, and the gradients by all that is floating."""
    *start, (values, valid) = given

    def loss(params: Any, xs: Any, carry: Any, values: Any) -> Any:
        out = run(params, xs, carry, Memory(values, valid))
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

    return jax.jit(jax.grad(loss, (0, 1, 2, 3), has_aux=True))(*start, values)


def attend(scores: Any, memory: Memory) -> Any:
    """α of scores and c, where nothing is valid zero."""
    e = jnp.where(VALID, jnp.exp(scores - scores.max(-1, keepdims=True)), 0)
    total = e.sum(-1, keepdims=True)
    a = e / jnp.where(total > 0, total, 1)
    return a, jnp.einsum("bp,bpm->bm", a, memory.values)


def bahdanau(params: Any, xs: Any, carry: Any, memory: Memory) -> Any:
    """Bahdanau, Cho & Bengio (2015), equations 5 and 6 and appendix A.1.2, around an LSTM."""
    values = jnp.where(VALID[..., None], memory.values, 0)
    p, s = params.cell, params.score

    def step(carry: Any, x: Any) -> Any:
        h, c = carry
        a, seen = attend(
            jnp.tanh((h @ s.w_q)[:, None] + values @ s.w_k + s.b) @ s.v,
            Memory(values, memory.valid),
        )
        i, f, g, o = jnp.split(jnp.concatenate([x, seen], 1) @ p.w_x + h @ p.w_h + p.b, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), (h, a)

    carry, (ys, weights) = jax.lax.scan(step, tuple(carry), xs)
    return carry, ys, weights


def luong(params: Any, xs: Any, carry: Any, memory: Memory) -> Any:
    """Luong, Pham & Manning (2015), equations 5, 7 and 8 and section 3.3, around a GRU."""
    values = jnp.where(VALID[..., None], memory.values, 0)
    p = params.cell

    def step(carry: Any, x: Any) -> Any:
        h, a = carry
        u = jnp.split(jnp.concatenate([x, a], 1) @ p.w_x + p.b, 3, axis=1)
        w = jnp.split(h @ p.w_h, 3, axis=1)
        r, z = (jax.nn.sigmoid(u[k] + w[k]) for k in (0, 1))
        h = (1 - z) * jnp.tanh(u[2] + r * (w[2] + p.b_hn)) + z * h
        scores = jnp.einsum("bn,bpn->bp", h, values @ params.score.w_k)
        weights, seen = attend(scores, Memory(values, memory.valid))
        a = jnp.tanh(jnp.concatenate([seen, h], 1) @ params.w_c)
        return (h, a), (a, weights)

    carry, (ys, weights) = jax.lax.scan(step, tuple(carry), xs)
    return carry, ys, weights


@pytest.mark.parametrize(("name", "by_hand"), [("before", bahdanau), ("after", luong)])
def test_equals_one_written_by_hand(name: str, by_hand: Any) -> None:
    """Values, weights and gradients; nothing is NaN, though the padding is."""
    cell = CELLS[name]
    assert isinstance(cell, Attention)

    def run(params: Any, xs: Any, carry: Any, memory: Memory) -> Any:
        carry, ys = jaxrnn.scan(cell, params, xs, carry, context=memory, method=BPTT(2))
        states, _ = jaxrnn.trajectory(cell, params, xs, context=memory)
        return carry, ys, jaxrnn.attention_weights(cell, params, states, memory)

    params, xs, carry, context = problem(cell)
    carry = cell.initial_carry(params, (B, IN))
    got = gradients(run, params, xs, carry, context)
    expected = gradients(by_hand, params, xs, carry, context)
    # the weights of `run` are those of its own initial carry, which has no gradient there
    assert_close(got[1], expected[1], 1e-5)
    sums = np.asarray(got[1][2]).sum(-1)
    np.testing.assert_allclose(sums, np.broadcast_to([1, 0, 1], sums.shape), atol=1e-6)
    without = lambda run: lambda *given: run(*given)[:2]  # noqa: E731
    got, expected = (gradients(without(r), params, xs, carry, context) for r in (run, by_hand))
    assert_close(got[0], expected[0], 1e-5)
    np.testing.assert_array_equal(np.asarray(got[0][3])[~VALID], 0)


@pytest.mark.parametrize("name", list(CELLS))
def test_methods_agree(name: str) -> None:
    """Values and gradients as of `unroll`, with all flags and draws, walked both ways."""
    cell = CELLS[name]
    given = problem(cell)

    def run(driver: Any, reverse: bool, *given: Any) -> Any:
        *start, context = given
        key = jax.random.key(3) if cell.noisy else None
        return driver(cell, *start, context=context, key=key, reverse=reverse, **FLAGS)

    for k, method in enumerate(METHODS.values()):
        if k and name != "around":  # the others have nothing that this one lacks
            continue
        driver = partial(jaxrnn.scan, method=method)
        got, expected = (
            gradients(partial(run, d, bool(k % 2)), *given) for d in (driver, jaxrnn.unroll)
        )
        assert_close(got, expected, 1e-5)
        assert np.any(np.asarray(got[0][3]))
