"""`examples/textgenrnn_import.py`: weights that somebody else trained and stored do what they were
trained for.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for needed in ("h5py", "optax", "tyro"):
    pytest.importorskip(needed)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

import jaxrnn
import textgenrnn_import as example

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("textgenrnn") is None,
    reason='needs the weights: pip install --no-deps "textgenrnn==2.0.0"',
)
SENTENCE = example.Options().text


@pytest.fixture(scope="module")
def loaded():
    return example.load(*example.find_files(None))


def bits(loaded: Any, text: str) -> float:
    model, params, numbers = loaded
    return example.bits_per_character(model, params, numbers, text)


@needs_weights
def test_bits_per_character(loaded: Any):
    """About one on a headline, more on what is none."""
    assert bits(loaded, SENTENCE) == pytest.approx(1.04, abs=0.01)
    shuffled = "".join(np.random.default_rng(0).permutation(list(SENTENCE)))
    assert bits(loaded, shuffled) > 4


@needs_weights
def test_the_wrong_layout_shows(loaded: Any):
    """The same arrays, read as if they were those of a plain LSTM: worse than equal odds, far."""
    model, params, numbers = loaded
    weights, _ = example.find_files(None)
    config = {
        "units": 128,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
    }
    rnn = []
    opened: Any = example.h5py.File(weights)
    with opened as file:
        for name in ("rnn_1", "rnn_2"):
            kernel, recurrent, bias = (
                file[name][name][f"{part}:0"][()] for part in ("kernel", "recurrent_kernel", "bias")
            )
            plain = [kernel, recurrent, bias.reshape(2, -1).sum(axis=0)]
            rnn.append(
                jaxrnn.convert.from_keras({"class_name": "LSTM", "config": config}, plain)[1]
            )
    assert example.bits_per_character(
        model, params._replace(rnn=tuple(rnn)), numbers, SENTENCE
    ) > np.log2(len(numbers))


@needs_weights
def test_headlines(loaded: Any, capsys):
    """They begin with the prompt, differ, come again with the seed, and are likely at a low
    temperature.
    """
    flags = ["--samples", "3", "--length", "30", "--prompt", "My dog "]
    said = []
    for more in (
        ["--temperature", "0.3"],
        ["--temperature", "0.3"],
        ["--temperature", "0.3", "--seed", "1"],
        ["--temperature", "3"],
    ):
        example.main([*flags, *more])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].startswith("1.04 bits per character")
    headlines = [text.partition("---\n")[2].splitlines() for text in said]
    assert headlines[2] != headlines[0]
    assert len(set(headlines[0])) == 3
    assert all(headline.startswith("My dog ") for headline in headlines[0])
    likely, unlikely = (bits(loaded, headlines[k][0]) for k in (0, 3))
    assert likely < 2 < 4 < unlikely


def test_windows():
    """What stands before each symbol, padded at the front."""
    columns = example.windows([7, 8, 9]).T
    assert columns.shape == (3, example.WINDOW)
    assert columns[:, -4:].tolist() == [[0, 0, 0, 7], [0, 0, 7, 8], [0, 7, 8, 9]]
    assert not columns[:, :-3].any()
    assert example.windows(list(range(1, 51)))[:, -1].tolist() == list(range(11, 51))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--samples", "0"], "--samples must be at least 1, not 0"),
        (["--temperature", "0"], "--temperature must be positive, not 0.0"),
        (["--seed", "-1"], "--seed must be between 0 and 2147483647, not -1"),
        (["--text", ""], "--text is empty"),
        (["--folder", "no/such"], "No such file or directory"),
    ],
)
def test_misuse_is_one_line(flags, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        example.main(flags)
    printed = capsys.readouterr()
    assert stopped.value.code == 2
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / example.VOCABULARY).write_text(json.dumps({"<s>": 1}))
    (tmp_path / example.WEIGHTS).write_text("no HDF5")
    with pytest.raises(ValueError, match=r"cannot read .*textgenrnn_weights\.hdf5"):
        example.load(*example.find_files(tmp_path))


@needs_weights
def test_a_vocabulary_of_another_model(tmp_path):
    weights, _ = example.find_files(None)
    (tmp_path / example.VOCABULARY).write_text(json.dumps({"a": 1, "b": 2}))
    with pytest.raises(
        ValueError, match=r"textgenrnn_vocab\.json has 2 symbols, expected 464, one of them '<s>'"
    ):
        example.load(weights, tmp_path / example.VOCABULARY)


@needs_weights
def test_weights_of_another_model(tmp_path):
    _, vocabulary = example.find_files(None)
    with example.h5py.File(tmp_path / "other.hdf5", "w") as file:
        file.create_group("embedding").attrs["weight_names"] = []
    with pytest.raises(ValueError, match=r"cannot read .*other\.hdf5 .*rnn_1"):
        example.load(tmp_path / "other.hdf5", vocabulary)


@needs_weights
def test_unknown_characters_are_named(loaded: Any):
    with pytest.raises(ValueError, match="does not know '日' '本'"):
        example.encode(loaded[2], "本 or 日")


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(example, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="pip install --no-deps"):
        example.find_files(None)
