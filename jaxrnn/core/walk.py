"""The walk through time: lengths, masks, resets and direction, in one place."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxrnn.core.affine import Affine
from jaxrnn.core.call import check_pair, check_step_result
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.dtypes import emit
from jaxrnn.core.trees import Tree


class StepFlags(NamedTuple):
    """The flags of one step, bool `[*batch]`, or of all steps, `[time, *batch]`.

    A flag is None if no sequence needs it.
    """

    valid: Array | None  # where False, the step holds the carry and returns zeros
    restart: Array | None  # where True, the step begins from the initial carry

    def fresh(self) -> Array | None:
        """Return where the cell gets the initial carry.

        Masked steps get it, too, because their own carry may hold NaN.
        """
        if self.valid is None or self.restart is None:
            return self.restart if self.valid is None else ~self.valid
        return self.restart | ~self.valid


@dataclasses.dataclass(frozen=True)
class Walk:
    """How time is walked: which steps are valid, where sequences begin, and in which direction."""

    valid: Array | None = None  # [time, *batch], bool: the steps that are not masked out
    reset: Array | None = None  # [time, *batch], bool: the boundaries between sequences
    reverse: bool = False
    all_carries: bool = False  # whether a step's output is (carry, y), for `trajectory`

    def reversed(self) -> "Walk":
        """Return the walk over the same sequences in the opposite direction."""
        return dataclasses.replace(self, reverse=not self.reverse)

    def flags(self) -> StepFlags:
        """Return the flags of all steps, in order of time."""
        return StepFlags(self.valid, self._restart())

    def states(self, first: Carry, after: Carry) -> Carry:
        """Return every carry in the order of the walk, `[time + 1, ...]`.

        Args:
            first: the carry before the first step.
            after: the carries after each step, in order of time, `[time, ...]`.
        """

        def leaf(first: Array, after: Array) -> Array:
            in_order = jnp.flip(after, axis=0) if self.reverse else after
            return jnp.concatenate([first[None], in_order])

        return jax.tree.map(leaf, first, after)

    def _restart(self) -> Array | None:
        """Return where a step begins from the initial carry, bool `[time, *batch]`.

        `reset[t]` is the boundary between steps t - 1 and t. A forward walk crosses it on entering
        t, a backward walk on entering t - 1. At a masked step, the boundary stays pending until the
        next valid step. A valid step therefore restarts if the walk has crossed more boundaries up
        to it than up to the valid step before it.
        """
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
    """Return the steps that `lengths` and `mask` keep, bool `[time, *batch]`.

    It is None if neither is given.
    """
    if lengths is None:
        return mask
    # A narrow dtype may be unable to hold `time`. Casting a wide one to int32 could wrap lengths.
    dtype = lengths.dtype if jnp.iinfo(lengths.dtype).bits >= 32 else jnp.int32
    steps = jnp.arange(time, dtype=dtype).reshape(time, *[1] * lengths.ndim)
    within = steps < lengths.astype(dtype)[None]
    return within if mask is None else within & mask


def select(condition: Array, chosen: Tree, other: Tree) -> Tree:
    """Apply `jnp.where` to every leaf, with a condition `[*batch]` on its leading axes."""

    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(
            condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b
        )

    return jax.tree.map(leaf, chosen, other)


def without_masked(tree: Tree, valid: Array | None) -> Tree:
    """Replace what belongs to masked steps by zeros.

    Inputs need it, too: a NaN in padding would reach a weight gradient as 0 * NaN.
    """
    return tree if valid is None else select(valid, tree, jax.tree.map(jnp.zeros_like, tree))


def guarded(
    take: Callable[[Carry], tuple[Carry, Tree]],
    initial: Callable[[], Carry],
    flags: StepFlags,
    carry: Carry,
) -> tuple[Carry, Tree]:
    """Call `take(start)`, which returns `(after, y)`, with a restart before it and masking after.

    A masked step keeps the carry, and a step after a boundary starts from the `initial()` one.
    """
    fresh = flags.fresh()
    after, y = take(carry if fresh is None else select(fresh, initial(), carry))
    if flags.valid is not None:
        after = select(flags.valid, after, carry)
    return after, without_masked(y, flags.valid)


class Step(Protocol):
    """A cell's step that also restarts and masks. `guarded_step` makes it.

    >>> import jaxrnn
    >>> cell = jaxrnn.GRU(4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> step = guarded_step(cell, (2, 3), jnp.float32)
    >>> u = cell.project(params, jnp.ones((2, 3)))
    >>> flags = StepFlags(valid=jnp.array([True, False]), restart=None)
    >>> carry, y = step(params, jnp.ones((2, 4)), u, flags, jaxrnn.affine)
    >>> carry[1].tolist(), y[1].tolist()
    ([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0])
    """

    def __call__(
        self, params: Params, carry: Carry, u: Tree, flags: StepFlags, affine: Affine
    ) -> tuple[Carry, Tree]: ...


def guarded_step(
    cell: Cell, input_shape: tuple[int, ...], dtype: DTypeLike, all_carries: bool = False
) -> Step:
    """Return the cell's step with restarts before it and masking after it.

    Args:
        cell: the cell.
        input_shape: the shape of one step's input, `(*batch, *features)`.
        dtype: the dtype of the outputs, unless they are complex.
        all_carries: return `(carry, y)` in place of the output `y`.
    """

    def step(
        params: Params, carry: Carry, u: Tree, flags: StepFlags, affine: Affine
    ) -> tuple[Carry, Tree]:
        def take(start: Carry) -> tuple[Carry, Tree]:
            after, y = check_pair(cell, cell.step(params, start, u, affine))
            check_step_result(cell, carry, after)
            return after, emit(y, dtype)

        initial = partial(cell.initial_carry, params, input_shape)
        after, y = guarded(take, initial, flags, carry)
        return after, (after, y) if all_carries else y

    return step
