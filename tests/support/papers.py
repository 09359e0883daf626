"""The papers' equations in NumPy, one step of one sequence at a time; written from the papers, not
from jaxrnn.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tests.support.reference import Equations, Joined, Mapped, Reference


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
