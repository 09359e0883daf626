"""The products of a step by its weights, and what is added to them."""

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
    """A product with all that the step asks of it: axes, precision, and dtype of the result."""

    asked: tuple[tuple[str, Any], ...]
    weight_first: bool

    def __call__(self, h: Array, w: Array) -> Array:
        """The product of an operand and a weight."""
        return lax.dot_general(*((w, h) if self.weight_first else (h, w)), **dict(self.asked))


class Product(NamedTuple):
    """`linear(h, w)`, where the weight `w` depends on parameters alone, and `h` does not."""

    h: Atom
    w: Atom
    linear: Linear
    result: Name
    size: int  # of the result's last axis
    plain: bool  # `h [..., in] @ w [in, out]`

    def joins(self, other: "Product") -> bool:
        """Whether both can be one product, of the same operand and of weights side by side."""
        same = (self.h, self.linear) == (other.h, other.linear)
        return self.plain and other.plain and same


def product_of(graph: Graph, operation: Operation) -> Product | None:
    """The product that an operation is, if it multiplies floating numbers by a weight."""
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
        linear = matmul  # of which the engine has faster forms
    size = operation.result.shape[-1]
    return Product(h, w, linear, operation.outputs[0], size, plain)


def _is_plain(operation: Operation) -> bool:
    """Whether it is `h [..., in] @ w [in, out]` in float32 or float64 throughout."""
    h, w = operation.avals
    asked = operation.equation.params
    axes = (((h.ndim - 1,), (0,)), ((), ()))
    same = {aval.dtype for aval in (h, w, operation.result)}
    wide = same in ({jnp.dtype("float32")}, {jnp.dtype("float64")})
    placed = asked["dimension_numbers"] == axes and asked.get("out_sharding") is None
    return placed and wide and w.ndim == 2


class Sum(NamedTuple):
    """A part of a product, with all that is added to it."""

    name: Name
    size: int
    start: int = 0  # where in the product it begins
    terms: tuple[tuple[Name, int], ...] = ()  # what is added, and where in that it begins
    through: tuple[Name, ...] = ()  # values on the way, which need not be computed any more


def sums(graph: Graph, name: Name, size: int, known: Container[Name]) -> list[Sum]:
    """Where a product ends up: after additions of known values that do not depend on the carry, and
    after being split into gates.
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
    """What an operation adds to a value, if it is known, and neither grows it nor is recurrent."""
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
