"""Attention: against equations written by hand, in composition, and what it refuses."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import GRU, LSTM, Attention, Elman, Memory, Stack, Zoneout
from jaxrnn._flax.names import nested
from jaxrnn.combinators import Additive, Dot, General, Score
from jaxrnn.methods import BPTT, Checkpointed
from tests.support.helpers import assert_close, perturb

T, B, IN, H, PLACES, M = 5, 3, 2, 4, 6, 3
KEY = jax.random.key(0)
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
    "around": jaxrnn.Dropout(Zoneout(Attention(Elman(M), General()), h=0.3), 0.2),
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
    p, s = params.inner, params.score

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
    p = params.inner

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
        carried, ys = jaxrnn.scan(cell, params, xs, carry, context=memory, method=BPTT(2))
        states, _ = jaxrnn.trajectory(cell, params, xs, carry, context=memory)
        weights = jaxrnn.attention_weights(cell, params, states, memory)
        return carried, ys, weights

    given = problem(cell)
    got, expected = (gradients(r, *given) for r in (run, by_hand))
    assert_close(got, expected, 1e-5)
    np.testing.assert_array_equal(np.asarray(got[0][3])[~VALID], 0)
    sums = np.asarray(got[1][2]).sum(-1)
    np.testing.assert_allclose(sums, np.broadcast_to([1, 0, 1], sums.shape), atol=1e-6)


def with_flags(name: str, driver: Any, reverse: bool) -> Any:
    """Outputs and gradients with all flags and draws."""
    cell = CELLS[name]

    def run(params: Any, xs: Any, carry: Any, memory: Memory) -> Any:
        key = jax.random.key(3) if cell.noisy else None
        return driver(cell, params, xs, carry, context=memory, key=key, reverse=reverse, **FLAGS)

    return gradients(run, *problem(cell))


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("around", (Checkpointed(3), "autodiff")),
        ("of_a_stack", (BPTT(2, keep="preactivations"),)),
        ("own_score", (BPTT(2, keep="carries"),)),
    ],
)
def test_methods_agree(name: str, methods: tuple[Any, ...]) -> None:
    reverse = name == "of_a_stack"
    expected = with_flags(name, jaxrnn.unroll, reverse)
    assert np.any(np.asarray(expected[0][3]))
    for method in methods:
        got = with_flags(name, partial(jaxrnn.scan, method=method), reverse)
        assert_close(got, expected, 1e-5)


def test_large_keys_are_added_up_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their gradients are the same as those that are collected after it."""
    expected = with_flags("own_score", jaxrnn.scan, False)
    monkeypatch.setattr("jaxrnn.methods.bptt.plan.MOST_NUMBERS_POINTWISE", 0)
    assert_close(
        with_flags("own_score", partial(jaxrnn.scan, method=BPTT(3)), False), expected, 1e-5
    )


def test_in_composition(tmp_path: Path) -> None:
    """Single steps, a map over sequences, other batch axes, both homes, a file, a program."""
    cell = Attention(GRU(H), Additive(5), memory=M)
    params, xs, _, context = problem(cell)
    carry, ys = jaxrnn.scan(cell, params, xs, context=context)
    h = cell.initial_carry(params, (B, IN))
    for x in xs:
        h, y = jaxrnn.step(cell, params, h, x, context=context)
    assert_close((h, y), (carry, ys[-1]), 1e-5)
    run = lambda x, memory: jaxrnn.scan(cell, params, x, context=memory)[1]  # noqa: E731
    assert_close(jax.vmap(run, (1, 0), 1)(xs, context), ys, 1e-5)
    more: Any = jax.tree.map(lambda leaf: leaf[None, :], context)
    assert_close(run(xs[:, None], more)[:, 0], ys, 1e-5)
    outputs: Any = jaxrnn.linen.RNN(cell, time_major=True).apply(
        {"params": nested(params)}, xs, context=context
    )
    assert_close(outputs[1], ys, 1e-5)
    home = jaxrnn.nnx.RNN.from_params(cell, params, time_major=True)
    assert_close(home(xs, context=context)[1], ys, 1e-5)
    (rows,) = export.symbolic_shape("batch")
    forms = (
        jax.ShapeDtypeStruct((T, rows, IN), xs.dtype),
        jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype), context
        ),
    )
    written = export.export(jax.jit(run))(*forms).serialize()
    assert_close(export.deserialize(written).call(xs, context), ys, 1e-5)
    jaxrnn.save(tmp_path / "cell", cell, params)
    assert jaxrnn.load(tmp_path / "cell")[0] == cell
    roles = jaxrnn.labels(cell, params)
    assert (roles.inner.w_x, roles.score.w_q, roles.score.b) == ("input", "attention", "bias")
    assert cell.in_features(params) == IN


def test_half_precision() -> None:
    """Under strict promotion, with weights, inputs and memory of their own dtypes."""
    cell = Attention(LSTM(H), "general", memory=M, attend="after")
    params = cell.init(KEY, IN, jnp.bfloat16)
    context = Memory(jnp.ones((B, PLACES, M), jnp.float16), jnp.asarray(VALID))
    with jax.numpy_dtype_promotion("strict"):
        carry, ys = jaxrnn.scan(cell, params, jnp.ones((T, B, IN), jnp.bfloat16), context=context)
    assert (carry.attended.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)
    assert np.all(np.isfinite(np.asarray(ys, np.float32)))


def test_what_does_not_fit_is_refused() -> None:
    gru = GRU(H)
    for make, message in (
        (lambda: Attention(gru, "aditive"), "score is 'aditive', expected one of"),
        (lambda: Attention(gru, Additive), "score is the class Additive, expected"),  # type: ignore[arg-type]
        (lambda: Attention(gru, attend="during"), "attend is 'during', expected"),  # type: ignore[arg-type]
        (lambda: Attention(gru, memory=0), "memory is 0, expected a positive"),
        (lambda: Attention(gru, features=3), 'features is 3.*use attend="after"'),
        (lambda: Attention(jaxrnn.Bidirectional(gru)), "Bidirectional, which needs later inputs"),
        (lambda: Attention(Zoneout(gru, h=0.1)), r"draws .*; put it around: Zoneout\(Att"),
        (lambda: Attention(Attention(gru)), "which takes a context itself"),
        (lambda: Attention(gru, "dot", memory=3).init(KEY, IN), "state has 4.*memory 3.*general"),
        (lambda: Attention(jaxrnn.Dense(4)).init(KEY, IN), "the carry of Dense has no part h"),
        (
            lambda: Attention(Stack([gru, jaxrnn.Jordan(hidden=4, features=2, decay=0.5)])).init(
                KEY, IN
            ),
            "the carry of Stack has no part h",
        ),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            make()
    cell = Attention(gru, memory=M)
    params, xs = cell.init(KEY, IN), jnp.ones((T, B, IN))
    values = memory().values
    for context, message in (
        (values, r"context is an array, expected jaxrnn.Memory\(values, valid\)"),
        (Memory(values[..., :2]), r"values has shape \(3, 6, 2\), expected.*places, 3.*memory="),
        (Memory(values[:, 0]), r"values has shape \(3, 3\), expected \[\*batch, places, 3\]"),
        (Memory(values, jnp.ones((B, 2), bool)), r"valid is bool\[3, 2\], expected bool\[3, 6\]"),
        (Memory(values, jnp.ones((B, PLACES))), "valid is float32"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            jaxrnn.scan(cell, params, xs, context=context)
    with pytest.raises(TypeError, match="attention_weights: cell is a GRU, expected"):
        jaxrnn.attention_weights(gru, params, xs, memory())  # type: ignore[arg-type]
