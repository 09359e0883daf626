"""Gated recurrent units."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.activations import Activation, activation, check_activation
from jaxrnn.core import affine as _numerics
from jaxrnn.core.cell import Affine, Cell
from jaxrnn.core.check import (
    check_choice,
    check_fields,
    check_flag,
    check_in_features,
    check_limit,
    check_size,
)
from jaxrnn.initializers import Chrono, Initializer, check_initial, check_initializer, draw_gates


class GRUParams(NamedTuple):
    """Parameters of `GRU`; the gates stand side by side on the last axis in the order r z n."""

    w_x: Array  # [in, 3 * hidden]
    w_h: Array  # [hidden, 3 * hidden]
    b: Array | None  # [3 * hidden]
    # [hidden], the candidate's recurrent bias; None where the reset gate comes before the product
    b_hn: Array | None
    gain: Array | None = None  # [3 * hidden], of the layer normalisation of each gate
    # [hidden], of that of the candidate's recurrent product; None where reset comes before
    gain_hn: Array | None = None


@dataclasses.dataclass(frozen=True)
class GRU(Cell):
    """Gated recurrent unit (Cho et al. 2014).

        r, z = σ(x_t W_x + h_{t-1} W_h + b) for each gate
        n = tanh(x_t W_xn + b_n + r ⊙ (h_{t-1} W_hn + b_hn))     reset="after", as in torch, cuDNN and Keras' default
        n = tanh(x_t W_xn + b_n + (r ⊙ h_{t-1}) W_hn)            reset="before", as in the paper
        h_t = (1 - z) ⊙ n + z ⊙ h_{t-1},    y_t = h_t

    With `clip`, all that enters σ and tanh is clipped to [-clip, clip]. With `layer_norm`, each
    gate is normalised by itself (Ba, Kiros & Hinton 2016): LN(x_t W_x + h_{t-1} W_h) ⊙ gain + b for
    each of r and z, and for n with `reset="before"`; with `reset="after"`, n = tanh(LN(x_t W_xn) ⊙
    gain + b_n + r ⊙ (LN(h_{t-1} W_hn) ⊙ gain_hn + b_hn)).

    Args:
        hidden: size of the state and the output.
        reset: whether the reset gate acts before or after the recurrent product.
        bias: whether there are biases.
        clip: bound of what enters σ and tanh.
        layer_norm: whether the gates are normalised.
        gate_activation: instead of σ; a name or a pointwise function.
        candidate_activation: instead of tanh.
        update_bias: added to the update gate's initial bias; positive values keep the state. Or
            `Chrono(longest)`.
        w_x_init: initialiser of the input weights, drawn per gate.
        w_h_init: initialiser of the recurrent weights, drawn per gate.
        b_init: initialiser of the biases, drawn per gate.

    Raises:
        ValueError: `hidden` or `clip` is not positive, `reset` is another word, a flag is no bool,
            or a name is unknown.
        TypeError: an activation or an initialiser is no function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.GRU(hidden=4, reset="before")
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> h.shape, ys.shape
    ((2, 4), (7, 2, 4))
    """

    hidden: int
    reset: Literal["after", "before"] = "after"
    bias: bool = True
    update_bias: float | Chrono = 0.0
    clip: float | None = None
    layer_norm: bool = False
    gate_activation: Activation = "sigmoid"
    candidate_activation: Activation = "tanh"
    w_x_init: Initializer = "lecun_normal"
    w_h_init: Initializer = "orthogonal"
    b_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        check_fields(self, check_size, "hidden")
        check_choice(self, "reset", self.reset, ("after", "before"))
        check_fields(self, check_flag, "bias", "layer_norm")
        check_fields(self, check_initial, "update_bias")
        check_fields(self, check_limit, "clip")
        check_fields(self, check_activation, "gate_activation", "candidate_activation")
        check_fields(self, check_initializer, "w_x_init", "w_h_init", "b_init")

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> GRUParams:
        """Draw the parameters."""
        in_features = check_in_features(self, in_features)
        k_x, k_h, k_b, k_n = jax.random.split(key, 4)
        b_hn = self.bias and self.reset == "after"
        return GRUParams(
            w_x=draw_gates(self.w_x_init, k_x, (in_features, self.hidden), dtype, gates=3),
            w_h=draw_gates(self.w_h_init, k_h, (self.hidden, self.hidden), dtype, gates=3),
            b=self._init_bias(k_b, dtype) if self.bias else None,
            b_hn=draw_gates(self.b_init, k_n, (self.hidden,), dtype, gates=1) if b_hn else None,
            gain=jnp.ones(3 * self.hidden, dtype) if self.layer_norm else None,
            gain_hn=jnp.ones(self.hidden, dtype)
            if self.layer_norm and self.reset == "after"
            else None,
        )

    def _init_bias(self, key: Array, dtype: Any) -> Array:
        k_b, k_z = jax.random.split(key)
        r, z, n = _numerics.split(draw_gates(self.b_init, k_b, (self.hidden,), dtype, gates=3), 3)
        if isinstance(self.update_bias, Chrono):
            z = z + self.update_bias(k_z, (self.hidden,), dtype)
        else:
            z = z + jnp.asarray(self.update_bias, dtype)
        return jnp.concatenate([r, z, n])

    def initial_carry(self, params: GRUParams, input_shape: tuple[int, ...]) -> Array:
        """`h = 0`."""
        return jnp.zeros((*input_shape[:-1], self.hidden), _numerics.wide(params.w_h))

    def project(self, params: GRUParams, xs: Array) -> tuple[Array, ...]:
        """`x W_x + b`, one array per gate; without b where a normalisation comes first."""
        return _numerics.project(xs, params.w_x, None if self.layer_norm else params.b, gates=3)

    def step(
        self,
        params: GRUParams,
        carry: Array,
        u: tuple[Array, ...],
        affine: Affine = _numerics.affine,
    ) -> tuple[Array, Array]:
        """One step of the equations above."""
        u_r, u_z, u_n = u
        if self.reset == "after":
            b_hn = None if self.layer_norm else params.b_hn
            part = (
                jnp.zeros(self.hidden, u_n.dtype) if b_hn is None else _numerics.promote(b_hn, u_n)
            )
            r, z, n_h = affine((u_r, u_z, part), carry, params.w_h)
            r = self._gate(self._normal(params, "r", r))
            if params.gain_hn is not None:
                n_h = _numerics.layer_norm(n_h, params.gain_hn, params.b_hn)
            n = self._normal(params, "n", u_n) + r * n_h
        else:
            w_rz, w_n = jnp.split(params.w_h, [2 * self.hidden], axis=-1)
            r, z = affine((u_r, u_z), carry, w_rz)
            r = self._gate(self._normal(params, "r", r))
            (n,) = affine((u_n,), r * carry, w_n)
            n = self._normal(params, "n", n)
        n = activation(self.candidate_activation)(_numerics.clip(n, self.clip))
        h = n + self._gate(self._normal(params, "z", z)) * (carry - n)
        return h, h

    def _normal(self, params: GRUParams, gate: str, z: Array) -> Array:
        if params.gain is None:
            return z
        start = "rzn".index(gate) * self.hidden
        own = slice(start, start + self.hidden)
        return _numerics.layer_norm(
            z, params.gain[own], None if params.b is None else params.b[own]
        )

    def _gate(self, z: Array) -> Array:
        return activation(self.gate_activation)(_numerics.clip(z, self.clip))

    @property
    def gates(self) -> int:
        """r z n."""
        return 3

    @property
    def out_features(self) -> int:
        """`hidden`."""
        return self.hidden
