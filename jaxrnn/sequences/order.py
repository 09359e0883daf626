"""The order of steps within sequences: reversed, or delayed by one step."""

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
    """Reverse each sequence within its valid part: step t moves to step `lengths - 1 - t`.

    Padding stays where it is, as in `flax.linen.flip_sequences`. An encoder that reads a reversed
    source reads its first words last, close to the words that the decoder writes first (Sutskever,
    Vinyals & Le 2014). `scan(..., reverse=True)` walks backwards without this function, and returns
    each output at the step of its input.

    Args:
        xs: an array `[time, *batch, ...]`, or a pytree of such arrays.
        lengths: integers `[*batch]`; every step is valid if left out.
        time_axis: the position of the time axis, which is the number of batch axes before it.

    Returns:
        `xs` with each sequence reversed, in the same shape.

    Raises:
        ValueError: a shape or a length does not fit.
        TypeError: `lengths` are not integers.

    >>> reverse(jnp.array([[1, 1], [2, 2], [3, 0]]), lengths=jnp.array([3, 2])).T.tolist()
    [[3, 2, 1], [2, 1, 0]]
    """
    in_time, valid = checked("reverse", xs, lengths, None, time_axis, name="xs")
    steps = jnp.arange(len(valid)).reshape(-1, *[1] * (valid.ndim - 1))
    source = jnp.where(valid, jnp.sum(valid, axis=0, keepdims=True) - 1 - steps, steps)

    def leaf(array: Array) -> Array:
        index = source.reshape(*source.shape, *[1] * (array.ndim - source.ndim))
        return jnp.moveaxis(jnp.take_along_axis(array, index, axis=0), 0, time_axis)

    return jax.tree.map(leaf, in_time)


def shift(tokens: ArrayLike, start: ArrayLike, *, time_axis: int = 0) -> Array:
    """Delay a sequence by one step, with `start` in front.

    A decoder that is trained to write `tokens` reads the result (teacher forcing, Williams & Zipser
    1989).

    Args:
        tokens: symbols `[time, *batch]`, or signals `[time, *batch, features]`.
        start: the first step: a symbol, or anything that broadcasts to one step. It is cast to the
            dtype of `tokens`.
        time_axis: the position of the time axis.

    Returns:
        The delayed sequence, in the shape of `tokens`. Its last step is dropped.

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
            f"shift: start has shape {jnp.shape(start)}, expected one that broadcasts to one step "
            f"of the tokens, {one_step}; pass a number, or an array of that shape"
        ) from error
    delayed = jnp.concatenate([first[None], in_time])[: len(in_time)]
    return jnp.moveaxis(delayed, 0, time_axis)
