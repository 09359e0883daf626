"""What a model of text has forgotten: how well it goes on where a text repeats itself."""

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kit.training import SequenceModel

CONTEXT = 6  # characters
EDGES = (0, 100, 300, 1_000, 3_000)  # characters since a context last stood in the text
RANGES = [*(f"{a:,} to {b:,}" for a, b in pairwise(EDGES)), f"over {EDGES[-1]:,}"]


class Repeats(NamedTuple):
    """Places of streams where a context that training never had stands again, and goes on as it
    did.
    """

    time: np.ndarray
    stream: np.ndarray
    distance: np.ndarray  # characters since it last stood there


def contexts(ids: np.ndarray, symbols: int) -> np.ndarray:
    """A number for each place `[time - CONTEXT, ...]`: the characters before it."""
    numbers = np.zeros((len(ids) - CONTEXT, *ids.shape[1:]), np.int64)
    for k in range(CONTEXT):
        numbers = numbers * symbols + ids[k : k + len(numbers)]
    return numbers


def find_repeats(train: np.ndarray, streams: np.ndarray, symbols: int) -> Repeats:
    """Those in `streams [time, streams]`; each stream is a text of its own."""
    known = np.unique(contexts(train, symbols))
    numbers, nexts = contexts(streams, symbols), streams[CONTEXT:]
    found = []
    for stream in range(streams.shape[1]):
        own = numbers[:, stream]
        order = np.argsort(own, kind="stable")  # each context's places, one after the other
        before, at = order[:-1], order[1:]
        again = (own[before] == own[at]) & (nexts[before, stream] == nexts[at, stream])
        before, at = before[again], at[again]
        new = ~np.isin(own[at], known)
        found.append((at[new] + CONTEXT, np.full(new.sum(), stream), (at - before)[new]))
    return Repeats(*map(np.concatenate, zip(*found, strict=True)))


def accuracy_by_distance(right: np.ndarray, repeats: Repeats) -> np.ndarray:
    """The share of right guesses `right [time, streams]` at repeats, between each two of `EDGES`,
    and beyond the last.
    """
    at_repeats = right[repeats.time, repeats.stream]
    bins = np.digitize(repeats.distance, EDGES) - 1
    count = np.bincount(bins, minlength=len(EDGES))
    return np.bincount(bins, at_repeats, minlength=len(EDGES)) / np.maximum(count, 1)


def guesses(model: SequenceModel, params: Any, streams: np.ndarray) -> np.ndarray:
    """Whether each character of `streams [time, streams]` but the first is the likeliest one."""

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
