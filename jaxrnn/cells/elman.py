"""The simple recurrent network of Elman (1990)."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.activations import Activation, activation, check_activation
from jaxrnn.core import affine as _numerics
from jaxrnn.core.cell import Affine, Cell
from jaxrnn.core.check import check_fields, check_flag, check_in_features, check_limit, check_size
from jaxrnn.initializers import Initializer, check_initializer, draw_gates


class ElmanParams(NamedTuple):
    """Parameters of `Elman`."""

    w_x: Array  # [in, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array | None  # [hidden]
    gain: Array | None = None  # [hidden], of the layer normalisation


@dataclasses.dataclass(frozen=True)
class Elman(Cell):
    """`h_t = φ(x_t W_x + h_{t-1} W_h + b)`, and `y_t = h_t` (Elman, Finding Structure in Time,
    1990).

    With `clip`, what enters φ is clipped to [-clip, clip]. With `layer_norm`, `h_t = φ(LN(x_t W_x +
    h_{t-1} W_h) ⊙ gain + b)` (Ba, Kiros & Hinton 2016).

    The IRNN of Le, Jaitly & Hinton (2015) is `Elman(n, activation="relu", w_x_init=...,
    w_h_init=initializers.Identity())`.

    Args:
        hidden: size of the state and the output.
        activation: φ, a name (`"tanh"`, `"relu"`, ...) or a pointwise function.
        bias: whether there is a `b`.
        clip: bound of what enters φ.
        layer_norm: whether what enters φ is normalised.
        w_x_init: initialiser of the input weights.
        w_h_init: initialiser of the recurrent weights.
        b_init: initialiser of the bias.

    Raises:
        ValueError: `hidden` or `clip` is not positive, a flag is no bool, or a name is unknown.
        TypeError: an activation or an initialiser is no function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Elman(hidden=4, activation="relu")
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> h.shape, ys.shape
    ((2, 4), (7, 2, 4))
    """

    hidden: int
    activation: Activation = "tanh"
    bias: bool = True
    clip: float | None = None
    layer_norm: bool = False
    w_x_init: Initializer = "lecun_normal"
    w_h_init: Initializer = "orthogonal"
    b_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        check_fields(self, check_size, "hidden")
        check_fields(self, check_flag, "bias", "layer_norm")
        check_fields(self, check_limit, "clip")
        check_fields(self, check_activation, "activation")
        check_fields(self, check_initializer, "w_x_init", "w_h_init", "b_init")

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> ElmanParams:
        """Draw the parameters."""
        in_features = check_in_features(self, in_features)
        k_x, k_h, k_b = jax.random.split(key, 3)
        return ElmanParams(
            w_x=draw_gates(self.w_x_init, k_x, (in_features, self.hidden), dtype, gates=1),
            w_h=draw_gates(self.w_h_init, k_h, (self.hidden, self.hidden), dtype, gates=1),
            b=draw_gates(self.b_init, k_b, (self.hidden,), dtype, gates=1) if self.bias else None,
            gain=jnp.ones(self.hidden, dtype) if self.layer_norm else None,
        )

    def initial_carry(self, params: ElmanParams, input_shape: tuple[int, ...]) -> Array:
        """`h = 0`."""
        return jnp.zeros((*input_shape[:-1], self.hidden), _numerics.wide(params.w_h))

    def project(self, params: ElmanParams, xs: Array) -> tuple[Array, ...]:
        """`x W_x + b`; without b where a normalisation comes first."""
        return _numerics.project(xs, params.w_x, None if self.layer_norm else params.b, gates=1)

    def step(
        self,
        params: ElmanParams,
        carry: Array,
        u: tuple[Array, ...],
        affine: Affine = _numerics.affine,
    ) -> tuple[Array, Array]:
        """One step of the equation above."""
        (z,) = affine(u, carry, params.w_h)
        if params.gain is not None:
            z = _numerics.layer_norm(z, params.gain, params.b)
        h = activation(self.activation)(_numerics.clip(z, self.clip))
        return h, h

    @property
    def out_features(self) -> int:
        """`hidden`."""
        return self.hidden
