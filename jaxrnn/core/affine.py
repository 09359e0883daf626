"""The matrix products of a cell. They keep the dtype rule (`jaxrnn.core.dtypes`)."""

from collections.abc import Callable
from typing import Protocol, overload

import jax.numpy as jnp
from jax import Array

from jaxrnn.core.dtypes import complex_of, promote, ranked, wide

Linear = Callable[[Array, Array], Array]
"""A bilinear product `linear(h, w)`."""


def matmul(x: Array, w: Array) -> Array:
    """Return `x [..., in] @ w [in, out]`.

    The factors are multiplied in the dtype of `w`. The sum is accumulated, and returned, in at
    least float32 (complex64).
    """
    check_factor(x)
    if jnp.iscomplexobj(x) and not jnp.iscomplexobj(w):
        w = w.astype(complex_of(w.dtype))
    return jnp.matmul(x.astype(w.dtype), w, preferred_element_type=wide(w))


def check_factor(x: object) -> None:
    """Refuse a pytree, such as a list of arrays, as a factor of a product."""
    if not hasattr(x, "dtype"):
        raise TypeError(
            f"a weight is multiplied by a {type(x).__name__}, expected a single array; pass one as "
            "xs, such as jnp.stack(steps) for a list with an array for each step"
        )


def split(array: Array, parts: int) -> tuple[Array, ...]:
    """Split the last axis into equal parts, one per gate."""
    return tuple(jnp.split(array, parts, axis=-1))


def project(xs: Array, w_x: Array, b: Array | None, gates: int) -> tuple[Array, ...]:
    """Return `(x @ w_x + b)_k` for each gate k, with a fused weight `w_x [in, gates * hidden]`.

    Each gate is an array of its own. XLA does not vectorise a CPU loop that slices its gates out
    of one wide array.
    """
    us = matmul(xs, w_x)
    if b is not None:
        us = us + promote(b, us)
    return split(us, gates)


class Affine(Protocol):
    """The type of `affine`, and of the function that a method replaces it with."""

    @overload
    def __call__(self, u: None, h: Array, w: Array, linear: Linear = ...) -> Array: ...
    @overload
    def __call__(
        self, u: tuple[Array, ...], h: Array, w: Array, linear: Linear = ...
    ) -> tuple[Array, ...]: ...


@overload
def affine(u: None, h: Array, w: Array, linear: Linear = ...) -> Array: ...
@overload
def affine(u: tuple[Array, ...], h: Array, w: Array, linear: Linear = ...) -> tuple[Array, ...]: ...
def affine(
    u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul
) -> Array | tuple[Array, ...]:
    """Multiply by a recurrent weight in a cell's `step`, and add the projected input.

        z_k = u_k + linear(h, w)_k    for each part k

    A cell calls the `affine` that `step` gets as its argument, and this function is the default. A
    method can thus replace it by its own (`jaxrnn.Cell` states the law).

    Args:
        u: arrays whose last axes partition the last axis of the product, or None for the product
            alone.
        h: the left factor, `[*batch, in]`.
        w: the weight, `[in, out]`. It depends on nothing but the parameters and the context. If it
            has other axes, `matmul` broadcasts as `jnp.matmul` does.
        linear: the bilinear product `linear(h, w)`; `matmul` unless the cell needs another, such as
            a convolution.

    Returns:
        A tuple of sums `z`, split as `u` is; or the product itself if `u` is None.

    Raises:
        TypeError: `u` is an array.
        ValueError: the last axes of `u` do not add up to that of the product.

    >>> u = (jnp.ones((2, 3)), jnp.zeros((2, 1)))
    >>> a, b = affine(u, jnp.ones((2, 5)), jnp.ones((5, 4)))
    >>> a.shape, b.shape, float(a[0, 0])
    ((2, 3), (2, 1), 6.0)
    """
    return add_parts(u, linear(h, w))


def add_parts(u: tuple[Array, ...] | None, product: Array) -> Array | tuple[Array, ...]:
    """Return `u` plus the product, split as `u` is; the product itself if `u` is None."""
    if u is None:
        return product
    pieces = zip(u, cut_like(u, product), strict=True)
    return tuple(ranked(part, piece) + piece for part, piece in pieces)


def cut_like(u: tuple[Array, ...] | None, product: Array) -> tuple[Array, ...]:
    """Split the product's last axis into widths as in `u`; into one piece if `u` is None.

    Raises:
        TypeError: `u` is an array.
        ValueError: the widths do not add up.
    """
    if u is None:
        return (product,)
    if isinstance(u, Array):
        raise TypeError(f"affine: u is one array {u.shape}, expected a tuple of arrays; pass (u,)")
    widths = [part.shape[-1] for part in u]
    if sum(widths) != product.shape[-1]:
        raise ValueError(
            f"affine: the last axes of u are {widths}, expected them to add up to that of the "
            f"product, {product.shape[-1]}; pass u=None for the product alone"
        )
    edges = [sum(widths[:k]) for k in range(1, len(widths))]
    return tuple(jnp.split(product, edges, axis=-1))
