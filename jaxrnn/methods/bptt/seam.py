"""The seam between a step and the engine: the `affine` that a step multiplies by.

`record` runs a step with an `affine` of the engine's own. What that does at a call is an *answer*:
it computes, keeps what it computed, or returns what was kept before. `inspect` traces a step once,
abstractly, and reads off its jaxpr which parameters, inputs and carries reach what. A step that
breaks the law of `jaxrnn.Cell` is reported there; the method then falls back to JAX's derivative.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jax.extend.core import Jaxpr, Literal, Var

from jaxrnn.core.affine import Affine, Linear, cut_like, matmul
from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.dtypes import wide
from jaxrnn.core.trees import Tree, float_positions

R = TypeVar("R")
T = TypeVar("T")

Pieces = tuple[Array, ...]
"""One array for each part of a call of `affine`; their last axes partition the product's."""

NESTED = (
    "it calls affine inside control flow, a checkpoint or a transformation, "
    "or closes over a traced value"
)


class LawBrokenError(Exception):
    """A step calls `affine` in a way that the engine cannot use; the message says how."""


@partial(jax.tree_util.register_dataclass, data_fields=["u", "h", "w"], meta_fields=["linear"])
@dataclasses.dataclass(frozen=True)
class Call:
    """What a step asked of `affine` in one call."""

    u: Pieces | None
    h: Array
    w: Array
    linear: Linear

    @property
    def parts(self) -> tuple[Array | None, ...]:
        """What is added to each piece of the product: to one alone, and nothing, without a `u`."""
        return (None,) if self.u is None else self.u

    def cut(self, product: Array) -> Pieces:
        """The pieces of the product."""
        return cut_like(self.u, product)


Answer = Callable[[int, Call], tuple[Pieces, T]]
"""What `affine` does at the j-th call: its results, and what is recorded of the call."""


def record(step: Callable[..., R], answer: Answer[T]) -> tuple[R, list[T]]:
    """`step(affine)`, and what `answer` recorded at each call of that `affine`.

    This is the one place of the engine that appends to a list. A step returns what its cell says
    and nothing else, so what it asked for can leave it no other way. The list never outlives the
    step: traced code that uses `record` returns it, as any result.
    """
    records: list[T] = []

    def affine(u: Pieces | None, h: Array, w: Array, linear: Linear = matmul) -> Array | Pieces:
        results, found = answer(len(records), Call(u, h, w, linear))
        records.append(found)
        return results[0] if u is None else results

    return step(affine), records


@dataclasses.dataclass(frozen=True)
class Seam:
    """How a step uses what it is given. Parameters and inputs are positions among the flat leaves,
    and those are listed alone that have a gradient.

    A part of a call is *input-only* if neither the carry nor a product reaches it. Then its tangent
    can be computed for many steps at once.
    """

    products: tuple[jax.ShapeDtypeStruct, ...]  # of each call, in one step
    weight_params: tuple[tuple[int, ...], ...]  # for each call: those that its weight depends on
    operand_params: tuple[tuple[int, ...], ...]  # and those that its operand is made with
    input_only: tuple[tuple[bool, ...], ...]  # for each call: which of its parts are
    input_only_params: tuple[int, ...]  # those that input-only parts depend on
    pointwise_params: tuple[int, ...]  # those that are used in any other way but as weights
    pointwise_inputs: tuple[int, ...]  # projected inputs that are used outside input-only parts
    outputs: tuple[int | None, ...]  # for each leaf of the output: which of the new carry it is
    output_form: Any  # the structure of the output


def computing(j: int, call: Call) -> tuple[Pieces, Call]:
    """Multiply, as the default does, and record the call."""
    del j
    pieces = call.cut(call.linear(call.h, call.w))
    return tuple(map(_plus, call.parts, pieces)), call


def keeping(seam: Seam) -> Answer[Pieces]:
    """Multiply, and record what `replaying` needs: each pre-activation, without its part if that is
    not input-only.
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
    """Return what `keeping` recorded of the same step, and record each operand."""

    def answer(j: int, call: Call) -> tuple[Pieces, Array]:
        return complete(seam, j, call, preactivations[j]), call.h

    return answer


def complete(seam: Seam, j: int, call: Call, kept: Pieces) -> Pieces:
    """The pre-activations, from those that lack a part that is not input-only."""
    return tuple(
        piece if present else _plus(part, piece)
        for part, piece, present in zip(call.parts, kept, seam.input_only[j], strict=True)
    )


def input_only_parts(seam: Seam, j: int, call: Call) -> Pieces:
    """What the j-th call adds to its product before the loop: zeros for a part that is not
    input-only.
    """
    form = seam.products[j]
    pieces = call.cut(jnp.zeros(form.shape, form.dtype))
    chosen = [
        part if input_only else None
        for part, input_only in zip(call.parts, seam.input_only[j], strict=True)
    ]
    return tuple(map(_plus, chosen, pieces))


def _plus(part: Array | None, piece: Array) -> Array:
    return piece if part is None else part + piece


def join(pieces: Pieces) -> Array:
    """The inverse of `Call.cut`, in the widest of their dtypes."""
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
    """Trace `step(params, carry, u, affine)` once and read off how it uses what it is given.

    Raises:
        LawBrokenError: a weight depends on more than parameters, or `affine` was called inside
            control flow or a checkpoint.
    """
    traced = _trace(step, params, carry, u)
    differentiable = {"params": {*float_positions(params)}, "u": {*float_positions(u)}}

    def positions(name: str, sources: frozenset[Source]) -> tuple[int, ...]:
        found = {position for tree, position in sources if tree == name}
        return tuple(sorted(found & differentiable[name]))

    pointwise = traced.reached(traced.result)
    for marked in traced.calls:
        traced.reached(marked.call.u)  # known, or `affine` was called in another trace
        pointwise |= traced.reached(marked.call.h)
        pointwise |= traced.reached([p for p in marked.parts if p not in traced.input_only])
    after, y = traced.result
    return Seam(
        products=tuple(marked.form for marked in traced.calls),
        weight_params=tuple(positions("params", traced.of_weight(m)) for m in traced.calls),
        operand_params=tuple(positions("params", traced.reached(m.call.h)) for m in traced.calls),
        input_only=tuple(tuple(p in traced.input_only for p in m.parts) for m in traced.calls),
        input_only_params=positions("params", _union(traced.input_only.values())),
        pointwise_params=positions("params", pointwise),
        pointwise_inputs=positions("u", pointwise),
        outputs=tuple(_position(leaf, jax.tree.leaves(after)) for leaf in jax.tree.leaves(y)),
        output_form=jax.tree.structure(y),
    )


def _position(variable: Var | Literal, among: list[Var | Literal]) -> int | None:
    return next((i for i, other in enumerate(among) if other is variable), None)


def params_used(
    project: Callable[[Params, Tree], Tree], params: Params, xs: Tree
) -> tuple[int, ...]:
    """The positions of the parameters that any output of `project(params, xs)` depends on, and that
    have a gradient.
    """
    traced = _trace(lambda params, carry, xs, affine: project(params, xs), params, (), xs)
    used = {position for name, position in traced.reached(traced.result) if name == "params"}
    return tuple(sorted(used & {*float_positions(params)}))


Source = tuple[str, int]
"""What a variable depends on: a tree that the step is given, and the position of a leaf."""

PRODUCT: Source = ("product", 0)


class _Marked(NamedTuple):
    """A call in a step's jaxpr. The product and the parts have variables of their own, at which
    dependence is cut.
    """

    call: Call
    product: Var
    parts: tuple[Var | None, ...]
    form: jax.ShapeDtypeStruct  # of the product


class _Traced(NamedTuple):
    """A step's jaxpr: the variables of its results and calls, and what reaches them."""

    result: Tree
    calls: list[_Marked]
    reach: Mapping[Var, frozenset[Source]]
    input_only: Mapping[Var | None, frozenset[Source]]  # what reaches the parts that are

    def reached(self, variables: Tree) -> frozenset[Source]:
        """What any of these depends on."""
        leaves = [leaf for leaf in jax.tree.leaves(variables) if not isinstance(leaf, Literal)]
        if any(leaf not in self.reach for leaf in leaves):
            raise LawBrokenError(NESTED)
        return _union(self.reach[leaf] for leaf in leaves)

    def of_weight(self, marked: _Marked) -> frozenset[Source]:
        """What the weight of a call depends on: parameters alone."""
        sources = self.reached(marked.call.w)
        if any(name != "params" for name, _ in sources):
            raise LawBrokenError(
                "a weight that it passes to affine depends on more than the parameters"
            )
        return sources


def _trace(step: Callable[..., Tree], params: Params, carry: Carry, u: Tree) -> _Traced:
    def mark(j: int, call: Call) -> tuple[Pieces, tuple[Call, Array, tuple[Array | None, ...]]]:
        del j
        # a barrier gives a variable of its own
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
    """What reaches each variable, seen up to the last product or input-only part on the way, and
    what reaches the input-only parts.
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
