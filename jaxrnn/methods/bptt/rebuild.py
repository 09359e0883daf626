"""What a block's derivative is taken at: computed anew from what the forward pass kept."""

from functools import partial
from typing import NamedTuple

import jax
from jax import Array

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt.blocks import loop, shift
from jaxrnn.methods.bptt.forward import Kept, walk_forward
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.products import Turned
from jaxrnn.methods.bptt.seam import Call, Pieces, keeping, record, replaying


class Fixed(NamedTuple):
    """What is the same in every block."""

    plan: Plan
    params: Params
    calls: list[Call]  # of the first step: weights and forms are those of every step
    turned: list[Turned]  # the weights of the calls, for the loop


class Rebuilt(NamedTuple):
    """All that a step's derivative is taken at; with a leading axis, for all steps of a block."""

    before: Carry  # the carry before the step
    u: Tree
    flags: StepFlags
    preactivations: list[Pieces]


def rebuild(fixed: Fixed, start: Carry, us: Tree, flags: StepFlags, kept: Kept) -> Rebuilt:
    """The projected input, carry and pre-activations of each step.

    Given carries, each product of the block is one large product. Given pre-activations, carries
    take a loop, without products. Given neither, the block is run again.
    """
    plan, params = fixed.plan, fixed.params
    if kept.carries is None and kept.preactivations is None:
        _, _, kept = walk_forward(plan, params, start, us, flags, "all")
    carries, preactivations = kept
    if carries is None:
        carries = _carries(fixed, start, us, flags, preactivations or [])
    before = jax.tree.map(lambda s, a: shift(s, a, plan.reverse), start, carries)
    if preactivations is None:
        preactivations = _preactivations(fixed, before, us, flags)
    return Rebuilt(before, us, flags, preactivations)


def _carries(
    fixed: Fixed, start: Carry, us: Tree, flags: StepFlags, preactivations: list[Pieces]
) -> Carry:
    """The carries after each step of a block whose pre-activations are known."""
    plan = fixed.plan

    def body(before: Carry, inputs: tuple[Tree, StepFlags, list[Pieces]]) -> tuple[Carry, Carry]:
        (after, _), _ = replay(plan, fixed.params, Rebuilt(before, *inputs))
        return after, after

    steps = (us, flags, preactivations)
    return loop(body, start, steps, plan.reverse, plan.platform.unroll)[1]


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
