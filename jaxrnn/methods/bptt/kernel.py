"""The loop over time as one GPU kernel, in Pallas. Carry and recurrent weight stay on the chip.

Each program of the kernel walks all time steps for sixteen rows of the batch. Only two things need
a loop: the forward pass, and the gradient of every carry, `λ_t = ∂L/∂carry_t`. Given the carries,
the pre-activations are one large product. Given λ, the gradients of weights and inputs are large
products. The kernel that walks back therefore computes λ alone. With the symbols of
`jaxrnn.methods.bptt`, where the output y_t is a part of the carry,

    δ_t     = J_{a,t}ᵀ λ_t
    λ_{t-1} = J_{h,t}ᵀ λ_t + δ_t Wᵀ + the gradient that carry_{t-1} gets as a result of the run

The kernels compile for NVIDIA GPUs. On other platforms they are interpreted, which is slow. They
were compiled ahead of time and tested by interpretation, but never timed.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, export, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxrnn.core.affine import matmul
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import name_of
from jaxrnn.core.dtypes import emit
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import Walk, select, without_masked
from jaxrnn.methods.bptt.blocks import shift
from jaxrnn.methods.bptt.plan import count
from jaxrnn.methods.bptt.seam import Call, LawBrokenError, Pieces, computing, inspect, record

ROWS = 16
"""Rows of the batch that one program walks: the fewest that a tensor core multiplies."""

MOST_BYTES = 3 * 2**16
"""The largest recurrent weight. A program has 227 KiB of an H100's on-chip memory, and a larger
weight does not compile."""


class Flags(NamedTuple):
    """The flags of all steps, `[time, rows]`, 0 or 1. A flag is None if no row needs it."""

    valid: Array | None  # where 0, the step holds the carry
    fresh: Array | None  # where 1, the step begins from the initial carry


class _Given(NamedTuple):
    """What the kernels read. The number of rows is a multiple of `ROWS`."""

    params: Params
    us: Tree  # [time, rows, ...], the projected inputs
    carry: Carry  # [rows, ...], before the first step
    initial: Carry  # [rows, ...], where a restart begins
    flags: Flags


@dataclasses.dataclass(frozen=True)
class _Loop:
    """All that is fixed when the kernels are traced."""

    cell: Cell
    weight: int  # the position of the recurrent weight among the parameters
    widths: tuple[int, ...]  # the widths of the pieces of its product
    output: int  # the position of the output among the leaves of the carry
    reverse: bool
    interpret: bool

    def pieces(self, params: Params) -> Pieces:
        """Split the weight as its product is split, because a kernel cannot split arrays."""
        edges = [sum(self.widths[:k]) for k in range(1, len(self.widths))]
        return tuple(jnp.split(jax.tree.leaves(params)[self.weight], edges, axis=-1))

    def vectors(self, params: Params) -> Params:
        """Return the parameters that are vectors. `_checked` refuses a step that uses others."""
        return jax.tree.map(lambda leaf: leaf if leaf.ndim == 1 else None, params)


def run(
    cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk, interpret: bool
) -> tuple[Carry, Tree]:
    """Run a cell over time. There must be at least one step and one row.

    Raises:
        ValueError: the kernels cannot run this cell, its weight is too large, or a size is a
            symbol.
    """
    loop = _checked(cell, params, xs, carry, walk.reverse, interpret)
    first, flags = jax.tree.leaves(xs)[0], walk.flags()
    batch = first.shape[1:-1]
    padding = -count(batch) % ROWS

    def as_rows(leaf: Array, leading: int) -> Array:
        """Merge the batch axes into one axis of rows, and pad it by repeating the last row.

        What is finite for all rows is then finite for the padding.
        """
        flat = leaf.reshape(*leaf.shape[:leading], -1, *leaf.shape[leading + len(batch) :])
        widths = [(0, padding if axis == leading else 0) for axis in range(flat.ndim)]
        return jnp.pad(flat, widths, mode="edge")

    def as_batch(leaf: Array) -> Array:
        return leaf[:, : leaf.shape[1] - padding].reshape(-1, *batch, *leaf.shape[2:])

    in_time = partial(as_rows, leading=1)
    numbers = (
        None if flag is None else in_time(flag.astype(jnp.int32))
        for flag in (flags.valid, flags.fresh())
    )
    start, initial = (
        jax.tree.map(partial(as_rows, leading=0), state)
        for state in (carry, cell.initial_carry(params, first.shape[1:]))
    )
    us = cell.project(params, jax.tree.map(in_time, xs))
    given = _Given(params, us, start, initial, Flags(*numbers))
    states = jax.tree.map(as_batch, _walk(loop, given))
    last = jax.tree.map(lambda leaf: leaf[0 if walk.reverse else -1], states)
    ys = without_masked(emit(jax.tree.leaves(states)[loop.output], first.dtype), walk.valid)
    return last, (states, ys) if walk.all_carries else ys


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _walk(loop: _Loop, given: _Given) -> Carry:
    """Return the carries after all steps, `[time, rows, ...]`."""

    def body(whole: Any, initial: Carry, before: Carry, at: Any) -> Carry:
        pieces, vectors = whole
        u, flags = at

        def affine(u: Pieces, h: Array, w: Any, linear: Any = matmul) -> Pieces:
            del w, linear
            return tuple(part + matmul(h, piece) for part, piece in zip(u, pieces, strict=True))

        start = _start(flags, initial, before)
        after, _ = loop.cell.step(vectors, start, u, affine)  # type: ignore[arg-type]
        return _after(flags, after, before)

    whole = loop.pieces(given.params), loop.vectors(given.params)
    in_time = given.us, given.flags
    return _over_time(loop, body, whole, given.initial, given.carry, in_time, loop.reverse)


def _start(flags: Flags, initial: Carry, before: Carry) -> Carry:
    return before if flags.fresh is None else select(flags.fresh != 0, initial, before)


def _after(flags: Flags, after: Carry, before: Carry) -> Carry:
    return after if flags.valid is None else select(flags.valid != 0, after, before)


def _forward(loop: _Loop, given: _Given) -> tuple[Carry, tuple[_Given, Carry]]:
    states = _walk(loop, given)
    return states, (given, states)


def _back(loop: _Loop, kept: tuple[_Given, Carry], of_states: Carry) -> tuple[_Given]:
    """Return the gradients of what was given, for those of all carries."""
    given, states = kept
    before = jax.tree.map(partial(shift, reverse=loop.reverse), given.carry, states)

    def steps(params: Params, us: Tree, initial: Carry) -> tuple[Carry, Pieces]:
        """Take all steps at once, from known carries."""

        def one(before: Carry, u: Tree, flags: Flags) -> tuple[Carry, Pieces]:
            start = _start(flags, initial, before)
            (after, _), answers = record(partial(loop.cell.step, params, start, u), _showing)
            return _after(flags, after, before), answers[0]

        return jax.vmap(one)(before, us, given.flags)

    arguments = given.params, given.us, given.initial
    _, pull, preactivations = jax.vjp(steps, *arguments, has_aux=True)
    reached = _walk_back(loop, given, before, preactivations, of_states)
    nothing = jax.tree.map(jnp.zeros_like, given.carry)
    later = jax.tree.map(partial(shift, reverse=not loop.reverse), nothing, reached)
    of_params, of_us, of_initial = pull(jax.tree.map(jnp.add, of_states, later))
    of_carry = jax.tree.map(lambda leaf: leaf[-1 if loop.reverse else 0], reached)
    return (_Given(of_params, of_us, of_carry, of_initial, Flags(None, None)),)


_walk.defvjp(_forward, _back)


def _showing(j: int, call: Call) -> tuple[Pieces, Pieces]:
    pieces, _ = computing(j, call)
    return pieces, pieces


def _walk_back(
    loop: _Loop, given: _Given, before: Carry, preactivations: Pieces, of_states: Carry
) -> Carry:
    """Return the gradient of the carry before each step, without that of `of_states` itself."""

    def body(whole: Any, initial: Carry, later: Carry, at: Any) -> Carry:
        turned, vectors = whole
        before, u, flags, preactivations, of_state = at
        total = jax.tree.map(jnp.add, later, of_state)

        def step(start: Carry, preactivations: Pieces) -> tuple[Carry, Array]:
            def answer(j: int, call: Call) -> tuple[Pieces, Array]:
                del j
                return preactivations, call.h

            (after, _), operands = record(partial(loop.cell.step, vectors, start, u), answer)
            return after, operands[0]

        start = _start(flags, initial, before)
        (_, operand), pull = jax.vjp(step, start, preactivations)
        of_start, deltas = pull((total, jnp.zeros_like(operand)))
        products = (matmul(delta, w) for delta, w in zip(deltas, turned, strict=True))
        of_operand = sum(products, jnp.zeros_like(operand)).astype(operand.dtype)
        through, _ = pull((jax.tree.map(jnp.zeros_like, total), of_operand))
        found = jax.tree.map(jnp.add, of_start, through)
        if flags.fresh is not None:
            found = select(flags.fresh != 0, jax.tree.map(jnp.zeros_like, found), found)
        return _after(flags, found, total)

    whole = tuple(piece.T for piece in loop.pieces(given.params)), loop.vectors(given.params)
    in_time = before, given.us, given.flags, preactivations, of_states
    nothing = jax.tree.map(jnp.zeros_like, given.carry)
    return _over_time(loop, body, whole, given.initial, nothing, in_time, not loop.reverse)


def _over_time(
    loop: _Loop,
    body: Callable[[Any, Any, Carry, Any], Carry],
    whole: Tree,
    of_rows: Tree,
    carry: Carry,
    in_time: Tree,
    reverse: bool,
) -> Carry:
    """Compute `carry = body(whole, of_rows, carry, in_time[t])` for all t in one kernel.

    Returns:
        The carries after all steps, `[time, rows, ...]`.
    """
    time, rows = jax.tree.leaves(in_time)[0].shape[:2]
    arguments, form = jax.tree.flatten((whole, of_rows, carry, in_time))
    leaves, carry_form = jax.tree.flatten(carry)

    def kernel(*refs: Any) -> None:
        inputs, outputs = refs[: len(arguments)], refs[len(arguments) :]
        whole, of_rows, start, in_time = form.unflatten(inputs)
        whole, of_rows, start = jax.tree.map(lambda ref: ref[...], (whole, of_rows, start))

        def turn(k: Array, carry: Carry) -> Carry:
            t = time - 1 - k if reverse else k
            carry = body(whole, of_rows, carry, jax.tree.map(lambda ref: ref[t], in_time))
            for ref, leaf in zip(outputs, jax.tree.leaves(carry), strict=True):
                ref[t] = leaf
            return carry

        lax.fori_loop(0, time, turn, start)

    def spec(shape: tuple[int, ...], axis: int | None) -> pl.BlockSpec:
        """Give a program the whole array, or its own rows of the array."""
        block = tuple(ROWS if i == axis else size for i, size in enumerate(shape))
        return pl.BlockSpec(
            block, lambda program: tuple(program if i == axis else 0 for i in range(len(shape)))
        )

    axes = (None, 0, 0, 1)
    specs = [
        jax.tree.map(lambda leaf, axis=axis: spec(leaf.shape, axis), tree)
        for tree, axis in zip((whole, of_rows, carry, in_time), axes, strict=True)
    ]
    shapes = [jax.ShapeDtypeStruct((time, *leaf.shape), leaf.dtype) for leaf in leaves]
    states = pl.pallas_call(
        kernel,
        grid=(rows // ROWS,),
        in_specs=jax.tree.leaves(specs, is_leaf=lambda node: isinstance(node, pl.BlockSpec)),
        out_specs=[spec(shape.shape, 1) for shape in shapes],
        out_shape=shapes,
        interpret=loop.interpret,
        compiler_params=triton.CompilerParams(num_warps=8, num_stages=1),
    )(*arguments)
    return carry_form.unflatten(states)


def _checked(
    cell: Cell, params: Params, xs: Tree, carry: Carry, reverse: bool, interpret: bool
) -> _Loop:
    """Find what the kernels need to know of a cell, and refuse one that they cannot run."""
    if any(export.is_symbolic_dim(n) for leaf in jax.tree.leaves((xs, carry)) for n in leaf.shape):
        raise ValueError(
            f'{name_of(cell)}: kernel="pallas" needs sizes that are numbers, got a symbol in the '
            f"shape of xs, {jax.tree.leaves(xs)[0].shape}; leave out kernel"
        )
    found = _one_step(cell, params, xs, carry)
    if found is None:
        raise ValueError(
            f'{name_of(cell)}: kernel="pallas" runs cells whose step has one product, of a state '
            "and a whole weight, added to what does not depend on the state; that uses no other "
            "parameters but vectors of a number per unit; and that puts out a part of its carry, "
            "which holds real numbers alone: Elman, LSTM and GRU, for instance, without layer "
            "normalisation; leave out kernel"
        )
    call, weight, output = found
    w, widths = call.w, _widths(call)
    if any(size & (size - 1) or size < ROWS for size in (w.shape[0], *widths)):
        raise ValueError(
            f'{name_of(cell)}: kernel="pallas" needs a state whose size is a power of two from '
            f"{ROWS} on, got {w.shape[0]}; choose another, or leave out kernel"
        )
    if (size := w.size * w.dtype.itemsize) > MOST_BYTES:
        raise ValueError(
            f'{name_of(cell)}: kernel="pallas" keeps the recurrent weight on the chip, at most '
            f"{MOST_BYTES} bytes; that of shape {w.shape} and {w.dtype} has {size}: use fewer "
            "units or bfloat16, or leave out kernel"
        )
    return _Loop(cell, weight, widths, output, reverse, interpret)


def _one_step(cell: Cell, params: Params, xs: Tree, carry: Carry) -> tuple[Call, int, int] | None:
    """Return the call of `affine`, the position of its weight, and that of the output in the carry.

    It is None if the kernels cannot run the cell.
    """
    if cell.feature_axes > 1 or cell.takes_context:
        return None
    u = cell.project(params, jax.tree.map(lambda leaf: leaf[0], xs))
    try:
        seam = inspect(cell.step, params, carry, u)
    except LawBrokenError:
        return None
    (after, y), calls = record(partial(cell.step, params, carry, u), computing)
    leaves = jax.tree.leaves(params)
    weights = [i for i, leaf in enumerate(leaves) if calls and leaf is calls[0].w]
    outputs = [i for i, leaf in enumerate(jax.tree.leaves(after)) if leaf is y]
    others = {*seam.pointwise_params, *seam.input_only_params}
    fits = (
        len(calls) == len(weights) == 1
        and outputs
        and calls[0].linear is matmul
        and calls[0].w.ndim == 2
        and all(seam.input_only[0])
        and all(leaves[i].shape in {(n,) for n in _widths(calls[0])} for i in others)
        and all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(carry))
    )
    return (calls[0], weights[0], outputs[0]) if fits else None


def _widths(call: Call) -> tuple[int, ...]:
    return tuple(part.shape[-1] for part in call.parts if part is not None)
