"""Loops over time in blocks, and over the steps of one."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax


def over_blocks(
    body: Callable[[Any, Any, Any], tuple[Any, Any, Any]],
    carry: Any,
    steps: Any,
    blocks: Any,
    size: int,
    reverse: bool,
) -> tuple[Any, Any, Any]:
    """`lax.scan` over blocks of time.

    `body(carry, steps, block)` gets `size` steps (the last block in time may be shorter) of arrays
    that start with time, and one entry of those that start with the block's number; it returns the
    carry, and likewise outputs for steps and for the block."""
    time = steps_in(steps)
    whole, rest = divmod(time, size)

    def main(carry: Any) -> tuple[Any, Any, Any]:
        folded = jax.tree.map(
            lambda leaf: leaf[: whole * size].reshape(whole, size, *leaf.shape[1:]), steps
        )
        numbered = jax.tree.map(lambda leaf: leaf[:whole], blocks)

        def one(carry: Any, inputs: Any) -> tuple[Any, Any]:
            carry, per_step, per_block = body(carry, *inputs)
            return carry, (per_step, per_block)

        carry, (per_step, per_block) = loop(one, carry, (folded, numbered), reverse)
        return (
            carry,
            jax.tree.map(lambda leaf: leaf.reshape(whole * size, *leaf.shape[2:]), per_step),
            per_block,
        )

    def tail(carry: Any) -> tuple[Any, Any, Any]:
        last = jax.tree.map(lambda leaf: leaf[whole], blocks)
        carry, per_step, per_block = body(
            carry, jax.tree.map(lambda leaf: leaf[whole * size :], steps), last
        )
        return carry, per_step, jax.tree.map(lambda leaf: leaf[None], per_block)

    pieces = [piece for piece, present in ((main, whole), (tail, rest)) if present]
    outputs = {}
    for piece in reversed(pieces) if reverse else pieces:
        carry, *outputs[piece] = piece(carry)
    in_time = [outputs[piece] for piece in pieces]
    if len(in_time) == 1:
        return carry, *in_time[0]
    return carry, *jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *in_time)


def loop(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, steps: Any, reverse: bool
) -> tuple[Any, Any]:
    """`lax.scan` over arrays without axes of size one: for a batch of one, XLA would choose layouts
    that cost a copy of each.
    """
    forms: list[Any] = []

    def squeezed_body(carry: Any, squeezed: Any) -> tuple[Any, Any]:
        inputs = jax.tree.map(lambda leaf, like: leaf.reshape(like.shape[1:]), squeezed, steps)
        carry, outputs = body(carry, inputs)
        forms[:] = [jax.tree.map(lambda leaf: _Shape(leaf.shape), outputs)]
        return carry, jax.tree.map(_squeeze, outputs)

    squeezed = jax.tree.map(lambda leaf: _squeeze(leaf, keep=1), steps)
    carry, outputs = lax.scan(
        squeezed_body, carry, squeezed, length=steps_in(steps), reverse=reverse
    )
    return carry, jax.tree.map(
        lambda leaf, form: leaf.reshape(leaf.shape[0], *form.shape), outputs, forms[0]
    )


@dataclasses.dataclass(frozen=True)
class _Shape:
    shape: tuple[int, ...]


def _squeeze(leaf: Array, keep: int = 0) -> Array:
    return leaf.reshape(*leaf.shape[:keep], *(n for n in leaf.shape[keep:] if n != 1))


def shift(start: Array, after: Array, reverse: bool) -> Array:
    """The carry before each step of a block, from the one before the block and those after its
    steps.
    """
    return jnp.concatenate([after[1:], start[None]] if reverse else [start[None], after[:-1]])


def steps_in(steps: Any) -> int:
    """How many steps arrays that start with time have."""
    return jax.tree.leaves(steps)[0].shape[0]
