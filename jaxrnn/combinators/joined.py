"""Steps of a cell whose input is `[x; seen]`, where `seen` is known only within the step.

`x` is known for all steps before the loop. `before` therefore computes the part of `x` in every
product of the joined input, for all steps at once. Within the loop, `step` computes the part of
`seen`. If the cell does nothing with its projected input but add it to one product of its state, as
`LSTM` and `Elman` do, the product of `seen` and that of the state become one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Literal

from jaxrnn.core.affine import Affine, Linear, add_parts, check_factor, cut_like, matmul
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.composite import Composite, substep
from jaxrnn.core.traced.values import through
from jaxrnn.core.trees import Tree


class Input(NamedTuple):
    """The input, and its part in each product of the joined input."""

    x: Array
    products: tuple[tuple[Array, ...], ...]  # split as `affine` splits them; () for a composite


def before(cell: Cell, params: Params, xs: Array, size: int) -> Input:
    """Compute everything about the joined input that is known before the loop.

    Args:
        cell: the cell. If it is a composite, nothing is computed before the loop.
        params: its parameters.
        xs: the inputs `[time, *batch, in]`.
        size: the size of the last axis of `seen`.

    Raises:
        TypeError: `xs` is not a single array.
    """
    check_factor(xs)
    if isinstance(cell, Composite):
        return Input(xs, ())
    joined = jnp.concatenate([xs, jnp.zeros((*xs.shape[:-1], size), xs.dtype)], axis=-1)
    products: list[tuple[Array, ...]] = []

    def affine(u: Tree, h: Array, w: Array, linear: Linear = matmul) -> Tree:
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
    """Take a step of the cell with the input `[x; seen]`."""
    x, products = u
    joined = jnp.concatenate([x, seen.astype(x.dtype)], axis=-1)
    if not products:
        return substep(cell, params, carry, joined, affine)

    def projected(add_seen: Callable[..., Any]) -> Any:
        known = iter(products)

        def split(u: Tree, h: Array, w: Array, linear: Linear = matmul) -> Tree:
            if not _is_of(joined, h, w, linear):
                return affine(u, h, w, linear)
            pieces = next(known)
            parts = pieces if u is None else tuple(map(jnp.add, u, pieces))
            results = add_seen(parts, w[-seen.shape[-1] :])
            return results[0] if u is None else results

        return through(split, cell.project, params, joined)

    first: list[tuple[Any, Array]] = []  # the parts without `seen`, and the weight of `seen`
    us = projected(lambda parts, w: first.append((parts, w)) or parts)
    parts, w_seen = first[0]
    if _are_same(us, parts) and _adds_to_products(cell, params, carry, us):
        carry, y = cell.step(params, carry, us, _joining(affine, us, seen, w_seen))
    else:
        us = projected(lambda parts, w: affine(parts, seen, w))
        carry, y = cell.step(params, carry, us, affine)
    return carry, through(affine, cell.read, params, y, joined)


def _is_of(joined: Array, h: Array, w: Array, linear: Linear) -> bool:
    """Return whether a product is one of the joined input by a matrix."""
    return h is joined and linear is matmul and w.ndim == 2


def _are_same(us: Tree, parts: Any) -> bool:
    """Return whether two trees hold identical arrays, in the same order."""
    pair = jax.tree.leaves(us), jax.tree.leaves(parts)
    return len(pair[0]) == len(pair[1]) and all(a is b for a, b in zip(*pair, strict=True))


def _adds_to_products(cell: Cell, params: Params, carry: Carry, us: Tree) -> bool:
    """Return whether the step uses its projected input only as the `u` of `affine(u, h, w)`."""

    def without(params: Params, carry: Carry, us: Tree) -> Tree:
        def affine(u: Tree, h: Array, w: Array, linear: Linear = matmul) -> Tree:
            if _are_same(us, u) and linear is matmul:
                return cut_like(u, linear(h, w))
            return default_affine(u, h, w, linear)

        return cell.step(params, carry, us, affine)  # type: ignore[arg-type]

    jaxpr = jax.make_jaxpr(without)(params, carry, us).jaxpr
    given = set(jaxpr.invars[len(jaxpr.invars) - len(jax.tree.leaves(us)) :])
    used = [*jaxpr.outvars, *(atom for equation in jaxpr.eqns for atom in equation.invars)]
    return not any(atom in given for atom in used if not isinstance(atom, Literal))


def _joining(affine: Affine, us: Tree, seen: Array, w_seen: Array) -> Affine:
    """Return an `affine` that adds the product of `seen` wherever it adds `us`."""

    def joining(u: Tree, h: Array, w: Array, linear: Linear = matmul) -> Tree:
        if not (_are_same(us, u) and linear is matmul):
            return affine(u, h, w, linear)
        both = jnp.concatenate([seen.astype(h.dtype), h], axis=-1)
        return affine(u, both, jnp.concatenate([w_seen.astype(w.dtype), w]))

    return joining  # type: ignore[return-value]
