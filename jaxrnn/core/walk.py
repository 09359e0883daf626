"""Lengths, masks, resets and direction: everything that makes a walk through time differ from plain
steps, in one place.
"""

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxrnn.core.affine import Affine
from jaxrnn.core.call import check_step_result
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.dtypes import emit
from jaxrnn.core.trees import Tree


class StepFlags(NamedTuple):
    """What a step is told besides its input; None where no sequence needs it. Each is `[*batch]` of
    a `[time, *batch]` array.
    """

    valid: Array | None  # hold the carry and emit zeros where False
    restart: Array | None  # begin this step from the initial carry where True

    def fresh(self) -> Array | None:
        """Where the cell is given the initial carry: also at steps that are masked out, for their
        carry may be NaN.
        """
        if self.valid is None or self.restart is None:
            return self.restart if self.valid is None else ~self.valid
        return self.restart | ~self.valid


@dataclasses.dataclass(frozen=True)
class Walk:
    """The order in which time is walked, the steps that are left out, and the boundaries between
    sequences.
    """

    valid: Array | None = None
    reset: Array | None = None
    reverse: bool = False
    all_carries: bool = False  # whether a step's output is (carry, y): for `trajectory`

    def reversed(self) -> "Walk":
        """The same sequences, walked the other way."""
        return dataclasses.replace(self, reverse=not self.reverse)

    def flags(self) -> StepFlags:
        """The flags of all steps, in order of time."""
        return StepFlags(self.valid, self._restart())

    def states(self, first: Carry, after: Carry) -> Carry:
        """Every carry in the order of the walk: the one before the first step, and those after each
        `[time, ...]`.
        """

        def leaf(first: Array, after: Array) -> Array:
            in_order = jnp.flip(after, axis=0) if self.reverse else after
            return jnp.concatenate([first[None], in_order])

        return jax.tree.map(leaf, first, after)

    def _restart(self) -> Array | None:
        """Where a step begins from the initial carry.

        `reset[t]` is the boundary between t - 1 and t. Forwards it is crossed on entering t,
        backwards on entering t - 1. At a step that is masked out it stays pending until the next
        valid one: a valid step restarts if it has seen more boundaries than the valid step before
        it had."""
        if self.reset is None:
            return None
        crossed = self.reset
        if self.reverse:
            crossed = jnp.concatenate([crossed[1:], jnp.zeros_like(crossed[:1])])
        if self.valid is None:
            return crossed
        seen = lax.cumsum(crossed.astype(jnp.int32), axis=0, reverse=self.reverse)
        at_valid = lax.cummax(jnp.where(self.valid, seen, 0), axis=0, reverse=self.reverse)
        none_yet = jnp.zeros_like(at_valid[:1])
        before = [at_valid[1:], none_yet] if self.reverse else [none_yet, at_valid[:-1]]
        return self.valid & (seen > jnp.concatenate(before))


def valid_steps(time: int, lengths: Array | None, mask: Array | None) -> Array | None:
    """The steps `[time, *batch]` that `lengths` and `mask` leave in; None if neither is given."""
    if lengths is None:
        return mask
    # A narrow dtype may not hold `time`; in a wide one, a cast of large lengths could wrap.
    dtype = lengths.dtype if jnp.iinfo(lengths.dtype).bits >= 32 else jnp.int32
    steps = jnp.arange(time, dtype=dtype).reshape(time, *[1] * lengths.ndim)
    within = steps < lengths.astype(dtype)
    return within if mask is None else within & mask


def select(condition: Array, chosen: Tree, other: Tree) -> Tree:
    """`where`, with a condition `[*batch]` on the leading axes of every leaf."""

    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(
            condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b
        )

    return jax.tree.map(leaf, chosen, other)


def without_masked(tree: Tree, valid: Array | None) -> Tree:
    """Zero what belongs to steps that are masked out. Of inputs, because a NaN in padding would
    reach a weight gradient as 0 * NaN.
    """
    return tree if valid is None else select(valid, tree, jax.tree.map(jnp.zeros_like, tree))


class Step(Protocol):
    """A cell's step with restarts before it and masking after it."""

    def __call__(
        self, params: Params, carry: Carry, u: Tree, flags: StepFlags, affine: Affine
    ) -> tuple[Carry, Tree]: ...


def guarded_step(
    cell: Cell, input_shape: tuple[int, ...], dtype: DTypeLike, all_carries: bool = False
) -> Step:
    """The cell's step with restarts before it and masking after it, emitting in `dtype`; its output
    is `(carry, y)` with `all_carries`.
    """

    def step(
        params: Params, carry: Carry, u: Tree, flags: StepFlags, affine: Affine
    ) -> tuple[Carry, Tree]:
        fresh = flags.fresh()
        start = carry
        if fresh is not None:
            start = select(fresh, cell.initial_carry(params, input_shape), carry)
        after, y = cell.step(params, start, u, affine)
        check_step_result(cell, carry, after)
        y = emit(y, dtype)
        if flags.valid is not None:
            after = select(flags.valid, after, carry)
            y = without_masked(y, flags.valid)
        return after, (after, y) if all_carries else y

    return step
