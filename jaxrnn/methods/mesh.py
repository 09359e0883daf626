"""A batch that is split over devices.

Two things are done around a whole run, so that no loop depends on devices.

- Explicit axes of the mesh (`AxisType.Explicit`, the default of `jax.make_mesh`) are part of an
  array's type. They become the compiler's for the run, because cells name no sharding for their
  operations.
- Each device runs its own rows (`jax.shard_map`). A weight gradient then stays on its device, and
  is summed over devices once. Otherwise, every block of time would need a sum over devices, inside
  the loop.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
from jax import Array, export, lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxrnn.core.cell import Carry
from jaxrnn.core.trees import Tree

T = TypeVar("T")

Axes = str | tuple[str, ...] | None
"""The names of the mesh axes that split one axis of an array."""
Spec = tuple[Axes, ...]


class Split(NamedTuple):
    """How the batch of some inputs is split."""

    mesh: AbstractMesh
    spec: Spec  # the explicit axes that split time, if the inputs have it, and each batch axis
    batch: Spec  # the axes that split each batch axis, explicit or named

    @property
    def is_explicit(self) -> bool:
        """Whether the mesh has explicit axes."""
        return AxisType.Explicit in self.mesh.axis_types


def split_of(inputs: Tree, others: Tree, batch_axes: int, timed: bool, named: Axes) -> Split:
    """Find how a batch is split.

    The arrays' types show the explicit axes. The user names the compiler's (`AxisType.Auto`).

    Args:
        inputs: the inputs, `[time, *batch, ...]`, or those of one step.
        others: all other arrays of the run.
        batch_axes: how many batch axes there are.
        timed: whether the inputs have a time axis.
        named: the mesh axes of type Auto that split the first batch axis. They are left to the
            compiler if their devices do not divide it.

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
    batch = spec[timed:]
    unseen = tuple(name for name in _names(named) if kinds.get(name) == AxisType.Auto)
    if unseen and batch[:1] == (None,) and _divides(unseen, sizes, first.shape[timed]):
        batch = (unseen, *batch[1:])
    return Split(mesh, spec, batch)


def _names(entry: Axes) -> tuple[str, ...]:
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def _divides(names: tuple[str, ...], sizes: dict[str, int], rows: int) -> bool:
    devices = math.prod(sizes[name] for name in names)
    return not export.is_symbolic_dim(rows) and rows % devices == 0


Run = Callable[..., tuple[Carry, Tree]]
"""`run(shared, in_time, at_start) -> (carry, ys)`. `in_time` and `ys` are `[time, *batch, ...]`;
`at_start` and the carry are `[*batch, ...]`. All rows get the same `shared`."""


def over_devices(
    split: Split,
    run: Run,
    shared: Tree,
    in_time: Tree,
    at_start: Tree,
    all_carries: bool = False,
) -> tuple[Carry, Tree]:
    """Call `run(shared, in_time, at_start)` on each device, with the device's own rows.

    With `all_carries`, the carry that `run` returns has a leading time axis, too.
    """
    batch, timed = PartitionSpec(*split.batch), PartitionSpec(None, *split.batch)
    names = {name for entry in split.batch for name in _names(entry)}
    of_carry = (None,) if all_carries else ()
    on_each = run
    if names:
        on_each = jax.shard_map(
            run,
            # None: the mesh that `left_to_the_compiler` sets, whose axes are all of type Auto
            mesh=None if split.is_explicit else split.mesh,
            in_specs=(PartitionSpec(), timed, batch),
            out_specs=(PartitionSpec(*of_carry, *split.batch), timed),
            axis_names=names,
            check_vma=False,  # a Pallas kernel and a user's cell need not say what varies
        )
    out_specs = ((*of_carry, *split.spec[1:]), split.spec)
    return left_to_the_compiler(on_each, split, out_specs, shared, in_time, at_start)


def left_to_the_compiler(
    run: Run, split: Split, out_specs: tuple[Spec, Spec], *arguments: Tree
) -> tuple[Carry, Tree]:
    """Call `run(*arguments)` with all axes of the mesh left to the compiler.

    If the mesh has explicit axes, the two results are sharded as `out_specs` says.
    """
    if not split.is_explicit:
        return run(*arguments)
    places = tuple(NamedSharding(split.mesh, PartitionSpec(*spec)) for spec in out_specs)
    with jax.sharding.use_abstract_mesh(split.mesh):
        placed: Run = jax.sharding.auto_axes(run, out_sharding=places)  # type: ignore[assignment]
        return placed(*arguments)


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
