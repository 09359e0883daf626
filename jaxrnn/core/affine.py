"""The dtype rule and the products that obey it.

Multiply in the weights' dtype, accumulate and carry in at least float32, emit in the input's dtype.
Cells stay free of casts: they multiply through `affine` or `project`, and bring pointwise
parameters to the carry's dtype with `promote`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Linear = Callable[[Array, Array], Array]


def wide(*arrays: Any) -> jnp.dtype:
    """The dtype in which these arrays are accumulated: theirs, or float32 (complex64) where that is
    wider.

    >>> wide(jnp.zeros(2, jnp.bfloat16)), wide(jnp.zeros(2, jnp.complex64))
    (dtype('float32'), dtype('complex64'))
    """
    inexact = [jnp.dtype(a.dtype) for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)]
    parts = [jnp.finfo(dtype).dtype for dtype in inexact]  # of a complex number, the real ones
    # also under strict promotion
    widest = max((jnp.dtype(jnp.float32), *parts), key=lambda dtype: jnp.finfo(dtype).bits)
    return (
        _complex(widest)
        if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in inexact)
        else widest
    )


def cast(array: Array, dtype: Any) -> Array:
    """`array` in another dtype; of a complex one in a real dtype, the real part: what a cotangent
    of a real number is.
    """
    drops = jnp.iscomplexobj(array) and not jnp.issubdtype(dtype, jnp.complexfloating)
    return (jnp.real(array) if drops else array).astype(dtype)


def _complex(dtype: jnp.dtype) -> jnp.dtype:
    return jnp.dtype(jnp.complex128 if jnp.finfo(dtype).bits == 64 else jnp.complex64)


def promote(parameter: Array, like: Array) -> Array:
    """A parameter that is used pointwise, in the dtype of what it meets."""
    return parameter.astype(like.dtype)


def matmul(x: Array, w: Array) -> Array:
    """`x [..., in] @ w [in, out]`, multiplied in the dtype of `w` and accumulated in at least
    float32 (complex64).
    """
    if jnp.iscomplexobj(x) and not jnp.iscomplexobj(w):
        w = w.astype(_complex(w.dtype))
    return jnp.matmul(x.astype(w.dtype), w, preferred_element_type=wide(w))


def split(array: Array, parts: int) -> tuple[Array, ...]:
    """Cut the last axis into equal parts, one per gate."""
    return tuple(jnp.split(array, parts, axis=-1))


def project(xs: Array, w_x: Array, b: Array | None, gates: int) -> tuple[Array, ...]:
    """`(x @ w_x + b)_k` for each gate k: what a cell's `project` does with a fused weight `w_x [in,
    gates * hidden]`.

    One array per gate, because a loop that slices its gates out of one wide array does not
    vectorise on a CPU."""
    us = matmul(xs, w_x)
    if b is not None:
        us = us + promote(b, us)
    return split(us, gates)


def clip(z: Array, bound: float | None) -> Array:
    """`z` within [-bound, bound]; as it is without a bound."""
    return z if bound is None else jnp.clip(z, -bound, bound)


LAYER_NORM_EPSILON = 1e-5


def layer_norm(z: Array, gain: Array, b: Array | None) -> Array:
    """`(z - mean) / sqrt(variance + ε) ⊙ gain + b` over the last axis (Ba, Kiros & Hinton 2016); ε
    = 1e-5.
    """
    centred = z - jnp.mean(z, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    normal = (
        centred * lax.rsqrt(variance + jnp.asarray(LAYER_NORM_EPSILON, z.dtype)) * promote(gain, z)
    )
    return normal if b is None else normal + promote(b, z)


def normalize_gates(zs: tuple[Array, ...], gain: Array, b: Array | None) -> tuple[Array, ...]:
    """`layer_norm` of each gate by itself, with the gates' gains and biases side by side as in the
    weights.
    """
    gains = split(gain, len(zs))
    biases = [None] * len(zs) if b is None else split(b, len(zs))
    return tuple(layer_norm(z, g, shift) for z, g, shift in zip(zs, gains, biases, strict=True))


def affine(u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul) -> Any:
    """The recurrent product of a cell's `step`: `(u_k + linear(h, w)_k)` for each k.

    A cell multiplies by its recurrent weights through the `affine` that `step` is handed, of which
    this is the default, so that a driver can put its own in place (see `jaxrnn.Cell`).

    Args:
        u: arrays whose last axes partition the product's, or None for the product alone.
        h: what the step multiplies, `[*batch, in]`.
        w: the weight `[in, out]`; it depends on the parameters alone.
        linear: the bilinear product; `matmul` unless the cell needs another (a convolution, say).

    Returns:
        A tuple of sums split as `u` is, or the product itself if `u` is None.

    >>> u = (jnp.ones((2, 3)), jnp.zeros((2, 1)))
    >>> a, b = affine(u, jnp.ones((2, 5)), jnp.ones((5, 4)))
    >>> a.shape, b.shape, float(a[0, 0])
    ((2, 3), (2, 1), 6.0)
    """
    return add_parts(u, linear(h, w))


def add_parts(u: tuple[Array, ...] | None, product: Array) -> Any:
    """`product` alone, or cut as `u` is and added to it."""
    if u is None:
        return product
    return tuple(part + piece for part, piece in zip(u, cut_like(u, product), strict=True))


def cut_like(u: tuple[Array, ...] | None, product: Array) -> tuple[Array, ...]:
    """`product` cut into pieces as wide as the parts of `u`; in one piece if `u` is None."""
    if u is None:
        return (product,)
    widths = [part.shape[-1] for part in u]
    if sum(widths) != product.shape[-1]:
        raise ValueError(
            f"affine: the last axes of u, {widths}, must add up to that of the product, "
            f"{product.shape[-1]}; "
            "pass u=None for the product alone"
        )
    edges = [sum(widths[:k]) for k in range(1, len(widths))]
    return tuple(jnp.split(product, edges, axis=-1))


def equally_varying(tree: Any) -> Any:
    """Under `jax.shard_map`, let every array vary over the mesh axes that any of them varies over;
    elsewhere, nothing.

    A loop's carry must vary as its inputs do. For a parameter that all devices share, the transpose
    of this is the one sum over devices that its gradient needs."""
    return varying_as(tree, tree)


def varying_as(like: Any, tree: Any) -> Any:
    """`tree`, varying over all mesh axes that a leaf of `like` varies over."""
    axes = frozenset().union(*(_varying_axes(leaf) for leaf in jax.tree.leaves(like)))

    def cast(leaf: Array) -> Array:
        missing = tuple(axes - _varying_axes(leaf))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def _varying_axes(leaf: Any) -> frozenset[Any]:
    kind = jax.typeof(leaf)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
