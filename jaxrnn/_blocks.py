"""Time in blocks: a loop over blocks whose body loops over the steps of one."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


ROWS = 1024
NUMBERS = 2**18


def block_size(time: int, batch: int, width: int, keep_carries: bool) -> int:
    """Steps in a block.

    A block's products, `[steps * batch, width]`, should be tall enough to be fast (at most `ROWS`), small enough to stay in a cache
    (at most `NUMBERS`), and take little memory beside the carries of all steps (at most an eighth of T). Where only carries at
    borders are kept, blocks are about √T, so that both are few. A divisor of T is taken if one is near, for a shorter last block
    is compiled by itself.
    """
    rows = min(ROWS, NUMBERS // max(width, 1))
    wanted = max(4, min(rows // max(batch, 1), time // 8), 0 if keep_carries else math.isqrt(time))
    if wanted >= time:
        return time
    near = [k for k in range(wanted, 2 * wanted) if time % k == 0] + [k for k in range(wanted, wanted // 2, -1) if time % k == 0]
    return near[0] if near else wanted


def over_blocks(
    body: Callable[[Any, Any, Any], tuple[Any, Any, Any]], carry: Any, steps: Any, blocks: Any, size: int, reverse: bool
) -> tuple[Any, Any, Any]:
    """`lax.scan` over blocks of time.

    `body(carry, steps, block)` gets `size` steps (the last block in time may be shorter) of arrays that start with time, and one entry
    of those that start with the block's number; it returns the carry, and likewise outputs for steps and for the block.
    """
    time = steps_in(steps)
    whole, rest = divmod(time, size)

    def main(carry: Any) -> tuple[Any, Any, Any]:
        folded = jax.tree.map(lambda leaf: leaf[: whole * size].reshape(whole, size, *leaf.shape[1:]), steps)
        numbered = jax.tree.map(lambda leaf: leaf[:whole], blocks)

        def one(carry: Any, inputs: Any) -> tuple[Any, Any]:
            carry, per_step, per_block = body(carry, *inputs)
            return carry, (per_step, per_block)

        carry, (per_step, per_block) = lax.scan(one, carry, (folded, numbered), length=whole, reverse=reverse)
        return carry, jax.tree.map(lambda leaf: leaf.reshape(whole * size, *leaf.shape[2:]), per_step), per_block

    def tail(carry: Any) -> tuple[Any, Any, Any]:
        last = jax.tree.map(lambda leaf: leaf[whole], blocks)
        carry, per_step, per_block = body(carry, jax.tree.map(lambda leaf: leaf[whole * size :], steps), last)
        return carry, per_step, jax.tree.map(lambda leaf: leaf[None], per_block)

    pieces = [piece for piece, present in ((main, whole), (tail, rest)) if present]
    outputs = {}
    for piece in reversed(pieces) if reverse else pieces:
        carry, *outputs[piece] = piece(carry)
    in_time = [outputs[piece] for piece in pieces]
    if len(in_time) == 1:
        return carry, *in_time[0]
    return carry, *jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *in_time)


def shift(start: Array, after: Array, reverse: bool) -> Array:
    """The carry before each step of a block, from the one before the block and those after its steps."""
    return jnp.concatenate([after[1:], start[None]] if reverse else [start[None], after[:-1]])


def steps_in(steps: Any) -> int:
    return jax.tree.leaves(steps)[0].shape[0]
