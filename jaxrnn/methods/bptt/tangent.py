"""The derivative of a whole run: a linear map from tangents to tangents.

JAX evaluates it for `jax.jvp`, and transposes it for `jax.grad`. Its transpose is back-propagation
through time. What is computed here for all steps of a block at once becomes one large product for
each weight, and the loop over steps becomes the walk back. `jax.checkpoint` makes the transpose
recompute everything but what the forward pass kept.

The tangent of `v` is called `dv`. Tangents that are known to be zero are left out.
"""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.dtypes import wide
from jaxrnn.core.trees import Tree, float_positions, floats, pick, put
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt.blocks import loop, over_blocks, recomputed
from jaxrnn.methods.bptt.forward import Kept, Residuals
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.products import given, over_steps, plus, through_weight, turned
from jaxrnn.methods.bptt.rebuild import Fixed, Rebuilt, rebuild, replay
from jaxrnn.methods.bptt.seam import (
    Answer,
    Call,
    Pieces,
    complete,
    computing,
    input_only_parts,
    join,
    record,
)

Results = tuple[list[Array], list[Array]]
"""The tangents of the carry after a step and of its output, one for each floating leaf."""

ByCall = dict[int, Array]
"""An array for some of the calls of `affine` in a step, by the call's number."""

ByPosition = dict[int, Array]
"""An array for some leaves of a tree, by position."""


class Tangents(NamedTuple):
    """The tangents of the arguments of a run."""

    params: ByPosition  # those that are not zero
    xs: ByPosition  # those that are not zero
    carry: list[Array]  # one for each floating leaf


class Shared(NamedTuple):
    """The tangents that all steps share.

    Their dtypes are wide: the transpose adds up gradients in them.
    """

    weights: ByCall
    params: ByPosition

    def of(self, params: Params, positions: Iterable[int]) -> ByPosition:
        """Return the tangents of some parameters, in the parameters' dtypes."""
        found = [i for i in positions if i in self.params]
        leaves = pick(params, found)
        return {i: self.params[i].astype(p.dtype) for i, p in zip(found, leaves, strict=True)}


def derivative(plan: Plan, residuals: Residuals, tangents: Tangents) -> Results:
    """Return the tangents of the last carry and of the outputs."""
    return recomputed(partial(_over_time, plan))(residuals, tangents)


def _over_time(plan: Plan, residuals: Residuals, tangents: Tangents) -> Results:
    _, xs, flags, kept, starts = residuals
    fixed, shared = _prepare(plan, residuals, tangents)
    inputs = (xs, tangents.xs)
    if plan.projects_at_once:
        inputs = _project(fixed, shared, *inputs)

    def block(
        dcarry: list[Array],
        steps: tuple[tuple[Tree, ByPosition], StepFlags, Kept],
        start: Carry,
    ) -> tuple[list[Array], list[Array], None]:
        inputs, flags, kept = steps
        us, dus = inputs if plan.projects_at_once else _project(fixed, shared, *inputs)
        rebuilt = rebuild(fixed, start, us, flags, kept)
        return *_over_steps(fixed, shared, rebuilt, dus, dcarry), None

    steps = (inputs, flags, kept)
    dlast, dys, _ = over_blocks(
        block, tangents.carry, steps, starts, plan.block, plan.reverse, recompute=True
    )
    return dlast, dys


def _prepare(plan: Plan, residuals: Residuals, tangents: Tangents) -> tuple[Fixed, Shared]:
    """Compute what all blocks share."""
    params, xs, flags, _, starts = residuals
    start = jax.tree.map(lambda leaf: leaf[0], starts)
    dparams = tangents.params

    def weights(theta: list[Array]) -> tuple[list[Array], list[Call]]:
        calls = _first_calls(plan, put(params, dparams, theta), xs, start, flags)
        return [call.w for call in calls], calls

    primals, dtheta = pick(params, dparams), [*dparams.values()]
    _, dweights, calls = jax.jvp(weights, (primals,), (dtheta,), has_aux=True)
    of_weights = {
        j: dw
        for j, dw in enumerate(dweights)
        if not dparams.keys().isdisjoint(plan.seam.weight_params[j])
    }
    widened = jax.tree.map(lambda d: d.astype(wide(d)), Shared(of_weights, dparams))
    return Fixed(plan, params, calls, [turned(call) for call in calls]), widened


def _first_calls(
    plan: Plan, params: Params, xs: Tree, carry: Carry, flags: StepFlags
) -> list[Call]:
    """Return the calls of `affine` in the first step.

    Only their weights and shapes are used. All steps have the same. The compiler drops the rest.
    """
    x, flags_t = jax.tree.map(lambda leaf: leaf[0], (xs, flags))
    u = plan.cell.project(params, x)
    return record(partial(plan.step, params, carry, u, flags_t), computing)[1]


class _Step(NamedTuple):
    """What the loop over steps reads."""

    at: Rebuilt
    du: ByPosition  # for projected inputs that are used pointwise
    dproducts: ByCall  # what is known of the tangents of products before the loop
    dresults: Results | None  # what the tangents of small parameters add to the results


def _over_steps(
    fixed: Fixed, shared: Shared, rebuilt: Rebuilt, dus: ByPosition, dcarry: list[Array]
) -> Results:
    """Return the tangents of the carry after a block and of its outputs.

    Part 2 of the derivative comes before the loop: everything that needs no tangent of the carry,
    for all steps at once. The loop is part 3.
    """
    plan = fixed.plan
    dresults, dproducts = _through_small_params(fixed, shared, rebuilt)
    dproducts = _sum(
        dproducts,
        _through_weights(fixed, shared, rebuilt),
        _through_input_only_parts(fixed, shared, rebuilt, dus),
    )
    du = {i: dus[i] for i in plan.seam.pointwise_inputs if i in dus}
    # wide, because the transpose of the loop adds up their gradients
    dlarge = {i: shared.params[i] for i in plan.large_params if i in shared.params}
    body, steps = partial(_of_step, fixed, dlarge), _Step(rebuilt, du, dproducts, dresults)
    return loop(body, dcarry, steps, plan.reverse, plan.platform.unroll, recompute=True)


def _of_step(fixed: Fixed, dlarge: ByPosition, dbefore: list[Array], step: _Step) -> Results:
    """Return the tangents of a step's results, at given pre-activations."""
    at, du, dproducts, dresults = step

    def replayed(
        before: list[Array], u: list[Array], theta: list[Array], products: ByCall, probe: Array
    ) -> Results:
        carry = put(at.before, float_positions(at.before), before)
        params, inputs = put(fixed.params, dlarge, theta), put(at.u, du, u)
        here = partial(fixed.plan.step, params, carry, inputs, at.flags)
        (after, y), _ = record(here, _giving(fixed, at, products, probe))
        return floats(after), floats(y)

    large = pick(fixed.params, dlarge)
    dtheta = [d.astype(p.dtype) for d, p in zip(dlarge.values(), large, strict=True)]
    primals, tangents = (
        (floats(at.before), pick(at.u, du), large),
        (dbefore, [*du.values()], dtheta),
    )
    zeros, zero = jax.tree.map(jnp.zeros_like, dproducts), jnp.zeros(())
    _, total = jax.jvp(replayed, (*primals, zeros, zero), (*tangents, dproducts, zero))
    return total if dresults is None else jax.tree.map(jnp.add, total, dresults)


def _giving(fixed: Fixed, at: Rebuilt, products: ByCall, probe: Array) -> Answer[None]:
    """Answer with the known pre-activations of a step, and give them their tangents."""

    def answer(j: int, call: Call) -> tuple[Pieces, None]:
        pieces = given(fixed.turned[j], call.h, products.get(j), at.preactivations[j], probe)
        return complete(fixed.plan.seam, j, call, pieces), None

    return answer


def _project(fixed: Fixed, shared: Shared, xs: Tree, dxs: ByPosition) -> tuple[Tree, ByPosition]:
    """Return the projected inputs of many steps, and their tangents."""
    plan, params = fixed.plan, fixed.params
    dtheta = shared.of(params, plan.projected_params)
    if not dtheta and not dxs:
        return plan.project(params, xs), {}
    us, dus = jax.jvp(
        lambda theta, leaves: plan.project(put(params, dtheta, theta), put(xs, dxs, leaves)),
        (pick(params, dtheta), pick(xs, dxs)),
        ([*dtheta.values()], [*dxs.values()]),
    )
    leaves = jax.tree.leaves(dus)
    return us, {i: leaves[i] for i in float_positions(us)}


def _through_weights(fixed: Fixed, shared: Shared, rebuilt: Rebuilt) -> ByCall:
    """Return what the tangents of the weights add to those of the products."""
    _, operands = jax.vmap(partial(replay, fixed.plan, fixed.params))(rebuilt)
    return {
        j: through_weight(fixed.calls[j], operands[j], dw, fixed.plan.platform)
        for j, dw in shared.weights.items()
    }


def _through_input_only_parts(
    fixed: Fixed, shared: Shared, rebuilt: Rebuilt, dus: ByPosition
) -> ByCall:
    """Return what the tangents of input-only parts add to those of the pre-activations."""
    plan, seam = fixed.plan, fixed.plan.seam
    dtheta = shared.of(fixed.params, seam.input_only_params)
    chosen = [j for j, input_only in enumerate(seam.input_only) if any(input_only)]
    if not chosen or not (dtheta or dus):
        return {}

    def parts(theta: list[Array], leaves: list[Array]) -> dict[int, Pieces]:
        params = put(fixed.params, dtheta, theta)
        us = put(rebuilt.u, dus, leaves)

        def one(*at: Tree) -> dict[int, Pieces]:
            _, calls = record(partial(plan.step, params, *at), computing)
            return {j: input_only_parts(seam, j, calls[j]) for j in chosen}

        return jax.vmap(one)(rebuilt.before, us, rebuilt.flags)

    _, dparts = jax.jvp(
        parts,
        (pick(fixed.params, dtheta), pick(rebuilt.u, dus)),
        ([*dtheta.values()], [*dus.values()]),
    )
    joined = _joined_flat if plan.platform.flattens else join
    return {j: joined(pieces) for j, pieces in dparts.items()}


def _joined_flat(pieces: Pieces) -> Array:
    """Do `join` on one axis of rows.

    A projection that flattens split the pieces there. XLA then removes the split and the join.
    """
    flat = join(tuple(piece.reshape(-1, piece.shape[-1]) for piece in pieces))
    return flat.reshape(*pieces[0].shape[:-1], flat.shape[-1])


def _through_small_params(
    fixed: Fixed, shared: Shared, rebuilt: Rebuilt
) -> tuple[Results | None, ByCall]:
    """Return what the tangents of small pointwise parameters add to the results and products.

    Only for parameters that have tangents; None and an empty dict if there are none.
    """
    plan = fixed.plan
    dtheta = shared.of(fixed.params, plan.small_params)
    if not dtheta:
        return None, {}

    def steps(theta: list[Array]) -> tuple[Results, ByCall]:
        params = put(fixed.params, dtheta, theta)

        def one(at: Rebuilt) -> tuple[Results, ByCall]:
            (after, y), operands = replay(plan, params, at)
            return (floats(after), floats(y)), {
                j: operand
                for j, operand in enumerate(operands)
                if not dtheta.keys().isdisjoint(plan.seam.operand_params[j])
            }

        return jax.vmap(one)(rebuilt)

    theta, tangents = pick(fixed.params, dtheta), [*dtheta.values()]
    _, (dresults, doperands) = jax.jvp(steps, (theta,), (tangents,))
    return dresults, {j: over_steps(fixed.turned[j], dh) for j, dh in doperands.items()}


def _sum(*terms: ByCall) -> ByCall:
    """Return the sum for each call that any of the terms has."""
    total: ByCall = {}
    for j, array in (item for term in terms for item in term.items()):
        total[j] = plus(total[j], array) if j in total else array
    return total
