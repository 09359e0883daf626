"""The papers' equations in float64 NumPy, one sequence and one step at a time.

Written from the papers, not from jaxrnn: nothing is batched, projected ahead of time or selected by
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


def elman(phi: Callable[[np.ndarray], np.ndarray], clip: float = np.inf) -> Equations:
    """Elman (1990), Finding Structure in Time: the hidden units see the input and a copy of their
    own last values.
    """

    def step(params: Any, h: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = params.w_x.T @ x + params.w_h.T @ h
        z = (
            z + _or_zero(params.b)
            if params.gain is None
            else layer_norm(z, params.gain, _or_zero(params.b))
        )
        h = phi(np.clip(z, -clip, clip))
        return h, h

    return Equations(_zero_state, step)


def jordan(
    phi: Callable[[np.ndarray], np.ndarray],
    psi: Callable[[np.ndarray], np.ndarray],
    decay: float = 0.0,
    taught: bool = False,
) -> Equations:
    """Jordan (1986): the plan units see what the output units did, and their own past, which
    decays. A teacher puts the right outputs in place of those.
    """

    def initial(params: Any, x: Any) -> Any:
        zero = np.zeros(params.w_o.shape[1])
        return (zero, zero) if decay else zero

    def step(params: Any, carry: Any, given: Any) -> tuple[Any, np.ndarray]:
        y, s = carry if decay else (carry, 0.0)
        x, before = given if taught else (given, y)
        s = decay * s + before
        h = phi(params.w_x.T @ x + params.w_h.T @ s + _or_zero(params.b))
        y = psi(params.w_o.T @ h + _or_zero(params.b_o))
        return ((y, s) if decay else y), y

    return Equations(initial, step)


def layer_norm(z: np.ndarray, gain: np.ndarray, b: Any) -> np.ndarray:
    """Ba, Kiros & Hinton (2016), Layer normalization, equation 4."""
    return gain / np.sqrt(np.var(z) + 1e-5) * (z - np.mean(z)) + b


def lstm(
    gates: str = "ifgo",
    clip: float = np.inf,
    cell_clip: float = np.inf,
    gate: Callable[[np.ndarray], np.ndarray] = sigmoid,
    candidate: Callable[[np.ndarray], np.ndarray] = np.tanh,
    output: Callable[[np.ndarray], np.ndarray] = np.tanh,
) -> Equations:
    """Hochreiter & Schmidhuber (1997) with the forget gate of Gers, Schmidhuber & Cummins (2000).

    The rest is what the parameters have: peepholes (Gers & Schmidhuber 2000), projection (Sak,
    Senior & Beaufays 2014), layer normalisation. Without "i" among the gates, what is written is
    what is forgotten (Greff et al. 2015)."""

    def step(params: Any, carry: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        h, c = carry
        z = {}
        for k, name in enumerate(gates):
            own = slice(k * c.size, (k + 1) * c.size)
            b = 0.0 if params.b is None else params.b[own]
            z[name] = params.w_x[:, own].T @ x + params.w_h[:, own].T @ h
            z[name] = (
                z[name] + b if params.gain is None else layer_norm(z[name], params.gain[own], b)
            )
        f = gate(np.clip(z["f"] + _or_zero(params.p_f) * c, -clip, clip))
        i = gate(np.clip(z["i"] + _or_zero(params.p_i) * c, -clip, clip)) if "i" in gates else 1 - f
        c = np.clip(f * c + i * candidate(np.clip(z["g"], -clip, clip)), -cell_clip, cell_clip)
        o = gate(np.clip(z["o"] + _or_zero(params.p_o) * c, -clip, clip))
        h = o * output(c if params.gain_c is None else layer_norm(c, params.gain_c, params.b_c))
        h = h if params.w_r is None else params.w_r.T @ h
        return (h, c), h

    def initial(params: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        del x
        return np.zeros(params.w_h.shape[0]), np.zeros(params.w_h.shape[1] // len(gates))

    return Equations(initial, step)


LSTM = lstm()


def gru(
    reset: str,
    clip: float = np.inf,
    gate: Callable[[np.ndarray], np.ndarray] = sigmoid,
    candidate: Callable[[np.ndarray], np.ndarray] = np.tanh,
) -> Equations:
    """Cho et al. (2014), `reset_gate="before"`; with the reset gate after the product, as in cuDNN:
    `reset_gate="after"`.
    """

    def step(params: Any, h: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n_h = h.size
        w, v = (
            [matrix[:, k * n_h : (k + 1) * n_h] for k in range(3)]
            for matrix in (params.w_x, params.w_h)
        )
        b = (0.0, 0.0, 0.0) if params.b is None else np.split(params.b, 3)
        gains = None if params.gain is None else np.split(params.gain, 3)

        def shifted(k: int, z: np.ndarray) -> np.ndarray:
            return z + b[k] if gains is None else layer_norm(z, gains[k], b[k])

        r = gate(np.clip(shifted(0, w[0].T @ x + v[0].T @ h), -clip, clip))
        z = gate(np.clip(shifted(1, w[1].T @ x + v[1].T @ h), -clip, clip))
        if reset == "after":
            recurrent, b_hn = v[2].T @ h, _or_zero(params.b_hn)
            recurrent = (
                recurrent + b_hn if gains is None else layer_norm(recurrent, params.gain_hn, b_hn)
            )
            n = shifted(2, w[2].T @ x) + r * recurrent
        else:
            n = shifted(2, w[2].T @ x + v[2].T @ (r * h))
        h = z * h + (1 - z) * candidate(np.clip(n, -clip, clip))
        return h, h

    return Equations(_zero_state, step)


def mgu(
    form: str,
    clip: float = np.inf,
    gate: Callable[[np.ndarray], np.ndarray] = sigmoid,
) -> Equations:
    """Zhou, Wu, Zhang & Zhou (2016), Minimal gated unit; or as `flax.linen.MGUCell` has it."""

    def step(params: Any, h: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n_h = h.size
        b = (0.0, 0.0) if params.b is None else np.split(params.b, 2)
        gains = None if params.gain is None else np.split(params.gain, 2)

        def shifted(k: int, z: np.ndarray) -> np.ndarray:
            return z + b[k] if gains is None else layer_norm(z, gains[k], b[k])

        z = params.w_x[:, :n_h].T @ x + params.w_h[:, :n_h].T @ h
        f = gate(np.clip(shifted(0, z), -clip, clip))
        w, v = params.w_x[:, n_h:], params.w_h[:, n_h:]
        if form == "flax":
            inner, b_hn = v.T @ h, _or_zero(params.b_hn)
            inner = inner + b_hn if gains is None else layer_norm(inner, params.gain_hn, b_hn)
            n = shifted(1, w.T @ x) + f * inner
            h = f * h + (1 - f) * np.tanh(np.clip(n, -clip, clip))
        else:
            n = shifted(1, w.T @ x + v.T @ (f * h))
            h = (1 - f) * h + f * np.tanh(np.clip(n, -clip, clip))
        return h, h

    return Equations(_zero_state, step)


def residual(reference: Reference) -> Joined:
    """He et al. (2016)."""
    return Joined(reference, lambda params, xs, ys: xs + ys)


def highway(reference: Reference) -> Joined:
    """Srivastava, Greff & Schmidhuber (2015), equation 3."""

    def join(params: Any, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
        t = sigmoid(xs @ params.w_t + params.b_t)
        return ys * t + xs * (1 - t)

    return Joined(reference, join, lambda params: params.inner)


def zoneout(equations: Equations, **rates: float) -> Equations:
    """Krueger et al. (2017), at test time: the expectation of every unit."""

    def step(params: Any, carry: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        after, _ = equations.step(params, carry, x)
        if not isinstance(carry, tuple):
            h = rates["h"] * carry + (1 - rates["h"]) * after
            return h, h
        h, c = (
            rates.get(n, 0.0) * old + (1 - rates.get(n, 0.0)) * new
            for n, old, new in zip("hc", carry, after, strict=True)
        )
        return (h, c), h

    return Equations(equations.initial, step)


def learned_carry(equations: Equations) -> Equations:
    """The initial carry is a parameter."""
    return Equations(
        lambda params, x: jax.tree.map(
            np.asarray, tuple(params.start) if isinstance(params.start, tuple) else params.start
        ),
        lambda params, carry, x: equations.step(params.inner, carry, x),
    )


def dense(phi: Callable[[np.ndarray], np.ndarray]) -> Mapped:
    """One layer of a multilayer perceptron, at every step."""
    return Mapped(lambda params, xs: phi(xs @ params.w_x + params.b))


def readout(reference: Reference, phi: Callable[[np.ndarray], np.ndarray]) -> Joined:
    """Elman (1990): output units that see the hidden ones."""
    return Joined(
        reference,
        lambda params, xs, ys: phi(ys @ params.w_o + params.b_o),
        lambda params: params.inner,
    )
