"""How the engine multiplies: by a recurrent weight, by its transpose, and operand by cotangent for
its gradient.

What can be done before a loop is done when these are called, outside it; what they return is for
the loop."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.affine import matmul
from jaxrnn.core.dtypes import wide
from jaxrnn.methods.bptt.plan import count
from jaxrnn.methods.bptt.seam import Call

Product = Callable[[Array], Array]
"""From one factor of a product to the product, or of a transposed one; the weight is the other."""

FEW_ROWS = 32
LARGE_WEIGHT = 2**19


def is_plain(call: Call) -> bool:
    """Whether the product is `h @ w` with one matrix for all rows, of two real or two complex
    numbers; all else is left to JAX's own transposition.
    """
    same_kind = jnp.iscomplexobj(call.h) == jnp.iscomplexobj(call.w)
    return call.linear is matmul and call.w.ndim == 2 and same_kind


def forward_product(call: Call) -> Product:
    """From the operand of a call of `affine` to its product."""
    if _weight_first(call):
        return partial(_multiply_weight_first, lax.optimization_barrier(call.w.T))
    return lambda h: call.linear(h, call.w)


def transposed_product(call: Call) -> Product:
    """From the cotangent of a product, in the product's dtype, to that of its operand, in the
    operand's.
    """
    # one row is as fast either way: no copy of the weight
    if is_plain(call) and (_rows(call) == 1 or _weight_first(call)):
        return lambda cotangent: _multiply_weight_first(call.w, cotangent).astype(call.h.dtype)
    if is_plain(call):
        transposed = call.w.T
        return lambda cotangent: matmul(cotangent, transposed).astype(call.h.dtype)
    _, pull = jax.vjp(lambda h: call.linear(h, call.w), jnp.zeros_like(call.h))
    return lambda cotangent: pull(cotangent)[0]


def over_steps(call: Call, transposed: Product, cotangents: Array) -> Array:
    """A `transposed_product` for many steps at once."""
    return transposed(cotangents) if is_plain(call) else jax.vmap(transposed)(cotangents)


def weight_gradient(call: Call, operands: Array, deltas: Array) -> Array:
    """`Σ operandᵀ cotangent` over many steps, as one product."""
    if is_plain(call):
        flat, delta = (a.reshape(-1, a.shape[-1]).astype(call.w.dtype) for a in (operands, deltas))
        # copied: contracting over rows takes up to twice the time
        turned = lax.optimization_barrier(flat.T) if _on_cpu() else flat.T
        return jnp.matmul(turned, delta, preferred_element_type=wide(call.w))
    pull = jax.vjp(lambda w: jax.vmap(call.linear, (0, None))(operands, w), call.w)[1]
    return pull(deltas)[0].astype(wide(call.w))


def _weight_first(call: Call) -> bool:
    """Whether to compute `h @ w` as `(wᵀ @ hᵀ)ᵀ`.

    A CPU's product rearranges its second factor for the multiplication. With a large weight and few
    rows that takes most of the time (16 rows by 1024 x 4096: 3.6 ms, weight first 1.0 ms)."""
    return _on_cpu() and is_plain(call) and _rows(call) <= FEW_ROWS and call.w.size >= LARGE_WEIGHT


def _on_cpu() -> bool:
    """Of the platform in use by default: another that a program is compiled for gets the same
    numbers, in its own time.
    """
    return jax.default_backend() == "cpu"


def _rows(call: Call) -> int:
    return count(call.h.shape[:-1])


def _multiply_weight_first(rows: Array, h: Array) -> Array:
    """`h @ rowsᵀ`."""
    flat = h.reshape(-1, h.shape[-1]).astype(rows.dtype)
    product = lax.dot_general(
        rows, flat, (((1,), (1,)), ((), ())), preferred_element_type=wide(rows)
    )
    product = lax.optimization_barrier(product).T  # else the compiler would swap the factors back
    return product.reshape(*h.shape[:-1], -1)
