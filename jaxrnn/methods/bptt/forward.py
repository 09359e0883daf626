"""The forward pass: the recurrence, and what it keeps for the derivative."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.trees import Tree, pick
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt.blocks import loop, over_blocks
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.platforms import Keep
from jaxrnn.methods.bptt.products import Product, forward_product
from jaxrnn.methods.bptt.seam import Call, Pieces, computing, keeping, record


class Kept(NamedTuple):
    """What is kept of each step; None where the derivative rebuilds it."""

    carries: Carry | None  # after the step
    preactivations: list[Pieces] | None  # of each call of `affine`, as `keeping` records them


class Residuals(NamedTuple):
    """What the forward pass hands to the derivative."""

    params: Params
    xs: Tree
    flags: StepFlags
    kept: Kept
    starts: Carry  # the carry before each block


def forward(
    plan: Plan, params: Params, xs: Tree, carry: Carry, flags: StepFlags, size: int, keep: Keep
) -> tuple[tuple[Carry, Tree], Residuals]:
    """Run all steps in blocks of `size`: the last carry and all outputs, and the residuals."""
    calls = first_calls(plan, params, xs, carry, flags)
    products = [forward_product(call, plan.platform) for call in calls]

    def block(carry: Carry, steps: tuple[Tree, StepFlags], _: None) -> tuple[Carry, Tree, Carry]:
        xs, flags = steps
        us = plan.project(params, xs)
        last, ys, kept = walk_forward(plan, params, products, carry, us, flags, keep)
        return last, (ys, kept), carry

    last, (ys, kept), starts = over_blocks(block, carry, (xs, flags), None, size, plan.reverse)
    return (last, ys), Residuals(params, xs, flags, kept, starts)


def walk_forward(
    plan: Plan,
    params: Params,
    products: Sequence[Product],
    carry: Carry,
    us: Tree,
    flags: StepFlags,
    keep: Keep,
) -> tuple[Carry, Tree, Kept]:
    """The steps of one block, one after the other: the last carry, the outputs, what is kept."""
    keeps_carries = keep in ("carries", "all")
    positions = plan.seam.outputs
    # often an output is h: then it is stacked once
    shared = [] if keeps_carries else sorted({i for i in positions if i is not None})

    def body(carry: Carry, inputs: tuple[Tree, StepFlags]) -> tuple[Carry, tuple[Tree, Kept]]:
        step = partial(plan.step, params, carry, *inputs)
        (carry, y), preactivations = record(step, keeping(plan.seam, products))
        kept = Kept(
            carry if keeps_carries else None,
            preactivations if keep in ("preactivations", "all") else None,
        )
        leaves = zip(jax.tree.leaves(y), positions, strict=True)
        others = [leaf for leaf, i in leaves if i is None]
        return carry, ((others, pick(carry, shared)), kept)

    last, ((others, parts), kept) = loop(
        body, carry, (us, flags), plan.reverse, plan.platform.unroll
    )
    of_carry = dict(zip(shared, parts, strict=True))
    of_carry |= enumerate(jax.tree.leaves(kept.carries))
    rest = iter(others)
    ys = [next(rest) if i is None else of_carry[i] for i in positions]
    return last, jax.tree.unflatten(plan.seam.output_form, ys), kept


def first_calls(plan: Plan, params: Params, xs: Tree, carry: Carry, flags: StepFlags) -> list[Call]:
    """The calls of `affine` in the first step. Only their weights are used, which are those of
    every step; the compiler drops the rest.
    """
    x, flags_t = jax.tree.map(lambda leaf: leaf[0], (xs, flags))
    u = plan.cell.project(params, x)
    return record(partial(plan.step, params, carry, u, flags_t), computing)[1]
