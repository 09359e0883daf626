"""A batch that is split over devices."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._cell import Carry, Params
from jaxrnn._sequence import Flags

Array = jax.Array


def device_count(array: Array) -> int:
    """Over how many devices the compiler may split this array, as far as its type or the mesh in use tells."""
    mesh = jax.typeof(array).sharding.mesh
    mesh = jax.sharding.get_abstract_mesh() if mesh.empty else mesh
    sizes = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    return math.prod(size for size, kind in sizes if kind == jax.sharding.AxisType.Auto)


def in_groups(groups: int, run: Callable[..., Any], params: Params, xs: Any, carry: Carry, flags: Flags) -> tuple[Carry, Any]:
    """Run groups of the batch side by side, each with a copy of the parameters.

    With one group per device, a weight gradient stays on its device until the transpose of the copy sums it, once: summed over
    the whole batch, every block would need a sum over devices inside the loop.
    """
    if groups == 1:
        return run(params, xs, carry, flags)

    def fold(leaf: Array, axis: int) -> Array:
        return leaf.reshape(*leaf.shape[:axis], groups, -1, *leaf.shape[axis + 1 :])

    def unfold(leaf: Array, axis: int) -> Array:
        return leaf.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 2 :])

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (groups, *leaf.shape)), params)
    xs, flags = jax.tree.map(lambda leaf: fold(leaf, 1), (xs, flags))
    carry = jax.tree.map(lambda leaf: fold(leaf, 0), carry)
    carry, ys = jax.vmap(run, in_axes=(0, 1, 0, 1), out_axes=(0, 1))(copies, xs, carry, flags)
    return jax.tree.map(lambda leaf: unfold(leaf, 0), carry), jax.tree.map(lambda leaf: unfold(leaf, 1), ys)
