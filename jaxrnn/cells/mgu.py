"""The minimal gated unit."""

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


class MGUParams(NamedTuple):
    """Parameters of `MGU`.

    The gate and the candidate are concatenated on the last axis in the order f n. `b_hn` and
    `gain_hn` belong to the candidate's recurrent product. They are None with `form="paper"`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.MGU(4).init(jax.random.key(0), in_features=3)
    >>> params.w_x.shape, params.w_h.shape, params.b.shape
    ((3, 8), (4, 8), (8,))
    """

    w_x: Array  # [in, 2 * hidden]
    w_h: Array  # [hidden, 2 * hidden]
    b: Array | None  # [2 * hidden]
    b_hn: Array | None = None  # [hidden], with form="flax"
    gain: Array | None = None  # [2 * hidden], with layer_norm
    gain_hn: Array | None = None  # [hidden], with layer_norm and form="flax"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MGU(GatedCell[MGUParams, Array]):
    """The minimal gated unit: a GRU with a single gate (Zhou, Wu, Zhang & Zhou 2016).

        f = σ(x_t W_xf + h_{t-1} W_hf + b_f),    y_t = h_t

        n = tanh(x_t W_xn + b_n + (f ⊙ h_{t-1}) W_hn)            form="paper"
        h_t = (1 - f) ⊙ h_{t-1} + f ⊙ n

        n = tanh(x_t W_xn + b_n + f ⊙ (h_{t-1} W_hn + b_hn))     form="flax"
        h_t = (1 - f) ⊙ n + f ⊙ h_{t-1}

    `"flax"` is the form of `flax.linen.MGUCell`. Its f keeps the state, as z does in a `GRU`.

    With `clip`, the pre-activations of f and n are clipped to [-clip, clip]. With `layer_norm`, the
    gate and the candidate are normalised (Ba, Kiros & Hinton 2016), as a `GRU` normalises r and n:
    `form="paper"` like `reset_gate="before"`, and `form="flax"` like `reset_gate="after"`.

    Args:
        hidden: the size of the hidden state and of the output.
        form: `"paper"` for the paper's equations, `"flax"` for Flax's.
        bias: whether there are biases.
        clip: the bound of the pre-activations.
        layer_norm: whether the gate and the candidate are normalised.
        gate_activation: used in place of σ; a name or a pointwise function.
        candidate_activation: used in place of tanh.
        forget_bias: a number that is added to the initial bias of f, 1 in Flax; or
            `Chrono(longest)`. A positive number keeps the state in Flax's form, a negative one in
            the paper's. It has no effect with `bias=False`.
        w_x_init: initialiser of the input weights, drawn per gate.
        w_h_init: initialiser of the recurrent weights, drawn per gate.
        b_init: initialiser of the biases, drawn per gate.

    Raises:
        ValueError: `hidden` or `clip` is not positive, `forget_bias` is neither a number nor a
            `Chrono`, a flag is not a bool, or `form` or a name is unknown.
        TypeError: an activation or an initialiser is not a function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.MGU(hidden=4)
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> h.shape, ys.shape
    ((2, 4), (7, 2, 4))
    """

    form: Literal["paper", "flax"] = "paper"
    forget_bias: float | Chrono = 0.0
    layer_norm: bool = False
    gate_activation: Activation = "sigmoid"
    candidate_activation: Activation = "tanh"

    order = "fn"
    roles: ClassVar[Mapping[str, str]] = {**GatedCell.roles, "gain_hn": "gain"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "form", self.form, ("paper", "flax"))

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> MGUParams:
        in_features = check_in_features(self, in_features)
        k_x, k_h, k_b, k_n = jax.random.split(key, 4)
        added = {"f": self.draw_initial(self.forget_bias, jax.random.fold_in(k_b, 1), dtype)}
        if isinstance(self.forget_bias, Chrono) and self.form == "paper":
            added = {"f": -added["f"]}
        w_x, w_h = self.draw_weights(k_x, k_h, in_features, dtype)
        flax = self.form == "flax"
        gain = jnp.ones(2 * self.hidden, dtype) if self.layer_norm else None
        return MGUParams(
            w_x,
            w_h,
            self.draw_bias(k_b, dtype, added),
            self.draw_recurrent_bias(k_n, dtype) if flax else None,
            gain,
            gain_hn=jnp.ones(self.hidden, dtype) if self.layer_norm and flax else None,
        )

    def initial_carry(self, params: MGUParams, input_shape: tuple[int, ...]) -> Array:
        """Return `h = 0`, `[*batch, hidden]`."""
        return self.zeros(params, input_shape)

    def step(
        self,
        params: MGUParams,
        carry: Array,
        u: tuple[Array, ...],
        affine: Affine = default_affine,
    ) -> tuple[Array, Array]:
        u_f, u_n = u
        candidate = activation(self.candidate_activation)
        if self.form == "flax":
            b_hn = None if self.layer_norm else params.b_hn
            inner = recurrent_bias(b_hn, self.hidden, u_n)
            f, n_h = affine((u_f, inner), carry, params.w_h)
            f = self._gate(params, f)
            if params.gain_hn is not None:
                n_h = self.norm(n_h, params.gain_hn, params.b_hn)
            n = candidate(clip(self.normal(params, "n", u_n) + f * n_h, self.clip))
            h = n + f * (carry - n)
        else:
            w_f, w_n = jnp.split(params.w_h, 2, axis=-1)
            (f,) = affine((u_f,), carry, w_f)
            f = self._gate(params, f)
            (n,) = affine((u_n,), f * carry, w_n)
            h = carry + f * (candidate(clip(self.normal(params, "n", n), self.clip)) - carry)
        return h, h

    def _gate(self, params: MGUParams, f: Array) -> Array:
        return activation(self.gate_activation)(clip(self.normal(params, "f", f), self.clip))
