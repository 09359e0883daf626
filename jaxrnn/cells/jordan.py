"""The recurrent network of Jordan (1986), whose output is fed back."""

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
from jaxrnn.core.cell import Carry
from jaxrnn.core.check import check_fields, check_in_features, check_rate, check_size
from jaxrnn.core.dtypes import promote
from jaxrnn.core.trees import Tree
from jaxrnn.initializers import Initializer, draw_gates


class JordanParams(NamedTuple):
    """Parameters of `Jordan`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.Jordan(8, features=2).init(jax.random.key(0), in_features=3)
    >>> params.w_x.shape, params.w_h.shape, params.w_o.shape
    ((3, 8), (2, 8), (8, 2))
    """

    w_x: Array  # [in, hidden]
    w_h: Array  # [features, hidden], of the output that is fed back
    b: Array | None  # [hidden]
    w_o: Array  # [hidden, features]
    b_o: Array | None  # [features]


class JordanCarry(NamedTuple):
    """Carry of a `Jordan` with `decay`. Without `decay`, the carry is y alone.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Jordan(8, features=2, decay=0.5)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 4, 3)))
    >>> carry.s.shape, bool(jnp.all(carry.y == ys[-1]))
    ((4, 2), True)
    """

    y: Array  # [*batch, features], the last output
    s: Array  # [*batch, features], the decaying sum of earlier outputs


class Taught(NamedTuple):
    """The input of a `Jordan` with `teacher=True`.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Jordan(8, features=2, teacher=True)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> targets = jnp.ones((7, 4, 2))
    >>> xs = jaxrnn.cells.Taught(jnp.ones((7, 4, 3)), jaxrnn.sequences.shift(targets, start=0))
    >>> carry, ys = jaxrnn.scan(cell, params, xs)
    >>> ys.shape
    (7, 4, 2)
    """

    x: Array  # [time, *batch, in]
    y: Array  # [time, *batch, features], the target of the step before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Jordan(GatedCell[JordanParams, Any]):
    """The Jordan network: its output is fed back, not its hidden state.

        h_t = φ(x_t W_x + y_{t-1} W_h + b)
        y_t = ψ(h_t W_o + b_o)

    Source: Jordan, Attractor dynamics and parallelism in a connectionist sequential machine, 1986.

    With `decay` μ, a decaying sum s of earlier outputs is fed back:

        h_t = φ(x_t W_x + s_t W_h + b),    s_t = μ s_{t-1} + y_{t-1}

    With `teacher`, the input is `Taught(x, y)`, and the target of the step before, y, replaces
    `y_{t-1}` (teacher forcing, Williams & Zipser 1989). `jaxrnn.sequences.shift` makes this y from
    the targets. Without `decay`, nothing is then sequential, and all products are computed for many
    steps at once. After training, `dataclasses.replace(cell, teacher=False)` runs on its own
    outputs, with the same parameters.

    Args:
        hidden: the size of h.
        features: the size of the output.
        activation: φ, a name (`"tanh"`, `"relu"`, ...) or a pointwise function.
        output_activation: ψ, a name or a pointwise function.
        decay: μ, in [0, 1). If left out, y_{t-1} alone is fed back.
        teacher: whether the input holds the targets.
        bias: whether there are b and b_o.
        clip: the bound of the argument of φ.
        w_x_init: initialiser of the input weights.
        w_h_init: initialiser of the feedback weights.
        w_o_init: initialiser of the output weights.
        b_init: initialiser of the biases.

    Raises:
        ValueError: a size or `clip` is not positive, `decay` is not in [0, 1), a flag is not a
            bool, or a name is unknown. From a driver: `teacher` is True, and the input is not a
            `Taught` of the right shapes.
        TypeError: an activation or an initialiser is not a function of its arguments.

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

    def initial_carry(self, params: JordanParams, input_shape: tuple[int, ...]) -> Carry:
        """Return `y = 0`, `[*batch, features]`, and `s = 0` of the same shape with `decay`."""
        zero = self.zeros(params, input_shape, self.features)
        return zero if self.decay is None else JordanCarry(zero, zero)

    def project(self, params: JordanParams, xs: Tree) -> Tree:
        """Compute `x W_x + b`; with a teacher and without `decay`, compute the output y."""
        if not self.teacher:
            return project(xs, params.w_x, params.b, 1)
        x, before = self._taught(xs)
        u = project(x, params.w_x, params.b, 1)
        if self.decay is not None:
            return u, before
        return self._output(params, default_affine(u, before, params.w_h), default_affine)

    def step(
        self, params: JordanParams, carry: Any, u: Tree, affine: Affine = default_affine
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

    def _taught(self, xs: Tree) -> Taught:
        if not isinstance(xs, Taught) or xs.y.shape != (*xs.x.shape[:-1], self.features):
            shapes = jax.tree.map(jnp.shape, xs)
            raise ValueError(
                f"Jordan: with teacher=True, xs has the shapes {shapes}, expected "
                f"jaxrnn.cells.Taught(x, y) with y [..., {self.features}], the target of the step "
                "before; make y by jaxrnn.sequences.shift"
            )
        return xs

    @property
    def out_features(self) -> int:
        return self.features
