"""Sequences of different lengths: into arrays and back, and from many outputs to one."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrnn.core.call import Lengths, check_lengths
from jaxrnn.core.cell import Cell
from jaxrnn.core.dtypes import wide
from jaxrnn.core.walk import select, valid_steps

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


def last_output(
    cell: Cell, ys: Tree, *, lengths: Lengths | None = None, mask: ArrayLike | None = None
) -> Tree:
    """Take the output of each sequence at the end of the cell's walk.

    A cell that walks forwards ends at the last valid step. A `Reversed` cell, and the backward half
    of a `Bidirectional`, end at the first valid step. The output of a sequence without valid steps
    is zero.

    Args:
        cell: the cell that gave `ys`, in a `scan` that was not itself reversed.
        ys: outputs `[time, *batch, *features]`, or a pytree of such.
        lengths: as in `jaxrnn.scan`.
        mask: as in `jaxrnn.scan`.

    Raises:
        ValueError: the cell merged its two directions into one output, so that the two ends cannot
            be told apart; or a shape or a length does not fit.
        TypeError: lengths are not integers, or the mask is not bool.

    >>> import jaxrnn
    >>> cell = jaxrnn.Bidirectional(jaxrnn.Stack([jaxrnn.GRU(4)]))
    >>> last_output(cell, jnp.ones((7, 2, 8)), lengths=jnp.array([7, 0])).sum(axis=-1).tolist()
    [8.0, 0.0]
    """
    ys, valid = _checked("last_output", ys, lengths, mask)

    def take(part: Tree, backwards: bool) -> Tree:
        return jax.tree.map(lambda leaf: _end(leaf, valid, backwards), part)

    return cell.ends(ys, take)


def mean_output(ys: Tree, *, lengths: Lengths | None = None, mask: ArrayLike | None = None) -> Tree:
    """Average `ys [time, *batch, *features]`, or each leaf of a pytree of such, over valid steps.

    It is summed in at least float32. The mean of a sequence without valid steps is zero.

    Args:
        ys: outputs of a cell.
        lengths: as in `jaxrnn.scan`.
        mask: as in `jaxrnn.scan`.

    Raises:
        ValueError: a shape or a length does not fit.
        TypeError: the outputs are not floating, lengths are not integers, or the mask is not bool.

    >>> mean_output(jnp.arange(4.0).reshape(4, 1, 1), lengths=jnp.array([3])).tolist()
    [[1.0]]
    """

    def mean(leaf: Array, valid: Array) -> Array:
        total = jnp.sum(leaf, axis=0, where=valid, dtype=wide(leaf))
        steps = jnp.sum(valid, axis=0, dtype=total.dtype)
        return (total / jnp.maximum(steps, 1)).astype(leaf.dtype)

    return _pooled("mean_output", mean, ys, lengths, mask)


def max_output(ys: Tree, *, lengths: Lengths | None = None, mask: ArrayLike | None = None) -> Tree:
    """Take the maximum of `ys [time, *batch, *features]`, or of each leaf of a pytree of such, over
    valid steps.

    The maximum of a sequence without valid steps is zero.

    Args:
        ys: outputs of a cell.
        lengths: as in `jaxrnn.scan`.
        mask: as in `jaxrnn.scan`.

    Raises:
        ValueError: a shape or a length does not fit.
        TypeError: the outputs are not floating, lengths are not integers, or the mask is not bool.

    >>> max_output(jnp.arange(4.0).reshape(4, 1, 1), lengths=jnp.array([3])).tolist()
    [[2.0]]
    """

    def highest(leaf: Array, valid: Array) -> Array:
        found = jnp.max(leaf, axis=0, where=valid, initial=-jnp.inf)
        return jnp.where(jnp.any(valid, axis=0), found, 0)

    return _pooled("max_output", highest, ys, lengths, mask)


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


def _end(leaf: Array, valid: Array, backwards: bool) -> Array:
    """The output at the last valid step, or backwards at the first; zero where there is none."""
    if not len(leaf):
        return jnp.zeros_like(leaf, shape=leaf.shape[1:])
    first_of = valid if backwards else valid[::-1]
    place = jnp.argmax(first_of, axis=0, keepdims=True)
    place = _over_features(place if backwards else len(leaf) - 1 - place, leaf)
    end = jnp.take_along_axis(leaf, place, axis=0)[0]
    return select(jnp.any(valid, axis=0), end, jnp.zeros_like(end))


def _pooled(
    function: str,
    pool: Callable[[Array, Array], Array],
    ys: Tree,
    lengths: Lengths | None,
    mask: ArrayLike | None,
) -> Tree:
    """`pool(leaf, valid)` of every leaf, where `valid` has as many axes as the leaf."""
    ys, valid = _checked(function, ys, lengths, mask)
    for path, leaf in jax.tree_util.tree_leaves_with_path(ys):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{function}: ys{jax.tree_util.keystr(path)} has dtype {leaf.dtype}, expected "
                "floating numbers; cast with .astype(jnp.float32)"
            )
    return jax.tree.map(lambda leaf: pool(leaf, _over_features(valid, leaf)), ys)


def _over_features(flags: Array, leaf: Array) -> Array:
    """`[time, *batch]`, with an axis of size 1 for each feature axis of the leaf."""
    return flags.reshape(flags.shape + (1,) * (leaf.ndim - flags.ndim))


def _checked(
    function: str, ys: Tree, lengths: Lengths | None, mask: ArrayLike | None
) -> tuple[Tree, Array]:
    """The outputs as arrays, and which steps `[time, *batch]` are valid.

    The flags tell which axes of `ys` are batch axes. Without flags, valid is `[time]`: every step
    is, and the number of batch axes does not matter.
    """
    ys = jax.tree.map(jnp.asarray, ys)
    counts = _flag(function, "lengths", lengths, jnp.integer, "integers")
    marks = _flag(function, "mask", mask, jnp.bool_, "bool")
    shapes = [leaf.shape for leaf in jax.tree.leaves(ys)]
    batch = () if counts is None else counts.shape
    time = shapes[0][:1] if shapes else ()
    steps: tuple[int, ...] = (*time, *batch) if marks is None else marks.shape
    fits = steps and all(shape[: len(steps)] == steps for shape in shapes)
    if not fits or (counts is not None and batch != steps[1:]):
        given = [None if flag is None else flag.shape for flag in (counts, marks)]
        raise ValueError(
            f"{function}: ys has shape {jax.tree.map(jnp.shape, ys)}, lengths {given[0]} and mask "
            f"{given[1]}; expected ys [time, *batch, *features], lengths [*batch] and mask "
            "[time, *batch]"
        )
    check_lengths(function, ys, lengths)
    valid = valid_steps(steps[0], counts, marks)
    return ys, jnp.ones(steps, bool) if valid is None else valid


def _flag(
    function: str, name: str, flag: Lengths | None, kind: type, expected: str
) -> Array | None:
    """The flag as an array, refused unless it holds numbers of that kind."""
    if flag is None:
        return None
    array = jnp.asarray(flag)
    if not jnp.issubdtype(array.dtype, kind):
        raise TypeError(f"{function}: {name} has dtype {array.dtype}, expected {expected}")
    return array
