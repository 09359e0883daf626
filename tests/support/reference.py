"""How the papers' equations (`papers.py`) are run in float64 NumPy, one sequence and one step at a
time.

Written without a look at jaxrnn: nothing is batched, projected ahead of time or selected by
`where`. Masks, lengths, resets and direction are what they mean: each row is cut into separate
sequences, and each of those is walked by a plain loop."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Equations:
    """One recurrence, for a single sequence: `initial(params, x)` and `step(params, carry, x) ->
    (carry, y)`.
    """

    initial: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Layers:
    """Each layer reads the outputs of the one below (Graves 2013)."""

    layers: tuple["Reference", ...]
    dense: bool = False  # and the inputs of the one below
    all_outputs: bool = False  # and the outputs of all are joined


@dataclasses.dataclass(frozen=True)
class Joined:
    """The outputs of a recurrence joined with its inputs: `join(params, xs, ys)`; `inner(params)`
    are those of the recurrence.
    """

    reference: "Reference"
    join: Callable[[Any, np.ndarray, np.ndarray], np.ndarray]
    inner: Callable[[Any], Any] = lambda params: params


@dataclasses.dataclass(frozen=True)
class BothWays:
    """One recurrence reads from the left, one from the right (Schuster & Paliwal 1997)."""

    forward: "Reference"
    backward: "Reference"
    merge: Callable[[np.ndarray, np.ndarray], Any]


@dataclasses.dataclass(frozen=True)
class Mapped:
    """A function `(params, xs) -> ys` of every step by itself, without a state."""

    function: Callable[[Any, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Backwards:
    """A recurrence that reads from the right."""

    reference: "Reference"


Reference = Equations | Layers | Joined | BothWays | Mapped | Backwards


def run(
    reference: Reference,
    params: Any,
    xs: Any,
    carry: Any = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    batch_axes: int = 1,
) -> tuple[Any, Any]:
    """What `jaxrnn.scan` must give, in float64."""
    params, xs, carry = _float64((params, xs, carry))
    flags: dict[str, Any] = {
        "lengths": lengths,
        "mask": mask,
        "reset": reset,
        "batch_axes": batch_axes,
    }
    if isinstance(reference, Layers):
        carries, outputs = [], []
        for k, layer in enumerate(reference.layers):
            last, ys = run(
                layer, params[k], xs, None if carry is None else carry[k], reverse=reverse, **flags
            )
            carries.append(last)
            outputs.append(ys)
            xs = np.concatenate([xs, ys], axis=-1) if reference.dense else ys
        ys = np.concatenate(outputs, axis=-1) if reference.all_outputs else ys
        return tuple(carries), ys
    if isinstance(reference, Joined | Mapped):
        usable = np.ones(xs.shape[: 1 + batch_axes], bool) if mask is None else np.asarray(mask)
        if lengths is not None:
            usable = usable & (
                np.arange(len(xs)).reshape(-1, *[1] * batch_axes) < np.asarray(lengths)
            )
        if isinstance(reference, Mapped):
            return (), np.where(usable[..., None], reference.function(params, xs), 0)
        last, ys = run(
            reference.reference, reference.inner(params), xs, carry, reverse=reverse, **flags
        )
        joined = reference.join(params, np.where(usable[..., None], xs, 0), ys)
        return last, np.where(usable[..., None], joined, 0)
    if isinstance(reference, Backwards):
        return run(reference.reference, params, xs, carry, reverse=not reverse, **flags)
    if isinstance(reference, BothWays):
        carry = (None, None) if carry is None else carry
        left, ys_left = run(reference.forward, params[0], xs, carry[0], reverse=reverse, **flags)
        right, ys_right = run(
            reference.backward, params[1], xs, carry[1], reverse=not reverse, **flags
        )
        return (left, right), reference.merge(ys_left, ys_right)

    steps = jax.tree.leaves(xs)[0].shape[: 1 + batch_axes]
    time, batch = steps[0], steps[1:]
    valid = np.ones(steps, bool) if mask is None else np.asarray(mask)
    reset = np.zeros(steps, bool) if reset is None else np.asarray(reset)
    lasts, outputs = [], []
    for row in np.ndindex(batch):
        x = jax.tree.map(lambda leaf, row=row: leaf[(slice(None), *row)], xs)
        start = None if carry is None else jax.tree.map(lambda leaf, row=row: leaf[row], carry)
        end = time if lengths is None else int(np.asarray(lengths)[row])
        usable = [t for t in range(time) if t < end and valid[(t, *row)]]
        last, ys = _row(reference, params, x, start, usable, reset[(slice(None), *row)], reverse)
        lasts.append(last)
        outputs.append(ys)
    carry = jax.tree.map(
        lambda *rows: np.reshape(np.stack(rows), (*batch, *np.shape(rows[0]))), *lasts
    )
    ys = np.stack(outputs)
    return carry, np.moveaxis(ys.reshape(*batch, *ys.shape[1:]), len(batch), 0)


def _row(
    reference: Equations,
    params: Any,
    xs: Any,
    start: Any,
    usable: list[int],
    reset: np.ndarray,
    reverse: bool,
) -> tuple[Any, np.ndarray]:
    """One row: the separate sequences in it, each walked by itself."""
    initial = reference.initial(params, jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:]), xs))
    carry = (
        initial
        if start is None
        else jax.tree.unflatten(jax.tree.structure(initial), jax.tree.leaves(start))
    )
    _, form = reference.step(params, carry, jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:]), xs))
    ys = np.zeros((len(reset), *form.shape))
    for fresh, times in _sequences(usable, reset, reverse):
        if fresh and times:  # nothing restarts for a sequence without steps
            carry = initial
        for t in times:
            carry, ys[t] = reference.step(
                params, carry, jax.tree.map(lambda leaf, t=t: leaf[t], xs)
            )
    return carry, ys


def _sequences(usable: list[int], reset: np.ndarray, reverse: bool) -> list[tuple[bool, list[int]]]:
    """The steps of each sequence in walking order, and whether it starts afresh rather than from
    the carry that was passed.
    """
    sequences: list[tuple[bool, list[int]]] = [(False, [])]
    times = range(len(reset))
    for t in reversed(times) if reverse else times:
        # reset[border] lies between step t and the one walked before it
        border = t + 1 if reverse else t
        if border < len(reset) and reset[border]:
            sequences.append((True, []))
        if t in usable:
            sequences[-1][1].append(t)
    return sequences


def _float64(tree: Any) -> Any:
    def leaf(a: Any) -> np.ndarray:
        a = np.asarray(a)
        return a if np.issubdtype(a.dtype, np.integer) else a.astype(np.float64)

    return jax.tree.map(leaf, tree)
