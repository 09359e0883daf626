"""The dtype rule: multiply in the weights' dtype, accumulate and carry in at least float32
(complex64), emit in the input's dtype.

Cells stay free of casts: they multiply through `affine` or `project`, which keep the rule, and
bring a pointwise parameter to the dtype of what it meets with `promote`.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxrnn.core.trees import Tree


class HasDType(Protocol):
    """An array, or the shape and dtype of one."""

    @property
    def dtype(self) -> jnp.dtype: ...


def wide(*arrays: HasDType) -> jnp.dtype:
    """The dtype in which these arrays are accumulated: theirs, or float32 (complex64) where that is
    wider.

    >>> wide(jnp.zeros(2, jnp.bfloat16)), wide(jnp.zeros(2, jnp.complex64))
    (dtype('float32'), dtype('complex64'))
    """
    inexact = [jnp.dtype(a.dtype) for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)]
    parts = [jnp.finfo(dtype).dtype for dtype in inexact]  # of a complex number, the real ones
    # not jnp.promote_types, which strict promotion refuses
    widest = max((jnp.dtype(jnp.float32), *parts), key=lambda dtype: jnp.finfo(dtype).bits)
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in inexact):
        return complex_of(widest)
    return widest


def complex_of(dtype: jnp.dtype) -> jnp.dtype:
    """The complex dtype whose parts have this real one, or the nearest that there is."""
    return jnp.dtype(jnp.complex128 if jnp.finfo(dtype).bits == 64 else jnp.complex64)


def cast(array: Array, dtype: DTypeLike) -> Array:
    """`array` in another dtype; of a complex one in a real dtype, the real part: what a tangent
    of a real number is.
    """
    drops = jnp.iscomplexobj(array) and not jnp.issubdtype(dtype, jnp.complexfloating)
    return (jnp.real(array) if drops else array).astype(dtype)


def promote(parameter: Array, like: Array) -> Array:
    """A parameter that is used pointwise, in the dtype of what it meets."""
    return parameter.astype(like.dtype)


def as_wide(value: ArrayLike, like: Array) -> Array:
    """A number in the dtype of what it is combined with, if that holds its imaginary part."""
    array = jnp.asarray(value)
    drops = jnp.iscomplexobj(array) and not jnp.iscomplexobj(like)
    return array if drops else array.astype(like.dtype)


def emit(ys: Tree, dtype: DTypeLike) -> Tree:
    """Outputs in the dtype of the input; complex ones as they are, for a cast would drop a part."""

    def leaf(y: Array) -> Array:
        return y if jnp.iscomplexobj(y) else y.astype(dtype)

    return jax.tree.map(leaf, ys)
