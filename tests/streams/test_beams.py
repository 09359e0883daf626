"""`beam_search` against a list of all sequences, against `greedy`, and against itself."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

import jaxrnn
from jaxrnn.streams import beams
from tests.support.helpers import assert_close, assert_equal
from tests.support.user_cells import Attending

SYMBOLS, STEPS, LENGTHS, STOP = 4, 4, [3, 1, 2], (0, 3)
ALL = SYMBOLS**STEPS
PROMPT = np.random.default_rng(0).integers(0, SYMBOLS, (max(LENGTHS), 3))
LOG_2 = np.log(2)
SPELLER = jaxrnn.LSTM(5)
DECODER = Attending(5)


def speller(params: Any, carry: Any, token: Any) -> Any:
    """Read one symbol; the carry is a pair."""
    carry, y = jaxrnn.step(SPELLER, params["rnn"], carry, params["embedding"][token])
    return carry, 2 * y @ params["w"]


def decoder(params: Any, carry: Any, token: Any, inputs: Any, *, context: Any) -> Any:
    """Read one symbol and a hint, look at a memory."""
    x = params["embedding"][token] + inputs[..., None]
    carry, y = jaxrnn.step(DECODER, params["rnn"], carry, x, context=context)
    return carry, 2 * y @ params["w"]


@partial(jax.jit, static_argnums=0)
def build(cell: Any, seed: int = 0) -> tuple[Any, Any]:
    """Parameters, and the carry of three sequences."""
    k_embedding, k_rnn, k_w = jax.random.split(jax.random.key(seed), 3)
    params = {
        "embedding": 2 * jax.random.normal(k_embedding, (SYMBOLS, 5)),
        "rnn": cell.init(k_rnn, 5),
        "w": 2 * jax.random.normal(k_w, (5, SYMBOLS)),
    }
    return params, cell.initial_carry(params["rnn"], (3, 5))


def _listed(model: Any, params: Any, carry: Any, prompt: Any, more: Any) -> Any:
    """The log-probability of each symbol of every sequence of `STEPS` symbols, after one prompt:
    `[STEPS, ALL]`. `more(k)` is what the model gets besides, when it reads token k.
    """
    written = jnp.array(list(itertools.product(range(SYMBOLS), repeat=STEPS))).T
    read = jnp.concatenate([jnp.broadcast_to(prompt[:, None], (len(prompt), ALL)), written])

    def repeated(leaf: Any) -> Any:
        return jnp.broadcast_to(leaf, (ALL, *leaf.shape))

    carry, rows = jax.tree.map(repeated, carry), []
    for k, token in enumerate(read[:-1]):
        inputs, context = more
        given = () if inputs is None else (inputs[k],)
        named = {} if context is None else {"context": jax.tree.map(repeated, context)}
        carry, logits = model(params, carry, token, *given, **named)
        log_p = jax.nn.log_softmax(logits)
        rows.append(jnp.take_along_axis(log_p, read[k + 1][:, None], axis=1)[:, 0])
    return written, jnp.stack(rows[len(prompt) - 1 :])


listed: Any = jax.jit(_listed, static_argnums=0)


def ranked(written: Any, each: Any, stop: Any, penalty: float) -> list[tuple[float, Any, int]]:
    """All answers by score: the log-probability, the tokens, and how many there are."""
    answers = {}
    for tokens, log_p in zip(written.T.tolist(), each.T.tolist(), strict=True):
        ends = [k for k, token in enumerate(tokens) if token in stop]
        length = ends[0] + 1 if ends else STEPS
        answers[tuple(tokens[:length])] = sum(log_p[:length])
    by_score = sorted(answers.items(), key=lambda a: -a[1] / ((5 + len(a[0])) / 6) ** penalty)
    return [(log_p, [*a, *[a[-1]] * (STEPS - len(a))], len(a)) for a, log_p in by_score]


def row(tree: Any, k: int) -> Any:
    """One sequence's part."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[k], tree)


def tokens_of(out: Any) -> np.ndarray:
    return np.asarray(out.tokens)


def test_a_search_that_drops_nothing_is_exact():
    """With prompts of different lengths; the list holds what has stopped and what has not, and the
    penalty changes its order.
    """
    params, carry = build(SPELLER)
    options: Any = {"steps": STEPS, "width": ALL, "lengths": np.array(LENGTHS), "best": 5}
    kinds, orders = set(), []
    for penalty in (0.0, 1.0):
        options |= {"stop": STOP, "length_penalty": penalty}
        out = jaxrnn.beam_search(speller, params, carry, PROMPT, **options)
        for k, length in enumerate(LENGTHS):
            written, each = listed(speller, params, row(carry, k), PROMPT[:length, k], (None, None))
            wanted = ranked(written, each, STOP, penalty)[:5]
            assert tokens_of(out)[:, k].T.tolist() == [tokens for _, tokens, _ in wanted]
            assert row(out.lengths, k).tolist() == [length for _, _, length in wanted]
            log_p = np.array([log_p for log_p, _, _ in wanted])
            assert_close(row(out.log_probabilities, k), log_p, 1e-5)
            kinds |= {(length == STEPS, tokens[-1] in STOP) for _, tokens, length in wanted}
        orders.append(out.tokens.tolist())
    assert orders[0] != orders[1]
    assert {(False, True), (True, False), (True, True)} == kinds


def looking() -> tuple[Any, Any]:
    """A context with padding, and inputs for each token that is read."""
    rng = np.random.default_rng(1)
    memory = rng.normal(size=(3, 2, 5)).astype(np.float32)
    inputs = rng.normal(size=(len(PROMPT) - 1 + STEPS, 3)).astype(np.float32)
    return (memory, np.array([[True, True], [True, False], [False, True]])), inputs


def test_what_a_decoder_looks_at():
    """Each beam gets the context and the inputs of its own sequence."""
    (params, carry), (context, inputs) = build(DECODER), looking()
    options: Any = {"steps": STEPS, "width": ALL, "stop": STOP, "best": 3}
    options |= {"lengths": np.array(LENGTHS), "inputs": inputs, "context": context}
    out = jaxrnn.beam_search(decoder, params, carry, PROMPT, **options)
    for k, length in enumerate(LENGTHS):
        more = inputs[:, k], row(context, k)
        written, each = listed(decoder, params, row(carry, k), PROMPT[:length, k], more)
        wanted = ranked(written, each, STOP, 0.0)[:3]
        assert tokens_of(out)[:, k].T.tolist() == [tokens for _, tokens, _ in wanted]
        log_p = np.array([log_p for log_p, _, _ in wanted])
        assert_close(row(out.log_probabilities, k), log_p, 1e-5)


def test_over_devices_and_alone():
    """Under `jax.shard_map` each device searches for its own sequences; under `jax.vmap` each
    sequence is searched for by itself. Neither changes anything.
    """
    (params, carry), (context, inputs) = build(DECODER), looking()
    options: Any = {"steps": STEPS, "width": 3, "best": 2, "stop": STOP, "length_penalty": 0.6}

    def search(carry: Any, prompt: Any, lengths: Any, inputs: Any, context: Any) -> Any:
        given = {"lengths": lengths, "inputs": inputs, "context": context}
        return tuple(jaxrnn.beam_search(decoder, params, carry, prompt, **given, **options))

    arguments = carry, PROMPT, np.array(LENGTHS), inputs, context
    wanted = search(*arguments)
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, later = jax.P("d"), jax.P(None, "d")
    specs = {"in_specs": (rows, later, rows, later, rows), "out_specs": (later, rows, rows)}
    assert_equal(jax.jit(jax.shard_map(search, mesh=mesh, **specs))(*arguments), wanted)
    alone = jax.vmap(search, in_axes=(0, 1, 0, 1, 0), out_axes=(1, 0, 0))(*arguments)
    assert_equal(alone[:2], wanted[:2])
    assert_close(alone[2], wanted[2], 1e-5)


spell = jax.jit(speller)


def by_hand(params: Any, carry: Any, prompt: Any, width: int, stop: Any) -> Any:
    """One sequence after the other, in plain lists."""
    for token in prompt[:-1]:
        carry, _ = spell(params, carry, token)
    live, done = [(0.0, [], carry, prompt[-1])], []
    for _ in range(STEPS):
        longer = []
        for log_p, tokens, own, last in live:
            own, logits = spell(params, own, last)
            for token, more in enumerate(log_softmax(np.asarray(logits))):
                longer.append((log_p + more, [*tokens, token], own, token))
        longer.sort(key=lambda beam: -beam[0])
        done += [beam for beam in longer[:width] if beam[3] in stop]
        live = [beam for beam in longer if beam[3] not in stop][:width]
    best = max(done + live, key=lambda beam: beam[0])
    return best[1], best[0]


def test_narrow_searches_and_one_program():
    """As by hand; a width of 1 is greedy. No length, penalty or symbol compiles anew."""
    program: Any = beams._search
    misses = 0
    for width in (1, 2):
        before = program._cache_size()
        for seed in range(4):
            params, carry = build(SPELLER, seed)
            stop = (seed % SYMBOLS, 3)
            options: Any = {"steps": STEPS, "stop": stop, "lengths": np.array(LENGTHS)}
            out = jaxrnn.beam_search(speller, params, carry, PROMPT, width=width, **options)
            greedy = jaxrnn.generate(speller, params, carry, PROMPT, **options)
            if width == 1:
                assert_equal(tokens_of(out)[..., 0], greedy.tokens)
                assert_equal(np.asarray(out.lengths)[..., 0], greedy.lengths)
            misses += np.sum(np.any(tokens_of(out)[..., 0] != tokens_of(greedy), axis=0))
            for k, length in enumerate(LENGTHS):
                tokens, log_p = by_hand(params, row(carry, k), PROMPT[:length, k], width, stop)
                got = tokens_of(out)[: np.asarray(out.lengths)[k, 0], k, 0]
                assert got.tolist() == tokens
                assert_close(row(out.log_probabilities, k)[0], log_p, 1e-5)
            jaxrnn.beam_search(
                speller, params, carry, PROMPT, width=width, length_penalty=seed + 0.5, **options
            )
        assert program._cache_size() == before + 1
    assert misses  # greedy is not always right


def test_it_ends_when_nothing_better_can_come():
    """A stop that is certain leaves nothing to look for."""
    read = []

    def certain(params: Any, carry: Any, token: Any) -> Any:
        jax.debug.callback(lambda _: read.append(1), token)
        return carry, 50 * jax.nn.one_hot(jnp.ones_like(token), SYMBOLS)

    prompt = jnp.zeros((1, 2), jnp.int32)
    options: Any = {"steps": 90, "width": 2, "stop": [1]}
    out = jaxrnn.beam_search(certain, None, None, prompt, best=1, **options)
    jax.effects_barrier()
    assert out.lengths.tolist() == [[1], [1]]
    assert out.tokens.shape == (90, 2, 1)
    assert 1 <= len(read) <= 4


def test_fewer_sequences_than_asked_for():
    def model(params: Any, carry: Any, token: Any) -> Any:
        return carry, jnp.zeros((*token.shape, 2))

    options: Any = {"steps": 1, "width": 3, "stop": (), "best": 3}
    out = jaxrnn.beam_search(model, None, None, jnp.zeros((1,), jnp.int32), **options)
    assert out.lengths.tolist() == [1, 1, 0]
    np.testing.assert_allclose(out.log_probabilities, np.array([-LOG_2, -LOG_2, -np.inf]), 1e-6)


def test_strict_promotion_and_narrow_logits():
    def model(params: Any, carry: Any, token: Any) -> Any:
        logits = jax.nn.one_hot(token, 3, dtype=jnp.bfloat16) + carry[..., None]
        return carry, logits

    carry, prompt = jnp.zeros(2, jnp.bfloat16), jnp.ones((2, 2), jnp.uint8)
    options: Any = {"steps": 2, "width": 2, "stop": [0], "lengths": np.array([1, 2], np.uint8)}
    with jax.numpy_dtype_promotion("strict"):
        out = jaxrnn.beam_search(model, None, carry, prompt, length_penalty=0.6, **options)
    assert out.tokens.dtype == jnp.int32
    assert out.log_probabilities.dtype == jnp.float32
    log_p = jax.nn.log_softmax(jnp.array([0.0, 1.0, 0.0]))[1]
    assert_close(out.log_probabilities, jnp.full((2, 1), 2 * log_p), 1e-6)


def test_mistakes():
    params, carry = build(SPELLER)

    def call(model: Any = speller, prompt: Any = PROMPT, **options: Any) -> Any:
        given = {"steps": 2, "width": 2, "stop": (), **options}
        return jaxrnn.beam_search(model, params, carry, prompt, **given)

    for options, message in (
        ({"steps": 0}, "beam_search: steps is 0, expected a positive integer"),
        ({"width": 0}, "beam_search: width is 0, expected a positive integer"),
        ({"best": 3}, "best is 3, expected at most width = 2; make width larger"),
        ({"length_penalty": -1.0}, "length_penalty is -1.0, expected a number of at least 0"),
        ({"lengths": np.array([0, 1, 1])}, "beam_search: lengths go from 0 to 1, expected 1 to 3"),
        ({"prompt": PROMPT[:, :2]}, r"beam_search: carry\.h has shape \(3, 5\)"),
        (
            {"model": lambda params, carry, token: (carry, token)},
            r"the model returns .*, expected logits \[\*batch, symbols\] with \[\*batch\] = \(3,",
        ),
        (
            {"context": np.ones(2)},
            r"beam_search: context has shape \(2,\), expected \[\*batch, \.\.\.\]",
        ),
        (
            {"inputs": {"x": np.ones((3, 3))}},
            r"inputs\['x'\] has shape \(3, 3\), expected \[time - 1 \+ steps, .* with \(4, 3\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call(**options)
    with pytest.raises(TypeError, match=r"beam_search: stop is 2, expected a sequence of symbols"):
        call(stop=2)
    with pytest.raises(TypeError, match=r"prompt holds \['float32'\], expected one array of inte"):
        call(prompt=np.ones((2, 3, 4), np.float32))
