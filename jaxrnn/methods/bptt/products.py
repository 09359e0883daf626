"""The products of the derivative: tangents by a recurrent weight, operands by its tangent.

`jax.grad` runs the transposes of these products. They are therefore written so that the transposes
are fast.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.affine import Linear, cut_like, matmul
from jaxrnn.core.dtypes import cast, wide
from jaxrnn.methods.bptt.plan import count
from jaxrnn.methods.bptt.platforms import Platform
from jaxrnn.methods.bptt.seam import Call, Pieces


@partial(jax.tree_util.register_dataclass, data_fields=["w"], meta_fields=["linear", "is_turned"])
@dataclasses.dataclass(frozen=True)
class Turned:
    """The weight of a call, laid out so that the transpose of its product is fast in a loop."""

    w: Array
    linear: Linear
    is_turned: bool  # whether `w` is the transpose of the weight, for the plain product `h @ w`

    def __call__(self, dh: Array) -> Array:
        """Return the tangent of the product, for the tangent of its operand."""
        if not self.is_turned:
            return jax.jvp(lambda h: self.linear(h, self.w), (jnp.zeros_like(dh),), (dh,))[1]
        dh = dh.astype(self.w.dtype)
        # the transpose of this product is g @ w, without a transposed factor
        return lax.dot_general(
            dh, self.w, (((dh.ndim - 1,), (1,)), ((), ())), preferred_element_type=wide(self.w)
        )


def turned(call: Call) -> Turned:
    """Lay out the weight of a call, outside the loop."""
    # for one row both layouts are as fast, and the copy of the weight is saved
    if is_plain(call) and _rows(call) > 1:
        return Turned(call.w.T, matmul, is_turned=True)
    return Turned(call.w, call.linear, is_turned=False)


@jax.custom_jvp
def given(turned: Turned, h: Array, dproduct: Array | None, pieces: Pieces, probe: Array) -> Pieces:
    """Return pre-activations that are known, with a tangent rule that puts their product back.

    Their tangent is `turned(dh)`, plus the tangent of `dproduct`. This rule holds for one
    `jax.jvp`, the one around the step. In a second derivative, `pieces` has tangents of its own.

    Args:
        turned: the weight of the product.
        h: the operand of the product.
        dproduct: zeros. Their tangent is the rest of the product's tangent; None if there is none.
        pieces: the pre-activations.
        probe: a number that always has a tangent. The first `jax.jvp` thus always applies the rule,
            and removes it, even if the operand has no tangent.
    """
    del turned, h, dproduct, probe
    return pieces


@given.defjvp
def _given_with_tangents(
    primals: tuple[Turned, Array, Array | None, Pieces, Array],
    tangents: tuple[Turned, Array, Array | None, Pieces, Array],
) -> tuple[Pieces, Pieces]:
    turned, _, _, pieces, _ = primals
    _, dh, dproduct, _, _ = tangents
    total = turned(dh) if dproduct is None else plus(turned(dh), dproduct)
    dpieces = zip(cut_like(pieces, total), pieces, strict=True)
    return pieces, tuple(cast(dpiece, piece.dtype) for dpiece, piece in dpieces)


def plus(a: Array, b: Array) -> Array:
    """Return the sum in the wider dtype of the two."""
    dtype = wide(a, b)
    return a.astype(dtype) + b.astype(dtype)


def is_plain(call: Call) -> bool:
    """Return whether the product is `h @ w`, with one matrix `w` for all rows.

    Both factors must be real, or both complex. JAX transposes every other product itself.
    """
    same_kind = jnp.iscomplexobj(call.h) == jnp.iscomplexobj(call.w)
    return call.linear is matmul and call.w.ndim == 2 and same_kind


def over_steps(turned: Turned, dhs: Array) -> Array:
    """Return the tangents of the products of many steps, for those of their operands."""
    return jax.vmap(turned)(dhs)


def through_weight(call: Call, operands: Array, dw: Array, platform: Platform) -> Array:
    """Return `operand @ dw` for many steps, as one product.

    Its transpose, which computes the weight's gradient, is one product, too.
    """
    dw = dw.astype(call.w.dtype)
    if not is_plain(call):
        if len(operands) == 1:  # an axis of size one would cost copies
            return jax.jvp(partial(call.linear, operands[0]), (call.w,), (dw,))[1][None]
        product = partial(jax.vmap(call.linear, (0, None)), operands)
        return jax.jvp(product, (call.w,), (dw,))[1]
    rows = operands.astype(dw.dtype)
    if platform.flattens:
        rows = rows.reshape(-1, rows.shape[-1])
    contracted = rows.ndim - 1
    if platform.copies_operands:
        rows, contracted = lax.optimization_barrier(rows.T), 0
    product = lax.dot_general(
        rows, dw, (((contracted,), (0,)), ((), ())), preferred_element_type=wide(dw)
    )
    return product.reshape(*operands.shape[:-1], dw.shape[1])


def _rows(call: Call) -> int:
    return count(call.h.shape[:-1])
