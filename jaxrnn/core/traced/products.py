"""Finds the products of a step by its weights, and what is added to them."""

import dataclasses
from collections.abc import Container
from itertools import accumulate
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.affine import Linear, matmul
from jaxrnn.core.traced.graph import Atom, Graph, Name, Operation


@dataclasses.dataclass(frozen=True)
class Dot:
    """A product with the step's own axes, precision and dtype of the result."""

    asked: tuple[tuple[str, Any], ...]
    weight_first: bool

    def __call__(self, h: Array, w: Array) -> Array:
        """Multiply an operand by a weight."""
        return lax.dot_general(*((w, h) if self.weight_first else (h, w)), **dict(self.asked))


class Product(NamedTuple):
    """`linear(h, w)`. The weight `w` depends on nothing but parameters; `h` depends on more."""

    h: Atom
    w: Atom
    linear: Linear
    result: Name
    size: int  # of the result's last axis
    plain: bool  # whether it is `h [..., in] @ w [in, out]`

    def joins(self, other: "Product") -> bool:
        """Return whether both can become one product, by concatenating their weights."""
        same = (self.h, self.linear) == (other.h, other.linear)
        return self.plain and other.plain and same


def product_of(graph: Graph, operation: Operation) -> Product | None:
    """Return an operation as a product, or None if it does not multiply floats by a weight."""
    if operation.equation.primitive is not lax.dot_general_p or not operation.result.ndim:
        return None
    if operation.reach <= {"params"}:
        return None
    dtypes = [aval.dtype for aval in operation.avals]
    floating = all(jnp.issubdtype(t, jnp.floating) for t in (*dtypes, operation.result.dtype))
    are_weights = [isinstance(a, Name) and graph.reach[a] <= {"params"} for a in operation.inputs]
    if not floating or dtypes[0] != dtypes[1] or sum(are_weights) != 1:
        return None
    h, w = operation.inputs if are_weights[1] else operation.inputs[::-1]
    plain = are_weights[1] and _is_plain(operation)
    asked = operation.equation.params
    linear = Dot(tuple(asked.items()), weight_first=are_weights[0])
    if plain and asked["precision"] is None:
        linear = matmul  # BPTT has faster forms of this one
    size = operation.result.shape[-1]
    return Product(h, w, linear, operation.outputs[0], size, plain)


def _is_plain(operation: Operation) -> bool:
    """Return whether it is `h [..., in] @ w [in, out]`, all in float32 or all in float64."""
    h, w = operation.avals
    asked = operation.equation.params
    axes = (((h.ndim - 1,), (0,)), ((), ()))
    same = {aval.dtype for aval in (h, w, operation.result)}
    wide = same in ({jnp.dtype("float32")}, {jnp.dtype("float64")})
    placed = asked["dimension_numbers"] == axes and asked.get("out_sharding") is None
    return placed and wide and w.ndim == 2


class Sum(NamedTuple):
    """A part of a product, with all terms that are added to it."""

    name: Name  # the value that holds the sum
    size: int
    start: int = 0  # where the part begins in the product
    terms: tuple[tuple[Name, int], ...] = ()  # each term, and where its part begins in it
    through: tuple[Name, ...] = ()  # intermediate values, which need not be computed any more


def sums(graph: Graph, name: Name, size: int, known: Container[Name]) -> list[Sum]:
    """Follow a product through additions and splits into gates, and return the sums at the end.

    An addition counts if the other term is known and does not depend on the carry.
    """
    operation = graph.only_reader(name)
    if operation is None:
        return [Sum(name, size)]
    if (term := _added(graph, operation, name, known)) is not None:
        return [
            found._replace(
                terms=((term, found.start), *found.terms), through=(name, *found.through)
            )
            for found in sums(graph, operation.outputs[0], size, known)
        ]
    if _splits_last_axis(operation):
        sizes = operation.equation.params["sizes"]
        starts = accumulate(sizes, initial=0)
        return [
            found._replace(start=start + found.start, through=(name, *found.through))
            for output, part, start in zip(operation.outputs, sizes, starts, strict=False)
            for found in sums(graph, output, part, known)
        ]
    return [Sum(name, size)]


def _added(graph: Graph, operation: Operation, name: Name, known: Container[Name]) -> Name | None:
    """Return the term that an operation adds to a value, or None if `sums` has to stop there.

    The term must be known, must not depend on the carry, and must not broadcast the value to a
    larger shape.
    """
    if operation.equation.primitive is not lax.add_p:
        return None
    place = operation.inputs.index(name)
    other = operation.inputs[1 - place]
    if operation.result.shape != operation.avals[place].shape or not isinstance(other, Name):
        return None
    return other if other in known and "carry" not in graph.reach[other] else None


def _splits_last_axis(operation: Operation) -> bool:
    is_split = operation.equation.primitive is lax.split_p
    return is_split and operation.equation.params["axis"] == operation.avals[0].ndim - 1
