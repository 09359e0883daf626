"""The papers' equations in float64 NumPy, one sequence and one step at a time.

Written from the papers, not from jaxrnn: nothing is batched, projected ahead of time or selected by `where`. Masks, lengths, resets
and direction are what they mean: each row is cut into separate sequences, and each of those is walked by a plain loop.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Equations:
    """One recurrence, for a single sequence: `initial(params, x)` and `step(params, carry, x) -> (carry, y)`."""

    initial: Callable[[Any, Any], Any]
    step: Callable[[Any, Any, Any], tuple[Any, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Layers:
    """Each layer reads the outputs of the one below (Graves 2013)."""

    layers: tuple["Reference", ...]


@dataclasses.dataclass(frozen=True)
class BothWays:
    """One recurrence reads from the left, one from the right (Schuster & Paliwal 1997)."""

    forward: "Reference"
    backward: "Reference"
    merge: Callable[[np.ndarray, np.ndarray], Any]


Reference = Equations | Layers | BothWays


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
    flags: dict[str, Any] = {"lengths": lengths, "mask": mask, "reset": reset, "batch_axes": batch_axes}
    if isinstance(reference, Layers):
        carries = []
        for k, layer in enumerate(reference.layers):
            last, xs = run(layer, params[k], xs, None if carry is None else carry[k], reverse=reverse, **flags)
            carries.append(last)
        return tuple(carries), xs
    if isinstance(reference, BothWays):
        carry = (None, None) if carry is None else carry
        left, ys_left = run(reference.forward, params[0], xs, carry[0], reverse=reverse, **flags)
        right, ys_right = run(reference.backward, params[1], xs, carry[1], reverse=not reverse, **flags)
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
    carry = jax.tree.map(lambda *rows: np.reshape(np.stack(rows), (*batch, *np.shape(rows[0]))), *lasts)
    ys = np.stack(outputs)
    return carry, np.moveaxis(ys.reshape(*batch, *ys.shape[1:]), len(batch), 0)


def _row(
    reference: Equations, params: Any, xs: Any, start: Any, usable: list[int], reset: np.ndarray, reverse: bool
) -> tuple[Any, np.ndarray]:
    """One row: the separate sequences in it, each walked by itself."""
    initial = reference.initial(params, jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:]), xs))
    carry = initial if start is None else jax.tree.unflatten(jax.tree.structure(initial), jax.tree.leaves(start))
    _, form = reference.step(params, carry, jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:]), xs))
    ys = np.zeros((len(reset), *form.shape))
    for fresh, times in _sequences(usable, reset, reverse):
        if fresh and times:  # nothing restarts for a sequence without steps
            carry = initial
        for t in times:
            carry, ys[t] = reference.step(params, carry, jax.tree.map(lambda leaf, t=t: leaf[t], xs))
    return carry, ys


def _sequences(usable: list[int], reset: np.ndarray, reverse: bool) -> list[tuple[bool, list[int]]]:
    """The steps of each sequence in walking order, and whether it starts afresh rather than from the carry that was passed."""
    sequences: list[tuple[bool, list[int]]] = [(False, [])]
    times = range(len(reset))
    for t in reversed(times) if reverse else times:
        border = t + 1 if reverse else t  # reset[border] lies between step t and the one walked before it
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


def sigmoid(z: np.ndarray) -> np.ndarray:
    """The logistic function."""
    return 1 / (1 + np.exp(-z))


def relu(z: np.ndarray) -> np.ndarray:
    """The positive part."""
    return np.maximum(z, 0)


def _or_zero(b: np.ndarray | None) -> Any:
    return 0.0 if b is None else b


def _zero_state(params: Any, x: np.ndarray) -> np.ndarray:
    del x
    return np.zeros(params.w_h.shape[0])


def elman(phi: Callable[[np.ndarray], np.ndarray]) -> Equations:
    """Elman (1990), Finding Structure in Time: the hidden units see the input and a copy of their own last values."""

    def step(params: Any, h: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h = phi(params.w_x.T @ x + params.w_h.T @ h + _or_zero(params.b))
        return h, h

    return Equations(_zero_state, step)


def _lstm_step(params: Any, carry: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
    h, c = carry
    b = np.zeros(4 * h.size) if params.b is None else params.b
    w = {g: params.w_x[:, k * h.size : (k + 1) * h.size] for k, g in enumerate("ifgo")}
    v = {g: params.w_h[:, k * h.size : (k + 1) * h.size] for k, g in enumerate("ifgo")}
    b = {g: b[k * h.size : (k + 1) * h.size] for k, g in enumerate("ifgo")}
    i = sigmoid(w["i"].T @ x + v["i"].T @ h + b["i"])
    f = sigmoid(w["f"].T @ x + v["f"].T @ h + b["f"])
    g = np.tanh(w["g"].T @ x + v["g"].T @ h + b["g"])
    o = sigmoid(w["o"].T @ x + v["o"].T @ h + b["o"])
    c = f * c + i * g
    h = o * np.tanh(c)
    return (h, c), h


LSTM = Equations(lambda params, x: (_zero_state(params, x), _zero_state(params, x)), _lstm_step)
"""Hochreiter & Schmidhuber (1997) with the forget gate of Gers, Schmidhuber & Cummins (2000), no peepholes."""


def gru(reset: str) -> Equations:
    """Cho et al. (2014), `reset="before"`; with the reset gate after the product, as in cuDNN: `reset="after"`."""

    def step(params: Any, h: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n_h = h.size
        w_r, w_z, w_n = params.w_x[:, :n_h], params.w_x[:, n_h : 2 * n_h], params.w_x[:, 2 * n_h :]
        v_r, v_z, v_n = params.w_h[:, :n_h], params.w_h[:, n_h : 2 * n_h], params.w_h[:, 2 * n_h :]
        b_r, b_z, b_n = (0.0, 0.0, 0.0) if params.b is None else np.split(params.b, 3)
        r = sigmoid(w_r.T @ x + v_r.T @ h + b_r)
        z = sigmoid(w_z.T @ x + v_z.T @ h + b_z)
        if reset == "after":
            candidate = np.tanh(w_n.T @ x + b_n + r * (v_n.T @ h + _or_zero(params.b_hn)))
        else:
            candidate = np.tanh(w_n.T @ x + b_n + v_n.T @ (r * h))
        h = z * h + (1 - z) * candidate
        return h, h

    return Equations(_zero_state, step)
