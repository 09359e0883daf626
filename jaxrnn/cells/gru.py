"""The gated recurrent unit."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.activations import Activation, activation
from jaxrnn.cells._gates import GatedCell, clip, recurrent_bias
from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.check import check_choice, check_in_features
from jaxrnn.initializers import Chrono


class GRUParams(NamedTuple):
    """Parameters of `GRU`.

    The gates are concatenated on the last axis in the order r z n. `b_hn` and `gain_hn` belong to
    the candidate's recurrent product. They are None with `reset_gate="before"`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.GRU(4).init(jax.random.key(0), in_features=3)
    >>> params.w_x.shape, params.w_h.shape, params.b.shape, params.b_hn.shape
    ((3, 12), (4, 12), (12,), (4,))
    """

    w_x: Array  # [in, 3 * hidden]
    w_h: Array  # [hidden, 3 * hidden]
    b: Array | None  # [3 * hidden]
    b_hn: Array | None  # [hidden]
    gain: Array | None = None  # [3 * hidden], with layer_norm
    gain_hn: Array | None = None  # [hidden], with layer_norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRU(GatedCell[GRUParams, Array]):
    """The gated recurrent unit (Cho et al. 2014).

        r, z = σ(x_t W_x + h_{t-1} W_h + b) for each gate
        n = tanh(x_t W_xn + b_n + r ⊙ (h_{t-1} W_hn + b_hn))     reset_gate="after"
        n = tanh(x_t W_xn + b_n + (r ⊙ h_{t-1}) W_hn)            reset_gate="before"
        h_t = (1 - z) ⊙ n + z ⊙ h_{t-1},    y_t = h_t

    `"before"` is the form of the paper. `"after"` is the form of PyTorch, cuDNN and, by default,
    Keras.

    With `clip`, the pre-activations of r, z and n are clipped to [-clip, clip].

    With `layer_norm`, each gate is normalised separately (Ba, Kiros & Hinton 2016):
    `LN(x_t W_x + h_{t-1} W_h) ⊙ gain + b` enters r and z. It enters n, too, with
    `reset_gate="before"`, its recurrent product made from `r ⊙ h_{t-1}`. With `reset_gate="after"`,

        n = tanh(LN(x_t W_xn) ⊙ gain_n + b_n + r ⊙ (LN(h_{t-1} W_hn) ⊙ gain_hn + b_hn))

    Args:
        hidden: the size of the hidden state and of the output.
        reset_gate: whether the reset gate acts `"before"` or `"after"` the recurrent product.
        bias: whether there are biases.
        clip: the bound of the pre-activations.
        layer_norm: whether the gates are normalised.
        gate_activation: used in place of σ; a name or a pointwise function.
        candidate_activation: used in place of tanh.
        update_bias: a number that is added to the update gate's initial bias; a positive one keeps
            the state at first. Or `Chrono(longest)`. It has no effect with `bias=False`.
        w_x_init: initialiser of the input weights, drawn per gate.
        w_h_init: initialiser of the recurrent weights, drawn per gate.
        b_init: initialiser of the biases, drawn per gate.

    Raises:
        ValueError: `hidden` or `clip` is not positive, `update_bias` is neither a number nor a
            `Chrono`, a flag is not a bool, or `reset_gate` or a name is unknown.
        TypeError: an activation or an initialiser is not a function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.GRU(hidden=4, reset_gate="before")
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> h.shape, ys.shape
    ((2, 4), (7, 2, 4))
    """

    reset_gate: Literal["after", "before"] = "after"
    update_bias: float | Chrono = 0.0
    layer_norm: bool = False
    gate_activation: Activation = "sigmoid"
    candidate_activation: Activation = "tanh"

    order = "rzn"
    roles: ClassVar[Mapping[str, str]] = {**GatedCell.roles, "gain_hn": "gain"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "reset_gate", self.reset_gate, ("after", "before"))

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> GRUParams:
        in_features = check_in_features(self, in_features)
        k_x, k_h, k_b, k_n = jax.random.split(key, 4)
        k_b, k_z = jax.random.split(k_b)
        added = {"z": self.draw_initial(self.update_bias, k_z, dtype)}
        w_x, w_h = self.draw_weights(k_x, k_h, in_features, dtype)
        after = self.reset_gate == "after"
        gain = jnp.ones(3 * self.hidden, dtype) if self.layer_norm else None
        return GRUParams(
            w_x,
            w_h,
            self.draw_bias(k_b, dtype, added),
            self.draw_recurrent_bias(k_n, dtype) if after else None,
            gain,
            gain_hn=jnp.ones(self.hidden, dtype) if self.layer_norm and after else None,
        )

    def initial_carry(self, params: GRUParams, input_shape: tuple[int, ...]) -> Array:
        """Return `h = 0`, `[*batch, hidden]`."""
        return self.zeros(params, input_shape)

    def step(
        self,
        params: GRUParams,
        carry: Array,
        u: tuple[Array, ...],
        affine: Affine = default_affine,
    ) -> tuple[Array, Array]:
        u_r, u_z, u_n = u
        if self.reset_gate == "after":
            b_hn = None if self.layer_norm else params.b_hn
            inner = recurrent_bias(b_hn, self.hidden, u_n)
            r, z, n_h = affine((u_r, u_z, inner), carry, params.w_h, self.linear)
            if params.gain_hn is not None:
                n_h = self.norm(n_h, params.gain_hn, params.b_hn)
            n = self.normal(params, "n", u_n) + self._gate(params, "r", r) * n_h
        else:
            w_rz, w_n = jnp.split(params.w_h, [2 * self.hidden], axis=-1)
            r, z = affine((u_r, u_z), carry, w_rz, self.linear)
            (n,) = affine((u_n,), self._gate(params, "r", r) * carry, w_n, self.linear)
            n = self.normal(params, "n", n)
        n = activation(self.candidate_activation)(clip(n, self.clip))
        h = n + self._gate(params, "z", z) * (carry - n)
        return h, h

    def _gate(self, params: GRUParams, gate: str, z: Array) -> Array:
        return activation(self.gate_activation)(clip(self.normal(params, gate, z), self.clip))
