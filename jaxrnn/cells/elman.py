"""The simple recurrent network of Elman (1990)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.activations import Activation, activation
from jaxrnn.cells._gates import GatedCell, clip
from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.check import check_in_features


class ElmanParams(NamedTuple):
    """Parameters of `Elman`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.Elman(4).init(jax.random.key(0), in_features=3)
    >>> params.w_x.shape, params.w_h.shape, params.b.shape
    ((3, 4), (4, 4), (4,))
    """

    w_x: Array  # [in, hidden]
    w_h: Array  # [hidden, hidden]
    b: Array | None  # [hidden]
    gain: Array | None = None  # [hidden], with layer_norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elman(GatedCell[ElmanParams, Array]):
    """The simple recurrent network (Elman, Finding Structure in Time, 1990).

        h_t = φ(x_t W_x + h_{t-1} W_h + b),    y_t = h_t

    With `clip`, the argument of φ is clipped to [-clip, clip]. With `layer_norm`, it is normalised
    (Ba, Kiros & Hinton 2016):

        h_t = φ(LN(x_t W_x + h_{t-1} W_h) ⊙ gain + b)

    The IRNN of Le, Jaitly & Hinton (2015) is `Elman(n, activation="relu", w_x_init=...,
    w_h_init=initializers.Identity())`.

    Args:
        hidden: the size of the hidden state and of the output.
        activation: φ, a name (`"tanh"`, `"relu"`, ...) or a pointwise function.
        bias: whether there is a `b`.
        clip: the bound of the argument of φ.
        layer_norm: whether the argument of φ is normalised.
        w_x_init: initialiser of the input weights.
        w_h_init: initialiser of the recurrent weights.
        b_init: initialiser of the bias.

    Raises:
        ValueError: `hidden` or `clip` is not positive, a flag is not a bool, or a name is unknown.
        TypeError: an activation or an initialiser is not a function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Elman(hidden=4, activation="relu")
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> h.shape, ys.shape
    ((2, 4), (7, 2, 4))
    """

    activation: Activation = "tanh"
    layer_norm: bool = False

    order = "h"

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> ElmanParams:
        in_features = check_in_features(self, in_features)
        k_x, k_h, k_b = jax.random.split(key, 3)
        w_x, w_h = self.draw_weights(k_x, k_h, in_features, dtype)
        gain = jnp.ones(self.hidden, dtype) if self.layer_norm else None
        return ElmanParams(w_x, w_h, self.draw_bias(k_b, dtype), gain)

    def initial_carry(self, params: ElmanParams, input_shape: tuple[int, ...]) -> Array:
        """Return `h = 0`, `[*batch, hidden]`."""
        return self.zeros(params, input_shape)

    def step(
        self,
        params: ElmanParams,
        carry: Array,
        u: tuple[Array, ...],
        affine: Affine = default_affine,
    ) -> tuple[Array, Array]:
        (z,) = affine(u, carry, params.w_h)
        h = activation(self.activation)(clip(self.normal(params, "h", z), self.clip))
        return h, h
