"""Pytrees of which some leaves are differentiated and others are not. Positions number the flat
leaves.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Tree = Any
"""A pytree of arrays. Its structure is the user's, and no type can state it."""


def form(tree: Tree) -> tuple[object, list[tuple[int, ...]]]:
    """The structure of a tree and the shapes of its leaves: equal for trees that fit each other,
    whatever their dtypes.
    """
    return jax.tree.structure(tree), [np.shape(leaf) for leaf in jax.tree.leaves(tree)]


def is_float(leaf: Array | jax.ShapeDtypeStruct) -> bool:
    """Whether it is differentiated: real or complex numbers."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def float_positions(tree: Tree) -> list[int]:
    """Where among the flat leaves the floating ones stand."""
    return [i for i, leaf in enumerate(jax.tree.leaves(tree)) if is_float(leaf)]


def floats(tree: Tree) -> list[Array]:
    """The floating leaves."""
    return [leaf for leaf in jax.tree.leaves(tree) if is_float(leaf)]


def pick(tree: Tree, positions: Iterable[int]) -> list[Array]:
    """The leaves at these positions."""
    leaves = jax.tree.leaves(tree)
    return [leaves[i] for i in positions]


def put(tree: Tree, positions: Iterable[int], new: Iterable[Array]) -> Tree:
    """The tree with other leaves at these positions."""
    leaves, form = jax.tree.flatten(tree)
    for i, leaf in zip(positions, new, strict=True):
        leaves[i] = leaf
    return jax.tree.unflatten(form, leaves)


def sparse(tree: Tree, positions: Iterable[int], new: Iterable[Array]) -> Tree:
    """The tree with new leaves at these positions, and None at all others."""
    leaves, form = jax.tree.flatten(tree)
    given = dict(zip(positions, new, strict=True))
    return form.unflatten([given.get(i) for i in range(len(leaves))])


def only(tree: Tree, positions: Iterable[int], new: Iterable[Array]) -> Tree:
    """A tangent of `tree` that holds those of some leaves, and zero for the others."""
    leaves, form = jax.tree.flatten(tree)
    given = dict(zip(positions, new, strict=True))
    return jax.tree.unflatten(
        form, [given[i] if i in given else _zero(leaf) for i, leaf in enumerate(leaves)]
    )


def _zero(leaf: Array) -> Array | np.ndarray:
    return jnp.zeros_like(leaf) if is_float(leaf) else np.zeros(leaf.shape, jax.dtypes.float0)


def path_names(path: tuple[object, ...]) -> list[str]:
    """The names on the way to a leaf of a pytree; an entry that has a number alone is ""."""
    return [str(getattr(entry, "name", getattr(entry, "key", ""))) for entry in path]
