"""A step of a cell on its input joined with what is known only within the step.

The input is known for many steps at once, and so is its part in every product that the cell makes
of the joined input: that part is computed before the loop, `before`. In the loop, `step` multiplies
the rest. If all that the cell does with its projected input is to add it to one product of its
state (`LSTM`, `Elman`), the two products are one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Literal

from jaxrnn.core.affine import Affine, Linear, add_parts, cut_like, matmul
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.composite import Composite, substep
from jaxrnn.core.traced.values import through


class Input(NamedTuple):
    """An input, and its part in each product of the joined input, in the pieces that it is cut to.

    There are none of a cell made of cells, whose products are all in the loop.
    """

    x: Array
    products: tuple[tuple[Array, ...], ...]


def before(cell: Cell, params: Params, xs: Array, size: int) -> Input:
    """What is known of the joined input before the loop; `size` is that of what will be joined."""
    if isinstance(cell, Composite):
        return Input(xs, ())
    joined = jnp.concatenate([xs, jnp.zeros((*xs.shape[:-1], size), xs.dtype)], axis=-1)
    products: list[tuple[Array, ...]] = []

    def affine(u: Any, h: Array, w: Array, linear: Linear = matmul) -> Any:
        if not _is_of(joined, h, w, linear):
            return default_affine(u, h, w, linear)
        product = matmul(xs, w[:-size])
        products.append(cut_like(u, product))
        return add_parts(u, product)

    through(affine, cell.project, params, joined)  # type: ignore[arg-type]
    return Input(xs, tuple(products))


def step(
    cell: Cell, params: Params, carry: Carry, u: Input, seen: Array, affine: Affine
) -> tuple[Carry, Array]:
    """The cell's step on `[x; seen]`."""
    x, products = u
    joined = jnp.concatenate([x, seen.astype(x.dtype)], axis=-1)
    if not products:
        return substep(cell, params, carry, joined, affine)

    def projected(add_seen: Callable[..., Any]) -> Any:
        known = iter(products)

        def split(u: Any, h: Array, w: Array, linear: Linear = matmul) -> Any:
            if not _is_of(joined, h, w, linear):
                return affine(u, h, w, linear)
            pieces = next(known)
            parts = pieces if u is None else tuple(map(jnp.add, u, pieces))
            results = add_seen(parts, w[-seen.shape[-1] :])
            return results[0] if u is None else results

        return through(split, cell.project, params, joined)

    first: list[tuple[Any, Array]] = []  # the parts without what is seen, and its weight
    us = projected(lambda parts, w: first.append((parts, w)) or parts)
    parts, w_seen = first[0]
    if _are_same(us, parts) and _adds_to_products(cell, params, carry, us):
        carry, y = cell.step(params, carry, us, _joining(affine, us, seen, w_seen))
    else:
        us = projected(lambda parts, w: affine(parts, seen, w))
        carry, y = cell.step(params, carry, us, affine)
    return carry, through(affine, cell.read, params, y, joined)


def _is_of(joined: Array, h: Array, w: Array, linear: Linear) -> bool:
    """Whether a product is of the joined input by one matrix."""
    return h is joined and linear is matmul and w.ndim == 2


def _are_same(us: Any, parts: Any) -> bool:
    """Whether two trees hold the same arrays."""
    pair = jax.tree.leaves(us), jax.tree.leaves(parts)
    return len(pair[0]) == len(pair[1]) and all(a is b for a, b in zip(*pair, strict=True))


def _adds_to_products(cell: Cell, params: Params, carry: Carry, us: Any) -> bool:
    """Whether the step does nothing with its projected input but add all of it to products of its
    own, as `affine(u, h, w)`.
    """

    def without(params: Params, carry: Carry, us: Any) -> Any:
        def affine(u: Any, h: Array, w: Array, linear: Linear = matmul) -> Any:
            if _are_same(us, u) and linear is matmul:
                return cut_like(u, linear(h, w))
            return default_affine(u, h, w, linear)

        return cell.step(params, carry, us, affine)  # type: ignore[arg-type]

    jaxpr = jax.make_jaxpr(without)(params, carry, us).jaxpr
    given = set(jaxpr.invars[len(jaxpr.invars) - len(jax.tree.leaves(us)) :])
    used = [*jaxpr.outvars, *(atom for equation in jaxpr.eqns for atom in equation.invars)]
    return not any(atom in given for atom in used if not isinstance(atom, Literal))


def _joining(affine: Affine, us: Any, seen: Array, w_seen: Array) -> Affine:
    """`affine`, with the product of what is seen in those that `us` is added to."""

    def joining(u: Any, h: Array, w: Array, linear: Linear = matmul) -> Any:
        if not (_are_same(us, u) and linear is matmul):
            return affine(u, h, w, linear)
        both = jnp.concatenate([seen.astype(h.dtype), h], axis=-1)
        return affine(u, both, jnp.concatenate([w_seen.astype(w.dtype), w]))

    return joining  # type: ignore[return-value]
