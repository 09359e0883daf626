"""Read a character model that Keras trained on Reddit headlines, score a sentence with it, and
write headlines.

    pip install --no-deps "textgenrnn==2.0.0"           # once, for the weights alone
    python examples/textgenrnn_import.py
    python examples/textgenrnn_import.py --temperature 0.8 --samples 10 --prompt "My dog "
    python examples/textgenrnn_import.py --folder FOLDER   # with the two files of the package

This needs `pip install "jaxrnn[examples]"`. The model, by Max Woolf, reads 40 characters. It has an
embedding and two layers of LSTM. Attention averages all three over time, and a dense layer predicts
the next character from this average. The weights are those of `CuDNNLSTM` layers of Keras 2, which
`jaxrnn.convert.from_keras` reads."""

import dataclasses
import importlib.util
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from jaxrnn.streams import Categorical
from kit.command_line import check_at_least, check_positive, check_seed, command

PACKAGE = "textgenrnn"
WEIGHTS, VOCABULARY = "textgenrnn_weights.hdf5", "textgenrnn_vocab.json"
# what stands before a short text, and the symbol that begins and ends each headline
PADDING, EDGE = 0, "<s>"
LAYERS = ("embedding", "rnn_1", "rnn_2", "attention", "output")
WINDOW = 40
UNITS = 128


@dataclasses.dataclass(frozen=True)
class Options:
    """Score a sentence with textgenrnn's model of Reddit headlines, and write some."""

    text: str = "What is the most embarrassing thing that has ever happened to you?"
    """The sentence to score."""
    samples: int = 5
    """How many headlines to write."""
    temperature: float = 0.5
    """Below 1 the likely characters become likelier, above 1 the unlikely ones."""
    prompt: str = ""
    """How each headline begins."""
    length: int = 200
    """The largest length of a headline, in characters after the prompt."""
    seed: int = 0
    """The same seed writes the same headlines."""
    folder: Path | None = None
    """Where textgenrnn_weights.hdf5 and textgenrnn_vocab.json are; otherwise in the installed
    package textgenrnn.
    """

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("--text is empty")
        check_at_least(self, 1, "samples", "length")
        check_positive(self, "temperature")
        check_seed(self.seed)


class HeadlineParams(NamedTuple):
    """Parameters of `HeadlineModel`."""

    embedding: jax.Array  # [symbols, embedding]
    rnn: tuple[Any, ...]  # of each layer
    attention: jax.Array  # [features, 1]
    w: jax.Array  # [features, symbols]
    b: jax.Array  # [symbols]


@dataclasses.dataclass(frozen=True)
class HeadlineModel:
    """Predicts the next character from the last 40; the attention sees the embedding and every
    layer.
    """

    cells: tuple[jaxrnn.Cell, ...]

    def logits(self, params: HeadlineParams, ids: jax.Array) -> jax.Array:
        """Logits `[*batch, symbols]` of what follows each window `[WINDOW, *batch]`.

        Every window is read from a zero carry, as in training: one that went on from character to
        character would have seen more."""
        ys = params.embedding[ids]
        seen = [ys]
        for cell, p in zip(self.cells, params.rnn, strict=True):
            _, ys = jaxrnn.scan(cell, p, ys)
            seen.append(ys)
        features = jnp.concatenate(seen, axis=-1)
        weights = jax.nn.softmax(features @ params.attention, axis=0)
        return (weights * features).sum(axis=0) @ params.w + params.b

    def step(
        self, params: HeadlineParams, window: jax.Array, ids: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Read one symbol `[batch]` each; give the window `[batch, WINDOW]`, which is the carry,
        and the logits of the next symbol.
        """
        window = jnp.concatenate([window[:, 1:], ids[:, None]], axis=1)
        return window, self.logits(params, window.T).at[:, PADDING].set(-jnp.inf)


def find_files(folder: Path | None) -> tuple[Path, Path]:
    """The weights and the vocabulary; the package is found, not imported."""
    if folder is None:
        package = importlib.util.find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise ValueError(
                "the weights come with a package that is not installed: pip install --no-deps "
                f'"{PACKAGE}==2.0.0"'
            )
        folder = Path(package.origin).parent
    return folder / WEIGHTS, folder / VOCABULARY


def arrays_of(group: Any) -> list[np.ndarray]:
    """The arrays of one layer, in Keras' order."""
    return [group[name][()] for name in group.attrs["weight_names"]]


def load(weights: Path, vocabulary: Path) -> tuple[HeadlineModel, HeadlineParams, dict[str, int]]:
    """The model, and the number of each symbol."""
    try:
        numbers = json.loads(vocabulary.read_text(encoding="utf-8"))
        with h5py.File(weights) as file:
            layers = {name: arrays_of(file[name]) for name in LAYERS}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"cannot read {weights} and {vocabulary}: {error}") from error
    rows = len(layers["embedding"][0]) - 1  # without the padding's
    if EDGE not in numbers or len(numbers) != rows:
        raise ValueError(
            f"{vocabulary} has {len(numbers)} symbols, expected {rows}, one of them {EDGE!r}"
        )
    config = {"class_name": "CuDNNLSTM", "config": {"units": UNITS}}
    cells, rnn = zip(
        *(jaxrnn.convert.from_keras(config, layers[name]) for name in ("rnn_1", "rnn_2")),
        strict=True,
    )
    arrays = [*layers["embedding"], rnn, *layers["attention"], *layers["output"]]
    return HeadlineModel(cells), jax.tree.map(jnp.asarray, HeadlineParams(*arrays)), numbers


def encode(numbers: dict[str, int], text: str) -> list[int]:
    """The beginning of a headline, and the characters of a text."""
    if unknown := sorted(set(text) - numbers.keys()):
        raise ValueError(f"the model does not know {' '.join(map(repr, unknown))}")
    return [numbers[EDGE], *(numbers[character] for character in text)]


def windows(ids: list[int]) -> np.ndarray:
    """What stands before each symbol but the first, and before the one after the last: `[WINDOW,
    len(ids)]`.
    """
    padded = np.array([PADDING] * (WINDOW - 1) + ids)
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW).T


def bits_per_character(
    model: HeadlineModel, params: HeadlineParams, numbers: dict[str, int], text: str
) -> float:
    """Mean over the characters of a headline and its end."""
    ids = encode(numbers, text)
    logits = jax.jit(model.logits)(params, jnp.asarray(windows(ids)))
    targets = jnp.array([*ids[1:], numbers[EDGE]])
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return float(nats.mean()) / math.log(2)


def write(
    model: HeadlineModel, params: HeadlineParams, numbers: dict[str, int], options: Options
) -> list[str]:
    """Headlines, each up to its end or to the longest length."""
    prompts = jnp.tile(jnp.array(encode(numbers, options.prompt))[:, None], (1, options.samples))
    drawn = jaxrnn.generate(
        model.step,
        params,
        jnp.full((options.samples, WINDOW), PADDING),
        prompts,
        steps=options.length,
        sample=Categorical(options.temperature),
        stop=[numbers[EDGE]],
        key=jax.random.key(options.seed),
    ).tokens
    symbols = {number: symbol for symbol, number in numbers.items()}
    written = ("".join(symbols[int(number)] for number in column) for column in np.asarray(drawn).T)
    return [options.prompt + text.partition(EDGE)[0] for text in written]


@command(Options)
def main(options: Options) -> None:
    model, params, numbers = load(*find_files(options.folder))
    bits = bits_per_character(model, params, numbers, options.text)
    headlines = write(model, params, numbers, options)
    odds = f"equal odds for all {len(numbers)} symbols: {math.log2(len(numbers)):.2f}"
    print(f"{bits:.2f} bits per character ({odds}): {options.text}")
    print(f"\n--- temperature {options.temperature} ---")
    print("\n".join(headlines))


if __name__ == "__main__":
    main()
