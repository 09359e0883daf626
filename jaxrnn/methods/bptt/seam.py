"""The seam between a step and the engine: the `affine` that a step multiplies through.

`record` runs a step with an `affine` of the engine's own. An *answer* is a function that says what
this `affine` does at a call: multiply, multiply and record the pre-activation, or return a
pre-activation that was kept.

`inspect` traces a step once, on shapes alone, and finds in its jaxpr which parameters, inputs and
carries each result and each call depends on. It raises `LawBrokenError` for a step that breaks the
law of `affine` (`jaxrnn.Cell`). The methods then fall back to JAX's own derivative.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jax.extend.core import Jaxpr, Literal, Var

from jaxrnn.core.affine import Affine, Linear, cut_like, matmul
from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.dtypes import ranked, wide
from jaxrnn.core.trees import Tree, float_positions

R = TypeVar("R")
T = TypeVar("T")

Pieces = tuple[Array, ...]
"""One array for each part of a call of `affine`. Their last axes partition that of the product."""

NESTED = (
    "it calls affine inside control flow, a checkpoint or a transformation, "
    "or closes over a traced value"
)


class LawBrokenError(Exception):
    """The engine cannot use a step; the message says why."""


@partial(jax.tree_util.register_dataclass, data_fields=["u", "h", "w"], meta_fields=["linear"])
@dataclasses.dataclass(frozen=True)
class Call:
    """The arguments of one call of `affine`."""

    u: Pieces | None
    h: Array
    w: Array
    linear: Linear

    @property
    def parts(self) -> tuple[Array | None, ...]:
        """What is added to each piece of the product. Without `u`, there is one piece, and None."""
        return (None,) if self.u is None else self.u

    def cut(self, product: Array) -> Pieces:
        """Split the product into pieces."""
        return cut_like(self.u, product)


Answer = Callable[[int, Call], tuple[Pieces, T]]
"""`answer(j, call)` returns the results of the j-th call of `affine`, and a record of the call."""


def record(step: Callable[..., R], answer: Answer[T]) -> tuple[R, list[T]]:
    """Return `step(affine)`, and what `answer` records at each call of that `affine`.

    A step returns its results alone, so the records leave it by a side effect: `affine` appends
    them to a list. No other function of the engine has one. The list does not outlive the step.
    Traced code that calls `record` returns it, like any other result.
    """
    records: list[T] = []

    def affine(u: Pieces | None, h: Array, w: Array, linear: Linear = matmul) -> Array | Pieces:
        results, found = answer(len(records), Call(u, h, w, linear))
        records.append(found)
        return results[0] if u is None else results

    return step(affine), records


@dataclasses.dataclass(frozen=True)
class Seam:
    """How a step uses its parameters and inputs.

    Parameters and projected inputs are named by their positions among the flat leaves. Only those
    with a gradient are listed.

    A part of a call is *input-only* if it depends neither on the carry nor on a product. Its
    tangent can then be computed for many steps at once.

    A parameter is *pointwise* if a result, an operand or a part that is not input-only depends on
    it other than through a product or an input-only part. Likewise a projected input.
    """

    products: tuple[jax.ShapeDtypeStruct, ...]  # for each call: the product, in one step
    weight_params: tuple[tuple[int, ...], ...]  # for each call: what its weight depends on
    operand_params: tuple[tuple[int, ...], ...]  # for each call: what its operand depends on
    input_only: tuple[tuple[bool, ...], ...]  # for each call: whether each part is input-only
    input_only_params: tuple[int, ...]  # what input-only parts depend on
    pointwise_params: tuple[int, ...]
    pointwise_inputs: tuple[int, ...]  # of the projected input


def computing(j: int, call: Call) -> tuple[Pieces, Call]:
    """Answer with the product, as the default `affine` does, and record the call."""
    del j
    pieces = call.cut(call.linear(call.h, call.w))
    return tuple(map(_plus, call.parts, pieces)), call


def keeping(seam: Seam) -> Answer[Pieces]:
    """Answer with the product, and record what `replaying` needs.

    That is each pre-activation `part + piece` if its part is input-only, else the piece of the
    product alone.
    """

    def answer(j: int, call: Call) -> tuple[Pieces, Pieces]:
        pieces = call.cut(call.linear(call.h, call.w))
        kept = tuple(
            _plus(part, piece) if input_only else piece
            for part, piece, input_only in zip(call.parts, pieces, seam.input_only[j], strict=True)
        )
        return complete(seam, j, call, kept), kept

    return answer


def replaying(seam: Seam, preactivations: Sequence[Pieces]) -> Answer[Array]:
    """Answer with what `keeping` recorded in the same step, and record each operand."""

    def answer(j: int, call: Call) -> tuple[Pieces, Array]:
        return complete(seam, j, call, preactivations[j]), call.h

    return answer


def complete(seam: Seam, j: int, call: Call, kept: Pieces) -> Pieces:
    """Return the pre-activations: add each part that is not input-only to what was kept."""
    return tuple(
        piece if present else _plus(part, piece)
        for part, piece, present in zip(call.parts, kept, seam.input_only[j], strict=True)
    )


def input_only_parts(seam: Seam, j: int, call: Call) -> Pieces:
    """Return the input-only parts of the j-th call, and zeros in place of its other parts.

    They are as wide as the pieces of the product.
    """
    form = seam.products[j]
    pieces = call.cut(jnp.zeros(form.shape, form.dtype))
    chosen = [
        part if input_only else None
        for part, input_only in zip(call.parts, seam.input_only[j], strict=True)
    ]
    return tuple(map(_plus, chosen, pieces))


def _plus(part: Array | None, piece: Array) -> Array:
    return piece if part is None else ranked(part, piece) + piece


def join(pieces: Pieces) -> Array:
    """Undo `Call.cut`. The result has the widest dtype of the pieces."""
    if len(pieces) == 1:
        return pieces[0]
    dtype = wide(*pieces)
    return jnp.concatenate([piece.astype(dtype) for piece in pieces], axis=-1)


def inspect(
    step: Callable[[Params, Carry, Tree, Affine], tuple[Carry, Tree]],
    params: Params,
    carry: Carry,
    u: Tree,
) -> Seam:
    """Trace `step(params, carry, u, affine)` once, and find how it uses its arguments.

    Raises:
        LawBrokenError: a weight depends on more than parameters, `affine` is called inside control
            flow or a checkpoint, or the step closes over a traced value.
    """
    traced = _trace(step, params, carry, u)
    differentiable = {"params": {*float_positions(params)}, "u": {*float_positions(u)}}

    def positions(name: str, sources: frozenset[Source]) -> tuple[int, ...]:
        found = {position for tree, position in sources if tree == name}
        return tuple(sorted(found & differentiable[name]))

    pointwise = traced.reached(traced.result)
    for marked in traced.calls:
        traced.reached(marked.call.u)  # raises if `affine` was called in another trace
        pointwise |= traced.reached(marked.call.h)
        pointwise |= traced.reached([p for p in marked.parts if p not in traced.input_only])
    return Seam(
        products=tuple(marked.form for marked in traced.calls),
        weight_params=tuple(positions("params", traced.of_weight(m)) for m in traced.calls),
        operand_params=tuple(positions("params", traced.reached(m.call.h)) for m in traced.calls),
        input_only=tuple(tuple(p in traced.input_only for p in m.parts) for m in traced.calls),
        input_only_params=positions("params", _union(traced.input_only.values())),
        pointwise_params=positions("params", pointwise),
        pointwise_inputs=positions("u", pointwise),
    )


def params_used(
    project: Callable[[Params, Tree], Tree], params: Params, xs: Tree
) -> tuple[int, ...]:
    """Return the positions of the parameters that `project(params, xs)` depends on.

    Only parameters with a gradient are listed.
    """
    traced = _trace(lambda params, carry, xs, affine: project(params, xs), params, (), xs)
    used = {position for name, position in traced.reached(traced.result) if name == "params"}
    return tuple(sorted(used & {*float_positions(params)}))


Source = tuple[str, int]
"""What a variable depends on: the name of an argument of the step, and the position of a leaf."""

PRODUCT: Source = ("product", 0)


class _Marked(NamedTuple):
    """A call of `affine`, as variables of a step's jaxpr.

    The product and the parts have variables of their own. Dependence is followed no further back
    than these.
    """

    call: Call
    product: Var
    parts: tuple[Var | None, ...]
    form: jax.ShapeDtypeStruct  # of the product


class _Traced(NamedTuple):
    """The variables of a step's results and calls in its jaxpr, and what each depends on."""

    result: Tree
    calls: list[_Marked]
    reach: Mapping[Var, frozenset[Source]]
    input_only: Mapping[Var | None, frozenset[Source]]  # for the input-only parts

    def reached(self, variables: Tree) -> frozenset[Source]:
        """Return what any of these variables depends on."""
        leaves = [leaf for leaf in jax.tree.leaves(variables) if not isinstance(leaf, Literal)]
        if any(leaf not in self.reach for leaf in leaves):
            raise LawBrokenError(NESTED)
        return _union(self.reach[leaf] for leaf in leaves)

    def of_weight(self, marked: _Marked) -> frozenset[Source]:
        """Return what the weight of a call depends on. Only parameters are allowed."""
        sources = self.reached(marked.call.w)
        if any(name != "params" for name, _ in sources):
            raise LawBrokenError(
                "a weight that it passes to affine depends on more than the parameters"
            )
        return sources


def _trace(step: Callable[..., Tree], params: Params, carry: Carry, u: Tree) -> _Traced:
    def mark(j: int, call: Call) -> tuple[Pieces, tuple[Call, Array, tuple[Array | None, ...]]]:
        del j
        # the result of a barrier is a variable of its own
        product = lax.optimization_barrier(call.linear(call.h, call.w))
        parts = tuple(p if p is None else lax.optimization_barrier(p) for p in call.parts)
        return tuple(map(_plus, parts, call.cut(product))), (call, product, parts)

    def marked(params: Params, carry: Carry, u: Tree) -> Tree:
        return record(partial(step, params, carry, u), mark)

    closed, forms = jax.make_jaxpr(marked, return_shape=True)(params, carry, u)
    if any(isinstance(const, Tracer) for const in closed.consts):
        raise LawBrokenError(NESTED)
    result, calls = jax.tree.unflatten(jax.tree.structure(forms), closed.jaxpr.outvars)
    calls = [
        _Marked(call, product, parts, jax.ShapeDtypeStruct(form.shape, form.dtype))
        for (call, product, parts), (_, form, _) in zip(calls, forms[1], strict=True)
    ]
    given = [
        (name, position)
        for name, tree in (("params", params), ("carry", carry), ("u", u))
        for position in range(len(jax.tree.leaves(tree)))
    ]
    return _Traced(result, calls, *_reach(closed.jaxpr, given, calls))


def _reach(
    jaxpr: Jaxpr, given: list[Source], calls: list[_Marked]
) -> tuple[dict[Var, frozenset[Source]], dict[Var | None, frozenset[Source]]]:
    """Return what each variable depends on, and what each input-only part depends on.

    In the first mapping, a product depends on `PRODUCT` alone, and an input-only part on nothing.
    What depends on these inherits that.
    """
    reach = {var: frozenset({source}) for var, source in zip(jaxpr.invars, given, strict=True)}
    reach |= {var: frozenset() for var in jaxpr.constvars}
    input_only: dict[Var | None, frozenset[Source]] = {}
    products = {marked.product for marked in calls}
    parts = {part for marked in calls for part in marked.parts}
    for equation in jaxpr.eqns:
        found = _union(reach[var] for var in equation.invars if not isinstance(var, Literal))
        for var in equation.outvars:
            reach[var] = found
            if var in products:
                reach[var] = frozenset({PRODUCT})
            elif var in parts and all(name in ("params", "u") for name, _ in found):
                input_only[var] = found
                reach[var] = frozenset()
    return reach, input_only


def _union(sets: Iterable[frozenset[Source]]) -> frozenset[Source]:
    return frozenset().union(*sets)
