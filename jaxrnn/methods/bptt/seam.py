"""What the engine learns about a step, and how it steps in, through the `affine` that a step
multiplies by.

A step is traced once, abstractly, with an `affine` that marks what passes through it; which
parameters, inputs and carries reach what is then read off the jaxpr. A step that breaks the law of
`jaxrnn.Cell` is reported; the driver falls back to JAX's derivative."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jax.extend.core import Literal

from jaxrnn.core.affine import Linear, add_parts, cut_like, matmul
from jaxrnn.core.dtypes import wide

NESTED = "it calls affine inside control flow, a checkpoint or a transformation, or closes over a traced value"


class LawBrokenError(Exception):
    """A step calls `affine` in a way that the engine cannot use; the message says how."""


class Call(NamedTuple):
    """One call of `affine`, as it was made, and its product."""

    u: tuple[Array, ...] | None
    h: Array
    w: Array
    linear: Linear
    product: Array


@dataclasses.dataclass(frozen=True)
class Seam:
    """How a step uses its parameters and its input; numbers are positions among their flat leaves.

    A part u_k of a call is *free* if neither the carry nor a product reaches it: then its sum with
    the product, and the way from its cotangent to parameters and inputs, can be computed for many
    steps at once."""

    weights: tuple[frozenset[int], ...]  # for each call: the parameters that its weight depends on
    widths: tuple[int, ...]  # for each call: the size of its product's last axis
    free: tuple[tuple[bool, ...], ...]  # for each call: which of its parts are free
    free_params: frozenset[int]  # the parameters that free parts depend on
    direct_params: frozenset[int]  # the parameters that are used in any other way
    # the leaves of the projected input that are used outside free parts
    direct_inputs: frozenset[int]


def recorder(calls: list[Call]) -> Callable[..., Any]:
    """An `affine` that computes and writes down each call."""

    def affine(u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul) -> Any:
        calls.append(Call(u, h, w, linear, linear(h, w)))
        return add_parts(u, calls[-1].product)

    return affine


def keeper(
    seam: Seam, products: list[Callable[[Array], Array]] | None, sums: list[tuple[Array, ...]]
) -> Callable[..., Any]:
    """An `affine` that computes, by the `products` prepared for its calls if there are any, and
    collects what `replayer` needs.

    `sums[j]` holds, for each part of call j, the product plus the part if that is free, the product
    alone if not."""

    def affine(u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul) -> Any:
        j = len(sums)
        pieces = cut_like(u, linear(h, w) if products is None else products[j](h))
        free = seam.free[j]
        sums.append(
            tuple(u[k] + piece if u and free[k] else piece for k, piece in enumerate(pieces))
        )
        return _complete(u, sums[-1], free)

    return affine


def replayer(
    seam: Seam, sums: list[tuple[Array, ...]], operands: list[Array]
) -> Callable[..., Any]:
    """An `affine` that returns what a `keeper` computed before, and collects the operand of each
    product.
    """

    def affine(u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul) -> Any:
        del w, linear
        operands.append(h)
        j = len(operands) - 1
        return _complete(u, sums[j], seam.free[j])

    return affine


def _complete(u: tuple[Array, ...] | None, sums: tuple[Array, ...], free: tuple[bool, ...]) -> Any:
    """The result of `affine`, from sums that lack the parts that are not free."""
    if u is None:
        return sums[0]
    return tuple(known if f else part + known for part, known, f in zip(u, sums, free, strict=True))


def join(parts: tuple[Array, ...]) -> Array:
    """The inverse of `cut_like`, in the widest of their dtypes."""
    dtype = wide(*parts)
    return (
        parts[0]
        if len(parts) == 1
        else jnp.concatenate([part.astype(dtype) for part in parts], axis=-1)
    )


def inspect(step: Callable[..., Any], params: Any, carry: Any, u: Any) -> Seam:
    """Trace `step(params, carry, u, affine)` once and read off how it uses what it is given.

    Raises:
        LawBrokenError: a weight depends on more than parameters, or `affine` was called inside
            control flow or a checkpoint.
    """

    def probe(params: Any, carry: Any, u: Any) -> Any:
        marked: list[Any] = []

        def affine(u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul) -> Any:
            # gives a variable of its own, at which dependence is cut
            product = lax.optimization_barrier(linear(h, w))
            parts = None if u is None else tuple(lax.optimization_barrier(part) for part in u)
            marked.append((h, w, product, u or (), parts or ()))
            return add_parts(parts, product)

        return step(params, carry, u, affine), marked

    closed, shape = jax.make_jaxpr(probe, return_shape=True)(params, carry, u)
    if any(isinstance(const, Tracer) for const in closed.consts):
        raise LawBrokenError(NESTED)
    jaxpr = closed.jaxpr
    result, calls = jax.tree.unflatten(jax.tree.structure(shape), jaxpr.outvars)
    names: list[Any] = []
    for name, tree in (("params", params), ("carry", carry), ("u", u)):
        names += [(name, i) for i in range(len(jax.tree.leaves(tree)))]
    reach = {var: frozenset({name}) for var, name in zip(jaxpr.invars, names, strict=True)}
    reach |= {var: frozenset() for var in jaxpr.constvars}

    products = {product for _, _, product, _, _ in calls}
    parts = {marked for _, _, _, _, marked in calls for marked in marked}
    free: dict[Any, frozenset] = {}
    for equation in jaxpr.eqns:
        found = frozenset().union(
            *(reach[v] for v in equation.invars if not isinstance(v, Literal))
        )
        for var in equation.outvars:
            if var in products:
                reach[var] = frozenset({("product", 0)})
            elif var in parts and all(name in ("params", "u") for name, _ in found):
                free[var] = found
                reach[var] = frozenset()
            else:
                reach[var] = found

    def reached(value: Any) -> frozenset:
        if isinstance(value, Literal):
            return frozenset()
        if value not in reach:
            raise LawBrokenError(NESTED)
        return reach[value]

    def positions(name: str, found: frozenset) -> frozenset[int]:
        return frozenset(i for kind, i in found if kind == name)

    weights = []
    rest = frozenset().union(*(reached(leaf) for leaf in jax.tree.leaves(result)))
    for h, w, _, u_parts, marked in calls:
        for part in u_parts:
            reached(part)
        if any(name != "params" for name, _ in reached(w)):
            raise LawBrokenError(
                "a weight that it passes to affine depends on more than the parameters"
            )
        weights.append(positions("params", reached(w)))
        rest |= reached(h).union(*(reached(part) for part in marked if part not in free))
    return Seam(
        weights=tuple(weights),
        widths=tuple(product.aval.shape[-1] for _, _, product, *_ in calls),
        free=tuple(tuple(part in free for part in marked) or (False,) for *_, marked in calls),
        free_params=positions("params", frozenset().union(*free.values())),
        direct_params=positions("params", rest),
        direct_inputs=positions("u", rest),
    )


def param_use(function: Callable[..., Any], params: Any, xs: Any) -> frozenset[int]:
    """The flat positions of the parameters that any output of `function(params, xs)` depends on."""
    seam = inspect(lambda params, carry, u, affine: function(params, u), params, (), xs)
    return seam.direct_params
