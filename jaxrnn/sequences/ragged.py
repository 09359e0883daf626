"""Lists of sequences of different lengths, put into arrays and taken out again."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax.typing import ArrayLike

Tree = TypeVar("Tree")
"""A pytree of arrays."""

Place = tuple[int, int, int]
"""The place of a sequence in `Packed.xs`: its column, its first step, and its length."""


class Padded(NamedTuple):
    """One sequence in each column, padded with zeros at the end. `pad` and `bucket` return it.

    >>> xs, lengths, places = pad([np.array([1, 2, 3]), np.array([4])])
    >>> xs.T.tolist(), lengths.tolist(), places.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1], [0, 1])
    """

    xs: np.ndarray  # [time, batch, ...]
    lengths: np.ndarray  # [batch], integers
    places: np.ndarray  # [batch]: the index in the list of the sequence in this column


class Packed(NamedTuple):
    """Several sequences in each column, one after the other. `pack` returns it.

    >>> packed = pack([np.array([1, 2]), np.array([3])], time=4)
    >>> packed.xs[:, 0].tolist(), packed.mask[:, 0].tolist(), packed.reset[:, 0].tolist()
    ([1, 2, 3, 0], [True, True, True, False], [True, False, True, False])
    """

    xs: np.ndarray  # [time, batch, ...]
    mask: np.ndarray  # [time, batch], bool: False where there is no sequence
    reset: np.ndarray  # [time, batch], bool: True where a sequence begins
    places: tuple[Place, ...]  # of each sequence, in the order of the list


def pad(sequences: Sequence[ArrayLike]) -> Padded:
    """Pad sequences to the longest of them, for `jaxrnn.scan(..., lengths=...)`.

    Args:
        sequences: a list of arrays `[length, ...]`. Their dtypes are promoted to a common one.

    Returns:
        The sequences, one in each column.

    Raises:
        ValueError: the list is empty, or the sequences differ in more than their length.

    >>> padded = pad([np.ones((3, 2)), np.ones((5, 2))])
    >>> padded.xs.shape, padded.lengths.tolist()
    ((5, 2, 2), [3, 5])
    """
    arrays = _arrays("pad", sequences)
    return _padded(arrays, range(len(arrays)), max(map(len, arrays)))


def bucket(sequences: Sequence[ArrayLike], limits: Iterable[int]) -> list[Padded]:
    """Group sequences by length, and pad each group to a limit.

    A sequence goes to the smallest limit that is at least its length. Batches of equal shape share
    one compiled program. More limits mean less padding and more programs.

    Args:
        sequences: a list of arrays `[length, ...]`. Their dtypes are promoted to a common one.
        limits: the lengths to pad to, in any order.

    Returns:
        One batch for each limit that a sequence needs, from the smallest limit to the largest.

    Raises:
        ValueError: the list is empty, a sequence is longer than every limit, or the sequences
            differ in more than their length.

    >>> parts = bucket([np.ones(3), np.ones(9), np.ones(4)], [4, 16])
    >>> [(part.xs.shape, part.places.tolist()) for part in parts]
    [((4, 2), [0, 2]), ((16, 1), [1])]
    """
    arrays, limits = _arrays("bucket", sequences), sorted(limits)
    longest = max(map(len, arrays))
    if not limits or longest > limits[-1]:
        raise ValueError(
            f"bucket: the longest sequence has {longest} steps, expected at most the largest of "
            f"the limits {limits}; add a larger limit"
        )
    chosen = np.searchsorted(limits, [len(array) for array in arrays])
    places = [np.flatnonzero(chosen == k).tolist() for k in range(len(limits))]
    return [
        _padded(arrays, members, limit)
        for limit, members in zip(limits, places, strict=True)
        if members
    ]


def pack(sequences: Sequence[ArrayLike], time: int) -> Packed:
    """Pack sequences into columns of `time` steps, for `jaxrnn.scan(..., mask=..., reset=...)`.

    The sequences are placed from the longest to the shortest. Each goes into the first column that
    has room for it (first-fit decreasing).

    Args:
        sequences: a list of arrays `[length, ...]`. Their dtypes are promoted to a common one.
        time: the number of steps of every column.

    Returns:
        The columns, with the mask and the resets for `jaxrnn.scan`.

    Raises:
        ValueError: the list is empty, a sequence is longer than `time`, or the sequences differ in
            more than their length.

    >>> packed = pack([np.ones(3), np.ones(5), np.ones(2)], time=5)
    >>> packed.xs.shape, packed.places
    ((5, 2), ((1, 0, 3), (0, 0, 5), (1, 3, 2)))
    """
    arrays = _arrays("pack", sequences)
    if (longest := max(map(len, arrays))) > time:
        raise ValueError(
            f"pack: the longest sequence has {longest} steps, expected at most time = {time}; pass "
            "a larger time"
        )
    places = _first_fit([len(array) for array in arrays], time)
    columns = 1 + max(column for column, _, _ in places)
    xs = np.zeros((time, columns, *arrays[0].shape[1:]), arrays[0].dtype)
    mask, reset = np.zeros((time, columns), bool), np.zeros((time, columns), bool)
    for array, (column, start, length) in zip(arrays, places, strict=True):
        xs[start : start + length, column] = array
        mask[start : start + length, column] = True
        reset[start : start + 1, column] |= length > 0
    return Packed(xs, mask, reset, places)


def unpack(ys: Tree, packed: Packed) -> list[Tree]:
    """Take the outputs of each sequence out of packed columns.

    Args:
        ys: outputs `[time, batch, ...]`, or a pytree of such arrays.
        packed: what `pack` returned for the inputs.

    Returns:
        The outputs `[length, ...]` of each sequence, in the order of the list that was packed.

    Raises:
        ValueError: the outputs differ from `packed` in the size of time or batch.

    >>> packed = pack([np.ones(3), np.full(2, 7.0)], time=5)
    >>> unpack(packed.xs, packed)[1].tolist()
    [7.0, 7.0]
    """
    steps = packed.mask.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(ys):
        if np.shape(leaf)[:2] != steps:
            raise ValueError(
                f"unpack: ys{jax.tree_util.keystr(path)} has shape {np.shape(leaf)}, expected "
                f"[{steps[0]}, {steps[1]}, ...], as packed.mask has; pass the outputs for packed.xs"
            )

    def piece(column: int, start: int, length: int) -> Tree:
        return jax.tree.map(lambda leaf: leaf[start : start + length, column], ys)

    return [piece(*place) for place in packed.places]


def _arrays(function: str, sequences: Sequence[ArrayLike]) -> list[np.ndarray]:
    """Return the sequences as arrays of one dtype. Refuse them if more than the length differs."""
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError(f"{function}: the list is empty, expected at least one sequence; add one")
    if any(array.ndim == 0 for array in arrays) or len({array.shape[1:] for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise ValueError(
            f"{function}: the sequences have shapes {shapes}, expected [length, ...] with equal "
            "axes after the first; reshape them"
        )
    counted = [array for array in arrays if array.size] or arrays  # an empty list has no dtype
    dtype = np.result_type(*counted)
    return [array.astype(dtype, copy=False) for array in arrays]


def _padded(arrays: Sequence[np.ndarray], places: Sequence[int], time: int) -> Padded:
    """Pad the arrays at these places of the list to `time` steps."""
    xs = np.zeros((time, len(places), *arrays[0].shape[1:]), arrays[0].dtype)
    for column, place in enumerate(places):
        xs[: len(arrays[place]), column] = arrays[place]
    return Padded(xs, np.array([len(arrays[place]) for place in places]), np.array(places))


def _first_fit(lengths: Sequence[int], time: int) -> tuple[Place, ...]:
    """Return a place for each length in columns of `time` steps."""
    used: list[int] = []  # how many steps of each column are taken
    places: dict[int, Place] = {}
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = lengths[number]
        column = next((k for k, steps in enumerate(used) if steps + length <= time), len(used))
        if column == len(used):
            used.append(0)
        places[number] = (column, used[column], length)
        used[column] += length
    return tuple(places[number] for number in range(len(lengths)))
