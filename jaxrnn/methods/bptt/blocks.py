"""Loops over time in blocks, and over the steps of one.

A *tree of steps* is a pytree of arrays that start with time; a tree of blocks starts with the
block's number.
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
X = TypeVar("X")  # what it reads, of a step
B = TypeVar("B")  # what it reads, of a block
Y = TypeVar("Y")  # what it writes, of a step
Z = TypeVar("Z")  # what it writes, of a block


def over_blocks(
    body: Callable[[C, X, B], tuple[C, Y, Z]],
    carry: C,
    steps: X,
    blocks: B,
    size: int,
    reverse: bool,
    recompute: bool = False,
) -> tuple[C, Y, Z]:
    """`lax.scan` over blocks of time.

    `body(carry, steps, block)` gets `size` steps, of which there are as many or more (the last
    block in time may have fewer), and one block's entry. It returns the carry, and likewise outputs
    for the steps and for the block. `recompute`: the body's transpose keeps its arguments alone.
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
    """`lax.scan` over arrays without axes of size one: for a batch of one, XLA would choose layouts
    that cost a copy of each. To recompute is said here, for the argument that is kept is then the
    array that the loop reads anyway; with its axes of size one it would be a copy.
    """

    def squeezed(carry: C, inputs: Tree) -> tuple[C, "_Distinct"]:
        carry, outputs = body(carry, _restore(inputs, 0))
        return carry, _distinct(_squeeze(outputs, 0))

    carry, outputs = lax.scan(
        recomputed(squeezed) if recompute else squeezed,
        carry,
        _squeeze(steps, 1),
        length=steps_in(steps),
        reverse=reverse,
        unroll=unroll,
    )
    return carry, _restore(outputs.tree(), 1)


@partial(jax.tree_util.register_dataclass, data_fields=["leaves"], meta_fields=["form", "which"])
@dataclasses.dataclass(frozen=True)
class _Distinct:
    """A tree whose leaves are often the same array, such as an output that is h: a loop stacks each
    array once. Which leaf is which array is a part of the pytree's structure.
    """

    leaves: list[Array]
    form: Any  # the structure of the tree
    which: tuple[int, ...]

    def tree(self) -> Tree:
        """The tree again."""
        return jax.tree.unflatten(self.form, [self.leaves[i] for i in self.which])


def _distinct(tree: Tree) -> _Distinct:
    leaves, form = jax.tree.flatten(tree)
    first = {id(leaf): leaf for leaf in leaves}
    numbers = {key: i for i, key in enumerate(first)}
    return _Distinct([*first.values()], form, tuple(numbers[id(leaf)] for leaf in leaves))


@partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["shape"])
@dataclasses.dataclass(frozen=True)
class _Squeezed:
    """An array that may start with time, and the shape of a step before axes of size one went. The
    shape is a part of the pytree's structure, and so finds its own way into a loop and out of it.
    """

    array: Array
    shape: tuple[int, ...]


def _squeeze(tree: Tree, kept: int) -> Tree:
    """Each leaf without its axes of size one, but for the first `kept` axes."""

    def leaf(array: Array) -> _Squeezed:
        shape = array.shape[kept:]
        return _Squeezed(array.reshape(*array.shape[:kept], *(n for n in shape if n != 1)), shape)

    return jax.tree.map(leaf, tree)


def _restore(tree: Tree, kept: int) -> Tree:
    """The inverse of `_squeeze`."""
    return jax.tree.map(
        lambda leaf: leaf.array.reshape(*leaf.array.shape[:kept], *leaf.shape),
        tree,
        is_leaf=lambda node: isinstance(node, _Squeezed),
    )


def shift(start: Array, after: Array, reverse: bool) -> Array:
    """The carry before each step of a block, from the one before the block and those after its
    steps.
    """
    return jnp.concatenate([after[1:], start[None]] if reverse else [start[None], after[:-1]])


def steps_in(steps: Tree) -> int:
    """How many steps a tree of steps has."""
    return jax.tree.leaves(steps)[0].shape[0]
