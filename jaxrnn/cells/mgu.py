"""The minimal gated unit."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid
from jax.numpy import tanh

from jaxrnn.core import affine as _numerics
from jaxrnn.core.cell import Affine, Cell
from jaxrnn.core.check import (
    check_choice,
    check_fields,
    check_flag,
    check_in_features,
    check_number,
    check_size,
)
from jaxrnn.initializers import Initializer, check_initializer, draw_gates


class MGUParams(NamedTuple):
    """Parameters of `MGU`; gate and candidate stand side by side on the last axis in the order f n."""

    w_x: Array  # [in, 2 * hidden]
    w_h: Array  # [hidden, 2 * hidden]
    b: Array | None  # [2 * hidden]
    b_hn: Array | None = None  # [hidden], the candidate's recurrent bias of form "flax"


@dataclasses.dataclass(frozen=True)
class MGU(Cell):
    """Minimal gated unit: a GRU with one gate (Zhou, Wu, Zhang & Zhou 2016).

        f = σ(x_t W_xf + h_{t-1} W_hf + b_f)
        n = tanh(x_t W_xn + b_n + (f ⊙ h_{t-1}) W_hn),     h_t = (1 - f) ⊙ h_{t-1} + f ⊙ n      form="paper"
        n = tanh(x_t W_xn + b_n + f ⊙ (h_{t-1} W_hn + b_hn)),    h_t = (1 - f) ⊙ n + f ⊙ h_{t-1}      form="flax"

    and `y_t = h_t`. The second form is that of `flax.linen.MGUCell`, where f has the meaning of a
    GRU's z.

    Args:
        hidden: size of the state and the output.
        form: the paper's equations, or Flax's.
        bias: whether there are biases.
        forget_bias: added to the initial bias of f; 1 in Flax. Positive values keep the state in
            Flax's form, negative ones in the paper's.
        w_x_init: initialiser of the input weights, drawn per gate.
        w_h_init: initialiser of the recurrent weights, drawn per gate.
        b_init: initialiser of the biases, drawn per gate.

    Raises:
        ValueError: `hidden` is not positive, `form` is another word, `bias` is no bool, or a name
            is unknown.
        TypeError: an initialiser is no function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.MGU(hidden=4)
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> h.shape, ys.shape
    ((2, 4), (7, 2, 4))
    """

    hidden: int
    form: Literal["paper", "flax"] = "paper"
    bias: bool = True
    forget_bias: float = 0.0
    w_x_init: Initializer = "lecun_normal"
    w_h_init: Initializer = "orthogonal"
    b_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        check_fields(self, check_size, "hidden")
        check_choice(self, "form", self.form, ("paper", "flax"))
        check_fields(self, check_flag, "bias")
        check_fields(self, check_number, "forget_bias")
        check_fields(self, check_initializer, "w_x_init", "w_h_init", "b_init")

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> MGUParams:
        """Draw the parameters."""
        in_features = check_in_features(self, in_features)
        k_x, k_h, k_b, k_n = jax.random.split(key, 4)
        b = draw_gates(self.b_init, k_b, (self.hidden,), dtype, gates=2)
        return MGUParams(
            w_x=draw_gates(self.w_x_init, k_x, (in_features, self.hidden), dtype, gates=2),
            w_h=draw_gates(self.w_h_init, k_h, (self.hidden, self.hidden), dtype, gates=2),
            b=b.at[: self.hidden].add(jnp.asarray(self.forget_bias, dtype)) if self.bias else None,
            b_hn=draw_gates(self.b_init, k_n, (self.hidden,), dtype, gates=1)
            if self.bias and self.form == "flax"
            else None,
        )

    def initial_carry(self, params: MGUParams, input_shape: tuple[int, ...]) -> Array:
        """`h = 0`."""
        return jnp.zeros((*input_shape[:-1], self.hidden), _numerics.wide(params.w_h))

    def project(self, params: MGUParams, xs: Array) -> tuple[Array, ...]:
        """`x W_x + b`, one array for the gate and one for the candidate."""
        return _numerics.project(xs, params.w_x, params.b, gates=2)

    def step(
        self,
        params: MGUParams,
        carry: Array,
        u: tuple[Array, ...],
        affine: Affine = _numerics.affine,
    ) -> tuple[Array, Array]:
        """One step of the equations above."""
        u_f, u_n = u
        if self.form == "flax":
            b_hn = (
                jnp.zeros(self.hidden, u_n.dtype)
                if params.b_hn is None
                else _numerics.promote(params.b_hn, u_n)
            )
            f, n_h = affine((u_f, b_hn), carry, params.w_h)
            f = sigmoid(f)
            n = tanh(u_n + f * n_h)
            h = n + f * (carry - n)
        else:
            w_f, w_n = jnp.split(params.w_h, 2, axis=-1)
            (f,) = affine((u_f,), carry, w_f)
            f = sigmoid(f)
            (n,) = affine((u_n,), f * carry, w_n)
            h = carry + f * (tanh(n) - carry)
        return h, h

    @property
    def gates(self) -> int:
        """f n."""
        return 2

    @property
    def out_features(self) -> int:
        """`hidden`."""
        return self.hidden
