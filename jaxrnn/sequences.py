"""Sequences of different lengths: into arrays and back, and from many outputs to one."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.core.cell import Cell
from jaxrnn.core.dtypes import wide
from jaxrnn.core.walk import select, valid_steps

Pool = Callable[[Array, Array], Array]


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
    # for each sequence of the list: column, first step, length
    places: tuple[tuple[int, int, int], ...]


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
    """One `Padded` for each limit that sequences need: those no longer than it and longer than the
    limit before, padded to it.

    Equal shapes share one compiled program; little is padded if the limits fit the data.

    Raises:
        ValueError: a sequence is longer than all limits, or they differ in more than their length.

    >>> [(part.xs.shape, part.places.tolist()) for part in bucket([np.ones(3), np.ones(9), np.ones(4)], [4, 16])]
    [((4, 2), [0, 2]), ((16, 1), [1])]
    """
    arrays, limits = _arrays("bucket", sequences), sorted(limits)
    if not limits or max(map(len, arrays)) > limits[-1]:
        raise ValueError(
            f"bucket: the longest sequence has {max(map(len, arrays))} steps, the limits are "
            f"{limits}; add a longer one"
        )
    chosen = np.searchsorted(limits, [len(array) for array in arrays])
    parts = []
    for k, limit in enumerate(limits):
        if (places := np.flatnonzero(chosen == k)).size:
            xs, lengths, _ = pad([arrays[place] for place in places])
            rest = np.zeros((limit - len(xs), *xs.shape[1:]), xs.dtype)
            parts.append(Padded(np.concatenate([xs, rest]), lengths, places))
    return parts


def pack(sequences: Sequence[Any], time: int) -> Packed:
    """Arrays `[length, ...]` one after the other in columns of `time` steps, for `jaxrnn.scan(...,
    mask=..., reset=...)`.

    Longer ones are placed first, each into the first column with room for it (first fit
    decreasing).

    Raises:
        ValueError: a sequence is longer than `time`, or they differ in more than their length.

    >>> packed = pack([np.ones(3), np.ones(5), np.ones(2)], time=5)
    >>> packed.xs.shape, packed.places
    ((5, 2), ((1, 0, 3), (0, 0, 5), (1, 3, 2)))
    """
    arrays = _arrays("pack", sequences)
    if (longest := max(map(len, arrays))) > time:
        raise ValueError(
            f"pack: the longest sequence has {longest} steps, expected at most time = {time}"
        )
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

    Args:
        ys: outputs `[time, batch, ...]`, or a pytree of such.
        packed: what `pack` gave.

    Raises:
        ValueError: the outputs have another time or batch than what was packed.

    >>> packed = pack([np.ones(3), np.full(2, 7.0)], time=5)
    >>> unpack(packed.xs, packed)[1].tolist()
    [7.0, 7.0]
    """
    form = packed.mask.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(ys):
        if np.shape(leaf)[:2] != form:
            raise ValueError(
                f"unpack: ys{jax.tree_util.keystr(path)} has shape {np.shape(leaf)}, expected "
                f"[{form[0]}, {form[1]}, ...] as packed.mask; pass the outputs for packed.xs"
            )

    def piece(column: int, start: int, length: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[start : start + length, column], ys)

    return [piece(*place) for place in packed.places]


def last_output(cell: Cell, ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
    """The output of each sequence at the end of its walk: forwards after its last valid step.

    For the backward half of a `Bidirectional`, and for a `Reversed` cell, it is that of the first
    valid step. Zero for a sequence without steps.

    Args:
        cell: what gave `ys`, forwards.
        ys: outputs `[time, *batch, *features]`, or a pytree of such.
        lengths: as in `jaxrnn.scan`.
        mask: as in `jaxrnn.scan`.

    Raises:
        ValueError: the two directions were merged into one, so that neither's end can be told; or
            a shape does not fit.
        TypeError: lengths are not integers, or the mask is not bool.

    >>> import jaxrnn
    >>> cell = jaxrnn.Bidirectional(jaxrnn.Stack([jaxrnn.GRU(4)]))
    >>> last_output(cell, jnp.ones((7, 2, 8)), lengths=jnp.array([7, 0])).sum(axis=-1).tolist()
    [8.0, 0.0]
    """
    ys, valid = _checked("last_output", ys, lengths, mask)

    def take(tree: Any, backwards: bool) -> Any:
        return jax.tree.map(lambda leaf: _end(leaf, valid, backwards), tree)

    return cell.ends(ys, take)


def mean_output(ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
    """The mean over valid steps of `ys [time, *batch, *features]`, or of a pytree of such.

    It is zero for a sequence without steps, and summed in at least float32.

    Raises:
        ValueError: a shape does not fit.
        TypeError: the outputs are not floating, lengths not integers, or the mask not bool.

    >>> mean_output(jnp.arange(4.0).reshape(4, 1, 1), lengths=jnp.array([3])).tolist()
    [[1.0]]
    """

    def mean(leaf: Array, valid: Array) -> Array:
        total = jnp.sum(leaf, axis=0, where=valid, dtype=wide(leaf))
        steps = jnp.sum(valid, axis=0, dtype=total.dtype)
        return (total / jnp.maximum(steps, 1)).astype(leaf.dtype)

    return _pooled("mean_output", mean, ys, lengths, mask)


def max_output(ys: Any, *, lengths: Any = None, mask: Any = None) -> Any:
    """The maximum over valid steps of `ys [time, *batch, *features]`, or of a pytree of such.

    It is zero for a sequence without steps.

    Raises:
        ValueError: a shape does not fit.
        TypeError: the outputs are not floating, lengths not integers, or the mask not bool.

    >>> max_output(jnp.arange(4.0).reshape(4, 1, 1), lengths=jnp.array([3])).tolist()
    [[2.0]]
    """

    def highest(leaf: Array, valid: Array) -> Array:
        found = jnp.max(leaf, axis=0, where=valid, initial=-jnp.inf)
        return jnp.where(jnp.any(valid, axis=0), found, 0)

    return _pooled("max_output", highest, ys, lengths, mask)


def _end(leaf: Array, valid: Array, backwards: bool) -> Array:
    if not len(leaf):
        return jnp.zeros_like(leaf, shape=leaf.shape[1:])
    first_of = valid if backwards else valid[::-1]
    place = jnp.argmax(first_of, axis=0, keepdims=True)
    place = _over_features(place if backwards else len(leaf) - 1 - place, leaf)
    end = jnp.take_along_axis(leaf, place, axis=0)[0]
    return select(jnp.any(valid, axis=0), end, jnp.zeros_like(end))


def _pooled(function: str, pool: Pool, ys: Any, lengths: Any, mask: Any) -> Any:
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


def _checked(function: str, ys: Any, lengths: Any, mask: Any) -> tuple[Any, Array]:
    """Outputs as arrays, and which steps `[time, *batch]` are valid; `[time]` without flags.

    How many axes are batch axes, the flags tell; without flags it does not matter.
    """
    ys = jax.tree.map(jnp.asarray, ys)
    lengths, mask = (None if flag is None else jnp.asarray(flag) for flag in (lengths, mask))
    for name, flag, kind, wanted in (
        ("lengths", lengths, jnp.integer, "integers"),
        ("mask", mask, jnp.bool_, "bool"),
    ):
        if flag is not None and not jnp.issubdtype(flag.dtype, kind):
            raise TypeError(f"{function}: {name} has dtype {flag.dtype}, expected {wanted}")
    shapes = [leaf.shape for leaf in jax.tree.leaves(ys)]
    batch = () if lengths is None else lengths.shape
    time = shapes[0][:1] if shapes else ()
    steps: tuple[int, ...] = (*time, *batch) if mask is None else mask.shape
    fits = steps and all(shape[: len(steps)] == steps for shape in shapes)
    if not fits or (lengths is not None and batch != steps[1:]):
        raise ValueError(
            f"{function}: ys has shape {jax.tree.map(jnp.shape, ys)}, lengths {_shape(lengths)} "
            f"and mask {_shape(mask)}; expected ys [time, *batch, *features], lengths [*batch] and "
            "mask [time, *batch]"
        )
    valid = valid_steps(steps[0], lengths, mask)
    return ys, jnp.ones(steps, bool) if valid is None else valid


def _shape(flag: Array | None) -> tuple[int, ...] | None:
    return None if flag is None else flag.shape


def _arrays(function: str, sequences: Sequence[Any]) -> list[np.ndarray]:
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError(f"{function}: there is no sequence")
    forms = {array.shape[1:] for array in arrays}
    if any(array.ndim == 0 for array in arrays) or len(forms) > 1:
        shapes = sorted({array.shape for array in arrays})
        raise ValueError(
            f"{function}: the sequences have shapes {shapes}, expected [length, ...] that differ "
            "in length alone"
        )
    return arrays
