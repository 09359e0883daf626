"""A batch that is split over devices.

Two things are done around a whole run, so that no loop depends on devices.

- Explicit axes of the mesh (`AxisType.Explicit`, the default of `jax.make_mesh`) are part of an
  array's type. They become the compiler's for the run, because cells name no sharding for their
  operations.
- The rows of each device run as a group, with a copy of the parameters. A weight gradient then
  stays on its device, and the transpose of the copy sums it over devices once. Without groups,
  every block of time would need a sum over devices, inside the loop.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, export, lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.trees import Tree

T = TypeVar("T")

Axes = str | tuple[str, ...] | None
"""The names of the mesh axes that split one axis of an array."""
Spec = tuple[Axes, ...]


class Split(NamedTuple):
    """How the batch of some inputs is split."""

    mesh: AbstractMesh | None  # the mesh, if it has explicit axes
    spec: Spec  # the explicit axes that split time, if the inputs have it, and each batch axis
    groups: tuple[int, ...]  # for each batch axis: over how many devices it is split


def split_of(inputs: Tree, others: Tree, batch_axes: int, timed: bool, named: Axes) -> Split:
    """Find how a batch is split.

    The arrays' types show the explicit axes. The user names the compiler's (`AxisType.Auto`).

    Args:
        inputs: the inputs, `[time, *batch, ...]`, or those of one step.
        others: all other arrays of the run.
        batch_axes: how many batch axes there are.
        timed: whether the inputs have a time axis.
        named: the mesh axes of type Auto that split the first batch axis.

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


def _names(entry: Axes) -> tuple[str, ...]:
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


Run = Callable[..., tuple[Carry, Tree]]
"""`run(params, in_time, at_start) -> (carry, ys)`. `in_time` and `ys` are `[time, *batch, ...]`;
`at_start` and the carry are `[*batch, ...]`."""


def over_devices(
    split: Split,
    run: Run,
    params: Params,
    in_time: Tree,
    at_start: Tree,
    all_carries: bool = False,
) -> tuple[Carry, Tree]:
    """Call `run(params, in_time, at_start)` on the rows of each device by themselves.

    With `all_carries`, the carry that `run` returns has a leading time axis, too.
    """
    if split.mesh is None and math.prod(split.groups) == 1:
        return run(params, in_time, at_start)
    grouped = partial(_in_groups, split.groups, run, int(all_carries))
    batch = split.spec[1:]
    out_specs = ((None, *batch) if all_carries else batch, split.spec)
    return left_to_the_compiler(grouped, split, out_specs, params, in_time, at_start)


def left_to_the_compiler(
    run: Run, split: Split, out_specs: tuple[Spec, Spec], *arguments: Tree
) -> tuple[Carry, Tree]:
    """Call `run(*arguments)` with all axes of the mesh left to the compiler.

    If the mesh has explicit axes, the two results are sharded as `out_specs` says.
    """
    if split.mesh is None:
        return run(*arguments)
    places = tuple(NamedSharding(split.mesh, PartitionSpec(*spec)) for spec in out_specs)
    with jax.sharding.use_abstract_mesh(split.mesh):
        placed: Run = jax.sharding.auto_axes(run, out_sharding=places)  # type: ignore[assignment]
        return placed(*arguments)


def _in_groups(
    groups: tuple[int, ...],
    run: Run,
    carry_axis: int,
    params: Params,
    in_time: Tree,
    at_start: Tree,
) -> tuple[Carry, Tree]:
    """Map `run` over the groups of the batch.

    `carry_axis` is the first batch axis of the carry that `run` returns.
    """
    axis = max((axis for axis, size in enumerate(groups) if size > 1), default=None)
    if axis is None:
        return run(params, in_time, at_start)
    size = groups[axis]

    def fold(tree: Tree, axis: int) -> Tree:
        def leaf(a: Array) -> Array:
            return a.reshape(*a.shape[:axis], size, -1, *a.shape[axis + 1 :])

        return jax.tree.map(leaf, tree)

    def unfold(tree: Tree, axis: int) -> Tree:
        def leaf(a: Array) -> Array:
            return a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :])

        return jax.tree.map(leaf, tree)

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), params)
    inner = partial(_in_groups, groups[:axis], run, carry_axis)
    carry_out = axis + carry_axis
    mapped = jax.vmap(inner, in_axes=(0, axis + 1, axis), out_axes=(carry_out, axis + 1))
    carry, ys = mapped(copies, fold(in_time, axis + 1), fold(at_start, axis))
    return unfold(carry, carry_out), unfold(ys, axis + 1)


def equally_varying(tree: T) -> T:
    """Let every array vary over the mesh axes that any of them varies over (`jax.shard_map`).

    A loop's carry must vary as its inputs do. For a parameter that all devices share, the transpose
    of this function is the one sum over devices that its gradient needs. Outside `jax.shard_map`,
    nothing changes.
    """
    return varying_as(tree, tree)


def varying_as(like: Tree, tree: T) -> T:
    """Return `tree`, varying over all mesh axes that a leaf of `like` varies over."""
    axes = frozenset().union(*(_varying_axes(leaf) for leaf in jax.tree.leaves(like)))

    def cast(leaf: Array) -> Array:
        missing = tuple(axes - _varying_axes(leaf))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def _varying_axes(leaf: Array) -> frozenset[str]:
    kind = jax.typeof(leaf)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
