"""What is decided when the engine is traced: how long a block is, and what is kept."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import export

from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree, floats
from jaxrnn.core.walk import StepFlags, Walk, guarded_step
from jaxrnn.methods.bptt.seam import Seam, inspect, params_used

Keep = Literal["carries", "preactivations", "all", "nothing"]
"""What is kept of each step: the carry after it, the pre-activations as `seam.keeping` records
them, both, or neither. The carry before each block is always kept.
"""

# Measured on CPUs (benchmarks/results); a block is bounded from above by the first two, from below
# by the others.
MOST_ROWS = 1024
MOST_NUMBERS = 2**18
MOST_NUMBERS_FORWARD = 2**20
FEWEST_ROWS = 64
FEWEST_STEPS = 4
UNKNOWN_SIZE = 32

MOST_NUMBERS_POINTWISE = 2**16
"""Of a parameter whose gradient is collected after the loop, from all steps of a block at once. For
more (32 x 60 x 256, the keys of an attention) that takes 6.5 ms a step, to add it up in the loop
0.9.
"""

PARTS = 16
SAVED_PER_NUMBER = 200


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is fixed when the engine is traced."""

    cell: Cell
    seam: Seam
    projected_params: tuple[int, ...]  # those that the projection uses and that have a gradient
    large_params: tuple[int, ...]  # of those used pointwise, those with many numbers
    small_params: tuple[int, ...]  # and the others
    input_shape: tuple[int, ...]
    dtype: jnp.dtype
    reverse: bool
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
        """The projection of a block, as of one large batch: a product over two axes costs XLA a
        transposed copy in its derivative.
        """
        leading = (jax.tree.leaves(xs)[0].shape[0], *self.batch)
        if any(leaf.shape[: len(leading)] != leading for leaf in jax.tree.leaves(xs)):
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
    seam = inspect(
        lambda params, carry, at, affine: step(params, carry, at[0], at[1], affine),
        params,
        carry,
        (cell.project(params, x), flags_t),
    )
    sizes_of = [count(leaf.shape) for leaf in jax.tree.leaves(params)]
    is_large = [size > MOST_NUMBERS_POINTWISE for size in sizes_of]
    row = _row(seam, params, carry, input_shape, len(input_shape) - cell.feature_axes)
    sizes = time, *_of_products(seam, input_shape[: len(input_shape) - cell.feature_axes])
    steps = min(block or block_size(*sizes, checkpointed=keep == "nothing"), time)
    # the carry before each block is kept anyway: with one step in a block, that of each step
    keep = keep or ("nothing" if steps == 1 else _worth_keeping(row))
    return Plan(
        cell=cell,
        seam=seam,
        projected_params=params_used(cell.project, params, x),
        large_params=tuple(i for i in seam.pointwise_params if is_large[i]),
        small_params=tuple(i for i in seam.pointwise_params if not is_large[i]),
        input_shape=tuple(input_shape),
        dtype=first.dtype,
        reverse=walk.reverse,
        all_carries=walk.all_carries,
        block=steps,
        block_forward=min(block or _block_size_forward(*sizes), time),
        keep=keep,
    )


def _of_products(seam: Seam, batch: Sequence[int]) -> tuple[int, int]:
    """The rows of a step's products, those of the batch and of any other axes, such as a picture's,
    and how wide they are together.
    """
    rows = [count(product.shape[:-1]) for product in seam.products]
    return max(rows, default=count(batch)), sum(count(p.shape[-1:]) for p in seam.products)


class Row(NamedTuple):
    """What a step is made of, for one row of the batch, in real numbers of whatever axes."""

    preactivations: int
    carry: int
    multiply_adds: int  # to compute the pre-activations


def _row(
    seam: Seam, params: Params, carry: Carry, input_shape: Sequence[int], batch_axes: int
) -> Row:
    positions = count(input_shape[batch_axes:-1])  # a convolution uses each weight at every one
    return Row(
        preactivations=numbers(seam.products, batch_axes),
        carry=numbers(floats(carry), batch_axes),
        multiply_adds=numbers(params, 0) * positions,
    )


def block_size(time: int, rows: int, width: int, checkpointed: bool) -> int:
    """Steps in a block.

    The products of a block are `[steps * rows, width]`: tall enough to be fast, small enough to
    stay in a cache, and a small part of all time, for its temporaries are some thirty numbers per
    unit and step. Where only carries at borders are kept, blocks are about √T, so that both are
    few. A step whose products are tall enough by themselves, as those of pictures are, is a block.
    """
    rows = max(rows, 1)
    most = min(MOST_ROWS, MOST_NUMBERS // max(width, 1)) // rows
    tall = rows >= MOST_ROWS
    fewest = max(1 if tall else FEWEST_STEPS, math.isqrt(time) if checkpointed else 0)
    wanted = 1 if tall else min(most, max(time // PARTS, FEWEST_ROWS // rows))
    return _near_divisor(time, max(fewest, wanted))


def _block_size_forward(time: int, rows: int, width: int) -> int:
    """Steps in a block where nobody differentiates: as many as a cache holds projections of."""
    return _near_divisor(time, MOST_NUMBERS_FORWARD // max(width * rows, 1))


def _near_divisor(time: int, wanted: int) -> int:
    """A divisor of `time` if one is near, for a shorter last block is compiled by itself."""
    wanted = max(wanted, 1)
    if wanted >= time:
        return time
    near = [k for k in range(wanted, 2 * wanted) if time % k == 0] + [
        k for k in range(wanted, wanted // 2, -1) if time % k == 0
    ]
    return near[0] if near else wanted


def count(shape: Iterable[int]) -> int:
    """How many elements there are, or may be: `jax.export` lets sizes be symbols."""
    return math.prod(UNKNOWN_SIZE if export.is_symbolic_dim(size) else size for size in shape)


def numbers(tree: Tree, batch_axes: int) -> int:
    """How many real numbers a row has in all leaves, whatever axes follow those of the batch."""
    return sum(
        count(leaf.shape[batch_axes:]) * (1 + jnp.issubdtype(leaf.dtype, jnp.complexfloating))
        for leaf in jax.tree.leaves(tree)
    )


def _worth_keeping(row: Row) -> Keep:
    """Pre-activations, which save the products that rebuild them, if they take no more memory than
    carries or save enough.

    An LSTM has four pre-activations per unit where its carry has two numbers. Rebuilding costs one
    multiply-add per parameter. The wider the cell and its input, the more of them each additional
    number saves.
    """
    if not row.preactivations:
        return "carries"
    additional = row.preactivations - row.carry
    return "preactivations" if row.multiply_adds >= SAVED_PER_NUMBER * additional else "carries"
