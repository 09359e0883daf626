"""`examples/translation.py`: no source is on both sides, rare words find their way through, what is
written word by word is what training scored, and a reversed model is one of reversed sources.
"""

from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

for needed in ("matplotlib", "optax", "sacrebleu", "tqdm", "tyro"):
    pytest.importorskip(needed)

import jaxrnn
import translation
from kit import bible, translations
from kit.vocabulary import START, STOP, SlotVocabulary

WORDS = SlotVocabulary(("he", "saith", "says", "to", "unto", "you", "thee", "."))
OLD = [("he", "saith", "unto", "thee", "."), ("saith", "zaham", "to", "abi", "and", "zaham")]
NEW = [("he", "says", "to", "you", "."), ("zaham", "says", "to", "abi", "&", "zaham")]
TINY = ["--hidden", "6", "--steps", "2", "--batch", "4", "--held-out", "5"]


def test_rare_words_are_copied_from_the_source():
    assert [WORDS.decode(WORDS.encode(n, o), o) for o, n in zip(OLD, NEW, strict=True)] == [
        [*NEW[0]],
        ["zaham", "says", "to", "abi", "zaham"],  # "&" is neither known nor in the source
    ]
    encoded = WORDS.encode_pairs(zip(OLD, NEW, strict=True))
    assert encoded.source_lengths.tolist() == [5, 6]
    assert encoded.targets[encoded.target_lengths - 1, [0, 1]].tolist() == [STOP, STOP]
    assert WORDS.decode([*WORDS.encode(["you"], OLD[0]), STOP, 12], OLD[0]) == ["you"]
    found = SlotVocabulary.of([("a", "b", "a"), ("b", "a", "c")], least=2)
    assert found.words == ("a", "b")


def test_verses_are_read_and_split(tmp_path: Path, monkeypatch: Any):
    texts = ["He saith [unto] them, Go.", "“Yea” thy brother`s", "", "He saith unto them, Go."]
    starts = np.cumsum([0, *map(len, texts)]).tolist()
    numbers = [1001001, 1001002, 1001003, 1001004]
    places = [dict(zip(numbers, ends, strict=True)) for ends in (starts[:-1], starts[1:])]
    program = f"bible = Bible(X, {''.join(texts)!r}, {places[0]!r}, {places[1]!r}, {{A.B: 1}})"
    (tmp_path / "bible.py").write_text(f"from nowhere import X\n{program}\n", encoding="utf-8")
    monkeypatch.setattr(bible, "package_file", lambda *_: tmp_path / "bible.py")
    first = ("he", "saith", "unto", "them", ",", "go", ".")
    verses = [first, ("yea", "thy", "brother's"), (), first]
    assert bible.load() == [(verse, verse) for verse in verses]
    assert bible.join_words(first) == "he saith unto them, go."
    for held_out in (1, 2):
        train, test = bible.split(20, held_out)
        assert not {old for old, _ in train} & {old for old, _ in test}
        assert len(test) <= held_out
        assert {old for old, _ in [*train, *test]} == {verses[0], verses[1]}


@cache
def build(variant: str) -> tuple[Any, Any]:
    options = translation.Options(hidden=6)
    model = translation.Translator.build(variant, options, WORDS)
    large = jax.jit(lambda key: jax.tree.map(lambda a: 4 * a, model.init(key)))
    return model, large(jax.random.key(1))


@pytest.mark.parametrize("variant", ["reversed", "attention"])
def test_writing_is_teacher_forcing_word_by_word(variant: str):
    model, params = build(variant)
    pairs = WORDS.encode_pairs(zip(OLD, NEW, strict=True))
    logits = jax.jit(model.logits)
    carry, memory = jax.jit(model.encode)(params, pairs.sources, pairs.source_lengths)
    written = jaxrnn.generate(
        model.step, params, carry, np.full((1, 2), START), steps=6, context=memory, keep=True
    )
    tokens = np.asarray(written.tokens)
    forced = np.asarray(logits(params, pairs._replace(targets=tokens)))
    np.testing.assert_allclose(written.outputs, forced, atol=1e-5)
    alone = WORDS.encode_pairs([(OLD[0], NEW[0])])  # without the other's padding
    again = logits(params, alone._replace(targets=tokens[:, :1]))
    np.testing.assert_allclose(again, forced[:, :1], atol=1e-5)


def test_a_reversed_model_is_one_of_reversed_sources():
    model, params = build("reversed")
    plain, _ = build("plain")
    pairs = WORDS.encode_pairs(zip(OLD, NEW, strict=True))
    sources = pairs.sources.copy()
    for k, length in enumerate(pairs.source_lengths):
        sources[:length, k] = pairs.sources[:length, k][::-1]
    logits = jax.jit(plain.logits)
    found = logits(params, pairs._replace(sources=sources))
    np.testing.assert_allclose(jax.jit(model.logits)(params, pairs), found, atol=1e-6)
    assert not np.allclose(found, logits(params, pairs), atol=1e-3)


def test_the_decoder_looks_at_words_of_the_source():
    model, params = build("attention")
    weights = translation.look(model, params, OLD[1], NEW[1])
    assert weights.shape == (len(NEW[1]) + 1, len(OLD[1]))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert weights.std(0).max() > 0.01


def test_scores_are_by_source_length():
    texts = ["and he went up to the hill.", "they came to the sea of the plain, and rested."]
    bleu, chrf, each = translations.score(texts, texts, [7, 11])
    assert (bleu, chrf) == pytest.approx((100, 100))
    np.testing.assert_allclose(each, [100, 100, np.nan, np.nan])
    worse = translations.score(texts, [texts[0], "the sea"], [7, 11])
    assert worse[2][0] == pytest.approx(100)
    assert worse[2][1] < 60
    sources = [("he", "went"), ("unto", "the", "sea") * 3, ("to", "the", "sea") * 3]
    said = ["he went", "to the sea " * 3, "to the sea " * 3]
    assert translations.choose(sources, said, said) == 1


def test_it_trains_and_translates(tmp_path: Path, capsys: Any, monkeypatch: Any):
    draw = np.random.default_rng(0)
    verses = [tuple(f"w{k}" for k in draw.integers(0, 9, 10)) for _ in range(40)]
    monkeypatch.setattr(bible, "load", lambda: [(verse, verse[1:]) for verse in verses])
    monkeypatch.setattr(translation, "VARIANTS", ("attention",))
    out = ["--out", str(tmp_path), "--beam", "2"]
    translation.main([*TINY, *out])
    assert "35 verses to train on, 5 held out" in capsys.readouterr().out
    assert (tmp_path / "attention.png").exists()
    translation.main(["--translate", "W1 w2, w3", *out])
    assert capsys.readouterr().out.endswith("\n")
    for wrong in (["--translate", "?" * 21], ["--variant", "no"], ["--steps", "0"]):
        with pytest.raises(SystemExit) as stopped:
            translation.main([*wrong, *out])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
