"""Lists of sequences of different lengths, into arrays and back."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax.typing import ArrayLike

Tree = TypeVar("Tree")
"""A pytree of arrays."""

Place = tuple[int, int, int]
"""Where a sequence stands in `Packed.xs`: column, first step, length."""


class Padded(NamedTuple):
    """Sequences side by side; shorter ones are padded with zeros on the right."""

    xs: np.ndarray  # [time, batch, ...]
    lengths: np.ndarray  # [batch]
    places: np.ndarray  # [batch]: which sequence of the list stands in this column


class Packed(NamedTuple):
    """Several sequences in each column, one after the other."""

    xs: np.ndarray  # [time, batch, ...]
    mask: np.ndarray  # [time, batch]: False where no sequence stands
    reset: np.ndarray  # [time, batch]: True where a sequence begins
    places: tuple[Place, ...]  # of each sequence of the list


def pad(sequences: Sequence[ArrayLike]) -> Padded:
    """Put sequences `[length, ...]` side by side, for `jaxrnn.scan(..., lengths=...)`.

    Raises:
        ValueError: the list is empty, or the sequences differ in more than their length.

    >>> padded = pad([np.ones((3, 2)), np.ones((5, 2))])
    >>> padded.xs.shape, padded.lengths.tolist()
    ((5, 2, 2), [3, 5])
    """
    arrays = _arrays("pad", sequences)
    return _padded(arrays, range(len(arrays)), max(map(len, arrays)))


def bucket(sequences: Sequence[ArrayLike], limits: Iterable[int]) -> list[Padded]:
    """Group sequences by length: each is padded to the smallest limit that is long enough for it.

    Batches of equal shape share one compiled program. The closer the limits are to the lengths, the
    less is padded. A limit that no sequence needs gives no batch.

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
            f"bucket: the longest sequence has {longest} steps, the limits are {limits}; "
            "add a longer one"
        )
    chosen = np.searchsorted(limits, [len(array) for array in arrays])
    places = [np.flatnonzero(chosen == k).tolist() for k in range(len(limits))]
    return [
        _padded(arrays, members, limit)
        for limit, members in zip(limits, places, strict=True)
        if members
    ]


def pack(sequences: Sequence[ArrayLike], time: int) -> Packed:
    """Put sequences `[length, ...]` one after the other into columns of `time` steps, for
    `jaxrnn.scan(..., mask=..., reset=...)`.

    The longest sequence is placed first. Each one goes into the first column that has room for it
    (first-fit decreasing).

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
            f"pack: the longest sequence has {longest} steps, expected at most time = {time}"
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
    """Cut out the outputs of each sequence, in the order of the list that was packed.

    Args:
        ys: outputs `[time, batch, ...]`, or a pytree of such.
        packed: what `pack` returned.

    Raises:
        ValueError: time or batch of the outputs differs from that of `packed`.

    >>> packed = pack([np.ones(3), np.full(2, 7.0)], time=5)
    >>> unpack(packed.xs, packed)[1].tolist()
    [7.0, 7.0]
    """
    steps = packed.mask.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(ys):
        if np.shape(leaf)[:2] != steps:
            raise ValueError(
                f"unpack: ys{jax.tree_util.keystr(path)} has shape {np.shape(leaf)}, expected "
                f"[{steps[0]}, {steps[1]}, ...] as packed.mask; pass the outputs for packed.xs"
            )

    def piece(column: int, start: int, length: int) -> Tree:
        return jax.tree.map(lambda leaf: leaf[start : start + length, column], ys)

    return [piece(*place) for place in packed.places]


def _arrays(function: str, sequences: Sequence[ArrayLike]) -> list[np.ndarray]:
    """The sequences as arrays, refused unless only their lengths differ."""
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError(f"{function}: there is no sequence in the list")
    if any(array.ndim == 0 for array in arrays) or len({array.shape[1:] for array in arrays}) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise ValueError(
            f"{function}: the sequences have shapes {shapes}, expected [length, ...] that differ "
            "in length alone"
        )
    return arrays


def _padded(arrays: Sequence[np.ndarray], places: Sequence[int], time: int) -> Padded:
    """Those arrays of the list that stand at `places`, padded to `time` steps."""
    xs = np.zeros((time, len(places), *arrays[0].shape[1:]), arrays[0].dtype)
    for column, place in enumerate(places):
        xs[: len(arrays[place]), column] = arrays[place]
    return Padded(xs, np.array([len(arrays[place]) for place in places]), np.array(places))


def _first_fit(lengths: Sequence[int], time: int) -> tuple[Place, ...]:
    """A place for each length in columns of `time` steps, the longest one placed first."""
    used: list[int] = []  # steps of each column
    places: dict[int, Place] = {}
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = lengths[number]
        column = next((k for k, steps in enumerate(used) if steps + length <= time), len(used))
        if column == len(used):
            used.append(0)
        places[number] = (column, used[column], length)
        used[column] += length
    return tuple(places[number] for number in range(len(lengths)))
