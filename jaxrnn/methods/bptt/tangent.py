"""The derivative of all blocks of time: a linear map from tangents to tangents.

JAX evaluates it for `jax.jvp`, and transposes it for `jax.grad`. Its transpose is back-propagation
through time: what is done here for all steps of a block at once becomes one large product for each
weight, and the loop over steps becomes the walk back. `jax.checkpoint` says what the transpose
computes anew: all but what the forward pass kept.

The tangent of `v` is called `dv`. Tangents that are zero throughout are left out.
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
from jaxrnn.methods.bptt.forward import Kept, Residuals, first_calls
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.products import (
    given,
    over_steps,
    plus,
    through_weight,
    turned,
)
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
"""The tangents of the carry after a step, and of the output; of their floating leaves."""

ByCall = dict[int, Array]
"""For some of the calls of `affine` in a step, by number."""

ByPosition = dict[int, Array]
"""For some leaves of a tree."""


class Tangents(NamedTuple):
    """Those of what is differentiated; of params and xs, those that are not zero."""

    params: ByPosition
    xs: ByPosition
    carry: list[Array]


class Shared(NamedTuple):
    """The tangents of what all steps share, wide enough for gradients to be added up in."""

    weights: ByCall
    params: ByPosition

    def of(self, params: Params, positions: Iterable[int]) -> ByPosition:
        """Those of some parameters, in the parameters' dtypes."""
        found = [i for i in positions if i in self.params]
        leaves = pick(params, found)
        return {i: self.params[i].astype(p.dtype) for i, p in zip(found, leaves, strict=True)}


def derivative(plan: Plan, residuals: Residuals, tangents: Tangents) -> Results:
    """The tangents of the last carry and of the outputs."""
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
    """What is the same in every block."""
    params, xs, flags, _, starts = residuals
    start = jax.tree.map(lambda leaf: leaf[0], starts)
    dparams = tangents.params

    def weights(theta: list[Array]) -> tuple[list[Array], list[Call]]:
        calls = first_calls(plan, put(params, dparams, theta), xs, start, flags)
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


class _Step(NamedTuple):
    """What the loop over steps reads."""

    at: Rebuilt
    du: ByPosition  # of projected inputs that are used pointwise
    dproducts: ByCall
    dresults: Results | None  # what small parameters add


def _over_steps(
    fixed: Fixed, shared: Shared, rebuilt: Rebuilt, dus: ByPosition, dcarry: list[Array]
) -> Results:
    """The tangents of the carry after a block and of its outputs.

    All that does not need the tangent of the carry is computed before the loop, for all steps at
    once.
    """
    plan = fixed.plan
    dresults, dproducts = _through_small_params(fixed, shared, rebuilt)
    dproducts = _sum(
        dproducts,
        _through_weights(fixed, shared, rebuilt),
        _through_input_only_parts(fixed, shared, rebuilt, dus),
    )
    du = {i: dus[i] for i in plan.seam.pointwise_inputs if i in dus}
    # wide in the loop, where their gradients are added up
    dlarge = {i: shared.params[i] for i in plan.large_params if i in shared.params}
    body, steps = partial(_of_step, fixed, dlarge), _Step(rebuilt, du, dproducts, dresults)
    return loop(body, dcarry, steps, plan.reverse, plan.platform.unroll, recompute=True)


def _of_step(fixed: Fixed, dlarge: ByPosition, dbefore: list[Array], step: _Step) -> Results:
    """The tangents of a step's results, with the pre-activations given."""
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
    """Answers with the pre-activations of a step, which are known, and with their tangents."""

    def answer(j: int, call: Call) -> tuple[Pieces, None]:
        pieces = given(fixed.turned[j], call.h, products.get(j), at.preactivations[j], probe)
        return complete(fixed.plan.seam, j, call, pieces), None

    return answer


def _project(fixed: Fixed, shared: Shared, xs: Tree, dxs: ByPosition) -> tuple[Tree, ByPosition]:
    """The projected inputs of a block, and their tangents."""
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
    """The tangents of the products, from those of the weights."""
    _, operands = jax.vmap(partial(replay, fixed.plan, fixed.params))(rebuilt)
    return {
        j: through_weight(fixed.calls[j], operands[j], dw, fixed.plan.platform)
        for j, dw in shared.weights.items()
    }


def _through_input_only_parts(
    fixed: Fixed, shared: Shared, rebuilt: Rebuilt, dus: ByPosition
) -> ByCall:
    """The tangents of pre-activations, from those of their input-only parts."""
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
    """`join` by way of one flat batch: the projection, which cut the pieces, then finds that
    nothing was done.
    """
    flat = join(tuple(piece.reshape(-1, piece.shape[-1]) for piece in pieces))
    return flat.reshape(*pieces[0].shape[:-1], flat.shape[-1])


def _through_small_params(
    fixed: Fixed, shared: Shared, rebuilt: Rebuilt
) -> tuple[Results | None, ByCall]:
    """What the tangents of small parameters that a step uses pointwise add to those of its results
    and products.
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
    total: ByCall = {}
    for j, array in (item for term in terms for item in term.items()):
        total[j] = plus(total[j], array) if j in total else array
    return total
