"""The buffers of `Slots`: the carries and contexts of all slots, `[size, ...]`."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.cell import Carry
from jaxrnn.core.trees import Tree, form
from jaxrnn.core.walk import select


@partial(jax.jit, donate_argnums=0)
def put(carry: Carry, one: Carry, slot: Array) -> Carry:
    """Write one stream's arrays into a slot. The buffers are donated."""
    return jax.tree.map(
        lambda leaf, own: lax.dynamic_update_index_in_dim(leaf, own.astype(leaf.dtype), slot, 0),
        carry,
        one,
    )


@jax.jit
def get(carry: Carry, slot: Array) -> Carry:
    """Read one stream's arrays from a slot."""
    return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, slot, 0, keepdims=False), carry)


def copied(carry: Carry) -> Carry:
    """Copy every array."""
    return jax.tree.map(jnp.array, carry)


@jax.jit
def with_starts(carry: Carry, start: Carry, fresh: Array) -> Carry:
    """Return the carry with the initial carry in all slots that are `fresh`, bool `[size]`."""
    starts = jax.tree.map(lambda own, all: jnp.broadcast_to(own, all.shape), start, carry)
    return select(fresh, starts, carry)


def check_form(argument: str, given: Tree, like: Tree) -> None:
    """Refuse arrays of one stream with another structure or other shapes."""
    if form(given) != form(like):
        raise ValueError(
            f"Slots: {argument} is {given}, expected the form of one stream's, "
            f"{jax.tree.map(jax.typeof, like)}; leave out the axis of slots"
        )


def check_dtypes(argument: str, given: Tree, like: Tree) -> None:
    """Refuse arrays of another dtype, which a slot would round."""
    pairs = zip(jax.tree.leaves(given), jax.tree.leaves(like), strict=True)
    for new, old in pairs:
        if (dtype := jnp.result_type(new)) != old.dtype:
            raise TypeError(
                f"Slots: {argument} has dtype {dtype}, expected {old.dtype}, that of the first "
                "stream's; cast it with .astype"
            )
