"""The derivative of all blocks of time: a linear map from tangents to tangents.

JAX evaluates it for `jax.jvp`, and transposes it for `jax.grad`. Its transpose is back-propagation
through time: what is done here for all steps of a block at once becomes one large product for each
weight, and the loop over steps becomes the walk back. `jax.checkpoint` says what the transpose
computes anew: all but what the forward pass kept.

The tangent of `v` is called `dv`. Tangents that are zero throughout are left out.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.core.cell import Carry
from jaxrnn.core.dtypes import cast, wide
from jaxrnn.core.trees import Tree, float_positions, floats, pick, put
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt.blocks import loop, over_blocks
from jaxrnn.methods.bptt.forward import Kept, Residuals, first_calls
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.products import given, over_steps, through_weight, turned
from jaxrnn.methods.bptt.rebuild import Fixed, Rebuilt, rebuild, replay
from jaxrnn.methods.bptt.seam import (
    Answer,
    Call,
    Pieces,
    complete,
    computing,
    join,
    record,
)

Results = tuple[list[Array], list[Array]]
"""The tangents of the carry after a step, and of the output; of their floating leaves."""

ByCall = dict[int, Array]
"""For some of the calls of `affine` in a step, by number."""

recomputed = partial(jax.checkpoint, prevent_cse=False)


class Tangents(NamedTuple):
    """Those of what is differentiated; of params and xs, by position, those that are not zero."""

    params: dict[int, Array]
    xs: dict[int, Array]
    carry: list[Array]


class Shared(NamedTuple):
    """The tangents of what all steps share, wide enough for gradients to be added up in."""

    weights: ByCall
    params: dict[int, Array]  # by position


def derivative(plan: Plan, residuals: Residuals, tangents: Tangents) -> Results:
    """The tangents of the last carry and of the outputs."""
    return recomputed(partial(_over_time, plan))(residuals, tangents)


def _over_time(plan: Plan, residuals: Residuals, tangents: Tangents) -> Results:
    params, xs, flags, kept, starts = residuals
    fixed, shared = _prepare(plan, residuals, tangents)

    @recomputed
    def block(
        dcarry: list[Array], steps: tuple[dict[int, Array], Tree, StepFlags, Kept], start: Carry
    ) -> tuple[list[Array], list[Array], None]:
        dxs, xs, flags, kept = steps
        us, dus = _project(fixed, shared, xs, dxs)
        rebuilt = rebuild(fixed, start, us, flags, kept)
        return *_over_steps(fixed, shared, rebuilt, dus, dcarry), None

    steps = (tangents.xs, xs, flags, kept)
    dlast, dys, _ = over_blocks(block, tangents.carry, steps, starts, plan.block, plan.reverse)
    return dlast, dys


def _prepare(plan: Plan, residuals: Residuals, tangents: Tangents) -> tuple[Fixed, Shared]:
    """What is the same in every block."""
    params, xs, flags, _, starts = residuals
    start = jax.tree.map(lambda leaf: leaf[0], starts)
    positions = [*tangents.params]

    def weights(theta: list[Array]) -> tuple[list[Array], list[Call]]:
        calls = first_calls(plan, put(params, positions, theta), xs, start, flags)
        return [call.w for call in calls], calls

    theta = pick(params, positions)
    _, dweights, calls = jax.jvp(weights, (theta,), ([*tangents.params.values()],), has_aux=True)
    trained = {
        j: dw.astype(wide(dw))
        for j, dw in enumerate(dweights)
        if not tangents.params.keys().isdisjoint(plan.seam.weight_params[j])
    }
    fixed = Fixed(plan, params, calls, [turned(call) for call in calls])
    return fixed, Shared(trained, {i: dp.astype(wide(dp)) for i, dp in tangents.params.items()})


def _over_steps(
    fixed: Fixed, shared: Shared, rebuilt: Rebuilt, dus: dict[int, Array], dcarry: list[Array]
) -> Results:
    """The tangents of the carry after a block and of its outputs.

    All that does not need the tangent of the carry is computed before the loop, for all steps at
    once.
    """
    plan = fixed.plan
    through_params, dproducts = _through_small_params(fixed, shared, rebuilt)
    _add(dproducts, _through_weights(fixed, shared, rebuilt))
    _add(dproducts, _through_input_only_parts(fixed, shared, rebuilt, dus))
    large, dlarge = _differentiated(shared, fixed.params, plan.large_params)
    pointwise = [i for i in plan.seam.pointwise_inputs if i in dus]

    @recomputed
    def step(
        dbefore: list[Array], inputs: tuple[Rebuilt, list[Array], ByCall, Results | None]
    ) -> Results:
        at, du, dproducts, through_params = inputs

        def results(
            before: list[Array], u: list[Array], products: ByCall, theta: list[Array]
        ) -> Results:
            params = put(fixed.params, large, theta)
            carry = put(at.before, float_positions(at.before), before)
            inputs = put(at.u, pointwise, u)
            (after, y), _ = record(
                partial(plan.step, params, carry, inputs, at.flags), _giving(fixed, at, products)
            )
            return floats(after), floats(y)

        zeros = jax.tree.map(jnp.zeros_like, dproducts)
        primals = (floats(at.before), pick(at.u, pointwise), zeros, pick(fixed.params, large))
        _, dresults = jax.jvp(results, primals, (dbefore, du, dproducts, dlarge))
        return dresults if through_params is None else jax.tree.map(jnp.add, dresults, through_params)

    du = [dus[i] for i in pointwise]
    return loop(step, dcarry, (rebuilt, du, dproducts, through_params), plan.reverse)


def _giving(fixed: Fixed, at: Rebuilt, products: ByCall) -> Answer[None]:
    """Answers with the pre-activations of a step, which are known, and with their tangents."""

    def answer(j: int, call: Call) -> tuple[Pieces, None]:
        pieces = given(fixed.turned[j], call.h, products.get(j), at.preactivations[j])
        return complete(fixed.plan.seam, j, call, pieces), None

    return answer


def _project(
    fixed: Fixed, shared: Shared, xs: Tree, dxs: dict[int, Array]
) -> tuple[Tree, dict[int, Array]]:
    """The projected inputs of a block, and their tangents."""
    plan, params = fixed.plan, fixed.params
    positions, dtheta = _differentiated(shared, params, plan.projected_params)
    if not positions and not dxs:
        return plan.project(params, xs), {}
    us, dus = jax.jvp(
        lambda theta, leaves: plan.project(put(params, positions, theta), put(xs, dxs, leaves)),
        (pick(params, positions), pick(xs, dxs)),
        (dtheta, [*dxs.values()]),
    )
    leaves = jax.tree.leaves(dus)
    return us, {i: leaves[i] for i in float_positions(us)}


def _through_weights(fixed: Fixed, shared: Shared, rebuilt: Rebuilt) -> ByCall:
    """The tangents of the products, from those of the weights."""
    _, operands = jax.vmap(partial(replay, fixed.plan, fixed.params))(rebuilt)
    return {
        j: through_weight(fixed.calls[j], operands[j], dw) for j, dw in shared.weights.items()
    }


def _through_input_only_parts(
    fixed: Fixed, shared: Shared, rebuilt: Rebuilt, dus: dict[int, Array]
) -> ByCall:
    """The tangents of pre-activations, from those of their input-only parts."""
    plan, seam = fixed.plan, fixed.plan.seam
    positions, dtheta = _differentiated(shared, fixed.params, seam.input_only_params)
    chosen = [j for j, input_only in enumerate(seam.input_only) if any(input_only)]
    if not chosen or not (positions or dus):
        return {}

    def parts(theta: list[Array], leaves: list[Array]) -> ByCall:
        params = put(fixed.params, positions, theta)
        us = put(rebuilt.u, dus, leaves)

        def one(*at: Tree) -> dict[int, Pieces]:
            _, calls = record(partial(plan.step, params, *at), computing)
            return {j: _parts(calls[j], rebuilt.preactivations[j], seam, j) for j in chosen}

        return jax.vmap(one)(rebuilt.before, us, rebuilt.flags)

    _, dparts = jax.jvp(
        parts, (pick(fixed.params, positions), pick(rebuilt.u, dus)), (dtheta, [*dus.values()])
    )
    return {j: _joined_flat(pieces) for j, pieces in dparts.items()}


def _parts(call: Call, pieces: Pieces, seam, j: int) -> Pieces:
    """Each input-only part, and zeros for the others."""
    return tuple(
        jnp.broadcast_to(part, piece.shape[1:]).astype(piece.dtype)
        if chosen
        else jnp.zeros(piece.shape[1:], piece.dtype)
        for part, piece, chosen in zip(call.parts, pieces, seam.input_only[j], strict=True)
    )


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
    positions, dtheta = _differentiated(shared, fixed.params, plan.small_params)
    if not positions:
        return None, {}

    def steps(theta: list[Array]) -> tuple[Results, ByCall]:
        params = put(fixed.params, positions, theta)

        def one(at: Rebuilt) -> tuple[Results, ByCall]:
            (after, y), operands = replay(plan, params, at)
            return (floats(after), floats(y)), {
                j: operand
                for j, operand in enumerate(operands)
                if not set(positions).isdisjoint(plan.seam.operand_params[j])
            }

        return jax.vmap(one)(rebuilt)

    _, (dresults, doperands) = jax.jvp(steps, (pick(fixed.params, positions),), (dtheta,))
    return dresults, {j: over_steps(fixed.turned[j], dh) for j, dh in doperands.items()}


def _differentiated(
    shared: Shared, params: Tree, positions: tuple[int, ...]
) -> tuple[list[int], list[Array]]:
    """Those of some parameters that have tangents, and these, in the parameters' dtypes."""
    found = [i for i in positions if i in shared.params]
    return found, [
        shared.params[i].astype(leaf.dtype)
        for i, leaf in zip(found, pick(params, found), strict=True)
    ]


def _add(total: ByCall, more: ByCall) -> None:
    for j, array in more.items():
        total[j] = total[j] + cast(array, total[j].dtype) if j in total else array
