"""`examples/tagging.py`: texts taken apart and put together, and the tagger on a few passages."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for needed in ("matplotlib", "optax", "safetensors", "tqdm", "tyro"):
    pytest.importorskip(needed)

import tagging
from kit import passages
from kit.passages import MARKS, Passage, f1, put_together, take_apart
from kit.symbols import Symbols

TEXT = 'He said, "Don`t fear: I am Ben-Hadad." (Why?) go; go!'


def tag_of(capital: bool, mark: str) -> int:
    return capital * len(MARKS) + MARKS.index(mark)


def test_a_text_is_taken_apart():
    words, tags = take_apart(TEXT)
    assert words == ["he", "said", "don't", "fear", "i", "am", "ben-hadad", "why", "go", "go"]
    assert tags[:4].tolist() == [
        tag_of(True, ""),
        tag_of(False, ","),
        tag_of(True, ""),
        MARKS.index(":"),
    ]
    assert tags[-1] == MARKS.index("!")


def test_and_put_together():
    together = " ".join(put_together(*take_apart(TEXT)))
    assert together == "He said, Don't fear: I am Ben-hadad. Why? go; go!"
    again = take_apart(together)
    assert (again.tags == take_apart(TEXT).tags).all()


def test_passages_are_cut_without_loss():
    words = [f"w{k}" for k in range(150)]
    pieces = passages.cut(Passage(words, np.arange(150)))
    assert [len(piece.words) for piece in pieces] == [64, 64, 22]
    assert [word for piece in pieces for word in piece.words] == words
    assert np.concatenate([piece.tags for piece in pieces]).tolist() == [*range(150)]


def test_f1_against_counting():
    truth = [tag_of(True, ","), tag_of(False, ","), tag_of(False, ""), tag_of(True, ".")]
    found = [tag_of(True, ""), tag_of(False, ","), tag_of(True, ""), tag_of(False, ",")]
    scores = f1(
        [Passage(["a"] * 2, np.array(truth[:2])), Passage(["a"] * 2, np.array(truth[2:]))],
        [found[:2], found[2:]],
    )
    assert scores["capital"] == pytest.approx(1 / 2)  # one of two found, one of two right
    assert scores[","] == pytest.approx(1 / 2)
    assert scores["."] == scores[";"] == 0
    assert scores["all"] == pytest.approx(2 * 2 / (5 + 4))


def test_books_are_held_out_whole():
    try:
        train, choose, held_out = passages.load()
    except ValueError as missing:
        pytest.skip(str(missing))
    counts = [sum(len(p.words) for p in part) for part in (train, choose, held_out)]
    assert 0.1 < counts[2] / sum(counts) < 0.25
    held, rest = ({" ".join(p.words) for p in part} for part in (held_out, train + choose))
    assert held & rest <= {"as yahweh commanded moses"}  # what is left over of two chapters
    assert sum("yahweh spoke to moses" in text for text in held) > 10  # Leviticus


def made_up(count: int) -> list[Passage]:
    """Sentences of one kind: a capital at the beginning, a comma in the middle, a full stop."""
    draw = np.random.default_rng(0)
    words = np.array(["ox", "sheep", "goat", "lamb", "calf"])

    def sentence() -> str:
        first, then = draw.choice(words, 2)
        return f"{first.capitalize()} and, {then} amen."

    return [
        take_apart(" ".join(sentence() for _ in range(draw.integers(2, 5)))) for _ in range(count)
    ]


def test_training_restores_and_a_text_is_restored(tmp_path: Path, monkeypatch, capsys):
    parts = made_up(320), made_up(40), made_up(40)
    monkeypatch.setattr(passages, "load", lambda: parts)
    monkeypatch.setattr(tagging, "LIMITS", (24,))
    monkeypatch.setattr(tagging, "LONGEST", 24)
    options = ["--hidden", "8", "--epochs", "12", "--learning-rate", "0.03", "--out", str(tmp_path)]
    tagging.main(options)
    rows = capsys.readouterr().out.splitlines()[1:5]
    shares = [float(re.findall(r"([\d.]+)%", row)[-1]) for row in rows]
    assert shares[0] == 0 < shares[1] < shares[3]
    assert shares[3] > 95
    assert (tmp_path / "tagging.png").read_bytes().startswith(b"\x89PNG")
    tagging.main(["--out", str(tmp_path), "--text", "Goat and sheep, amen ox and goat amen"])
    assert capsys.readouterr().out == "Goat and, sheep amen. Ox and, goat amen.\n"
    with pytest.raises(SystemExit):
        tagging.main(["--out", str(tmp_path), "--text", "12"])
    assert capsys.readouterr().err == "error: --text '12' has no words\n"


def test_padding_does_not_change_tags():
    about = tagging.About(Symbols(("a", "b")), hidden=4)
    variables = about.init()
    ids = np.array([[1], [2], [1]])
    longer = np.pad(ids, ((0, 2), (0, 0)), constant_values=2)
    logits: list[Any] = [about.model.apply(variables, xs, np.array([3])) for xs in (ids, longer)]
    np.testing.assert_allclose(logits[0], logits[1][:3], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--text", "go"], "weights.safetensors: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(argv, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        tagging.main([*argv, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert re.fullmatch(f"error: [^\n]*{said}[^\n]*\n", capsys.readouterr().err)
