"""Loops over blocks of time, and over the steps of one block.

A *tree of steps* is a pytree of arrays `[time, ...]`. A *tree of blocks* is a pytree of arrays
`[blocks, ...]`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.trees import Tree

C = TypeVar("C")  # the carry of a loop
X = TypeVar("X")  # a tree of steps that it reads
B = TypeVar("B")  # a tree of blocks that it reads
Y = TypeVar("Y")  # a tree of steps that it writes
Z = TypeVar("Z")  # a tree of blocks that it writes


def over_blocks(
    body: Callable[[C, X, B], tuple[C, Y, Z]],
    carry: C,
    steps: X,
    blocks: B,
    size: int,
    reverse: bool,
    recompute: bool = False,
) -> tuple[C, Y, Z]:
    """Run `lax.scan` over blocks of time.

    Args:
        body: `body(carry, steps, block) -> (carry, of_steps, of_block)`. It gets the steps of one
            block and the block's entry of `blocks`. It returns outputs of each step and of the
            block.
        carry: the carry before the first block.
        steps: what the body reads of each step.
        blocks: what the body reads of each block.
        size: steps in a block, at most as many as there are. The last block in time gets the
            remainder.
        reverse: walk from the last block in time to the first.
        recompute: the transpose of the body stores its arguments and recomputes the rest.

    Returns:
        The last carry, and the outputs of all steps and of all blocks, both in order of time.
    """
    whole, rest = divmod(steps_in(steps), size)

    def first(carry: C) -> tuple[C, Y, Z]:
        def one(carry: C, inputs: tuple[X, B]) -> tuple[C, tuple[Y, Z]]:
            carry, of_steps, of_block = body(carry, *inputs)
            return carry, (of_steps, of_block)

        folded = _each(
            lambda leaf: leaf[: whole * size].reshape(whole, size, *leaf.shape[1:]), steps
        )
        numbered = _each(lambda leaf: leaf[:whole], blocks)
        carry, (of_steps, of_blocks) = loop(
            one, carry, (folded, numbered), reverse, recompute=recompute
        )
        unfolded = _each(lambda leaf: leaf.reshape(whole * size, *leaf.shape[2:]), of_steps)
        return carry, unfolded, of_blocks

    def last(carry: C) -> tuple[C, Y, Z]:
        shorter = _each(lambda leaf: leaf[whole * size :], steps)
        block = _each(lambda leaf: leaf[whole], blocks)
        carry, of_steps, of_block = (recomputed(body) if recompute else body)(carry, shorter, block)
        return carry, of_steps, _each(lambda leaf: leaf[None], of_block)

    if not rest:
        # Also for a single block: under `vmap`, JAX takes the batch axes of the results of `bptt`
        # from its function or from its derivative, so both must have a loop.
        return first(carry)
    carry, *earlier = (last if reverse else first)(carry)
    carry, *later = (first if reverse else last)(carry)
    in_time = (later, earlier) if reverse else (earlier, later)
    return carry, *jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *in_time)


def _each(change: Callable[[Array], Array], tree: X) -> X:
    return jax.tree.map(change, tree)


recomputed = partial(jax.checkpoint, prevent_cse=False)


def loop(
    body: Callable[[C, X], tuple[C, Y]],
    carry: C,
    steps: X,
    reverse: bool,
    unroll: int = 1,
    recompute: bool = False,
) -> tuple[C, Y]:
    """Run `lax.scan` over the steps, on arrays without axes of size one.

    With such an axis, as in a batch of one, XLA chooses layouts that cost a copy of each array. An
    array that the body returns more than once is stacked once.

    Args:
        body: `body(carry, step) -> (carry, output)`.
        carry: the carry before the first step.
        steps: what the body reads.
        reverse: walk from the last step in time to the first.
        unroll: steps that one iteration takes.
        recompute: the transpose of the body stores its arguments and recomputes the rest. This
            function applies it, because the arguments are then the arrays that the loop reads
            anyway. A checkpoint inside `body` would store a copy with the axes of size one.
    """

    def squeezed(carry: C, inputs: Tree) -> tuple[C, Tree]:
        carry, outputs = body(carry, _restore(inputs, 0))
        return carry, _squeeze(_distinct(outputs), 0)  # squeezing makes new arrays

    carry, outputs = lax.scan(
        recomputed(squeezed) if recompute else squeezed,
        carry,
        _squeeze(steps, 1),
        length=steps_in(steps),
        reverse=reverse,
        unroll=unroll,
    )
    return carry, _restore(outputs, 1).tree()


@partial(jax.tree_util.register_dataclass, data_fields=["leaves"], meta_fields=["form", "which"])
@dataclasses.dataclass(frozen=True)
class _Distinct:
    """A tree in which several leaves may be one array, such as an output that is the hidden state.

    Each array is stored once. The rest belongs to the pytree's structure, and so passes through
    `lax.scan`.
    """

    leaves: list[Array]  # the distinct arrays
    form: Any  # the structure of the tree
    which: tuple[int, ...]  # for each leaf of the tree: its position in `leaves`

    def tree(self) -> Tree:
        """Return the tree."""
        return jax.tree.unflatten(self.form, [self.leaves[i] for i in self.which])


def _distinct(tree: Tree) -> _Distinct:
    leaves, form = jax.tree.flatten(tree)
    first = {id(leaf): leaf for leaf in leaves}
    numbers = {key: i for i, key in enumerate(first)}
    return _Distinct([*first.values()], form, tuple(numbers[id(leaf)] for leaf in leaves))


@partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["shape"])
@dataclasses.dataclass(frozen=True)
class _Squeezed:
    """An array without its axes of size one. It may have a leading time axis.

    The shape belongs to the pytree's structure, and so passes through `lax.scan`.
    """

    array: Array
    shape: tuple[int, ...]  # of one step, with its axes of size one


def _squeeze(tree: Tree, kept: int) -> Tree:
    """Remove the axes of size one from each leaf. The first `kept` axes stay."""

    def leaf(array: Array) -> _Squeezed:
        shape = array.shape[kept:]
        return _Squeezed(array.reshape(*array.shape[:kept], *(n for n in shape if n != 1)), shape)

    return jax.tree.map(leaf, tree)


def _restore(tree: Tree, kept: int) -> Tree:
    """Undo `_squeeze`."""
    return jax.tree.map(
        lambda leaf: leaf.array.reshape(*leaf.array.shape[:kept], *leaf.shape),
        tree,
        is_leaf=lambda node: isinstance(node, _Squeezed),
    )


def shift(start: Array, after: Array, reverse: bool) -> Array:
    """Return the carry before each step of a block.

    Args:
        start: the carry before the block.
        after: the carries after each step, `[time, ...]`.
        reverse: whether the block is walked from its last step to its first.
    """
    return jnp.concatenate([after[1:], start[None]] if reverse else [start[None], after[:-1]])


def steps_in(steps: Tree) -> int:
    """Return the number of steps in a tree of steps."""
    return jax.tree.leaves(steps)[0].shape[0]
