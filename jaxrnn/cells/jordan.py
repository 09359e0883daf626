"""The recurrent network of Jordan (1986), which sees its own last output."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.activations import Activation, activation
from jaxrnn.cells._gates import GatedCell, clip, recurrent_bias
from jaxrnn.core.affine import Affine, project
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.check import check_fields, check_in_features, check_rate, check_size
from jaxrnn.core.dtypes import promote
from jaxrnn.initializers import Initializer, draw_gates


class JordanParams(NamedTuple):
    """Parameters of `Jordan`."""

    w_x: Array  # [in, hidden]
    w_h: Array  # [features, hidden], of what is fed back
    b: Array | None  # [hidden]
    w_o: Array  # [hidden, features]
    b_o: Array | None  # [features]


class JordanCarry(NamedTuple):
    """Carry of a `Jordan` with a context that decays; without, it is y alone."""

    y: Array  # [*batch, features], the output of the last step
    s: Array  # [*batch, features], the context


class Taught(NamedTuple):
    """The input of a `Jordan` with a teacher."""

    x: Array  # [time, *batch, in]
    y: Array  # [time, *batch, features], the right output of the step before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jordan(GatedCell[JordanParams, Any]):
    """A network whose output is fed back, not its hidden state (Jordan, Attractor dynamics and
    parallelism in a connectionist sequential machine, 1986).

        h_t = φ(x_t W_x + y_{t-1} W_h + b)
        y_t = ψ(h_t W_o + b_o)

    It remembers what its output shows. With `decay` μ, a context of older outputs is fed back:

        h_t = φ(x_t W_x + s_t W_h + b),    s_t = μ s_{t-1} + y_{t-1}

    With `teacher`, the input is `Taught(x, y)`, and the right output of the step before, y, takes
    the place of its own, in training (Williams & Zipser 1989); `jaxrnn.sequences.shift` makes it.
    Without `decay` nothing is sequential then: all products are computed for many steps at once.
    `dataclasses.replace(cell, teacher=False)` goes on alone, with the same parameters.

    Args:
        hidden: size of h.
        features: size of the output.
        activation: φ, a name (`"tanh"`, `"relu"`, ...) or a pointwise function.
        output_activation: ψ.
        decay: μ, in [0, 1); no context if left out.
        teacher: whether the right outputs are given.
        bias: whether there are b and b_o.
        clip: bound of what enters φ.
        w_x_init: initialiser of the input weights.
        w_h_init: initialiser of the weights of what is fed back.
        w_o_init: initialiser of the output weights.
        b_init: initialiser of the biases.

    Raises:
        ValueError: a size or `clip` is not positive, `decay` is not in [0, 1), a flag is no bool,
            or a name is unknown.
        TypeError: an activation or an initialiser is no function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Jordan(hidden=8, features=2)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 4, 3)))
    >>> ys.shape, bool(jnp.all(carry == ys[-1]))
    ((7, 4, 2), True)
    """

    features: int
    activation: Activation = "tanh"
    output_activation: Activation = "linear"
    decay: float | None = None
    teacher: bool = False
    w_o_init: Initializer = "lecun_normal"

    order = "h"
    roles: ClassVar[Mapping[str, str]] = {**GatedCell.roles, "w_o": "output", "b_o": "bias"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, check_size, "features")
        if self.decay is not None:
            check_fields(self, check_rate, "decay")

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> JordanParams:
        in_features = check_in_features(self, in_features)
        k_x, k_h, k_b, k_o, k_b_o = jax.random.split(key, 5)
        w_x, w_h = self.draw_weights(k_x, k_h, in_features, dtype)
        w_o = draw_gates(self.w_o_init, k_o, (self.hidden, self.features), dtype, gates=1)
        b_o = draw_gates(self.b_init, k_b_o, (self.features,), dtype, 1) if self.bias else None
        return JordanParams(w_x, w_h, self.draw_bias(k_b, dtype), w_o, b_o)

    def initial_carry(self, params: JordanParams, input_shape: tuple[int, ...]) -> Any:
        """`y = 0`, `s = 0`."""
        zero = self.zeros(params, input_shape, self.features)
        return zero if self.decay is None else JordanCarry(zero, zero)

    def project(self, params: JordanParams, xs: Any) -> Any:
        """`x W_x + b`; all of y, where a teacher leaves nothing that is sequential."""
        if not self.teacher:
            return project(xs, params.w_x, params.b, 1)
        x, before = self._taught(xs)
        u = project(x, params.w_x, params.b, 1)
        if self.decay is not None:
            return u, before
        return self._output(params, default_affine(u, before, params.w_h), default_affine)

    def step(
        self, params: JordanParams, carry: Any, u: Any, affine: Affine = default_affine
    ) -> tuple[Any, Array]:
        if self.decay is None:
            y = u if self.teacher else self._output(params, affine(u, carry, params.w_h), affine)
            return y, y
        u, before = u if self.teacher else (u, carry.y)
        s = self.decay * carry.s + promote(before, carry.s)
        y = self._output(params, affine(u, s, params.w_h), affine)
        return JordanCarry(y, s), y

    def _output(self, params: JordanParams, z: tuple[Array, ...], affine: Affine) -> Array:
        h = activation(self.activation)(clip(z[0], self.clip))
        b_o = recurrent_bias(params.b_o, self.features, h)
        (y,) = affine((b_o,), h, params.w_o)
        return activation(self.output_activation)(y)

    def _taught(self, xs: Any) -> Taught:
        if not isinstance(xs, Taught) or xs.y.shape != (*xs.x.shape[:-1], self.features):
            shapes = jax.tree.map(jnp.shape, xs)
            raise ValueError(
                f"Jordan: with a teacher xs is jaxrnn.cells.Taught(x, y), y [..., {self.features}] "
                f"the right output of the step before; got the shapes {shapes}"
            )
        return xs

    @property
    def out_features(self) -> int:
        return self.features
