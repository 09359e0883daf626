"""How the papers' equations (`papers.py`) are run in float64 NumPy, one sequence and one step at a
time.

Written without a look at jaxrnn: nothing is batched, projected ahead of time or selected by
`where`. Masks, lengths, resets and direction are what they mean: each row is cut into separate
sequences, and each of those is walked by a plain loop."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np


class Steps(NamedTuple):
    """What the flags say of each step, `[time, *batch]`."""

    usable: np.ndarray  # it lies within the lengths and the mask
    reset: np.ndarray


class Reference(Protocol):
    """Whatever runs as `jaxrnn.scan` does, in float64."""

    def run(self, params: Any, xs: Any, carry: Any, steps: Steps, reverse: bool) -> tuple[Any, Any]:
        """The last carry, and the outputs `[time, *batch, ...]`."""
        ...


@dataclasses.dataclass(frozen=True)
class Equations:
    """One recurrence, for a single sequence: `initial(params, x)` and `step(params, carry, x) ->
    (carry, y)`.
    """

    initial: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, np.ndarray]]

    def run(self, params: Any, xs: Any, carry: Any, steps: Steps, reverse: bool) -> tuple[Any, Any]:
        """Each row by itself."""
        batch = steps.usable.shape[1:]
        lasts, outputs = [], []
        for row in np.ndindex(batch):
            x, own = at((xs, steps), (slice(None), *row))
            last, ys = self._row(params, x, at(carry, row), own, reverse)
            lasts.append(last)
            outputs.append(ys)
        last = jax.tree.map(
            lambda *rows: np.reshape(np.stack(rows), (*batch, *np.shape(rows[0]))), *lasts
        )
        ys = np.stack(outputs)
        return last, np.moveaxis(ys.reshape(*batch, *ys.shape[1:]), len(batch), 0)

    def _row(
        self, params: Any, xs: Any, start: Any, steps: Steps, reverse: bool
    ) -> tuple[Any, np.ndarray]:
        """The separate sequences in one row, each walked by itself."""
        nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:]), xs)
        initial = self.initial(params, nothing)
        carry = (
            initial
            if start is None
            else jax.tree.unflatten(jax.tree.structure(initial), jax.tree.leaves(start))
        )
        _, form = self.step(params, carry, nothing)
        ys = np.zeros((len(steps.usable), *form.shape))
        for fresh, times in _sequences(steps, reverse):
            if fresh and times:  # nothing restarts for a sequence without steps
                carry = initial
            for t in times:
                carry, ys[t] = self.step(params, carry, at(xs, t))
        return carry, ys


@dataclasses.dataclass(frozen=True)
class Layers:
    """Each layer reads the outputs of the one below (Graves 2013)."""

    layers: tuple[Reference, ...]
    dense: bool = False  # and the inputs of the one below
    all_outputs: bool = False  # and the outputs of all are joined

    def run(self, params: Any, xs: Any, carry: Any, steps: Steps, reverse: bool) -> tuple[Any, Any]:
        """The carries of all layers, and the outputs of the last or of all."""
        carries, outputs, ys = [], [], xs
        starts = [None] * len(self.layers) if carry is None else carry
        for layer, own, start in zip(self.layers, params, starts, strict=True):
            last, ys = layer.run(own, xs, start, steps, reverse)
            carries.append(last)
            outputs.append(ys)
            xs = np.concatenate([xs, ys], axis=-1) if self.dense else ys
        return tuple(carries), np.concatenate(outputs, axis=-1) if self.all_outputs else ys


@dataclasses.dataclass(frozen=True)
class Joined:
    """The outputs of a recurrence joined with its inputs: `join(params, xs, ys)`; `inner(params)`
    are those of the recurrence.
    """

    reference: Reference
    join: Callable[[Any, np.ndarray, np.ndarray], np.ndarray]
    inner: Callable[[Any], Any] = lambda params: params

    def run(self, params: Any, xs: Any, carry: Any, steps: Steps, reverse: bool) -> tuple[Any, Any]:
        """Zero at the steps that are not usable."""
        last, ys = self.reference.run(self.inner(params), xs, carry, steps, reverse)
        usable = steps.usable[..., None]
        return last, np.where(usable, self.join(params, np.where(usable, xs, 0), ys), 0)


@dataclasses.dataclass(frozen=True)
class Mapped:
    """A function `(params, xs) -> ys` of every step by itself, without a state."""

    function: Callable[[Any, np.ndarray], np.ndarray]

    def run(self, params: Any, xs: Any, carry: Any, steps: Steps, reverse: bool) -> tuple[Any, Any]:
        """Zero at the steps that are not usable."""
        return (), np.where(steps.usable[..., None], self.function(params, xs), 0)


@dataclasses.dataclass(frozen=True)
class Backwards:
    """A recurrence that reads from the right."""

    reference: Reference

    def run(self, params: Any, xs: Any, carry: Any, steps: Steps, reverse: bool) -> tuple[Any, Any]:
        """The other way."""
        return self.reference.run(params, xs, carry, steps, not reverse)


@dataclasses.dataclass(frozen=True)
class BothWays:
    """One recurrence reads from the left, one from the right (Schuster & Paliwal 1997)."""

    forward: Reference
    backward: Reference
    merge: Callable[[np.ndarray, np.ndarray], Any]

    def run(self, params: Any, xs: Any, carry: Any, steps: Steps, reverse: bool) -> tuple[Any, Any]:
        """Both carries, and the merged outputs."""
        starts = (None, None) if carry is None else carry
        left, ys_left = self.forward.run(params[0], xs, starts[0], steps, reverse)
        right, ys_right = self.backward.run(params[1], xs, starts[1], steps, not reverse)
        return (left, right), self.merge(ys_left, ys_right)


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
    shape = jax.tree.leaves(xs)[0].shape[: 1 + batch_axes]
    usable = np.ones(shape, bool) if mask is None else np.asarray(mask)
    if lengths is not None:
        times = np.arange(shape[0]).reshape(-1, *[1] * batch_axes)
        usable = usable & (times < np.asarray(lengths))
    steps = Steps(usable, np.zeros(shape, bool) if reset is None else np.asarray(reset))
    return reference.run(params, xs, carry, steps, reverse)


def at(tree: Any, index: Any) -> Any:
    """A part of every array of a tree; None of None."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _sequences(steps: Steps, reverse: bool) -> list[tuple[bool, list[int]]]:
    """The steps of each sequence in walking order, and whether it starts afresh rather than from
    the carry that was passed.
    """
    sequences: list[tuple[bool, list[int]]] = [(False, [])]
    times = range(len(steps.reset))
    for t in reversed(times) if reverse else times:
        # reset[border] lies between step t and the one walked before it
        border = t + 1 if reverse else t
        if border < len(times) and steps.reset[border]:
            sequences.append((True, []))
        if steps.usable[t]:
            sequences[-1][1].append(t)
    return sequences


def _float64(tree: Any) -> Any:
    def leaf(a: Any) -> np.ndarray:
        a = np.asarray(a)
        return a if np.issubdtype(a.dtype, np.integer) else a.astype(np.float64)

    return jax.tree.map(leaf, tree)
