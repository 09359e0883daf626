"""The plan: how long a block is, and what is kept. It is made when the engine is traced."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax import export

from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree, abstract
from jaxrnn.core.walk import StepFlags, Walk, guarded_step
from jaxrnn.methods.bptt.platforms import Keep, Platform, Sizes
from jaxrnn.methods.bptt.seam import LawBrokenError, Seam, inspect, params_used

MOST_NUMBERS_POINTWISE = 2**16
"""The largest pointwise parameter whose gradient is computed outside the loop.

That takes one gradient for each step of a block, and their sum. For a larger parameter it is faster
to add to one gradient in the loop: for the keys of an attention, `[32, 60, 256]`, 0.9 ms a step in
place of 6.5 ms.
"""

UNKNOWN_SIZE = 32
"""The value that a plan assumes for a symbolic size (`jax.export`)."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is fixed when the engine is traced.

    Parameters are named by their positions among the flat leaves. Only those with a gradient are
    listed.
    """

    cell: Cell
    platform: Platform
    seam: Seam
    projected_params: tuple[int, ...]  # used by the projection
    large_params: tuple[int, ...]  # pointwise, more than MOST_NUMBERS_POINTWISE numbers
    small_params: tuple[int, ...]  # the other pointwise ones
    input_shape: tuple[int, ...]  # of one step
    dtype: jnp.dtype  # of the inputs, and so of the outputs
    reverse: bool
    projects_at_once: bool  # project all steps before the first block, not each block by itself
    projects_at_once_forward: bool  # likewise, in a call that is not differentiated
    all_carries: bool  # whether a step's output is (carry, y)
    block: int  # steps in a block
    block_forward: int  # steps in a block of a call that is not differentiated
    keep: Keep  # what the forward pass keeps of each step, for the derivative

    @property
    def batch(self) -> tuple[int, ...]:
        """The sizes of the batch axes."""
        return self.input_shape[: len(self.input_shape) - self.cell.feature_axes]

    @property
    def undifferentiated(self) -> "Plan":
        """The plan of a call that is not differentiated."""
        return dataclasses.replace(
            self,
            block=self.block_forward,
            projects_at_once=self.projects_at_once_forward,
            keep="nothing",
        )

    def step(self, *args: Tree) -> tuple[Carry, Tree]:
        """Call the cell's step `(params, carry, u, flags, affine)`, with restarts and masking."""
        return guarded_step(self.cell, self.input_shape, self.dtype, self.all_carries)(*args)

    def project(self, params: Params, xs: Tree) -> Tree:
        """Project many steps, as one large batch if the platform flattens."""
        leading = (jax.tree.leaves(xs)[0].shape[0], *self.batch)
        batched = all(leaf.shape[: len(leading)] == leading for leaf in jax.tree.leaves(xs))
        if not (self.platform.flattens and batched):
            return self.cell.project(params, xs)
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[len(leading) :]), xs)
        us = self.cell.project(params, flat)
        return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), us)


def make_plan(
    cell: Cell,
    params: Params,
    xs: Tree,
    carry: Carry,
    flags: StepFlags,
    walk: Walk,
    platform: Platform,
    block: int | None = None,
    keep: Keep | None = None,
) -> Plan:
    """Trace one step, and choose the rest of the plan from the sizes found.

    Args:
        cell: the cell.
        params: its parameters.
        xs: the inputs, `[time, *batch, ...]`.
        carry: the carry before the first step.
        flags: the flags of all steps.
        walk: the direction, and what a step returns.
        platform: makes the choices.
        block: steps in a block; chosen if None.
        keep: what the forward pass keeps; chosen if None.

    Raises:
        LawBrokenError: the step breaks the law of `affine`, or has no input.
    """
    first = jax.tree.leaves(xs)[0]
    time, *input_shape = first.shape
    step = guarded_step(cell, tuple(input_shape), first.dtype, walk.all_carries)
    x, flags_t = jax.tree.map(lambda leaf: leaf[0], (xs, flags))
    batch_axes = len(input_shape) - cell.feature_axes
    u = abstract(cell.project, params, x)
    if not jax.tree.leaves((u, flags_t)):
        raise LawBrokenError(
            "it gets no array from project, so there is no time to cut into blocks"
        )
    seam = inspect(
        lambda params, carry, at, affine: step(params, carry, at[0], at[1], affine),
        params,
        carry,
        (u, flags_t),
    )
    sizes_of = [count(leaf.shape) for leaf in jax.tree.leaves(params)]
    is_large = [size > MOST_NUMBERS_POINTWISE for size in sizes_of]
    projected_params = params_used(cell.project, params, x)
    sizes = _sizes(seam, params, projected_params, time, input_shape[:batch_axes], x, u)
    checkpointed = keep == "nothing"
    at_once, at_once_forward = (
        not checkpointed and platform.projects_at_once(sizes, differentiated)
        for differentiated in (True, False)
    )
    steps = min(block or platform.block(sizes, checkpointed), time)
    return Plan(
        cell=cell,
        platform=platform,
        seam=seam,
        projected_params=projected_params,
        large_params=tuple(i for i in seam.pointwise_params if is_large[i]),
        small_params=tuple(i for i in seam.pointwise_params if not is_large[i]),
        input_shape=tuple(input_shape),
        dtype=first.dtype,
        reverse=walk.reverse,
        projects_at_once=at_once,
        projects_at_once_forward=at_once_forward,
        all_carries=walk.all_carries,
        block=steps,
        block_forward=min(block or platform.block_forward(sizes), time),
        keep=keep or _kept(platform, sizes, steps, at_once),
    )


def _kept(platform: Platform, sizes: Sizes, steps: int, projects_at_once: bool) -> Keep:
    """Return what the forward pass keeps, for blocks of so many steps."""
    if steps == 1:
        return "nothing"  # the carry before each block is kept already
    rebuilding = sizes.stepping + (0 if projects_at_once else sizes.projecting)
    return platform.keep(rebuilding, one_block=steps == sizes.time)


def _sizes(
    seam: Seam,
    params: Params,
    projected_params: Sequence[int],
    time: int,
    batch: Sequence[int],
    x: Tree,
    u: Tree,
) -> Sizes:
    """Return the sizes that a platform chooses by.

    The multiply-adds are estimated by numbers of parameters: those that the projection uses, and
    all others for the step. Without products there is no pre-activation, and nothing to rebuild.
    """
    rows = max([count(product.shape[:-1]) for product in seam.products], default=count(batch))
    width = sum(count(product.shape[-1:]) for product in seam.products)
    sizes_of = [count(leaf.shape) for leaf in jax.tree.leaves(params)]
    projecting = sum(sizes_of[i] for i in projected_params)
    return Sizes(
        time=time,
        rows=rows,
        width=width,
        inputs=numbers(x) // max(rows, 1),
        projections=numbers(u) // max(rows, 1),
        projecting=projecting // width if width else 0,
        stepping=(sum(sizes_of) - projecting) // width if width else 0,
    )


def count(shape: Iterable[int]) -> int:
    """Return the number of elements. A symbolic size counts as `UNKNOWN_SIZE`."""
    return math.prod(UNKNOWN_SIZE if export.is_symbolic_dim(size) else size for size in shape)


def numbers(tree: Tree) -> int:
    """Return the number of real numbers in all leaves."""
    return sum(
        count(leaf.shape) * (1 + jnp.issubdtype(leaf.dtype, jnp.complexfloating))
        for leaf in jax.tree.leaves(tree)
    )
