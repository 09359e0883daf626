"""A batch that is split over devices.

Two things are done for it around a whole run, so that no loop has to know of devices. Axes of the
mesh whose sharding is part of an array's type (`AxisType.Explicit`, what `jax.make_mesh` gives) are
handed to the compiler: cells are written without a sharding for each operation. And the rows of
each device run as a group of their own, with a copy of the parameters: a weight gradient then stays
on its device until the transpose of the copy sums it, once; summed over the whole batch, every
block of time would need a sum over devices inside the loop.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, export
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.trees import Tree

Names = str | tuple[str, ...] | None
"""The mesh axes that split one axis of an array."""


class Split(NamedTuple):
    """How the batch of some inputs is split."""

    mesh: AbstractMesh | None  # if it has explicit axes
    spec: tuple[Names, ...]  # the explicit axes for time, if the inputs have it, and for the batch
    groups: tuple[int, ...]  # for each batch axis: how many devices share it


def split_of(inputs: Tree, others: Tree, batch_axes: int, timed: bool, named: Names) -> Split:
    """As the arrays' types tell, and, of mesh axes that are the compiler's (`AxisType.Auto`), the
    user, who names them.

    Raises:
        ValueError: the mesh has no axis of that name.
    """
    first = jax.tree.leaves(inputs)[0]
    meshes = [jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves((inputs, others))]
    mesh = next((mesh for mesh in meshes if not mesh.empty), jax.sharding.get_abstract_mesh())
    sizes = dict(zip(mesh.axis_names, mesh.axis_sizes, strict=True))
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if sizes and (unknown := [name for name in _names(named) if name not in sizes]):
        raise ValueError(
            f"batch_axes names {unknown}, but the axes of the mesh in use are {list(sizes)}"
        )
    steps = batch_axes + timed
    spec = (*jax.typeof(first).sharding.spec, *[None] * steps)[:steps]
    groups = [math.prod(sizes[name] for name in _names(entry)) for entry in spec[timed:]]
    unseen = math.prod(sizes[name] for name in _names(named) if kinds.get(name) == AxisType.Auto)
    if groups and groups[0] == 1 and not export.is_symbolic_dim(first.shape[timed]):
        groups[0] = math.gcd(unseen, first.shape[timed])
    return Split(mesh if AxisType.Explicit in kinds.values() else None, spec, tuple(groups))


def _names(entry: Names) -> tuple[str, ...]:
    if entry is None:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def left_to_the_compiler(
    run: Callable[..., tuple[Carry, Tree]],
    split: Split,
    out_specs: tuple[tuple[Names, ...], tuple[Names, ...]],
    *arguments: Tree,
) -> Tree:
    """`run(*arguments)`, whatever the axes of the mesh; its two results are placed as `out_specs`
    say, if any axis is explicit.
    """
    if split.mesh is None:
        return run(*arguments)
    places = tuple(NamedSharding(split.mesh, PartitionSpec(*spec)) for spec in out_specs)
    with jax.sharding.use_abstract_mesh(split.mesh):
        return jax.sharding.auto_axes(run, out_sharding=places)(*arguments)


def in_groups(
    groups: tuple[int, ...],
    run: Callable[..., tuple[Carry, Tree]],
    params: Params,
    in_time: Tree,
    at_start: Tree,
) -> tuple[Carry, Tree]:
    """`run(params, in_time, at_start)` with the groups of the batch side by side; what it is given
    starts `[time, *batch]` and `[*batch]`, and so do the outputs and the carry that it returns.
    """
    axis = max((axis for axis, size in enumerate(groups) if size > 1), default=None)
    if axis is None:
        return run(params, in_time, at_start)
    size = groups[axis]

    def fold(leaf: Array, axis: int) -> Array:
        return leaf.reshape(*leaf.shape[:axis], size, -1, *leaf.shape[axis + 1 :])

    def unfold(leaf: Array, axis: int) -> Array:
        return leaf.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 2 :])

    def inner(*arguments: Tree) -> tuple[Carry, Tree]:
        return in_groups(groups[:axis], run, *arguments)

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), params)
    in_time = jax.tree.map(lambda leaf: fold(leaf, axis + 1), in_time)
    at_start = jax.tree.map(lambda leaf: fold(leaf, axis), at_start)
    mapped = jax.vmap(inner, in_axes=(0, axis + 1, axis), out_axes=(axis, axis + 1))
    carry, ys = mapped(copies, in_time, at_start)
    carry = jax.tree.map(lambda leaf: unfold(leaf, axis), carry)
    return carry, jax.tree.map(lambda leaf: unfold(leaf, axis + 1), ys)
