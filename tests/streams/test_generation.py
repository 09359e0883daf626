"""`generate` equals stepping by hand: prompts of different lengths, stop symbols, every way to
draw.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.streams import Categorical, generation, greedy
from tests.support.helpers import assert_close, assert_equal
from tests.support.specs import some
from tests.support.user_cells import Attending

SYMBOLS, STEPS, LENGTHS = 11, 6, [3, 1, 4]
SAMPLERS = {
    "greedy": greedy,
    "temperature": Categorical(0.8),
    "top_k": Categorical(1.3, top_k=3),
    "own": lambda key, logits: jnp.argmin(logits + jax.random.normal(key, logits.shape), axis=-1),
}


@dataclasses.dataclass(frozen=True)
class Speller:
    """A cell between an embedding and a softmax."""

    cell: jaxrnn.Cell

    def step(self, params: Any, carry: Any, token: Any) -> Any:
        """Read one symbol."""
        carry, y = jaxrnn.step(self.cell, params["rnn"], carry, params["embedding"][token])
        return carry, y @ params["w"]


def build(cell: jaxrnn.Cell, in_features: int = 3) -> tuple[Any, Any, Any]:
    """A model, random parameters, and the carry of three sequences."""
    return Speller(cell), *draw(cell, in_features)


@partial(jax.jit, static_argnums=(0, 1))
def draw(cell: jaxrnn.Cell, in_features: int) -> tuple[Any, Any]:
    k_embedding, k_rnn, k_w = jax.random.split(jax.random.key(0), 3)
    params = {
        "embedding": jax.random.normal(k_embedding, (SYMBOLS, in_features)),
        "rnn": cell.init(k_rnn, in_features),
        "w": 3 * jax.random.normal(k_w, (cell.out_features, SYMBOLS)),
    }
    return params, cell.initial_carry(params["rnn"], (3, in_features))


@partial(jax.jit, static_argnums=0)
def step(model: Speller, params: Any, carry: Any, token: Any) -> Any:
    """Compiled once."""
    return model.step(params, carry, token)


def row_of(tree: Any, row: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[row], tree)


def prompts() -> Any:
    return np.random.default_rng(0).integers(0, SYMBOLS, (max(LENGTHS), 3))


def by_hand(
    model: Any, params: Any, carry: Any, prompt: Any, sample: Any, stop: Any, key: Any
) -> Any:
    """One sequence at a time reads and writes; only the draws are made for all together, as
    `generate` makes them.
    """
    rows, tokens = [], [[] for _ in LENGTHS]
    for row, length in enumerate(LENGTHS):
        own = row_of(carry, row)
        for token in prompt[: length - 1, row]:
            own, _ = step(model, params, own, token)
        rows.append((own, prompt[length - 1, row]))
    stopped = [False] * len(rows)
    for t in range(STEPS):
        after = [step(model, params, own, token) for own, token in rows]
        drawn = sample(jax.random.fold_in(key, t), np.stack([logits for _, logits in after]))
        for row, token in enumerate(np.asarray(drawn)):
            if not stopped[row]:
                rows[row] = (after[row][0], token)
                tokens[row].append(int(token))
                stopped[row] = int(token) in stop
    return tokens, [own for own, _ in rows]


@pytest.mark.parametrize("stop", [(), (2, 7)], ids=["no stop", "stop"])
@pytest.mark.parametrize("sample", SAMPLERS.values(), ids=SAMPLERS)
def test_equals_stepping_by_hand(sample, stop):
    model, params, carry = build(jaxrnn.Stack([jaxrnn.LSTM(8), jaxrnn.GRU(8)]))
    key = jax.random.key(1)
    out = jaxrnn.generate(
        model.step,
        params,
        carry,
        prompts(),
        steps=STEPS,
        lengths=np.array(LENGTHS),
        sample=sample,
        stop=stop,
        key=key,
    )
    tokens, carries = by_hand(model, params, carry, prompts(), sample, stop, key)
    assert out.lengths.tolist() == [len(row) for row in tokens]
    for row, written in enumerate(tokens):
        rest = [written[-1]] * (STEPS - len(written))
        assert np.asarray(out.tokens)[:, row].tolist() == written + rest
        assert_close(row_of(out.carry, row), carries[row], 1e-6)


def test_some_stop_and_some_do_not():
    """So the test above with stop symbols sees both."""
    model, params, carry = build(jaxrnn.Stack([jaxrnn.LSTM(8), jaxrnn.GRU(8)]))
    arguments = {
        "steps": STEPS,
        "lengths": np.array(LENGTHS),
        "stop": (2, 7),
        "key": jax.random.key(1),
    }
    lengths = [
        jaxrnn.generate(model.step, params, carry, prompts(), sample=s, **arguments).lengths
        for s in SAMPLERS.values()
    ]
    assert np.min(lengths) < STEPS == np.max(lengths)


@some("elman_tanh", "lstm_chrono", "stack_connected", "user_deep_transition")
def test_in_two_goes_and_alone(spec):
    model, params, carry = build(spec.cell, spec.in_features)
    prompt = prompts()
    out = jaxrnn.generate(model.step, params, carry, prompt, steps=STEPS)
    half = jaxrnn.generate(model.step, params, carry, prompt, steps=STEPS // 2)
    rest = jaxrnn.generate(
        model.step, params, half.carry, half.tokens[-1:], steps=STEPS - STEPS // 2
    )
    assert_equal(np.concatenate([half.tokens, rest.tokens]), out.tokens)
    assert_close(rest.carry, out.carry, 1e-6)
    alone = jaxrnn.generate(model.step, params, row_of(carry, 1), prompt[:, 1], steps=STEPS)
    assert_equal(alone.tokens, np.asarray(out.tokens)[:, 1])


def test_signals_are_fed_back():
    """A forecaster reads its own outputs."""
    cell, rng = jaxrnn.GRU(3), np.random.default_rng(1)
    xs = rng.normal(size=(5, 2, 3)).astype(np.float32)
    params, carry = jax.tree.map(
        np.asarray, (draw(cell, 3)[0]["rnn"], np.zeros((2, 3), np.float32))
    )
    out = jaxrnn.generate(
        partial(jaxrnn.step, cell), params, carry, xs, steps=4, sample=lambda key, y: y
    )

    @jax.jit
    def by_scan_and_step(params: Any, xs: Any) -> Any:
        carry, ys = jaxrnn.scan(cell, params, xs)
        written = [ys[-1]]
        for _ in range(3):
            carry, y = jaxrnn.step(cell, params, carry, written[-1])
            written.append(y)
        return jnp.stack(written)

    assert_close(out.tokens, by_scan_and_step(params, xs), 1e-6)


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
def test_inputs_context_and_outputs(ragged):
    """What is known of each step, what stays the same, and what the model gave, as `unroll` has
    them over all that was read.
    """
    cell, rng = Attending(4), np.random.default_rng(0)
    params = jax.jit(cell.init, static_argnums=1)(jax.random.key(0), 3)
    inner = rng.normal(size=(4, 2)).astype(np.float32)
    scan = jax.jit(partial(jaxrnn.scan, cell))

    def model(params: Any, carry: Any, value: Any, known: Any, *, context: Any) -> Any:
        x = jnp.concatenate([value, known["day"][..., None]], axis=-1)
        carry, y = jaxrnn.step(cell, params, carry, x, context=context)
        return carry, {"mean": y @ inner, "y": y}

    lengths = np.array(LENGTHS if ragged else [4, 4, 4])
    values = rng.normal(size=(4, 3, 2)).astype(np.float32)
    days = rng.normal(size=(4 - 1 + STEPS, 3)).astype(np.float32)
    context = rng.normal(size=(3, 2, 3)).astype(np.float32), rng.random((3, 2)) < 0.8
    carry = cell.initial_carry(params, (3, 3))
    options: Any = {"inputs": {"day": days}, "context": context, "keep": True}
    options |= {"lengths": lengths} if ragged else {}
    out = jaxrnn.generate(
        model, params, carry, values, steps=STEPS, sample=lambda key, y: y["mean"], **options
    )
    out = jax.tree.map(np.asarray, out)
    for k, length in enumerate(lengths):
        read = np.concatenate([values[:length, k], out.tokens[:-1, k]])
        xs = np.concatenate([read, days[: len(read), k, None]], axis=-1)
        after, ys = map(np.asarray, scan(params, xs, context=row_of(context, k)))
        assert_close(out.outputs["y"][:, k], ys[length - 1 :], 1e-5)
        assert_close(out.outputs["mean"][:, k], ys[length - 1 :] @ inner, 1e-5)
        assert_equal(out.outputs["mean"][:, k], out.tokens[:, k])
        assert_close(out.carry[k], after, 1e-5)


def test_kept_logits_are_those_that_were_drawn_from():
    """And zero after the end, where tokens are the last one again."""
    model, params, carry = build(jaxrnn.GRU(8))
    options: Any = {"steps": STEPS, "lengths": np.array(LENGTHS), "stop": (2, 7)}
    out = jaxrnn.generate(model.step, params, carry, prompts(), keep=True, **options)
    less = jaxrnn.generate(model.step, params, carry, prompts(), **options)
    assert less.outputs is None
    assert_equal(tuple(less[:3]), tuple(out[:3]))
    written = np.arange(STEPS)[:, None] < np.asarray(out.lengths)
    assert 0 < written.sum() < written.size
    likeliest = np.argmax(out.outputs, axis=-1).astype(np.int32)
    assert_equal(likeliest[written], np.asarray(out.tokens)[written])
    assert not np.any(np.asarray(out.outputs)[~written])


def test_one_program():
    """For every temperature, key, stop symbol and length of a prompt."""
    model, params, carry = build(jaxrnn.GRU(8))
    program: Any = generation._generate
    before = program._cache_size()
    for k in range(4):
        lengths, sample = np.array([1, 2, 1 + k]), Categorical(0.5 + k, top_k=4)
        jaxrnn.generate(
            model.step,
            params,
            carry,
            prompts(),
            steps=3,
            lengths=lengths,
            sample=sample,
            stop=[k],
            key=jax.random.key(k),
        )
    assert program._cache_size() == before + 1


def test_a_carry_of_another_width_is_widened():
    """As `jaxrnn.step` widens it."""
    model, params, carry = build(jaxrnn.GRU(8))
    narrow = carry.astype(jnp.bfloat16)
    out = jaxrnn.generate(model.step, params, narrow, prompts(), steps=STEPS)
    wide = narrow.astype(jnp.float32)
    assert_equal(out, jaxrnn.generate(model.step, params, wide, prompts(), steps=STEPS))

    def narrowing(params: Any, carry: Any, token: Any) -> Any:
        carry, logits = model.step(params, carry, token)
        return carry.astype(jnp.bfloat16), logits

    with pytest.raises(TypeError, match=r"returns is .*bfloat16.*, expected the dtypes of float32"):
        jaxrnn.generate(narrowing, params, wide, prompts(), steps=STEPS)
    jaxrnn.generate(narrowing, params, narrow, prompts(), steps=STEPS)
    with jax.disable_jit():
        got = jaxrnn.generate(model.step, params, np.zeros((3, 8)), prompts()[:2], steps=1)
    assert got.carry.dtype == jnp.float32


def test_over_devices():
    """Under `jax.shard_map` each device writes its own sequences."""
    model, params, carry = build(jaxrnn.GRU(8))
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = jax.P(None, "d"), jax.P()

    def write(params: Any, carry: Any, prompt: Any, lengths: Any, key: Any) -> tuple[Any, ...]:
        options: Any = {"steps": STEPS, "stop": (2, 7), "sample": Categorical(0.8)}
        options |= {"lengths": lengths, "key": key}
        return tuple(jaxrnn.generate(model.step, params, carry, prompt, **options))

    arguments = (params, carry, prompts(), np.array(LENGTHS), jax.random.key(1))
    mapped = jax.shard_map(
        write,
        mesh=mesh,
        in_specs=(whole, jax.P("d"), split, jax.P("d"), whole),
        out_specs=(split, jax.P("d"), jax.P("d"), split),
    )
    assert_equal(jax.jit(mapped)(*arguments), write(*arguments))


def test_strict_promotion():
    """With lengths and tokens of any integer dtype."""
    model, params, carry = build(jaxrnn.GRU(8))
    temperature: Any = np.float32(0.8)
    options: Any = {"steps": STEPS, "stop": (2, 7), "sample": Categorical(temperature)}
    options |= {"key": jax.random.key(1), "lengths": np.array(LENGTHS)}
    wanted = jaxrnn.generate(model.step, params, carry, prompts(), **options)
    with jax.numpy_dtype_promotion("strict"):
        for dtype in (np.uint8, np.int16):
            prompt, options["lengths"] = prompts().astype(dtype), np.array(LENGTHS, dtype)
            out = jaxrnn.generate(model.step, params, carry, prompt, **options)
            assert_equal(tuple(out), tuple(wanted))


def test_a_narrow_prompt_does_not_bound_the_symbols():
    """Bytes, and an end that is none of them."""

    def count(params: Any, carry: Any, token: Any) -> Any:
        return carry, jax.nn.one_hot(jnp.minimum(token + 1, 256), 257)

    prompt = jnp.array([253], jnp.uint8)
    out = jaxrnn.generate(count, None, None, prompt, steps=5, stop=[256])
    assert out.tokens.tolist() == [254, 255, 256, 256, 256]
    with pytest.raises(TypeError, match=r"token that sample returns is float32, expected .* int32"):
        jaxrnn.generate(count, None, None, prompt, steps=1, sample=lambda key, y: y[0])
    flat, zeros = (lambda params, carry, token: (carry, 1.0)), lambda key, y: jnp.zeros(3, int)
    with pytest.raises(ValueError, match=r"keep=True, outputs has shape \(\), expected \[\*batch"):
        jaxrnn.generate(flat, None, None, zeros(0, 0)[None], steps=3, sample=zeros, keep=True)


def wider(params: Any, carry: Any, token: Any) -> Any:
    carry, logits = Speller(jaxrnn.GRU(8)).step(params, carry, token)
    return jnp.concatenate([carry, carry], axis=-1), logits


def call(**options: Any) -> Any:
    model, params, carry = build(jaxrnn.GRU(8))
    given = {"model": model.step, "carry": carry, "prompt": prompts(), "steps": 3, **options}
    return jaxrnn.generate(params=params, **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0, expected a positive integer"),
        (
            {"prompt": prompts()[:0]},
            r"prompt has shape \(0, 3\), expected \[time, \*batch\] with at least one token",
        ),
        (
            {"lengths": np.array([1, 2])},
            r"lengths has shape \(2,\), expected \[\*batch\] = \(3,\) "
            r"for a prompt of shape \(4, 3\)",
        ),
        (
            {"lengths": np.array([0, 2, 3])},
            "lengths go from 0 to 3, expected 1 to 4, .* steps; begin every prompt with a symbol",
        ),
        ({"lengths": np.array([1, 2, 5])}, "lengths go from 1 to 5, expected 1 to 4"),
        (
            {"prompt": prompts()[:, :2]},
            r"carry has shape \(3, 8\), expected \[\*batch, \.\.\.\] "
            r"with \[\*batch\] = \(2,\), as in the prompt",
        ),
        (
            {"inputs": np.ones((6, 2))},
            r"generate: inputs has shape \(6, 2\), expected \[time - 1 \+ steps, \*batch, .* "
            r"with \(6, 3\); pass one row for each token of the prompt",
        ),
        ({"context": [np.ones(2)]}, r"generate: context\[0\] has shape \(2,\), expected"),
        ({"keep": "no"}, "generate: keep is 'no', expected True or False"),
        ({"sample": Categorical(1.0)}, r"key is None, expected .*; pass key=jax\.random\.key\(0\)"),
        (
            {"sample": lambda key, logits: logits},
            r"the token that sample returns is .*, expected the form of int32\[3\], its input",
        ),
        (
            {"model": lambda params, carry, token: carry},
            r"generate: model returns arrays of shape \(3, 8\), expected .* \(carry, outputs\)",
        ),
        (
            {"carry": None},
            r"carry that the model returns is .*, expected the form of None, its input; begin with",
        ),
        (
            {"model": wider},
            r"the carry that the model returns is .*, expected the form of float32\[3,8\]",
        ),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        call(**options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lengths": np.ones(3)}, "lengths has dtype float"),
        (
            {"model": type("Mutable", (), {"__call__": Speller.step, "__hash__": None})()},
            r"expected a hashable one; pass a function",
        ),
        ({"stop": 2}, r"generate: stop is 2, expected a sequence of symbols.*; pass \[2\]"),
        ({"stop": "."}, r"generate: stop is '\.', expected a sequence of symbols"),
        ({"stop": [2.5]}, r"generate: stop is \[2\.5\], expected a sequence of symbols"),
        ({"sample": "greedy"}, r"generate: sample is 'greedy', expected .*; pass greedy"),
        ({"sample": Categorical}, r"sample is .*Categorical.*; .* construct Categorical\(\)"),
        ({"sample": lambda logits: logits}, r"expected a function sample\(key, outputs\)"),
    ],
)
def test_wrong_types(wrong, message):
    with pytest.raises(TypeError, match=message):
        call(**wrong)
