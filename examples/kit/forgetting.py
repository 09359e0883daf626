"""How long a model of text remembers: its accuracy where a text repeats a new context."""

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kit.training import SequenceModel

CONTEXT = 6  # characters
EDGES = (0, 100, 300, 1_000, 3_000)  # characters since a context last occurred
RANGES = [*(f"{a:,} to {b:,}" for a, b in pairwise(EDGES)), f"over {EDGES[-1]:,}"]


class Repeats(NamedTuple):
    """Positions in streams after a repeated context that the training text does not have.

    The character at such a position is the one that followed the context the last time.
    """

    time: np.ndarray
    stream: np.ndarray
    distance: np.ndarray  # characters since the context last occurred


def contexts(ids: np.ndarray, symbols: int) -> np.ndarray:
    """Return a number `[time - CONTEXT, ...]` for the context before each position.

    Equal contexts, of `CONTEXT` characters, have equal numbers.
    """
    numbers = np.zeros((len(ids) - CONTEXT, *ids.shape[1:]), np.int64)
    for k in range(CONTEXT):
        numbers = numbers * symbols + ids[k : k + len(numbers)]
    return numbers


def find_repeats(train: np.ndarray, streams: np.ndarray, symbols: int) -> Repeats:
    """Find the repeats in streams `[time, streams]`, each of which is a text of its own.

    Args:
        train: the training text, as numbers.
        streams: the streams, as numbers.
        symbols: how many numbers there are.
    """
    known = np.unique(contexts(train, symbols))
    numbers, nexts = contexts(streams, symbols), streams[CONTEXT:]
    found = []
    for stream in range(streams.shape[1]):
        own = numbers[:, stream]
        order = np.argsort(own, kind="stable")  # equal contexts stand together, in order of time
        before, at = order[:-1], order[1:]
        again = (own[before] == own[at]) & (nexts[before, stream] == nexts[at, stream])
        before, at = before[again], at[again]
        new = ~np.isin(own[at], known)
        found.append((at[new] + CONTEXT, np.full(new.sum(), stream), (at - before)[new]))
    return Repeats(*map(np.concatenate, zip(*found, strict=True)))


def accuracy_by_distance(right: np.ndarray, repeats: Repeats) -> np.ndarray:
    """Return the accuracy at repeats, for each of `RANGES` of their distance.

    Args:
        right: whether each character was predicted `[time, streams]`, from `correct_guesses`.
        repeats: the repeats in the same streams.
    """
    at_repeats = right[repeats.time, repeats.stream]
    bins = np.digitize(repeats.distance, EDGES) - 1
    count = np.bincount(bins, minlength=len(EDGES))
    return np.bincount(bins, at_repeats, minlength=len(EDGES)) / np.maximum(count, 1)


def correct_guesses(model: SequenceModel, params: Any, streams: np.ndarray) -> np.ndarray:
    """Return whether the model predicts each character of streams `[time, streams]`.

    The prediction is the likeliest character after those before it. The first character has none,
    and counts as wrong.
    """

    @jax.jit
    def read(carry: Any, chunk: jax.Array) -> tuple[Any, jax.Array]:
        carry, logits = model.scan(params, carry, chunk)
        return carry, jnp.argmax(logits, axis=-1)

    carry, found = model.initial_carry(params, streams.shape[1:]), []
    for start in range(0, len(streams) - 1, 512):
        carry, guess = read(carry, streams[start : start + 512])
        found.append(guess)
    right = np.concatenate(found)[: len(streams) - 1] == streams[1:]
    return np.concatenate([np.zeros_like(right[:1]), right])
