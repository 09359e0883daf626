"""Evaluates a traced step, operation by operation, with its products through `affine`."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.traced.equations import run_alone
from jaxrnn.core.traced.graph import Atom, Graph, Name, Operation, trace
from jaxrnn.core.traced.products import Product, Sum, product_of, sums

Values = dict[Name, Any]
"""Arrays by name; None where a value need not be computed."""


def through(affine: Affine, function: Callable[..., Any], params: Any, *inputs: Any) -> Any:
    """Call `function(params, *inputs)`, with its products by weights through `affine`.

    A weight is whatever depends on nothing but `params`.
    """
    if affine is default_affine:
        return function(params, *inputs)
    graph = trace(lambda params, _, inputs: function(params, *inputs), params, (), inputs)
    known = dict(zip(graph.params + graph.x, jax.tree.leaves((params, inputs)), strict=True))
    values = evaluate(graph, graph.operations, known, affine)
    return jax.tree.unflatten(graph.structure, [read(values, atom) for atom in graph.outputs])


def evaluate(
    graph: Graph, operations: Sequence[Operation], known: Mapping[Name, Any], affine: Affine
) -> Values:
    """Run these operations, and return all values that are known then.

    Weights are computed first, so that products with the same left factor can become one.
    """
    values = {**graph.constants, **known}
    pending = [operation for operation in operations if not _is_done(operation, values)]
    found = [product_of(graph, operation) for operation in pending]
    products = [product for product in found if product is not None]
    in_order = sorted(
        zip(pending, found, strict=True), key=lambda pair: not pair[0].reach <= {"params"}
    )
    for operation, product in in_order:
        if _is_done(operation, values):
            continue
        if product is None:
            inputs = [read(values, atom) for atom in operation.inputs]
            results = run_alone(operation.equation, inputs, graph.debug_info)
            values |= zip(operation.outputs, results, strict=True)
        elif product.plain:
            together = [other for other in products if product.joins(other)]
            values |= _multiplied(graph, together, values, affine)
        else:
            h, w = read(values, product.h), read(values, product.w)
            values[product.result] = affine(None, h, w, product.linear)
    return values


def read(values: Values, atom: Atom) -> Any:
    """Return the value of a name, or of a literal."""
    return values[atom] if isinstance(atom, Name) else atom.val


def _is_done(operation: Operation, values: Values) -> bool:
    """Return whether all results are known. An operation without results runs for its effect."""
    return bool(operation.outputs) and all(name in values for name in operation.outputs)


def _multiplied(graph: Graph, together: list[Product], values: Values, affine: Affine) -> Values:
    """Run several products as one, and return their results.

    `affine` also adds whatever the step adds to them, because BPTT can use pre-activations.
    """
    parts = [
        part for product in together for part in sums(graph, product.result, product.size, values)
    ]
    weights = [read(values, product.w) for product in together]
    w = weights[0] if len(weights) == 1 else jnp.concatenate(weights, axis=-1)
    h, linear = read(values, together[0].h), together[0].linear
    if any(part.terms for part in parts):
        results = affine(tuple(_addend(part, values, w.dtype) for part in parts), h, w, linear)
    else:
        edges = [sum(part.size for part in parts[:k]) for k in range(1, len(parts))]
        results = jnp.split(affine(None, h, w, linear), edges, axis=-1)
    through = dict.fromkeys(name for part in parts for name in part.through)
    return {**through, **{part.name: y for part, y in zip(parts, results, strict=True)}}


def _addend(part: Sum, values: Values, dtype: Any) -> Array:
    """Return the sum of all terms that are added to a part; zeros if there are none."""
    if not part.terms:
        return jnp.zeros(part.size, dtype)
    terms = (_cut(values[term], start, part.size) for term, start in part.terms)
    return reduce(jnp.add, terms)


def _cut(term: Array, start: int, size: int) -> Array:
    if term.shape[-1:] in ((), (1,)):  # a single number for all units
        return jnp.broadcast_to(term, (*term.shape[:-1], size))
    return term[..., start : start + size]
