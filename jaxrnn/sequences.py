"""Sequences of different lengths: into arrays and back, and from many outputs to one."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._cell import Cell
from jaxrnn._sequence import valid_steps
from jaxrnn.combinators import Bidirectional, Stack
from jaxrnn.combinators.wrapper import Around

Array = jax.Array


class Padded(NamedTuple):
    """Sequences side by side, the shorter ones padded with zeros on the right."""

    xs: np.ndarray  # [time, batch, ...]
    lengths: np.ndarray  # [batch]
    places: np.ndarray  # [batch]: which sequence of the list stands in this column


class Packed(NamedTuple):
    """Sequences one after the other in few columns."""

    xs: np.ndarray  # [time, batch, ...]
    mask: np.ndarray  # [time, batch]: False where nothing stands
    reset: np.ndarray  # [time, batch]: where a sequence begins
    places: tuple[tuple[int, int, int], ...]  # for each sequence of the list: column, first step, length


def pad(sequences: Sequence[Any]) -> Padded:
    """Arrays `[length, ...]` side by side, for `jaxrnn.scan(..., lengths=...)`.

    Raises:
        ValueError: there is none, or they differ in more than their length.

    >>> padded = pad([np.ones((3, 2)), np.ones((5, 2))])
    >>> padded.xs.shape, padded.lengths.tolist()
    ((5, 2, 2), [3, 5])
    """
    arrays = _arrays("pad", sequences)
    lengths = np.array([len(array) for array in arrays])
    xs = np.zeros((lengths.max(), len(arrays), *arrays[0].shape[1:]), arrays[0].dtype)
    for column, array in enumerate(arrays):
        xs[: len(array), column] = array
    return Padded(xs, lengths, np.arange(len(arrays)))


def bucket(sequences: Sequence[Any], limits: Iterable[int]) -> list[Padded]:
    """One `Padded` for each limit that sequences need: those no longer than it and longer than the limit before, padded to it.

    Equal shapes share one compiled program; little is padded if the limits fit the data.

    Raises:
        ValueError: a sequence is longer than all limits, or they differ in more than their length.

    >>> [(part.xs.shape, part.places.tolist()) for part in bucket([np.ones(3), np.ones(9), np.ones(4)], [4, 16])]
    [((4, 2), [0, 2]), ((16, 1), [1])]
    """
    arrays, limits = _arrays("bucket", sequences), sorted(limits)
    if not limits or max(map(len, arrays)) > limits[-1]:
        raise ValueError(f"bucket: the longest sequence has {max(map(len, arrays))} steps, the limits are {limits}; add a longer one")
    chosen = np.searchsorted(limits, [len(array) for array in arrays])
    parts = []
    for k, limit in enumerate(limits):
        if (places := np.flatnonzero(chosen == k)).size:
            xs, lengths, _ = pad([arrays[place] for place in places])
            rest = np.zeros((limit - len(xs), *xs.shape[1:]), xs.dtype)
            parts.append(Padded(np.concatenate([xs, rest]), lengths, places))
    return parts


def pack(sequences: Sequence[Any], time: int) -> Packed:
    """Arrays `[length, ...]` one after the other in columns of `time` steps, for `jaxrnn.scan(..., mask=..., reset=...)`.

    Longer ones are placed first, each into the first column with room for it (first fit decreasing).

    Raises:
        ValueError: a sequence is longer than `time`, or they differ in more than their length.

    >>> packed = pack([np.ones(3), np.ones(5), np.ones(2)], time=5)
    >>> packed.xs.shape, packed.places
    ((5, 2), ((1, 0, 3), (0, 0, 5), (1, 3, 2)))
    """
    arrays = _arrays("pack", sequences)
    if (longest := max(map(len, arrays))) > time:
        raise ValueError(f"pack: the longest sequence has {longest} steps, expected at most time = {time}")
    used: list[int] = []
    places: list[tuple[int, int, int]] = [(0, 0, 0)] * len(arrays)
    for number in sorted(range(len(arrays)), key=lambda number: -len(arrays[number])):
        length = len(arrays[number])
        column = next((k for k, steps in enumerate(used) if steps + length <= time), len(used))
        if column == len(used):
            used.append(0)
        places[number] = (column, used[column], length)
        used[column] += length
    xs = np.zeros((time, len(used), *arrays[0].shape[1:]), arrays[0].dtype)
    mask, reset = np.zeros(xs.shape[:2], bool), np.zeros(xs.shape[:2], bool)
    for array, (column, start, length) in zip(arrays, places, strict=True):
        xs[start : start + length, column] = array
        mask[start : start + length, column] = True
        reset[start : start + 1, column] |= length > 0
    return Packed(xs, mask, reset, tuple(places))


def unpack(ys: Any, packed: Packed) -> list[Any]:
    """The outputs of each sequence, in the order of the list that was packed.

    >>> packed = pack([np.ones(3), np.full(2, 7.0)], time=5)
    >>> unpack(packed.xs, packed)[1].tolist()
    [7.0, 7.0]
    """
    return [ys[start : start + length, column] for column, start, length in packed.places]


def last_output(cell: Cell, ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
    """The output of each sequence at the end of its walk: after its last valid step, for the backward half of a `Bidirectional` after
    its first. Zero for a sequence without steps.

    Args:
        cell: what gave `ys`, forwards.
        ys: outputs `[time, *batch, features]`.
        lengths: as in `jaxrnn.scan`.
        mask: as in `jaxrnn.scan`.

    Raises:
        ValueError: the two directions were merged into one, so that neither's end can be told.

    >>> cell = Bidirectional(Stack([__import__("jaxrnn").GRU(4)]))
    >>> last_output(cell, jnp.ones((7, 2, 8)), lengths=jnp.array([7, 0])).sum(axis=-1).tolist()
    [8.0, 0.0]
    """
    first = jax.tree.leaves(ys)[0]
    valid = _valid(first, lengths, mask)
    return _ends(cell, ys, valid, backwards=False)


def mean_output(ys: Array, *, lengths: Any = None, mask: Any = None) -> Array:
    """The mean over valid steps of `ys [time, *batch, features]`; zero for a sequence without steps.

    >>> mean_output(jnp.arange(4.0).reshape(4, 1, 1), lengths=jnp.array([3])).tolist()
    [[1.0]]
    """
    valid = _valid(ys, lengths, mask)[..., None]
    return jnp.sum(jnp.where(valid, ys, 0), axis=0) / jnp.maximum(jnp.sum(valid, axis=0), 1).astype(ys.dtype)


def max_output(ys: Array, *, lengths: Any = None, mask: Any = None) -> Array:
    """The maximum over valid steps of `ys [time, *batch, features]`; zero for a sequence without steps.

    >>> max_output(jnp.arange(4.0).reshape(4, 1, 1), lengths=jnp.array([3])).tolist()
    [[2.0]]
    """
    valid = _valid(ys, lengths, mask)[..., None]
    highest = jnp.max(jnp.where(valid, ys, -jnp.inf), axis=0, initial=-jnp.inf)
    return jnp.where(jnp.any(valid, axis=0), highest, 0).astype(ys.dtype)


def _ends(cell: Cell, ys: Any, valid: Array, backwards: bool) -> Any:
    if isinstance(cell, Stack):
        return _ends(cell.cells[-1], ys, valid, backwards)
    if isinstance(cell, Bidirectional):
        if cell.merge not in ("concat", None):
            raise ValueError(f'last_output: Bidirectional(merge="{cell.merge}") has mixed both directions; use merge="concat" or None')
        halves = jnp.split(ys, [cell.forward.out_features], axis=-1) if cell.merge else ys
        ends = (_ends(cell.forward, halves[0], valid, backwards), _ends(cell.backward, halves[1], valid, not backwards))
        return jnp.concatenate(ends, axis=-1) if cell.merge else ends
    if isinstance(cell, Around):
        return _ends(cell.cell, ys, valid, backwards)
    time = valid.shape[0]
    place = jnp.argmax(valid, axis=0) if backwards else time - 1 - jnp.argmax(valid[::-1], axis=0)
    end = jnp.take_along_axis(ys, place[None, ..., None], axis=0)[0]
    return jnp.where(jnp.any(valid, axis=0)[..., None], end, 0)


def _valid(ys: Array, lengths: Any, mask: Any) -> Array:
    lengths, mask = (None if flag is None else jnp.asarray(flag) for flag in (lengths, mask))
    valid = valid_steps(ys.shape[0], lengths, mask)
    return jnp.ones(ys.shape[:-1], bool) if valid is None else valid


def _arrays(function: str, sequences: Sequence[Any]) -> list[np.ndarray]:
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError(f"{function}: there is no sequence")
    forms = {array.shape[1:] for array in arrays}
    if any(array.ndim == 0 for array in arrays) or len(forms) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise ValueError(f"{function}: the sequences have shapes {shapes}, expected [length, ...] that differ in length alone")
    return arrays
