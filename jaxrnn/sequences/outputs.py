"""One output for each sequence: the last, the mean or the maximum; and outputs of masked steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxrnn.core.call import Lengths, check_lengths
from jaxrnn.core.cell import Cell
from jaxrnn.core.check import described
from jaxrnn.core.dtypes import wide
from jaxrnn.core.walk import select, valid_steps

Tree = TypeVar("Tree")
"""A pytree of arrays."""


def last_output(
    ys: Tree,
    cell: Cell,
    *,
    lengths: Lengths | None = None,
    mask: ArrayLike | None = None,
    time_axis: int = 0,
) -> Tree:
    """Take the output of each sequence at the end of the cell's walk.

    A forward walk ends at the last valid step. A `Reversed` cell and the backward half of a
    `Bidirectional` end at the first valid step. The outputs of `scan(cell, ..., reverse=True)` end
    there, too: pass `Reversed(cell)` for them. A sequence without valid steps has the output zero.

    Args:
        ys: outputs `[time, *batch, *features]`, or a pytree of such arrays.
        cell: the cell that computed them.
        lengths: as in `jaxrnn.scan`.
        mask: as in `jaxrnn.scan`.
        time_axis: the position of the time axis in `ys` and `mask`, which is the number of batch
            axes before it.

    Returns:
        One output for each sequence, `[*batch, *features]`.

    Raises:
        ValueError: a shape or a length does not fit; or a `Bidirectional` has merged its directions
            into one output, so that their ends cannot be separated.
        TypeError: `lengths` are not integers, `mask` is not bool, or `cell` is not a cell.

    >>> import jaxrnn
    >>> cell = jaxrnn.Bidirectional(jaxrnn.Stack([jaxrnn.GRU(4)]))
    >>> last_output(jnp.ones((7, 2, 8)), cell, lengths=jnp.array([7, 0])).sum(axis=-1).tolist()
    [8.0, 0.0]
    """
    return _at_ends("last_output", _end, cell, ys, lengths, mask, time_axis)


def repeat_output(
    ys: Tree,
    cell: Cell,
    *,
    lengths: Lengths | None = None,
    mask: ArrayLike | None = None,
    time_axis: int = 0,
) -> Tree:
    """Fill the outputs of masked steps with the output of the last valid step before them.

    "Before" follows the cell's walk: each half of a `Bidirectional` is filled in its own direction.
    Steps before the first valid one stay zero. Keras fills outputs like this, unless a layer has
    `zero_output_for_mask`.

    Args:
        ys: outputs `[time, *batch, *features]`, or a pytree of such arrays.
        cell: the cell that computed them.
        lengths: as in `jaxrnn.scan`.
        mask: as in `jaxrnn.scan`.
        time_axis: as in `last_output`.

    Returns:
        The filled outputs, in the shape of `ys`.

    Raises:
        ValueError: as in `last_output`.
        TypeError: as in `last_output`.

    >>> import jaxrnn
    >>> ys = jnp.array([[0.0], [5.0], [0.0], [7.0]])
    >>> repeat_output(ys, jaxrnn.GRU(1), mask=jnp.array([False, True, False, True])).tolist()
    [[0.0], [5.0], [5.0], [7.0]]
    """
    filled = _at_ends("repeat_output", _filled, cell, ys, lengths, mask, time_axis)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, time_axis), filled)


def mean_output(
    ys: Tree,
    *,
    lengths: Lengths | None = None,
    mask: ArrayLike | None = None,
    time_axis: int = 0,
) -> Tree:
    """Average the outputs of each sequence over its valid steps.

    The sum is computed in at least float32. The mean of a sequence without valid steps is zero.

    Args:
        ys: outputs `[time, *batch, *features]`, or a pytree of such arrays.
        lengths: as in `jaxrnn.scan`.
        mask: as in `jaxrnn.scan`.
        time_axis: as in `last_output`.

    Returns:
        The means `[*batch, *features]`, in the dtype of `ys`.

    Raises:
        ValueError: a shape or a length does not fit.
        TypeError: `ys` is not floating, `lengths` are not integers, or `mask` is not bool.

    >>> mean_output(jnp.arange(4.0).reshape(4, 1, 1), lengths=jnp.array([3])).tolist()
    [[1.0]]
    """
    return _pooled("mean_output", _mean, ys, lengths, mask, time_axis)


def max_output(
    ys: Tree,
    *,
    lengths: Lengths | None = None,
    mask: ArrayLike | None = None,
    time_axis: int = 0,
) -> Tree:
    """Take the maximum of each feature over the valid steps of each sequence.

    The maximum of a sequence without valid steps is zero.

    Args:
        ys: outputs `[time, *batch, *features]`, or a pytree of such arrays.
        lengths: as in `jaxrnn.scan`.
        mask: as in `jaxrnn.scan`.
        time_axis: as in `last_output`.

    Returns:
        The maxima `[*batch, *features]`, in the dtype of `ys`.

    Raises:
        ValueError: a shape or a length does not fit.
        TypeError: `ys` is not floating, `lengths` are not integers, or `mask` is not bool.

    >>> max_output(jnp.arange(4.0).reshape(4, 1, 1), lengths=jnp.array([3])).tolist()
    [[2.0]]
    """
    return _pooled("max_output", _highest, ys, lengths, mask, time_axis)


# jit stands here so that a call outside of the user's jit compiles one program for each shape.
@jax.jit
def _mean(leaf: Array, valid: Array) -> Array:
    """Return the mean over the valid steps; zero without one."""
    total = jnp.sum(leaf, axis=0, where=valid, dtype=wide(leaf))
    steps = jnp.sum(valid, axis=0, dtype=total.dtype)
    return (total / jnp.maximum(steps, 1)).astype(leaf.dtype)


@jax.jit
def _highest(leaf: Array, valid: Array) -> Array:
    """Return the maximum over the valid steps; zero without one."""
    found = jnp.max(leaf, axis=0, where=valid, initial=-jnp.inf)
    return jnp.where(jnp.any(valid, axis=0), found, 0)


@partial(jax.jit, static_argnames="backwards")
def _end(leaf: Array, valid: Array, backwards: bool) -> Array:
    """Return the output at the last valid step (the first if `backwards`); zero without one."""
    if not len(leaf):
        return jnp.zeros_like(leaf, shape=leaf.shape[1:])
    first_of = valid if backwards else valid[::-1]
    place = jnp.argmax(first_of, axis=0, keepdims=True)
    place = _over_features(place if backwards else len(leaf) - 1 - place, leaf)
    end = jnp.take_along_axis(leaf, place, axis=0)[0]
    return select(jnp.any(valid, axis=0), end, jnp.zeros_like(end))


@partial(jax.jit, static_argnames="backwards")
def _filled(leaf: Array, valid: Array, backwards: bool) -> Array:
    """Return the outputs, with that of the last valid step before each step that is not valid."""
    if backwards:
        return _filled(leaf[::-1], valid[::-1], False)[::-1]
    steps = jnp.arange(len(leaf)).reshape(-1, *[1] * (valid.ndim - 1))
    found = lax.cummax(jnp.where(valid, steps, -1), axis=0)
    places = _over_features(jnp.maximum(found, 0), leaf)
    held = jnp.take_along_axis(leaf, places, axis=0)
    return select(found >= 0, held, jnp.zeros_like(held))


def _at_ends(
    function: str,
    take: Callable[[Array, Array, bool], Array],
    cell: Cell,
    *given: Any,
) -> Any:
    """Call `take(leaf, valid, backwards)` for every leaf and each of the cell's walks."""
    if not isinstance(cell, Cell):
        raise TypeError(
            f"{function}: cell is {described(cell)}, expected the jaxrnn.Cell that computed ys; "
            "pass them as (ys, cell)"
        )
    ys, valid = checked(function, *given)
    return cell.ends(
        ys, lambda part, backwards: jax.tree.map(lambda y: take(y, valid, backwards), part)
    )


def _pooled(function: str, pool: Callable[[Array, Array], Array], *given: Any) -> Any:
    """Call `pool(leaf, valid)` for every leaf. `valid` then has as many axes as the leaf."""
    ys, valid = checked(function, *given)
    for path, leaf in jax.tree_util.tree_leaves_with_path(ys):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{function}: ys{jax.tree_util.keystr(path)} has dtype {leaf.dtype}, expected "
                "floating numbers; cast with .astype(jnp.float32)"
            )
    return jax.tree.map(lambda leaf: pool(leaf, _over_features(valid, leaf)), ys)


def _over_features(flags: Array, leaf: Array) -> Array:
    """Append to flags `[time, *batch]` an axis of size 1 for each feature axis of the leaf."""
    return flags.reshape(flags.shape + (1,) * (leaf.ndim - flags.ndim))


def checked(
    function: str,
    ys: Tree,
    lengths: Lengths | None,
    mask: ArrayLike | None,
    time_axis: int,
    name: str = "ys",
) -> tuple[Tree, Array]:
    """Return the outputs as arrays with time first, and the valid steps, bool `[time, *batch]`.

    `lengths` and `mask` tell which axes of `ys` are batch axes. Without both, the valid steps have
    the shape `[time]`, and the number of batch axes does not matter.

    Raises:
        ValueError: a shape or a length does not fit.
        TypeError: `lengths` are not integers, or `mask` is not bool.
    """
    counts = _flag(function, "lengths", lengths, jnp.integer, "integers")
    marks = _flag(function, "mask", mask, jnp.bool_, "bool")
    ys, marks = _time_first(function, (jax.tree.map(jnp.asarray, ys), marks), time_axis)
    shapes = [leaf.shape for leaf in jax.tree.leaves(ys)]
    batch = () if counts is None else counts.shape
    time = shapes[0][:1] if shapes else ()
    steps: tuple[int, ...] = (*time, *batch) if marks is None else marks.shape
    fits = steps and all(shape[: len(steps)] == steps for shape in shapes)
    if not fits or (counts is not None and batch != steps[1:]):
        given = [None if flag is None else flag.shape for flag in (counts, marks)]
        moved = f" after axis {time_axis} was moved to the front" if time_axis else ""
        batch_major = not time_axis and batch and all(s[: len(batch)] == batch for s in shapes)
        hint = f"; pass time_axis={len(batch)} if the batch comes first" if batch_major else ""
        raise ValueError(
            f"{function}: {name} has shape {jax.tree.map(jnp.shape, ys)}, lengths {given[0]} and "
            f"mask {given[1]}{moved}; expected {name} [time, *batch, *features], lengths [*batch] "
            f"and mask [time, *batch]{hint}"
        )
    check_lengths(function, steps[0], lengths)
    valid = valid_steps(steps[0], counts, marks)
    return ys, jnp.ones(steps, bool) if valid is None else valid


def _time_first(function: str, arrays: Tree, time_axis: int) -> Tree:
    """Move the time axis to the front. Refuse a `time_axis` that an array does not have."""
    rank = min((leaf.ndim for leaf in jax.tree.leaves(arrays)), default=0)
    if time_axis not in range(max(rank, 1)):  # arrays without any axis are refused later
        raise ValueError(
            f"{function}: time_axis is {time_axis}, expected the number of batch axes before time, "
            f"below {rank}"
        )
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, time_axis, 0), arrays) if rank else arrays


def _flag(
    function: str, name: str, flag: Lengths | None, kind: type, expected: str
) -> Array | None:
    """Return the flag as an array. Refuse one that holds another kind of numbers."""
    if flag is None:
        return None
    array = jnp.asarray(flag)
    if not jnp.issubdtype(array.dtype, kind):
        raise TypeError(f"{function}: {name} has dtype {array.dtype}, expected {expected}; cast it")
    return array
