"""How the engine multiplies: by a recurrent weight, and by the tangent of one.

What can be done before a loop is done when these are called, outside it; what they return is for
the loop. The products of tangents are written so that their transposes, which `jax.grad` runs, are
the fast ones.
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
    """The weight of a call, laid out for the transpose of its product."""

    w: Array
    linear: Linear
    is_turned: bool

    def __call__(self, dh: Array) -> Array:
        """The tangent of the product, from that of its operand."""
        if not self.is_turned:
            return jax.jvp(lambda h: self.linear(h, self.w), (jnp.zeros_like(dh),), (dh,))[1]
        dh = dh.astype(self.w.dtype)
        # transposed: g @ w
        return lax.dot_general(
            dh, self.w, (((dh.ndim - 1,), (1,)), ((), ())), preferred_element_type=wide(self.w)
        )


def turned(call: Call) -> Turned:
    """The weight of a call, laid out for the loop over tangents."""
    # one row is as fast either way: no copy of the weight
    if is_plain(call) and _rows(call) > 1:
        return Turned(call.w.T, matmul, is_turned=True)
    return Turned(call.w, call.linear, is_turned=False)


@jax.custom_jvp
def given(turned: Turned, h: Array, dproduct: Array | None, pieces: Pieces, probe: Array) -> Pieces:
    """The pre-activations that are known already. Their tangents are those of the operand's
    product, and of what else the product's tangent is made of: `dproduct`, an array of zeros that
    has this tangent.

    That is true for the `jax.jvp` around the step alone; in a second derivative, the pieces have
    tangents of their own. `probe` is a number that always has a tangent, so that the first
    `jax.jvp` uses the rule up, even where the operand has none.
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
    """Their sum, in the wider of their dtypes."""
    dtype = wide(a, b)
    return a.astype(dtype) + b.astype(dtype)


def is_plain(call: Call) -> bool:
    """Whether the product is `h @ w` with one matrix for all rows, of two real or two complex
    numbers; all else is left to JAX's own transposition.
    """
    same_kind = jnp.iscomplexobj(call.h) == jnp.iscomplexobj(call.w)
    return call.linear is matmul and call.w.ndim == 2 and same_kind


def over_steps(turned: Turned, dhs: Array) -> Array:
    """Tangents of the products of many steps, from those of their operands."""
    return jax.vmap(turned)(dhs)


def through_weight(call: Call, operands: Array, dw: Array, platform: Platform) -> Array:
    """`operand @ dw` for many steps, as one product; so is its transpose, the weight's gradient."""
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
