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
    """Parameters of `MGU`; gate and candidate stand side by side on the last axis, f n.

    `b_hn` and `gain_hn` belong to the candidate's recurrent product of form "flax".
    """

    w_x: Array  # [in, 2 * hidden]
    w_h: Array  # [hidden, 2 * hidden]
    b: Array | None  # [2 * hidden]
    b_hn: Array | None = None  # [hidden]
    gain: Array | None = None  # [2 * hidden], of the layer normalisation of gate and candidate
    gain_hn: Array | None = None  # [hidden]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MGU(GatedCell[MGUParams, Array]):
    """Minimal gated unit: a GRU with one gate (Zhou, Wu, Zhang & Zhou 2016).

        f = σ(x_t W_xf + h_{t-1} W_hf + b_f)

        n = tanh(x_t W_xn + b_n + (f ⊙ h_{t-1}) W_hn)            form="paper"
        h_t = (1 - f) ⊙ h_{t-1} + f ⊙ n

        n = tanh(x_t W_xn + b_n + f ⊙ (h_{t-1} W_hn + b_hn))     form="flax"
        h_t = (1 - f) ⊙ n + f ⊙ h_{t-1}

    and `y_t = h_t`. The second form is that of `flax.linen.MGUCell`, where f has the meaning of a
    GRU's z.

    With `clip`, all that enters σ and tanh is clipped to [-clip, clip]. With `layer_norm`, gate and
    candidate are normalised (Ba, Kiros & Hinton 2016) where a `GRU` normalises r and n: of form
    "paper" as with `reset_gate="before"`, of form "flax" as with `reset_gate="after"`.

    Args:
        hidden: size of the state and the output.
        form: the paper's equations, or Flax's.
        bias: whether there are biases.
        clip: bound of what enters σ and tanh.
        layer_norm: whether gate and candidate are normalised.
        gate_activation: instead of σ; a name or a pointwise function.
        candidate_activation: instead of tanh.
        forget_bias: added to the initial bias of f, or `Chrono(longest)`; 1 in Flax. Positive
            values keep the state in Flax's form, negative ones in the paper's. Without a bias it
            has no effect.
        w_x_init: initialiser of the input weights, drawn per gate.
        w_h_init: initialiser of the recurrent weights, drawn per gate.
        b_init: initialiser of the biases, drawn per gate.

    Raises:
        ValueError: `hidden` or `clip` is not positive, `form` is another word, a flag is no bool,
            or a name is unknown.
        TypeError: an activation or an initialiser is no function of its arguments.

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
        """`h = 0`."""
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
