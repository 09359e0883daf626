"""Batches of sequences of different lengths.

A batch holds sequences of similar length, so that few programs are compiled and padding is short.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxrnn.sequences import Padded, bucket


def training_batches(
    sequences: Sequence[np.ndarray], limits: Sequence[int], batch: int, seed: int
) -> Iterator[Padded]:
    """Yield full batches without end, epoch after epoch. Each epoch has another order.

    Sequences of a length that do not fill a batch are left out of the epoch.

    Args:
        sequences: the sequences `[time, ...]`.
        limits: the lengths to which batches are padded.
        batch: the number of sequences in a batch.
        seed: the seed of the orders.

    Returns:
        The batches. Their `places` are the positions of their sequences in the list.

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
    """Return the results of `function(xs, lengths)` for each sequence, in the order of the list.

    The function gets batches of exactly `batch` sequences, and returns a pytree of arrays `[batch,
    ...]`. Each result is such a pytree without the batch axis.
    """
    results: list[Any] = [None] * len(sequences)
    for part in bucket(sequences, limits):
        for k in range(0, len(part.lengths), batch):
            # The last batch of a length is filled with the first sequences of that length.
            full = _columns(part, np.arange(k, k + batch) % len(part.lengths))
            out = jax.tree.map(np.asarray, function(full.xs, full.lengths))
            for column, place in enumerate(full.places):
                results[place] = jax.tree.map(lambda leaf, c=column: leaf[c], out)
    return results


def _columns(part: Padded, columns: np.ndarray) -> Padded:
    """Return the sequences in these columns."""
    return Padded(part.xs[:, columns], part.lengths[columns], part.places[columns])
