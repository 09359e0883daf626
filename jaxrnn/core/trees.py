"""Pytrees in which some leaves are differentiated and others are not.

Positions are indices into the flattened leaves.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Tree = Any
"""A pytree of arrays. The user chooses its structure, so no type can state it."""


def form(tree: Tree) -> tuple[object, list[tuple[int, ...]]]:
    """Return the structure of a tree and the shapes of its leaves. Dtypes do not matter."""
    return jax.tree.structure(tree), [np.shape(leaf) for leaf in jax.tree.leaves(tree)]


def abstract(function: Callable[..., Tree], *args: Tree) -> Tree:
    """Return the types of what `function(*args)` returns, as `jax.typeof` gives them.

    `jax.eval_shape` does the same but for devices: inside `jax.shard_map` over some axes of a mesh,
    JAX cannot trace with what it returns.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    return jax.tree.unflatten(jax.tree.structure(shapes), closed.out_avals)


def is_float(leaf: Array | jax.ShapeDtypeStruct) -> bool:
    """Return whether a leaf is differentiated: whether it holds floating or complex numbers."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def is_real_float(leaf: Array | jax.ShapeDtypeStruct) -> bool:
    """Return whether a leaf holds floating numbers that are not complex."""
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def float_positions(tree: Tree) -> list[int]:
    """Return the positions of the floating leaves."""
    return [i for i, leaf in enumerate(jax.tree.leaves(tree)) if is_float(leaf)]


def floats(tree: Tree) -> list[Array]:
    """Return the floating leaves."""
    return [leaf for leaf in jax.tree.leaves(tree) if is_float(leaf)]


def pick(tree: Tree, positions: Iterable[int]) -> list[Array]:
    """Return the leaves at these positions."""
    leaves = jax.tree.leaves(tree)
    return [leaves[i] for i in positions]


def put(tree: Tree, positions: Iterable[int], new: Iterable[Array]) -> Tree:
    """Return the tree with the leaves at these positions replaced."""
    leaves, form = jax.tree.flatten(tree)
    for i, leaf in zip(positions, new, strict=True):
        leaves[i] = leaf
    return jax.tree.unflatten(form, leaves)


def sparse(tree: Tree, positions: Iterable[int], new: Iterable[Array]) -> Tree:
    """Return the tree with new leaves at these positions, and None at all others."""
    leaves, form = jax.tree.flatten(tree)
    given = dict(zip(positions, new, strict=True))
    return form.unflatten([given.get(i) for i in range(len(leaves))])


def path_names(path: tuple[object, ...]) -> list[str]:
    """Return the names on the path to a leaf. An entry that is an index becomes ""."""
    return [str(getattr(entry, "name", getattr(entry, "key", ""))) for entry in path]
