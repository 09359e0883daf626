"""`examples/next_word.py`: what counts as a word, the baselines against counting and the sampled
softmax against the whole one, and a model that completes what it learned.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax

for needed in ("matplotlib", "tqdm", "tyro"):
    pytest.importorskip(needed)

import jaxrnn
import next_word
from kit import scores, words
from kit import text as texts
from kit.sampled_softmax import sampled_nats
from kit.scores import NGram, Score
from kit.symbols import UNKNOWN
from kit.words import Vocabulary

PLAY = """# A Play

## ACT I

_Enter HAMLET
and others_

**HAMLET**
'Tis so, I'll be well-met!
_\\[Aside]_ O'er there--O! \\[reads]

**GHOST**
Élan?
"""


def test_what_is_said_becomes_words():
    said = words.split(words.spoken(PLAY))
    assert " ".join(said) == "¶ 'tis so , i'll be well - met ! o'er there -- o ! reads ¶ élan ?"
    assert words.join(said) == "'tis so, i'll be well-met! o'er there--o! reads élan?"


def test_the_commonest_words_are_known():
    text = words.split("b a b c b a d")
    vocabulary = Vocabulary.of([text], most=2)
    assert vocabulary.known == ("b", "a")
    assert vocabulary.encode(text).tolist() == [1, 2, 1, UNKNOWN, 1, 2, UNKNOWN]
    assert vocabulary.decode([2, 1]) == ["a", "b"]
    guess = vocabulary.guess(np.array([0.7, 0.1, 0.2]), "c")
    assert guess == ("c", 0.0, [("a", 0.2), ("b", 0.1)])


def test_sentences_are_found_where_they_first_stand():
    text = words.split("a b, a b. c a b.")
    assert [*words.find(text, ["a b.", "c d", "b"])] == [(3, ["a", "b", "."]), (1, ["b"])]


def draw_ids(seed: int, length: int, symbols: int = 12) -> np.ndarray:
    return np.minimum(np.random.default_rng(seed).geometric(0.3, length) - 1, symbols - 1)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_counting_gives_the_bits_of_ngram_bits_and_sums_to_one(order: int):
    known, asked = draw_ids(0, 300), draw_ids(1, 80)
    model = NGram(known, order, symbols=12)
    bits = texts.ngram_bits(known, asked, order, symbols=12)
    assert model.score(asked).perplexity == pytest.approx(2**bits)
    for context in (asked[:2], asked[5:7], np.array([11, 11])):
        p = model.probabilities(context[3 - order :])
        assert p.sum() == pytest.approx(1)
        assert p.min() > 0


def test_a_guess_is_right_if_no_known_word_is_likelier():
    known = np.array([1, 2, 1, 2, 1, 3, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN])
    assert NGram(known, 1, symbols=4).score(np.array([1, 1, 2, UNKNOWN])).top1 == 0.5
    log_p = np.log(np.array([[0.4, 0.3, 0.1, 0.2]] * 4, np.float32))
    of_model = jax.jit(scores.ranks)(log_p, np.arange(4))
    assert of_model.tolist() == [4, 0, 2, 1]
    assert Score.of(np.log([1.0, 4.0]), np.array([0, 4])) == pytest.approx((2.0, 0.5, 1.0))


@partial(jax.jit, static_argnums=0)
def softmax_parts(symbols: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    draws = jax.random.split(jax.random.key(0), 3)
    vectors, ys = jax.random.normal(draws[0], (symbols, 3)), jax.random.normal(draws[1], (40, 3))
    return vectors, jax.random.normal(draws[2], (symbols,)), ys, jnp.arange(40) % symbols


def test_a_sample_of_all_rare_words_gives_the_whole_softmax():
    vectors, b, ys, targets = softmax_parts(9)
    found = jax.jit(partial(sampled_nats, common=8, sample=3))(
        vectors, b, ys, targets, jax.random.key(1)
    )
    whole = jax.jit(optax.softmax_cross_entropy_with_integer_labels)(
        np.asarray(ys) @ np.asarray(vectors).T + b, targets
    )
    np.testing.assert_allclose(found, whole, rtol=1e-5)  # pyright: ignore[reportCallIssue]


def test_the_sum_over_all_words_is_estimated_without_bias():
    vectors, b, ys, targets = softmax_parts(20)
    logits = np.asarray(ys) @ np.asarray(vectors).T + np.asarray(b)
    own = logits[np.arange(40), np.asarray(targets)]

    @jax.jit
    @jax.vmap
    def total(key: jax.Array) -> jax.Array:
        nats = sampled_nats(vectors, b, ys, targets, key, common=4, sample=8)
        return jnp.exp(nats + own)

    found = np.mean(total(jax.random.split(jax.random.key(2), 20_000)), axis=0)
    np.testing.assert_allclose(found, np.exp(logits).sum(axis=1), rtol=0.03)


def tiny_plays(hunter: str = "fox") -> texts.Text:
    """In which "runs" is followed by what the word before it says."""
    draw = np.random.default_rng(0)
    lines = ["**X** the fox runs home.", "**X** the dog runs away."]
    known, asked = ([lines[k] for k in draw.integers(2, size=size)] for size in (400, 30))
    return texts.Text(" ".join(known), " ".join(asked).replace("fox", hunter), "held-out plays")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(texts, "load_plays", tiny_plays)
    monkeypatch.setattr(next_word, "SENTENCES", ("the fox runs home.",))
    monkeypatch.setattr(next_word, "CONTEXTS", (1, 4))
    flags = {"hidden": 16, "steps": 80, "batch": 8, "chunk": 10, "dropout": 0}
    return [f"--{name}={value}" for name, value in flags.items()] + ["--learning-rate=0.03"]


def test_it_learns_and_completes(tiny: list[str], tmp_path: Path, capsys: Any, monkeypatch: Any):
    next_word.main([*tiny, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "180 held-out words, 0.0% of them unknown" in said
    perplexity = {line.split()[0]: float(line.split()[2]) for line in said.splitlines()[1:5]}
    assert perplexity["LSTM"] < perplexity["bigram"] < perplexity["unigram"]
    assert (tmp_path / "guesses.png").read_bytes().startswith(b"\x89PNG")

    next_word.main(["--complete", "The fox runs", "--out", str(tmp_path)])
    *guesses, first, _, _ = capsys.readouterr().out.splitlines()
    assert guesses[0].split()[1] == "home"
    shares = [float(line.split("%")[0]) for line in guesses]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)
    assert first == "The fox runs home."

    weights = (tmp_path / "weights.safetensors").read_bytes()
    monkeypatch.setattr(texts, "load_plays", lambda: tiny_plays("zebra"))
    next_word.main([*tiny, "--out", str(tmp_path)])
    assert (
        tmp_path / "weights.safetensors"
    ).read_bytes() == weights  # what is held out is not read


def test_held_out_nats_are_those_of_one_word_at_a_time():
    rnn = jaxrnn.Stack([jaxrnn.Dropout(jaxrnn.GRU(5), 0.5), jaxrnn.Dense(5)])
    model = next_word.WordModel(rnn, symbols=12)
    params, ids, start = jax.jit(model.init)(jax.random.key(0)), draw_ids(3, 60), 7
    carry, nats, step = model.initial_carry(params, ()), 0.0, jax.jit(model.scan)
    for read, came in zip([start, *ids[:-1]], ids, strict=True):
        carry, logits = step(params, carry, np.array([read]))
        nats -= log_softmax(np.asarray(logits)[0])[came]
    found = scores.score(model, params, ids, start)
    assert found.perplexity == pytest.approx(math.exp(nats / len(ids)), rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--steps", "0"], "--steps must be at least 1"),
        (["--vocabulary", "5"], "--vocabulary must be at least 100"),
        (["--dropout", "1.5"], "rate"),
        (["--complete", "to be"], "weights.safetensors: No such file"),
    ],
)
def test_what_cannot_be_is_one_line(
    tiny: list[str], flags: list[str], expected: str, tmp_path: Path, capsys: Any
):
    with pytest.raises(SystemExit) as stopped:
        next_word.main([*flags, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
