"""The forward pass: the recurrence, and what it keeps for the derivative."""

from functools import partial
from typing import NamedTuple

from jax import Array

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.trees import Tree, pick
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt.blocks import loop, over_blocks
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.platforms import Keep
from jaxrnn.methods.bptt.seam import Pieces, keeping, record


class Kept(NamedTuple):
    """What is kept of each step. The derivative rebuilds what is None."""

    carries: Carry | None  # the carry after the step
    preactivations: list[Pieces] | None  # for each call of `affine`, what `keeping` records
    inputs: list[Array] | None = None  # with these, the pointwise projected inputs


class Residuals(NamedTuple):
    """What the forward pass stores for the derivative."""

    params: Params
    xs: Tree
    flags: StepFlags
    kept: Kept
    starts: Carry  # the carry before each block


def forward(
    plan: Plan, params: Params, xs: Tree, carry: Carry, flags: StepFlags
) -> tuple[tuple[Carry, Tree], Residuals]:
    """Run all steps in blocks.

    Returns:
        The last carry and all outputs, and the residuals.
    """
    at_once, keep, size = plan.projects_at_once, plan.keep, plan.block
    inputs = plan.project(params, xs) if at_once else xs

    def block(carry: Carry, steps: tuple[Tree, StepFlags], _: None) -> tuple[Carry, Tree, Carry]:
        inputs, flags = steps
        us = inputs if at_once else plan.project(params, inputs)
        last, ys, kept = walk_forward(plan, params, carry, us, flags, keep)
        # if made at once, the derivative makes the same ones, which the compiler computes once
        if kept.preactivations is not None and not at_once:
            kept = kept._replace(inputs=pick(us, plan.seam.pointwise_inputs))
        return last, (ys, kept), carry

    last, (ys, kept), starts = over_blocks(block, carry, (inputs, flags), None, size, plan.reverse)
    return (last, ys), Residuals(params, xs, flags, kept, starts)


def walk_forward(
    plan: Plan, params: Params, carry: Carry, us: Tree, flags: StepFlags, keep: Keep
) -> tuple[Carry, Tree, Kept]:
    """Run the steps of one block, and return the last carry, the outputs, and what is kept."""

    def body(carry: Carry, inputs: tuple[Tree, StepFlags]) -> tuple[Carry, tuple[Tree, Kept]]:
        step = partial(plan.step, params, carry, *inputs)
        (carry, y), preactivations = record(step, keeping(plan.seam))
        kept = Kept(
            carry if keep in ("carries", "all") else None,
            preactivations if keep in ("preactivations", "all") else None,
        )
        return carry, (y, kept)

    last, (ys, kept) = loop(body, carry, (us, flags), plan.reverse, plan.platform.unroll)
    return last, ys, kept
