"""The dtype rule.

Multiply in the weights' dtype, accumulate and carry in at least float32 (complex64), and return
outputs in the input's dtype.

Cells need no casts. They multiply through `affine` and `project`, which keep the rule. They pass a
parameter that is used pointwise through `promote`.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from jaxrnn.core.trees import Tree


class HasDType(Protocol):
    """An array, or the shape and dtype of one."""

    @property
    def dtype(self) -> jnp.dtype: ...


def wide(*arrays: HasDType) -> jnp.dtype:
    """Return the dtype in which these arrays are accumulated.

    It is the widest of their floating dtypes, at least float32, and complex if one of them is.

    >>> wide(jnp.zeros(2, jnp.bfloat16)), wide(jnp.zeros(2, jnp.complex64))
    (dtype('float32'), dtype('complex64'))
    """
    inexact = [jnp.dtype(a.dtype) for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)]
    parts = [jnp.finfo(dtype).dtype for dtype in inexact]  # of a complex number, its real part's
    # jnp.promote_types would be refused under strict promotion
    widest = max((jnp.dtype(jnp.float32), *parts), key=lambda dtype: jnp.finfo(dtype).bits)
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in inexact):
        return complex_of(widest)
    return widest


def complex_of(dtype: jnp.dtype) -> jnp.dtype:
    """Return complex128 for float64, and complex64 for every narrower float."""
    return jnp.dtype(jnp.complex128 if jnp.finfo(dtype).bits == 64 else jnp.complex64)


def cast(array: Array, dtype: DTypeLike) -> Array:
    """Cast a tangent or cotangent. A complex array becomes its real part in a real dtype."""
    drops = jnp.iscomplexobj(array) and not jnp.issubdtype(dtype, jnp.complexfloating)
    return (jnp.real(array) if drops else array).astype(dtype)


def promote(parameter: Array, like: Array) -> Array:
    """Cast a parameter that is used pointwise to the dtype and rank of what it is combined with."""
    return ranked(parameter.astype(like.dtype), like)


def ranked(array: Array, like: Array) -> Array:
    """Put axes of size 1 in front of an array that has fewer than what it is combined with.

    JAX refuses to do this by itself under `jax.numpy_rank_promotion("raise")`.
    """
    return lax.expand_dims(array, range(like.ndim - array.ndim))


def as_wide(value: ArrayLike, like: Array) -> Array:
    """Cast a number to the dtype of what it is combined with.

    A complex number that meets a real array stays complex, for a cast would drop its imaginary
    part.
    """
    array = jnp.asarray(value)
    drops = jnp.iscomplexobj(array) and not jnp.iscomplexobj(like)
    return array if drops else array.astype(like.dtype)


def emit(ys: Tree, dtype: DTypeLike) -> Tree:
    """Cast outputs to the dtype of the input. Complex outputs stay complex."""

    def leaf(y: Array) -> Array:
        return y if jnp.iscomplexobj(y) else y.astype(dtype)

    return jax.tree.map(leaf, ys)
