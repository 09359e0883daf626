"""Batches of sequences of different lengths: those of similar length stand side by side, so that
few programs are compiled and little is padded.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxrnn.sequences import Padded, bucket


def training_batches(
    sequences: Sequence[np.ndarray], limits: Sequence[int], batch: int, seed: int
) -> Iterator[Padded]:
    """Full batches, one epoch after the other; `places` says which sequences they hold.

    Each epoch has another order, and what is left over of each length waits for the next.

    Raises:
        ValueError: no length has enough sequences, or one is longer than every limit.
    """
    parts, draw = bucket(sequences, limits), np.random.default_rng(seed)
    while True:
        orders = [draw.permutation(len(part.lengths)) for part in parts]
        epoch = [
            _columns(part, order[k : k + batch])
            for part, order in zip(parts, orders, strict=True)
            for k in range(0, len(order) - batch + 1, batch)
        ]
        if not epoch:
            raise ValueError(f"too few sequences of similar length for batches of {batch}")
        draw.shuffle(epoch)  # type: ignore[arg-type]  # a list does
        yield from epoch


def apply_to_all(
    function: Callable[[np.ndarray, np.ndarray], Any],
    sequences: Sequence[np.ndarray],
    limits: Sequence[int],
    batch: int,
) -> list[Any]:
    """What `function(xs, lengths)` gives for each sequence, in the order of the list.

    Its results are pytrees of arrays `[batch, ...]`.
    """
    results: list[Any] = [None] * len(sequences)
    for part in bucket(sequences, limits):
        for k in range(0, len(part.lengths), batch):
            # the last one of a length is filled up with sequences that it had before
            full = _columns(part, np.arange(k, k + batch) % len(part.lengths))
            out = jax.tree.map(np.asarray, function(full.xs, full.lengths))
            for column, place in enumerate(full.places):
                results[place] = jax.tree.map(lambda leaf, c=column: leaf[c], out)
    return results


def _columns(part: Padded, columns: np.ndarray) -> Padded:
    return Padded(part.xs[:, columns], part.lengths[columns], part.places[columns])
