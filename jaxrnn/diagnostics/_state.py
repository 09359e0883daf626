"""The carry of any cell as one real vector per sequence, and a step as a map of such vectors.

The state of a recurrence is its whole carry: the Jacobian of an LSTM's h alone leaves out what its
memory c passes on. A complex number counts as two real ones. Integers have no derivative, and are
not part of the vector.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.call import Flags, check_causal, check_cell
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import name_of
from jaxrnn.core.trees import Tree, float_positions, floats, put
from jaxrnn.core.walk import StepFlags, Walk, guarded, valid_steps, without_masked
from jaxrnn.drivers import step, trajectory

Map = Callable[[Array], Array]
"""From the states `[*batch, n]` before a step to those after it; rows do not meet."""

_NO_FLAGS = StepFlags(valid=None, restart=None)


def flat(carry: Carry, batch_axes: int = 0) -> Array:
    """Return a carry as vectors `[*batch, n]`, in the widest of its real dtypes."""
    parts = []
    for leaf in floats(carry):
        rows = leaf.reshape(*leaf.shape[:batch_axes], -1)
        parts += [rows.real, rows.imag] if jnp.iscomplexobj(rows) else [rows]
    dtype = max((part.dtype for part in parts), key=lambda dtype: jnp.finfo(dtype).bits)
    return jnp.concatenate([part.astype(dtype) for part in parts], axis=-1)


def unflat(vectors: Array, like: Carry) -> Carry:
    """Return the carry of these vectors: shapes, dtypes and integers are those of `like`."""
    new, at = [], 0
    for leaf in floats(like):
        size = math.prod(leaf.shape[vectors.ndim - 1 :])
        halves = []
        for _ in range(1 + jnp.iscomplexobj(leaf)):
            halves.append(vectors[..., at : at + size].reshape(leaf.shape))
            at += size
        new.append(
            (halves[0] + 1j * halves[1] if len(halves) == 2 else halves[0]).astype(leaf.dtype)
        )
    return put(like, float_positions(like), new)


def one_step(
    cell: Cell, params: Params, carry: Carry, x: Tree, flags: StepFlags, context: Tree = None
) -> tuple[Carry, Tree]:
    """Take a whole step with its flags."""

    def take(start: Carry) -> tuple[Carry, Tree]:
        return step(cell, params, start, x, context=context)

    initial = partial(cell.initial_carry, params, jax.tree.leaves(x)[0].shape)
    return guarded(take, initial, flags, carry)


def step_map(
    cell: Cell,
    params: Params,
    like: Carry,
    x: Tree,
    flags: StepFlags = _NO_FLAGS,
    context: Tree = None,
) -> Map:
    """Return one step with input `x [*batch, ...]` as a map of vectors.

    The derivative of a masked step is the identity, that of a step after a boundary is zero.
    """
    batch_axes = jax.tree.leaves(x)[0].ndim - cell.feature_axes

    def after(vectors: Array) -> Array:
        carry, _ = one_step(cell, params, unflat(vectors, like), x, flags, context)
        return flat(carry, batch_axes).astype(vectors.dtype)

    return after


def norm(values: Array, axes: Sequence[int]) -> Array:
    """Return the Euclidean norm over these axes. That of zeros has the derivative 0.

    The largest entry is divided out first, because squares over- or underflow long before the
    entries do.
    """
    axes = tuple(axes)
    sizes = jnp.abs(values)
    largest = lax.stop_gradient(jnp.max(sizes, axis=axes, keepdims=True, initial=0))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    squares = jnp.sum((sizes / scale) ** 2, axis=axes)
    roots = jnp.sqrt(jnp.where(squares == 0, 1, squares))  # the root of 0 has no derivative
    return roots * largest.reshape(roots.shape)


class Driven(NamedTuple):
    """A trajectory, its inputs and its flags, in the order in which time is walked."""

    states: Carry  # [time + 1, *batch, ...], the initial one first
    xs: Tree  # [time, *batch, ...], zero where masked out
    flags: StepFlags  # [time, *batch] each, or None
    batch: tuple[int, ...]

    def before(self) -> Carry:
        """Return the carry before each step, `[time, *batch, ...]`."""
        return jax.tree.map(lambda leaf: leaf[:-1], self.states)


def drive(
    verb: str, cell: Cell, params: Params, xs: Tree, carry: Carry = None, **flags: Unpack[Flags]
) -> Driven:
    """Run a cell over a sequence, and return the state, input and flags of every step.

    Raises:
        TypeError: the cell has no single step.
        ValueError: its carry holds no real or complex numbers.
    """
    check_cell(cell, f"diagnostics.{verb}")
    check_causal(cell, "single step, and no Jacobian of one")
    states, _ = trajectory(cell, params, xs, carry, **flags)
    if not floats(states):
        raise ValueError(
            f"{name_of(cell)}: its carry holds no real or complex numbers, so it has no Jacobian"
        )
    xs = jax.tree.map(jnp.asarray, xs)
    time, *batch = jax.tree.leaves(xs)[0].shape[: -cell.feature_axes]
    given = (flags.get(name) for name in ("lengths", "mask", "reset"))
    lengths, mask, reset = (None if flag is None else jnp.asarray(flag) for flag in given)
    walk = Walk(valid_steps(time, lengths, mask), reset, flags.get("reverse", False))
    driving = without_masked(xs, walk.valid), walk.flags()
    if walk.reverse:
        driving = jax.tree.map(lambda leaf: jnp.flip(leaf, axis=0), driving)
    return Driven(states, driving[0], driving[1], tuple(batch))
