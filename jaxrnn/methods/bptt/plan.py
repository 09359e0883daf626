"""What is decided when the engine is traced: how long a block is, and what is kept."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax import export

from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import StepFlags, Walk, guarded_step
from jaxrnn.methods.bptt.platforms import Keep, Platform, Sizes
from jaxrnn.methods.bptt.seam import Seam, inspect, params_used

MOST_NUMBERS_POINTWISE = 2**16
"""Of a parameter whose gradient is collected after the loop, from all steps of a block at once. For
more (32 x 60 x 256, the keys of an attention) that takes 6.5 ms a step, to add it up in the loop
0.9.
"""

UNKNOWN_SIZE = 32
"""What a symbolic size is taken for."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is fixed when the engine is traced."""

    cell: Cell
    platform: Platform
    seam: Seam
    projected_params: tuple[int, ...]  # those that the projection uses and that have a gradient
    large_params: tuple[int, ...]  # of those used pointwise, those with many numbers
    small_params: tuple[int, ...]  # and the others
    input_shape: tuple[int, ...]
    dtype: jnp.dtype
    reverse: bool
    projects_at_once: bool  # the inputs of all steps, instead of those of a block
    all_carries: bool  # whether a step's output is (carry, y)
    block: int  # steps
    block_forward: int  # steps, where nobody differentiates
    keep: Keep

    @property
    def batch(self) -> tuple[int, ...]:
        """The sizes of the batch axes."""
        return self.input_shape[: len(self.input_shape) - self.cell.feature_axes]

    def step(self, *args: Tree) -> tuple[Carry, Tree]:
        """The cell's step `(params, carry, u, flags, affine)` with restarts and masking."""
        return guarded_step(self.cell, self.input_shape, self.dtype, self.all_carries)(*args)

    def project(self, params: Params, xs: Tree) -> Tree:
        """The projection of a block, as of one large batch where the platform wants that."""
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
    """Trace one step and decide what is not decided yet: the steps in a block, and what the forward
    pass keeps.

    Raises:
        LawBrokenError: the step breaks the law of `affine`.
    """
    first = jax.tree.leaves(xs)[0]
    time, *input_shape = first.shape
    step = guarded_step(cell, tuple(input_shape), first.dtype, walk.all_carries)
    x, flags_t = jax.tree.map(lambda leaf: leaf[0], (xs, flags))
    batch_axes = len(input_shape) - cell.feature_axes
    u = jax.eval_shape(cell.project, params, x)
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
    at_once = not checkpointed and platform.projects_at_once(sizes)
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
        all_carries=walk.all_carries,
        block=steps,
        block_forward=min(block or platform.block_forward(sizes), time),
        keep=keep or _kept(platform, sizes, steps, at_once),
    )


def _kept(platform: Platform, sizes: Sizes, steps: int, projects_at_once: bool) -> Keep:
    """What to keep where blocks have so many steps."""
    if steps == sizes.time:
        return "all"  # one block holds all of it anyway
    if steps == 1:
        return "nothing"  # the carry before each block is kept, and is that of each step
    return platform.keep(sizes.stepping + (0 if projects_at_once else sizes.projecting))


def _sizes(
    seam: Seam,
    params: Params,
    projected_params: Sequence[int],
    time: int,
    batch: Sequence[int],
    x: Tree,
    u: Tree,
) -> Sizes:
    rows = max([count(product.shape[:-1]) for product in seam.products], default=count(batch))
    width = sum(count(product.shape[-1:]) for product in seam.products)
    sizes_of = [count(leaf.shape) for leaf in jax.tree.leaves(params)]
    projecting = sum(sizes_of[i] for i in projected_params)
    return Sizes(
        time=time,
        rows=rows,
        width=width,
        inputs=numbers(x, 0) // max(rows, 1),
        projections=numbers(u, 0) // max(rows, 1),
        projecting=projecting // max(width, 1),
        stepping=(sum(sizes_of) - projecting) // max(width, 1),
    )


def count(shape: Iterable[int]) -> int:
    """How many elements there are, or may be: `jax.export` lets sizes be symbols."""
    return math.prod(UNKNOWN_SIZE if export.is_symbolic_dim(size) else size for size in shape)


def numbers(tree: Tree, batch_axes: int) -> int:
    """How many real numbers a row has in all leaves, whatever axes follow those of the batch."""
    return sum(
        count(leaf.shape[batch_axes:]) * (1 + jnp.issubdtype(leaf.dtype, jnp.complexfloating))
        for leaf in jax.tree.leaves(tree)
    )
