"""The backward pass of a block, in four parts: rebuild, linearize, walk back, collect.

Cotangents are named as in the field: `d` before the name of what they belong to, and *delta* for
that of a pre-activation.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.dtypes import cast, wide
from jaxrnn.core.trees import Tree, float_positions, floats, only, pick, put
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt.blocks import loop, shift
from jaxrnn.methods.bptt.forward import Kept, walk_forward
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.products import Product, over_steps, weight_gradient
from jaxrnn.methods.bptt.seam import Call, Pieces, computing, join, keeping, record, replaying
from jaxrnn.methods.mesh import varying_as

Pullback = Callable[..., tuple]
"""What `jax.vjp` returns: from the cotangents of results to those of arguments."""


Results = tuple[list[Array], list[Array]]
"""The floating leaves of the carry after a step, and of the output; or their cotangents."""


class Fixed(NamedTuple):
    """What is the same in every block."""

    plan: Plan
    params: Params
    calls: list[Call]  # of the first step: weights and forms are those of every step
    products: list[Product]
    transposes: list[Product]


class Rebuilt(NamedTuple):
    """All that a step's derivative is taken at; with a leading axis, for all steps of a block."""

    before: Carry  # the carry before the step
    u: Tree
    flags: StepFlags
    preactivations: list[Pieces]


class Linearized(NamedTuple):
    """A step's derivative with the pre-activations given. Each pullback ends in the cotangents of
    the carry before, of the inputs that are used pointwise, of the pre-activations, and of the
    parameters that are large and used pointwise.
    """

    of_results: Pullback  # from the cotangents of the carry after the step and of the output
    of_operands: list[Pullback]  # from the cotangent of each product's operand


class Walked(NamedTuple):
    """What the walk back leaves: cotangents."""

    dstart: list[Array]  # of the carry before the block
    deltas: list[Array]  # of each call's pre-activations, at each step
    dus: list[Array]  # of the inputs that are used pointwise, at each step
    dlarge: list[Array]  # of the parameters that are large and used pointwise
    dafter: list[Array] | None  # of the carry after each step, if `collect` needs it


class Gradients(NamedTuple):
    """Gradients of what is shared by all steps."""

    weights: dict[int, Array]  # of the weights of `affine`, by the number of the call
    params: dict[int, Array]  # of parameters in any other use, by their position


def rebuild(
    fixed: Fixed, start: Carry, xs: Tree, flags: StepFlags, kept: Kept
) -> tuple[Rebuilt, Pullback]:
    """Part 1: the projected input, carry and pre-activations of each step, and the pullback of the
    projection.

    Given carries, each product of the block is one large product. Given pre-activations, carries
    take a loop, without products. Given neither, the block is run again.
    """
    plan, params = fixed.plan, fixed.params
    us, pull_projection = jax.vjp(
        lambda theta, leaves: plan.project(
            put(params, plan.projected_params, theta), put(xs, float_positions(xs), leaves)
        ),
        pick(params, plan.projected_params),
        floats(xs),
    )
    if kept.carries is None and kept.preactivations is None:
        _, _, kept = walk_forward(plan, params, fixed.products, start, us, flags, "all")
    carries, preactivations = kept
    if carries is None:
        carries = _carries(fixed, start, us, flags, preactivations or [])
    before = jax.tree.map(lambda s, a: shift(s, a, plan.reverse), start, carries)
    if preactivations is None:
        preactivations = _preactivations(fixed, before, us, flags)
    return Rebuilt(before, us, flags, preactivations), pull_projection


def _carries(
    fixed: Fixed, start: Carry, us: Tree, flags: StepFlags, preactivations: list[Pieces]
) -> Carry:
    """The carries after each step of a block whose pre-activations are known."""
    plan = fixed.plan

    def body(before: Carry, inputs: tuple[Tree, StepFlags, list[Pieces]]) -> tuple[Carry, Carry]:
        (after, _), _ = replay(plan, fixed.params, Rebuilt(before, *inputs))
        return after, after

    return loop(body, start, (us, flags, preactivations), plan.reverse)[1]


def _preactivations(fixed: Fixed, before: Carry, us: Tree, flags: StepFlags) -> list[Pieces]:
    """The pre-activations of a block whose carries are known, for all steps at once."""
    plan = fixed.plan

    def one(*at: Tree) -> list[Pieces]:
        return record(partial(plan.step, fixed.params, *at), keeping(plan.seam))[1]

    return jax.vmap(one)(before, us, flags)


def replay(plan: Plan, params: Params, step: Rebuilt) -> tuple[tuple[Carry, Tree], list[Array]]:
    """A step with its pre-activations given: its results, and the operand of each product."""
    before, u, flags, preactivations = step
    return record(
        partial(plan.step, params, before, u, flags), replaying(plan.seam, preactivations)
    )


def _replay_floats(plan: Plan, params: Params, step: Rebuilt) -> tuple[Results, list[Array]]:
    """`replay`, with those leaves of the results alone that are differentiated."""
    (after, y), operands = replay(plan, params, step)
    return (floats(after), floats(y)), operands


def linearize(fixed: Fixed, step: Rebuilt) -> Linearized:
    """Part 2: the derivative of one step."""
    plan, inputs = fixed.plan, fixed.plan.seam.pointwise_inputs

    def replayed(
        before: list[Array], u: list[Array], preactivations: list[Pieces], theta: list[Array]
    ) -> tuple[Results, list[Array]]:
        at = Rebuilt(
            put(step.before, float_positions(step.before), before),
            put(step.u, inputs, u),
            step.flags,
            preactivations,
        )
        return _replay_floats(plan, put(fixed.params, plan.large_params, theta), at)

    theta = pick(fixed.params, plan.large_params)
    at = (floats(step.before), pick(step.u, inputs), step.preactivations, theta)
    _, of_results = jax.vjp(lambda *at: replayed(*at)[0], *at)
    of_operands = [
        jax.vjp(lambda *at, j=j: replayed(*at)[1][j], *at)[1] for j in range(len(fixed.calls))
    ]
    return Linearized(of_results, of_operands)


def walk_back(fixed: Fixed, rebuilt: Rebuilt, dlast: list[Array], dys: list[Array]) -> Walked:
    """Part 3: the loop back through a block, with one product per call of `affine` and step.

    The gradients of large pointwise parameters are added up here: for all steps at once, they would
    be as many arrays of that size.
    """
    plan, seam = fixed.plan, fixed.plan.seam

    def body(
        state: tuple[list[Array], list[Array]], inputs: tuple[Rebuilt, list[Array]]
    ) -> tuple[
        tuple[list[Array], list[Array]], tuple[list[Array], list[Array], list[Array] | None]
    ]:
        (dafter, dlarge), (step, dy) = state, inputs
        of_results, of_operands = linearize(fixed, step)
        total = of_results((dafter, dy))
        deltas: list[Array] = []
        for j in reversed(range(len(fixed.calls))):  # a product reaches later operands alone
            delta = join(total[2][j])
            deltas = [delta, *deltas]
            doperand = fixed.transposes[j](cast(delta, seam.products[j].dtype))
            total = jax.tree.map(jnp.add, total, of_operands[j](doperand))
        dbefore, du, _, dtheta = total
        dlarge = [old + new.astype(old.dtype) for old, new in zip(dlarge, dtheta, strict=True)]
        return (dbefore, dlarge), (deltas, du, dafter if plan.small_params else None)

    none_yet = [jnp.zeros(p.shape, wide(p)) for p in pick(fixed.params, plan.large_params)]
    state = (dlast, varying_as(rebuilt, none_yet))
    (dstart, dlarge), (deltas, dus, dafter) = loop(body, state, (rebuilt, dys), not plan.reverse)
    return Walked(dstart, deltas, dus, dlarge, dafter)


def collect(
    fixed: Fixed, rebuilt: Rebuilt, walked: Walked, dys: list[Array], pull_projection: Pullback
) -> tuple[Gradients, list[Array]]:
    """Part 4: the gradients of what all steps share, and the cotangents of the inputs, for all
    steps of a block at once: one large product for each weight.
    """
    plan, seam = fixed.plan, fixed.plan.seam
    _, operands = jax.vmap(partial(replay, plan, fixed.params))(rebuilt)
    dproducts = [
        cast(delta, product.dtype)
        for delta, product in zip(walked.deltas, seam.products, strict=True)
    ]
    weights = {
        j: weight_gradient(call, operands[j], dproducts[j])
        for j, call in enumerate(fixed.calls)
        if seam.trained[j]
    }
    dinput_only, dus = _through_input_only_parts(fixed, rebuilt, walked.deltas)
    total = _sum_by_position((float_positions(rebuilt.u), dus), (seam.pointwise_inputs, walked.dus))
    dprojected, dxs = pull_projection(only(rebuilt.u, total, [*total.values()]))
    dpointwise = _of_pointwise(fixed, rebuilt, walked, dys, dproducts)
    params = _sum_by_position(
        (plan.projected_params, _widen(dprojected)),
        (seam.input_only_params, _widen(dinput_only)),
        (plan.small_params, _widen(dpointwise)),
        (plan.large_params, walked.dlarge),
    )
    return Gradients(weights, params), dxs


def _through_input_only_parts(
    fixed: Fixed, rebuilt: Rebuilt, deltas: list[Array]
) -> tuple[list[Array], list[Array]]:
    """From the deltas to the parameters that input-only parts depend on, and to the projected
    inputs.
    """
    plan, seam = fixed.plan, fixed.plan.seam

    def parts(theta: list[Array], leaves: list[Array]) -> list[Array]:
        params = put(fixed.params, seam.input_only_params, theta)
        us = put(rebuilt.u, float_positions(rebuilt.u), leaves)

        def one(*at: Tree) -> list[Array]:
            _, calls = record(partial(plan.step, params, *at), computing)
            return [
                jnp.broadcast_to(part, (*product.shape[:-1], part.shape[-1]))
                for call, product, input_only in zip(
                    calls, seam.products, seam.input_only, strict=True
                )
                for part in _chosen(call.parts, input_only)
            ]

        return jax.vmap(one)(rebuilt.before, us, rebuilt.flags)

    _, pull = jax.vjp(parts, pick(fixed.params, seam.input_only_params), floats(rebuilt.u))
    dparts = [
        cast(dpart, part.dtype)
        for call, delta, input_only in zip(fixed.calls, deltas, seam.input_only, strict=True)
        for part, dpart in zip(
            _chosen(call.parts, input_only),
            _chosen(_cut_flat(call, delta), input_only),
            strict=True,
        )
    ]
    return pull(dparts)


def _of_pointwise(
    fixed: Fixed, rebuilt: Rebuilt, walked: Walked, dys: list[Array], dproducts: list[Array]
) -> list[Array]:
    """The gradient of small parameters that the step uses pointwise. The cotangents of all steps
    are known by now, so nothing is sequential.
    """
    positions = fixed.plan.small_params
    if not positions:
        return []

    def steps(theta: list[Array]) -> tuple[Results, list[Array]]:
        params = put(fixed.params, positions, theta)
        return jax.vmap(partial(_replay_floats, fixed.plan, params))(rebuilt)

    _, pull = jax.vjp(steps, pick(fixed.params, positions))
    doperands = [
        over_steps(*of) for of in zip(fixed.calls, fixed.transposes, dproducts, strict=True)
    ]
    (dparams,) = pull(((walked.dafter, dys), doperands))
    return dparams


def _chosen(parts: Sequence[Array | None], chosen: Sequence[bool]) -> list[Array]:
    pairs = zip(parts, chosen, strict=True)
    return [part for part, is_chosen in pairs if part is not None and is_chosen]


def _cut_flat(call: Call, deltas: Array) -> Pieces:
    """`call.cut` by way of one flat batch: the projection's derivative, which joins the pieces
    again, then finds nothing to do.
    """
    pieces = call.cut(deltas.reshape(-1, deltas.shape[-1]))
    return tuple(piece.reshape(*deltas.shape[:-1], piece.shape[-1]) for piece in pieces)


def _widen(grads: Sequence[Array]) -> list[Array]:
    """In dtypes wide enough to add them up over blocks."""
    return [grad.astype(wide(grad)) for grad in grads]


def _sum_by_position(*gains: tuple[Sequence[int], Sequence[Array]]) -> dict[int, Array]:
    """The sum of all cotangents that belong to one position."""
    total: dict[int, Array] = {}
    for positions, cotangents in gains:
        for i, cotangent in zip(positions, cotangents, strict=True):
            total[i] = total[i] + cotangent if i in total else cotangent
    return total
