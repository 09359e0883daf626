"""The equations of cells whose state is a picture, in float64 NumPy: one sequence, one step and one
place of the kernel at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.support.papers import _or_zero, layer_norm, sigmoid
from tests.support.reference import Equations

Pointwise = Callable[[np.ndarray], np.ndarray]


def convolve(
    x: np.ndarray, w: np.ndarray, strides: int = 1, dilation: int = 1, padding: str = "same"
) -> np.ndarray:
    """`x [*space, in]` under a kernel `w [*kernel, in, out]`, which is not turned; zeros around x,
    one more after it than before if their number is odd, as TensorFlow has it.
    """
    kernel, space = w.shape[:-2], x.shape[:-1]
    sizes, around = [], []
    for n, k in zip(space, kernel, strict=True):
        reach = (k - 1) * dilation + 1
        size = -(-n // strides) if padding == "same" else (n - reach) // strides + 1
        missing = max((size - 1) * strides + reach - n, 0) if padding == "same" else 0
        sizes.append(size)
        around.append((missing // 2, missing - missing // 2))
    padded = np.pad(x, [*around, (0, 0)])
    y = np.zeros((*sizes, w.shape[-1]))
    for position in np.ndindex(*sizes):
        for at in np.ndindex(*kernel):
            seen = tuple(p * strides + a * dilation for p, a in zip(position, at, strict=True))
            y[position] += w[at].T @ padded[seen]
    return y


def _gates(params: Any, count: int) -> list[tuple[np.ndarray, np.ndarray, Any, Any]]:
    """`(w_x, w_h, b, gain)` of each gate."""

    def cut(array: np.ndarray | None) -> Sequence[Any]:
        return [None] * count if array is None else np.split(array, count, axis=-1)

    b = [0.0] * count if params.b is None else cut(params.b)
    return list(zip(cut(params.w_x), cut(params.w_h), b, cut(params.gain), strict=True))


def _entering(seen: np.ndarray, b: Any, gain: Any) -> np.ndarray:
    return seen + b if gain is None else layer_norm(seen, gain, b)


def conv_lstm(gates: str = "ifgo", candidate: Pointwise = np.tanh, **of_input: Any) -> Equations:
    """Shi et al. (2015), Convolutional LSTM network, equation 3, where the parameters have
    peepholes; without "i" among the gates, what is written is what is forgotten.
    """

    def step(params: Any, carry: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        h, c = carry
        z = {
            name: _entering(convolve(x, w_x, **of_input) + convolve(h, w_h), b, gain)
            for name, (w_x, w_h, b, gain) in zip(gates, _gates(params, len(gates)), strict=True)
        }
        f = sigmoid(z["f"] + _or_zero(params.p_f) * c)
        i = sigmoid(z["i"] + _or_zero(params.p_i) * c) if "i" in gates else 1 - f
        c = f * c + i * candidate(z["g"])
        o = sigmoid(z["o"] + _or_zero(params.p_o) * c)
        m = c if params.gain_c is None else layer_norm(c, params.gain_c, params.b_c)
        h = o * np.tanh(m)
        return (h, c), h

    def initial(params: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = convolve(x, params.w_x, **of_input).shape[:-1]
        zero = np.zeros((*size, params.w_h.shape[-2]))
        return zero, zero

    return Equations(initial, step)


def conv_gru(reset: str, **of_input: Any) -> Equations:
    """Ballas et al. (2015), Delving deeper into convolutional networks, equations 9 to 12,
    `reset="before"`; or with the reset gate after the convolution.
    """

    def step(params: Any, h: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (r_x, r_h, r_b, r_g), (z_x, z_h, z_b, z_g), (n_x, n_h, n_b, n_g) = _gates(params, 3)
        r = sigmoid(_entering(convolve(x, r_x, **of_input) + convolve(h, r_h), r_b, r_g))
        z = sigmoid(_entering(convolve(x, z_x, **of_input) + convolve(h, z_h), z_b, z_g))
        seen = convolve(x, n_x, **of_input)
        if reset == "before":
            n = _entering(seen + convolve(r * h, n_h), n_b, n_g)
        else:
            inner = _entering(convolve(h, n_h), _or_zero(params.b_hn), params.gain_hn)
            n = _entering(seen, n_b, n_g) + r * inner
        h = z * h + (1 - z) * np.tanh(n)
        return h, h

    def initial(params: Any, x: np.ndarray) -> np.ndarray:
        size = convolve(x, params.w_x, **of_input).shape[:-1]
        return np.zeros((*size, params.w_h.shape[-2]))

    return Equations(initial, step)


def st_lstm(layers: int) -> Equations:
    """Wang et al. (2023), PredRNN, equation 6, in the order of operations of the published code:
    convolutions without biases, each normalised if it has a norm, 1 added within both forget gates.
    """

    def normal(z: np.ndarray, norm: Any) -> np.ndarray:
        return z if norm is None else layer_norm(z, norm.gain, norm.b)

    def step(params: Any, carry: Any, x: np.ndarray) -> tuple[Any, np.ndarray]:
        h, c, m = (*map(list, carry[:2]), carry[2])
        for k in range(layers):
            own = params[k]
            from_x = np.split(normal(convolve(x, own.w_x), own.norm_x), 7, axis=-1)
            from_h = np.split(normal(convolve(h[k], own.w_h), own.norm_h), 4, axis=-1)
            from_m = np.split(normal(convolve(m, own.w_m), own.norm_m), 3, axis=-1)
            i_x, f_x, g_x, i_x_m, f_x_m, g_x_m, o_x = from_x
            i_h, f_h, g_h, o_h = from_h
            i_m, f_m, g_m = from_m
            c[k] = sigmoid(f_x + f_h + 1) * c[k] + sigmoid(i_x + i_h) * np.tanh(g_x + g_h)
            m = sigmoid(f_x_m + f_m + 1) * m + sigmoid(i_x_m + i_m) * np.tanh(g_x_m + g_m)
            both = np.concatenate([c[k], m], axis=-1)
            o = sigmoid(o_x + o_h + normal(convolve(both, own.w_o), own.norm_o))
            h[k] = x = o * np.tanh(both @ own.w_l)
        return (tuple(h), tuple(c), m), x

    def initial(params: Any, x: np.ndarray) -> Any:
        zero = np.zeros((*x.shape[:-1], params[0].w_l.shape[-1]))
        return (zero,) * layers, (zero,) * layers, zero

    return Equations(initial, step)
