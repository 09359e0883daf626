"""The base class of cells with fused weights: the matrices of all gates, concatenated."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxrnn.activations import check_activation
from jaxrnn.core.affine import Linear, matmul, project, split
from jaxrnn.core.cell import C, Cell, P
from jaxrnn.core.check import (
    check_fields,
    check_flag,
    check_limit,
    check_no_variables,
    check_size,
    name_of,
)
from jaxrnn.core.dtypes import promote, wide
from jaxrnn.initializers import (
    Chrono,
    Initializer,
    check_initial,
    check_initializer,
    draw_gates,
)


@dataclasses.dataclass(frozen=True)
class GatedCell(Cell[P, C]):
    """A cell with parameters `w_x [in, gates * hidden]`, `w_h`, `b`, and `gain` if normalised.

    A subclass sets `order`: the names of its gates, one letter each, in their order on the last
    axis. Fields are checked by their type or name: bools, `..._init`, `...activation`, `..._bias`.
    """

    hidden: int
    _: dataclasses.KW_ONLY
    bias: bool = True
    clip: float | None = None
    w_x_init: Initializer = "lecun_normal"
    w_h_init: Initializer = "orthogonal"
    b_init: Initializer = "zeros"

    order: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self, check_size, "hidden")
        check_fields(self, check_limit, "clip")
        for field in dataclasses.fields(self):
            if field.type in (bool, "bool"):
                check_fields(self, check_flag, field.name)
            elif field.name.endswith("_init"):
                check_fields(self, check_initializer, field.name)
            elif field.name.endswith("activation"):
                check_fields(self, check_activation, field.name)
            elif field.name.endswith("_bias"):
                check_fields(self, check_initial, field.name)

    @property
    def gates(self) -> int:
        """The number of gates in the fused weights."""
        return len(self.order)

    @property
    def out_features(self) -> int:
        return self.hidden

    def project(self, params: Any, xs: Array) -> tuple[Array, ...]:
        """Compute `x W_x + b`, one array per gate. With layer normalisation, b is added later."""
        b = params.b if params.gain is None else None
        return project(xs, params.w_x, b, self.gates)

    def draw_weights(
        self, k_x: Array, k_h: Array, in_features: int, dtype: DTypeLike
    ) -> tuple[Array, Array]:
        """Draw `w_x` and `w_h`, gate by gate."""
        shapes = (in_features, self.hidden), (self.out_features, self.hidden)
        w_x = draw_gates(self.w_x_init, k_x, shapes[0], dtype, self.gates)
        return w_x, draw_gates(self.w_h_init, k_h, shapes[1], dtype, self.gates)

    def draw_bias(
        self, key: Array, dtype: DTypeLike, added: Mapping[str, Array] | None = None
    ) -> Array | None:
        """Draw `b`, and add `added[gate]` to the biases of these gates; None without a bias."""
        if not self.bias:
            return None
        drawn = draw_gates(self.b_init, key, (self.hidden,), dtype, self.gates)
        b = dict(zip(self.order, split(drawn, self.gates), strict=True))
        more = {gate: b[gate] + value for gate, value in (added or {}).items() if gate in b}
        return jnp.concatenate([*(b | more).values()])

    def draw_recurrent_bias(self, key: Array, dtype: DTypeLike) -> Array | None:
        """Draw `b_hn`, the bias of the candidate's recurrent product; None without a bias."""
        return draw_gates(self.b_init, key, (self.hidden,), dtype, 1) if self.bias else None

    def draw_initial(self, value: float | Chrono, key: Array, dtype: DTypeLike) -> Array:
        """Return the initial bias of a gate: a number, or a draw of `Chrono`."""
        if isinstance(value, Chrono):
            return value(key, (self.hidden,), dtype)
        return jnp.asarray(value, dtype)

    def zeros(self, params: Any, input_shape: tuple[int, ...], size: int | None = None) -> Array:
        """Return a carry of zeros `[*batch, size]`, by default `[*batch, hidden]`.

        Its dtype is the one in which products with `w_h` are accumulated.

        Raises:
            ValueError: `input_shape` does not end with the size of the input.
        """
        check_no_variables(self, params)
        if tuple(input_shape[-1:]) != (in_features := params.w_x.shape[-2],):
            raise ValueError(
                f"{name_of(self)}.initial_carry: input_shape is {input_shape}, expected (*batch, "
                f"{in_features}), the shape of one step's input; pass xs.shape[1:]"
            )
        return jnp.zeros((*input_shape[:-1], size or self.hidden), wide(params.w_h))

    @property
    def linear(self) -> Linear:
        """The bilinear product of a state and its weight."""
        return matmul

    def norm(self, z: Array, gain: Array, b: Array | None) -> Array:
        """Return `z`, normalised over all units of a row."""
        return layer_norm(z, gain, b, self.feature_axes)

    def normal(self, params: Any, gate: str, z: Array) -> Array:
        """Return the pre-activation of a gate, normalised and with its bias if there is a gain."""
        if params.gain is None:
            return z
        start = self.order.index(gate) * self.hidden
        own = slice(start, start + self.hidden)
        return self.norm(z, params.gain[own], None if params.b is None else params.b[own])


def recurrent_bias(b: Array | None, size: int, like: Array) -> Array:
    """Return the bias of a recurrent product, in the dtype of `like`; zeros without a bias."""
    return jnp.zeros(size, like.dtype) if b is None else promote(b, like)


def clip(z: Array, bound: float | None) -> Array:
    """Clip `z` to [-bound, bound]. None means no bound."""
    return z if bound is None else jnp.clip(z, -bound, bound)


LAYER_NORM_EPSILON = 1e-5


def layer_norm(z: Array, gain: Array, b: Array | None, axes: int) -> Array:
    """Normalise over the last `axes` axes (Ba, Kiros & Hinton 2016).

    It returns `(z - mean) / sqrt(variance + ε) ⊙ gain + b` with ε = 1e-5.
    """
    units = tuple(range(-axes, 0))
    centred = z - jnp.mean(z, axis=units, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=units, keepdims=True)
    normal = centred * lax.rsqrt(variance + jnp.asarray(LAYER_NORM_EPSILON, z.dtype))
    scaled = normal * promote(gain, z)
    return scaled if b is None else scaled + promote(b, z)
