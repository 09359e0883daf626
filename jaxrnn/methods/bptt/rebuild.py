"""Part 1 of a block's derivative: rebuild carries and pre-activations from what was kept."""

from functools import partial
from typing import NamedTuple

import jax
from jax import Array

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.trees import Tree, put
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt.blocks import loop, shift
from jaxrnn.methods.bptt.forward import Kept, walk_forward
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.products import Turned
from jaxrnn.methods.bptt.seam import Call, Pieces, keeping, record, replaying


class Fixed(NamedTuple):
    """What all blocks share."""

    plan: Plan
    params: Params
    calls: list[Call]  # those of the first step; all steps have the same weights and shapes
    turned: list[Turned]  # their weights, laid out for the loop


class Rebuilt(NamedTuple):
    """The point at which a step's derivative is taken. For a block, arrays are `[time, ...]`."""

    before: Carry  # the carry before the step
    u: Tree
    flags: StepFlags
    preactivations: list[Pieces]


def rebuild(fixed: Fixed, start: Carry, us: Tree, flags: StepFlags, kept: Kept) -> Rebuilt:
    """Return the projected input, the carry before and the pre-activations, for each step.

    If carries were kept, each product of the block is computed as one large product. If
    pre-activations were kept, a loop without products computes the carries. If both were, nothing
    is computed. If neither was, the block is run again.
    """
    plan, params = fixed.plan, fixed.params
    if kept.carries is None and kept.preactivations is None:
        _, _, kept = walk_forward(plan, params, start, us, flags, "all")
    carries, preactivations, inputs = kept
    if inputs is not None:
        us = put(us, plan.seam.pointwise_inputs, inputs)
    if carries is None:
        carries = _carries(fixed, start, us, flags, preactivations or [])
    before = jax.tree.map(lambda s, a: shift(s, a, plan.reverse), start, carries)
    if preactivations is None:
        preactivations = _preactivations(fixed, before, us, flags)
    return Rebuilt(before, us, flags, preactivations)


def _carries(
    fixed: Fixed, start: Carry, us: Tree, flags: StepFlags, preactivations: list[Pieces]
) -> Carry:
    """Compute the carry after each step of a block from its pre-activations."""
    plan = fixed.plan

    def body(before: Carry, inputs: tuple[Tree, StepFlags, list[Pieces]]) -> tuple[Carry, Carry]:
        (after, _), _ = replay(plan, fixed.params, Rebuilt(before, *inputs))
        return after, after

    steps = (us, flags, preactivations)
    return loop(body, start, steps, plan.reverse, plan.platform.unroll)[1]


def _preactivations(fixed: Fixed, before: Carry, us: Tree, flags: StepFlags) -> list[Pieces]:
    """Compute the pre-activations of a block from its carries, for all steps at once."""
    plan = fixed.plan

    def one(*at: Tree) -> list[Pieces]:
        return record(partial(plan.step, fixed.params, *at), keeping(plan.seam))[1]

    return jax.vmap(one)(before, us, flags)


def replay(plan: Plan, params: Params, step: Rebuilt) -> tuple[tuple[Carry, Tree], list[Array]]:
    """Run a step on given pre-activations.

    Returns:
        The step's results, and the operand of each product.
    """
    before, u, flags, preactivations = step
    return record(
        partial(plan.step, params, before, u, flags), replaying(plan.seam, preactivations)
    )
