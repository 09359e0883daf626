"""The order of steps within sequences: turned round, and delayed by one."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxrnn.core.call import Lengths
from jaxrnn.sequences.outputs import checked

Tree = TypeVar("Tree")
"""A pytree of arrays."""


def reverse(xs: Tree, lengths: Lengths | None = None, *, time_axis: int = 0) -> Tree:
    """Turn each sequence round within its valid part: `xs[t]` goes to `lengths - 1 - t`.

    Padding stays where it is, as in `flax.linen.flip_sequences`. An encoder that reads its source
    so has the first words last, near those that a decoder writes first (Sutskever, Vinyals & Le
    2014). To read a sequence backwards and put each output at its input, `scan(..., reverse=True)`
    is enough.

    Args:
        xs: an array `[time, *batch, ...]`, or a pytree of such.
        lengths: integers `[*batch]`; all of time if left out.
        time_axis: where time stands, if it is not the first axis: the number of batch axes before
            it.

    Raises:
        ValueError: a shape or a length does not fit.
        TypeError: lengths are not integers.

    >>> reverse(jnp.array([[1, 1], [2, 2], [3, 0]]), lengths=jnp.array([3, 2])).T.tolist()
    [[3, 2, 1], [2, 1, 0]]
    """
    in_time, valid = checked("reverse", xs, lengths, None, time_axis, name="xs")
    steps = jnp.arange(len(valid)).reshape(-1, *[1] * (valid.ndim - 1))
    source = jnp.where(valid, jnp.sum(valid, axis=0) - 1 - steps, steps)

    def leaf(array: Array) -> Array:
        index = source.reshape(*source.shape, *[1] * (array.ndim - source.ndim))
        return jnp.moveaxis(jnp.take_along_axis(array, index, axis=0), 0, time_axis)

    return jax.tree.map(leaf, in_time)


def shift(tokens: ArrayLike, start: ArrayLike, *, time_axis: int = 0) -> Array:
    """Delay by one step, with `start` in front: what a decoder reads when it is trained to write
    `tokens` (teacher forcing, Williams & Zipser 1989).

    Args:
        tokens: symbols `[time, *batch]`, or signals `[time, *batch, features]`.
        start: what is read first: a symbol, or anything that broadcasts to one step.
        time_axis: where time stands, if it is not the first axis.

    Raises:
        ValueError: `start` does not broadcast to one step.

    >>> shift(jnp.array([[5, 6], [7, 8]]), start=0).tolist()
    [[0, 0], [5, 6]]
    """
    in_time = jnp.moveaxis(jnp.asarray(tokens), time_axis, 0)
    one_step = in_time.shape[1:]
    try:
        first = jnp.broadcast_to(jnp.asarray(start, in_time.dtype), one_step)
    except ValueError as error:
        raise ValueError(
            f"shift: start has shape {jnp.shape(start)}, expected one that broadcasts to a step of "
            f"the tokens, {one_step}"
        ) from error
    return jnp.moveaxis(jnp.concatenate([first[None], in_time[:-1]]), 0, time_axis)
