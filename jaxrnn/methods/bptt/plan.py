"""What the engine decides when it is traced: how long a block is, and what the forward pass keeps."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal

import jax
from jax import export

from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import floats
from jaxrnn.core.walk import StepFlags, guarded_step
from jaxrnn.methods.bptt import seam as _seam

Kept = Literal["carries", "sums", "all", "nothing"]
"""What is written down at each step: the carry after it, the sums of its products as `_seam.keeper`
collects them, or both. The carries before each block are always kept.
"""

# Measured on CPUs (benchmarks/results); a block is bounded from above by the first two, from below
# by the others.
MOST_ROWS = 1024
MOST_NUMBERS = 2**18
MOST_NUMBERS_FORWARD = 2**20
FEWEST_ROWS = 64
FEWEST_STEPS = 4
UNKNOWN_SIZE = 32

PARTS = 16
SAVED_PER_NUMBER = 200


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is fixed when the engine is traced."""

    cell: Cell
    seam: _seam.Seam
    projected: frozenset[int]  # the parameters that the projection uses
    input_shape: tuple[int, ...]
    dtype: Any
    reverse: bool
    block: int  # steps
    block_forward: int  # steps, where nobody differentiates
    kept: Kept

    def step(self, *args: Any) -> tuple[Carry, Any]:
        """The cell's step with restarts and masking."""
        return guarded_step(self.cell, self.input_shape, self.dtype)(*args)


def make_plan(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry,
    flags: StepFlags,
    reverse: bool,
    block: int | None = None,
    keep: Kept | None = None,
) -> Plan:
    """Trace one step and decide what is not decided yet: the steps in a block, and what the forward
    pass keeps.

    Raises:
        LawBrokenError: the step breaks the law of `affine`.
    """
    first = jax.tree.leaves(xs)[0]
    time, *input_shape = first.shape
    step = guarded_step(cell, tuple(input_shape), first.dtype)
    x, flags_t = jax.tree.map(lambda leaf: leaf[0], (xs, flags))
    us = (cell.project(params, x), flags_t)
    seam = _seam.inspect(
        lambda params, carry, us, affine: step(params, carry, *us, affine), params, carry, us
    )
    rows = count(input_shape[: len(input_shape) - cell.feature_axes])
    return Plan(
        cell=cell,
        seam=seam,
        projected=_seam.param_use(cell.project, params, x),
        input_shape=tuple(input_shape),
        dtype=first.dtype,
        reverse=reverse,
        block=min(block, time)
        if block
        else block_size(time, rows, sum(seam.widths), checkpointed=keep == "nothing"),
        block_forward=min(block, time)
        if block
        else _near_divisor(time, MOST_NUMBERS_FORWARD // max(sum(seam.widths) * rows, 1)),
        kept=keep or _worth_keeping(seam, params, carry, len(input_shape) - cell.feature_axes),
    )


def block_size(time: int, rows: int, width: int, checkpointed: bool) -> int:
    """Steps in a block.

    The products of a block are `[steps * rows, width]`: tall enough to be fast, small enough to
    stay in a cache, and a small part of all time, for its temporaries are some thirty numbers per
    unit and step. Where only carries at borders are kept, blocks are about √T, so that both are
    few."""
    rows = max(rows, 1)
    most = min(MOST_ROWS, MOST_NUMBERS // max(width, 1)) // rows
    fewest = max(FEWEST_STEPS, math.isqrt(time) if checkpointed else 0)
    return _near_divisor(time, max(fewest, min(most, max(time // PARTS, FEWEST_ROWS // rows))))


def _near_divisor(time: int, wanted: int) -> int:
    """A divisor of `time` if one is near, for a shorter last block is compiled by itself."""
    wanted = max(wanted, 1)
    if wanted >= time:
        return time
    near = [k for k in range(wanted, 2 * wanted) if time % k == 0] + [
        k for k in range(wanted, wanted // 2, -1) if time % k == 0
    ]
    return near[0] if near else wanted


def count(batch: Iterable[Any]) -> int:
    """How many rows there are, or may be: `jax.export` lets sizes be symbols."""
    return math.prod(UNKNOWN_SIZE if export.is_symbolic_dim(size) else size for size in batch)


def _worth_keeping(seam: _seam.Seam, params: Params, carry: Carry, batch_axes: int) -> Kept:
    """Sums, which save the products that rebuild them, if they take no more memory than carries or
    save enough.

    An LSTM has four sums per unit and step where its carry has two numbers. Rebuilding costs one
    multiply-add per weight and row; the wider the cell and its input, the more of them each
    additional number saves."""
    if not seam.widths:
        return "carries"
    additional = sum(seam.widths) - sum(
        math.prod(leaf.shape[batch_axes:]) for leaf in floats(carry)
    )
    multiply_adds = sum(leaf.size for leaf in jax.tree.leaves(params))
    return "sums" if multiply_adds >= SAVED_PER_NUMBER * additional else "carries"
