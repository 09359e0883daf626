"""`examples/sentiment.py` on a few made-up reviews."""

import re
from pathlib import Path

import numpy as np
import pytest

for needed in ("matplotlib", "optax", "safetensors", "tqdm", "tyro"):
    pytest.importorskip(needed)

import jax

import sentiment
from kit import reviews
from kit.reviews import Reviews
from kit.symbols import Symbols
from sentiment import Options, Reader

WORDS = Symbols(("good", "bad", "film", ".", "don't"))


def reader() -> tuple[Reader, dict]:
    model = Reader.build(WORDS, hidden=3)
    return model, model.init(jax.random.key(1))


def made_up(count: int) -> Reviews:
    """Each has one word that tells, among words that do not."""
    draw, labels = np.random.default_rng(0), np.arange(count) % 2
    texts = []
    for label in labels:
        words = ["film"] * int(draw.integers(2, 12))
        words[draw.integers(len(words))] = ("bad", "good")[label]
        texts.append(" ".join(words))
    return Reviews(texts, labels)


def test_words_and_marks():
    text = 'Don\'t watch it!<br /><br />"Bad", 2 of 10.'
    assert sentiment.tokens(text) == ["don't", "watch", "it", "!", "bad", ",", "of", "."]


def test_the_end_of_a_long_review_counts():
    ids = reader()[0].encode("good " * 500 + "bad")
    assert len(ids) == sentiment.LIMITS[-1]
    assert ids[-1] == 2


def test_padding_does_not_change_the_verdict():
    model, params = reader()
    ids = model.encode("good film .")[:, None]
    longer = np.pad(ids, ((0, 4), (0, 0)), constant_values=1)
    verdicts = [model.verdict(params, xs, np.array([3])) for xs in (ids, longer)]
    np.testing.assert_allclose(*verdicts, rtol=1e-5)


def test_shares_add_up_to_opinions_and_opinions_to_the_verdict(tmp_path: Path, monkeypatch):
    model, params = reader()
    seen = {}
    monkeypatch.setattr(sentiment, "draw", lambda path, *given: seen.update(given=given))
    sentiment.show(model, params, "Good film. Don't!", tmp_path / "s.png")
    words, opinions, verdicts, shares = seen["given"]
    assert words == ["good", "film", ".", "don't", "!"]
    bias = float(params["cell"][1].b[0])
    np.testing.assert_allclose(shares.sum(axis=1) + bias, opinions, atol=1e-5)
    logit = model.verdict(params, WORDS.encode(words)[:, None], np.array([5]))
    assert verdicts[-1] == pytest.approx(float(jax.nn.sigmoid(logit)[0]), abs=1e-5)


def test_last_films_are_held_out_and_no_review_is_in_two_parts():
    whole = Reviews([f"{k}" for k in range(200)], np.repeat([0, 1], 100))
    train, choose, held_out = reviews.split(whole)
    assert [len(part.texts) for part in (train, choose, held_out)] == [160, 8, 32]
    assert {*train.texts, *choose.texts, *held_out.texts} == {*whole.texts}
    assert [int(t) for t in held_out.texts] == [*range(84, 100), *range(184, 200)]
    for part in (train, choose, held_out):
        assert part.labels.mean() == 0.5
        assert all(whole.labels[int(t)] == y for t, y in zip(part.texts, part.labels, strict=True))


def test_training_learns_and_a_sentence_is_shown(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(sentiment, "LIMITS", (12,))
    monkeypatch.setattr(sentiment, "BATCH", 16)
    monkeypatch.setattr(reviews, "load", lambda most: made_up(most))
    pytest.importorskip("sklearn")
    options = ["--hidden", "8", "--learning-rate", "0.03", "--out", str(tmp_path)]
    sentiment.main([*options, "--reviews", "1200"])
    said = capsys.readouterr().out
    assert float(re.findall(r"the GRU +([\d.]+)%", said)[0]) > 90
    assert (tmp_path / "sentence.png").read_bytes().startswith(b"\x89PNG")
    for text, verdict in (("film film good film", "praise"), ("film bad film", "blame")):
        sentiment.main([*options[-2:], "--text", text])
        assert verdict in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--hidden", "0"], "--hidden must be at least 1, not 0"),
        (["--text", "good"], "weights.safetensors: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(argv, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        sentiment.main([*argv, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert re.fullmatch(f"error: [^\n]*{said}[^\n]*\n", capsys.readouterr().err)


def test_a_text_without_words_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="has no words"):
        sentiment.show(*reader(), "123", tmp_path / "s.png")


def test_options_name_the_flag():
    with pytest.raises(ValueError, match="--reviews must be at least 400, not 3"):
        Options(reviews=3)
