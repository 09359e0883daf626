"""Long short-term memory."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn import _numerics
from jaxrnn._cell import Affine, Cell
from jaxrnn._check import check_size
from jaxrnn.initializers import Chrono, Initializer, draw_gates, initializer

Array = jax.Array


class LSTMParams(NamedTuple):
    """Parameters of `LSTM`; the gates stand side by side on the last axis in the order i f g o."""

    w_x: Array  # [in, 4 * hidden]
    w_h: Array  # [hidden, 4 * hidden]
    b: Array | None  # [4 * hidden]


class LSTMCarry(NamedTuple):
    """The carry of `LSTM`: hidden state and cell memory, `[*batch, hidden]` each."""

    h: Array
    c: Array


@dataclasses.dataclass(frozen=True)
class LSTM(Cell):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000).

        i, f, o = σ(x_t W_x + h_{t-1} W_h + b) for each gate,    g = tanh(likewise)
        c_t = f ⊙ c_{t-1} + i ⊙ g,    h_t = o ⊙ tanh(c_t),    y_t = h_t

    Args:
        hidden: size of the state, the memory and the output.
        bias: whether there is a `b`.
        forget_bias: added to the forget gate's initial bias, so that memory is kept at first (Jozefowicz et al. 2015);
            or `Chrono(longest)`, which sets the input gate's bias too. Without a bias it has no effect.
        w_x_init: initialiser of the input weights, drawn per gate.
        w_h_init: initialiser of the recurrent weights, drawn per gate.
        b_init: initialiser of the bias, drawn per gate.

    Raises:
        ValueError: `hidden` is not positive, or a name is unknown.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.LSTM(hidden=4)
    >>> carry, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> carry.h.shape, carry.c.shape, ys.shape
    ((2, 4), (2, 4), (7, 2, 4))
    """

    hidden: int
    bias: bool = True
    forget_bias: float | Chrono = 1.0
    w_x_init: Initializer = "lecun_normal"
    w_h_init: Initializer = "orthogonal"
    b_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        check_size(self, "hidden", self.hidden)
        for init in (self.w_x_init, self.w_h_init, self.b_init):
            initializer(init)

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> LSTMParams:
        """Draw the parameters."""
        k_x, k_h, k_b = jax.random.split(key, 3)
        return LSTMParams(
            w_x=draw_gates(self.w_x_init, k_x, (in_features, self.hidden), dtype, gates=4),
            w_h=draw_gates(self.w_h_init, k_h, (self.hidden, self.hidden), dtype, gates=4),
            b=self._init_bias(k_b, dtype) if self.bias else None,
        )

    def _init_bias(self, key: Array, dtype: Any) -> Array:
        k_b, k_f = jax.random.split(key)
        i, f, g, o = _numerics.split(draw_gates(self.b_init, k_b, (self.hidden,), dtype, gates=4), 4)
        if isinstance(self.forget_bias, Chrono):
            longest = self.forget_bias(k_f, (self.hidden,), dtype)
            i, f = i - longest, f + longest
        else:
            f = f + jnp.asarray(self.forget_bias, dtype)
        return jnp.concatenate([i, f, g, o])

    def initial_carry(self, params: LSTMParams, input_shape: tuple[int, ...]) -> LSTMCarry:
        """`h = c = 0`."""
        shape, dtype = (*input_shape[:-1], self.hidden), _numerics.wide(params.w_h)
        return LSTMCarry(h=jnp.zeros(shape, dtype), c=jnp.zeros(shape, dtype))  # two buffers, so that a carry can be donated

    def project(self, params: LSTMParams, xs: Array) -> tuple[Array, ...]:
        """`x W_x + b`, one array per gate."""
        return _numerics.project(xs, params.w_x, params.b, gates=4)

    def step(
        self, params: LSTMParams, carry: LSTMCarry, u: tuple[Array, ...], affine: Affine = _numerics.affine
    ) -> tuple[LSTMCarry, Array]:
        """One step of the equations above."""
        i, f, g, o = affine(u, carry.h, params.w_h)
        c = sigmoid(f) * carry.c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return LSTMCarry(h, c), h

    @property
    def out_features(self) -> int:
        """`hidden`."""
        return self.hidden
