"""The convolutions of cells whose state is an image, and the base class of these cells."""

import dataclasses
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import DTypeLike

from jaxrnn.cells._gates import GatedCell
from jaxrnn.core.affine import check_factor, split
from jaxrnn.core.cell import C, P
from jaxrnn.core.check import (
    check_choice,
    check_fields,
    check_no_variables,
    check_size,
    name_of,
)
from jaxrnn.core.dtypes import promote, wide
from jaxrnn.initializers import draw_gates

Padding = Literal["same", "valid"]

COLUMNS = 192
"""How many columns of patches are multiplied at once. They are wide enough for a fast product, and
narrow enough for a cache. For 5 x 5 x 16 at 16384 positions, all columns at once take 27 ms and
50 MiB; 192 at a time take 9 ms and 27 MiB.
"""


@dataclasses.dataclass(frozen=True)
class Convolution:
    """The convolution of `x [..., *space, in]` with `w [*kernel, in, out]`.

    It does not flip the kernel (a cross-correlation), as is usual in neural networks. The factors
    are multiplied in the dtype of w, and the sum is accumulated in at least float32.

    The derivative by w is computed as a product of patches. XLA's own derivative, a convolution
    with a kernel of the image's size, takes fifty times as long in a CPU loop (1 to 2 GFLOP/s).
    """

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Padding = "same"

    def __call__(self, x: Array, w: Array) -> Array:
        check_factor(x)
        return _convolve(self, x, w)

    def pads(self, space: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
        """Return how much padding is added before and after each spatial axis."""
        if self.padding == "valid":
            return [(0, 0)] * len(kernel)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilation, strict=True)]
        return [(a, b) for a, b in lax.padtype_to_pads(space, reach, self.strides, "SAME")]

    def check_input(self, owner: object, input_shape: tuple[int, ...], w: Array) -> None:
        """Refuse an input that has too few axes, or other channels than the weight."""
        axes = w.ndim - 1
        picture = input_shape[-axes:]
        if len(picture) < axes or picture[-1] != w.shape[-2]:
            raise ValueError(
                f"{name_of(owner)}.initial_carry: input_shape is {input_shape}, expected (*batch, "
                f"*space, {w.shape[-2]}) with {axes - 1} spatial axes, the shape of one step's "
                "input; pass xs.shape[1:]"
            )

    def space(self, space: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
        """Return the spatial size of the result."""
        axes = zip(
            space, kernel, self.dilation, self.strides, self.pads(space, kernel), strict=True
        )
        return tuple(
            max(0, (n + sum(pad) - (k - 1) * d - 1) // stride + 1) for n, k, d, stride, pad in axes
        )


def same(rank: int) -> Convolution:
    """Return a convolution that keeps the size of an image."""
    once = (1,) * rank
    return Convolution(once, once)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolve(of: Convolution, x: Array, w: Array) -> Array:
    return _plain(of, x, w, "IO")


def _plain(of: Convolution, x: Array, w: Array, channels: str) -> Array:
    """Compute XLA's convolution.

    `channels` is the order of the kernel's last two axes: "IO" if the input's channels come first,
    else "OI".
    """
    rank = w.ndim - 2
    axes = "DHW"[-rank:]
    batch, picture = x.shape[: -rank - 1], x.shape[-rank - 1 :]
    product = lax.conv_general_dilated(
        x.reshape(-1, *picture).astype(w.dtype),
        w,
        of.strides,
        of.pads(picture[:-1], w.shape[:rank]),
        rhs_dilation=of.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}{channels}", f"N{axes}C"),
        preferred_element_type=wide(w),
    )
    return product.reshape(*batch, *product.shape[1:])


@partial(_convolve.defjvp, symbolic_zeros=True)
def _convolve_jvp(
    of: Convolution, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    x, w = primals
    dx, dw = tangents
    product = _convolve(of, x, w)
    parts = []
    if not isinstance(dx, SymbolicZero):
        # With swapped axes, the transpose of this is a convolution that XLA runs fast on CPU.
        parts.append(_plain(of, dx, lax.optimization_barrier(jnp.swapaxes(w, -1, -2)), "OI"))
    if not isinstance(dw, SymbolicZero):
        parts.append(_by_patches(of, x, dw))
    return product, sum(parts[1:], start=parts[0]) if parts else jnp.zeros_like(product)


def _by_patches(of: Convolution, x: Array, w: Array) -> Array:
    """Compute the convolution as a few products of patches.

    Each product belongs to a group of kernel positions. The rows of its left factor are the inputs
    under these positions.
    """
    *kernel, channels, out = w.shape
    rank = len(kernel)
    batch, picture = x.shape[: -rank - 1], x.shape[-rank - 1 :]
    space = of.space(picture[:-1], kernel)
    # With channels first, the rows of each patch are contiguous, as the transpose needs them.
    turned = jnp.moveaxis(x.reshape(-1, *picture).astype(w.dtype), -1, 0)
    padded = jnp.pad(turned, [(0, 0), (0, 0), *of.pads(picture[:-1], kernel)])
    places = [*itertools.product(*map(range, kernel))]
    many = -(-len(places) * channels // COLUMNS)
    most = -(-len(places) // many)
    products = []
    for start in range(0, len(places), most):
        group = places[start : start + most]
        columns = [_under(of, padded, at, space).reshape(channels, -1) for at in group]
        product = lax.dot_general(
            lax.optimization_barrier(jnp.concatenate(columns)),
            w.reshape(-1, channels, out)[start : start + most].reshape(-1, out),
            (((0,), (0,)), ((), ())),
            preferred_element_type=wide(w),
        )
        products.append(product)
    return sum(products[1:], start=products[0]).reshape(*batch, *space, out)


def _under(of: Convolution, padded: Array, at: Sequence[int], space: Sequence[int]) -> Array:
    """Return the part of `padded [channels, rows, *space]` under one position of the kernel."""
    axes = zip(at, of.dilation, of.strides, space, strict=True)
    ranges = [(k * d, k * d + (n - 1) * s + 1, s) for k, d, s, n in axes]
    starts, limits, strides = zip(
        (0, len(padded), 1), (0, padded.shape[1], 1), *ranges, strict=True
    )
    return lax.slice(padded, starts, limits, strides)


@dataclasses.dataclass(frozen=True)
class ConvolutionalCell(GatedCell[P, C]):
    """A gated cell whose input and state are images `[*space, channels]`.

    Its weights are `w_x [*kernel, in, gates * hidden]` and `w_h [*kernel, hidden, gates * hidden]`.
    """

    kernel_size: int | tuple[int, ...]
    _: dataclasses.KW_ONLY
    rank: int = 2
    strides: int | tuple[int, ...] = 1
    dilation: int | tuple[int, ...] = 1
    padding: Padding = "same"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "rank", self.rank, (1, 2, 3))
        for name in ("kernel_size", "strides", "dilation"):
            check_fields(self, check_sizes, name)
        check_choice(self, "padding", self.padding, ("same", "valid"))
        if max(self._input.strides) > 1 and max(self._input.dilation) > 1:
            raise ValueError(
                f"{name_of(self)}: strides is {self.strides} and dilation is {self.dilation}, but "
                "they cannot both be above 1; set one of them to 1"
            )

    @property
    def feature_axes(self) -> int:  # type: ignore[override]
        """The spatial axes and the channels."""
        return self.rank + 1

    @property
    def _kernel(self) -> tuple[int, ...]:
        return for_each_axis(self.kernel_size, self.rank)

    @property
    def _input(self) -> Convolution:
        """The convolution of the input."""
        strides, dilation = (for_each_axis(n, self.rank) for n in (self.strides, self.dilation))
        return Convolution(strides, dilation, self.padding)

    @property
    def linear(self) -> Convolution:
        """The convolution of the state."""
        return same(self.rank)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        *batch_and_space, _ = input_shape
        batch, space = batch_and_space[: -self.rank], batch_and_space[-self.rank :]
        return (*batch, *self._input.space(space, self._kernel), self.hidden)

    def draw_weights(
        self, k_x: Array, k_h: Array, in_features: int, dtype: DTypeLike
    ) -> tuple[Array, Array]:
        shapes = ((*self._kernel, size, self.hidden) for size in (in_features, self.hidden))
        inits = (self.w_x_init, k_x), (self.w_h_init, k_h)
        w_x, w_h = (
            draw_gates(init, key, shape, dtype, self.gates)
            for (init, key), shape in zip(inits, shapes, strict=True)
        )
        return w_x, w_h

    def project(self, params: Any, xs: Array) -> tuple[Array, ...]:
        """Compute `x * W_x + b`, one array per gate. With layer normalisation, b is added later."""
        us = self._input(xs, params.w_x)
        if params.b is not None and params.gain is None:
            us = us + promote(params.b, us)
        return split(us, self.gates)

    def zeros(self, params: Any, input_shape: tuple[int, ...], size: int | None = None) -> Array:
        """Return a carry of zeros `[*batch, *space, hidden]`, as large as the convolved input.

        Raises:
            ValueError: `input_shape` has other channels than the weights, or is smaller than the
                kernel.
        """
        check_no_variables(self, params)
        self._input.check_input(self, input_shape, params.w_x)
        shape = self.output_shape(input_shape)[:-1]
        given = input_shape[-self.rank - 1 : -1]
        if 0 in shape[-self.rank :] and 0 not in given:
            raise ValueError(
                f"{name_of(self)}: the input has the spatial size {given}, expected at least that "
                f"of the kernel, {self._kernel}; use a smaller kernel, or padding='same'"
            )
        return jnp.zeros((*shape, size or self.hidden), wide(params.w_h))


def for_each_axis(value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return one size for each spatial axis."""
    return (value,) * rank if isinstance(value, int) else value


def check_sizes(owner: Any, argument: str, value: object) -> int | tuple[int, ...]:
    """Refuse anything but one size for all spatial axes, or one for each.

    Equal sizes are replaced by a single one, so that cells that do the same compare equal.
    """
    if not isinstance(value, tuple | list):
        return check_size(owner, argument, value, f", or {owner.rank} of them")
    if len(value) != owner.rank:
        raise ValueError(
            f"{name_of(owner)}: {argument} is {value!r}, expected a single size, or one for each "
            f"of rank={owner.rank} spatial axes"
        )
    sizes = tuple(check_size(owner, argument, n) for n in value)
    return sizes[0] if len({*sizes}) == 1 else sizes
