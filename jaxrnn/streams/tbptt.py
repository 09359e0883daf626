"""Truncated back-propagation through time: learning from streams that never end.

A stream is read in chunks of k1 steps. After each one there is an update, whose gradient reaches k2
= windows * k1 steps back; the carry from before those is handed on as a number, without gradient
(Williams & Peng 1990, "BPTT(k2; k1)")."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxrnn.core.check import check_size

Loss = Callable[[Any, Any, Any, Array | None], tuple[Array, Any]]
"""`loss(params, carry, chunk, key) -> (loss, carry)`: run the model over one chunk from a carry; a
number, and the carry after it.
"""


class Numbered(NamedTuple):
    """A chunk and its number in the stream; -1 where there is none yet."""

    number: Array
    chunk: Any


class State(NamedTuple):
    """Where training stands: one pytree of arrays, all that a checkpoint needs."""

    params: Any
    optimizer: Any
    carry: Any  # before the chunks of `past`
    past: tuple[Numbered, ...]  # those that gradients still reach, the oldest first
    position: Array  # how many chunks of the stream were read
    key: Array | None


class Report(NamedTuple):
    """What one update tells."""

    loss: Array  # of the newest chunk, before the update
    gradient_norm: Array  # over all parameters, before the optimiser clips it
    # how many chunks had a gradient (its norm), or led to a carry, that was not finite, so far
    skipped: Array


@dataclasses.dataclass(frozen=True)
class Trainer:
    """One compiled update per chunk; its memory is that of a window, however long the stream.

    A sequence ends within a chunk where the loss says so, by `jaxrnn.scan(..., reset=chunk.reset)`:
    the carry restarts there.

    A chunk whose gradient is not finite changes neither parameters nor optimiser, and leaves the
    carry as it was; it is counted (`optax.apply_if_finite`).

    Args:
        loss: `loss(params, carry, chunk, key) -> (loss, carry)`; `key` is another one for each
            chunk, or None.
        optimizer: any of optax's; `optax.chain(optax.clip_by_global_norm(1.0), ...)` clips.
        windows: k2 / k1, how many chunks a gradient reaches back. With 1, k1 = k2: every step is
            read once, and no chunk is kept. With more, windows overlap: each update runs all its
            chunks, but only the newest one's loss counts.

    Raises:
        ValueError: `windows` is not a positive integer.

    Learn to tell the input of three steps before:

    >>> import jax, jax.numpy as jnp, jaxrnn, optax
    >>> from jaxrnn.streams import tbptt
    >>> cell = jaxrnn.GRU(16)
    >>> def loss(params, carry, chunk, key):
    ...     carry, ys = jaxrnn.scan(cell, params["rnn"], chunk["x"], carry)
    ...     return jnp.mean((ys @ params["w"] - chunk["y"]) ** 2), carry
    >>> x = jax.random.normal(jax.random.key(0), (4000, 8, 1))
    >>> stream = {"x": x, "y": jnp.roll(x, 3, axis=0)}
    >>> params = {"rnn": cell.init(jax.random.key(1), in_features=1), "w": jnp.zeros((16, 1))}
    >>> trainer = tbptt.Trainer(loss, optax.adam(1e-2))
    >>> state = trainer.init(params, cell.initial_carry(params["rnn"], (8, 1)))
    >>> for chunk in tbptt.chunks(stream, 10):
    ...     state, report = trainer.step(state, chunk)
    >>> bool(report.loss < 0.5), int(state.position)
    (True, 400)
    """

    loss: Loss
    optimizer: optax.GradientTransformation
    windows: int = 1

    def __post_init__(self) -> None:
        check_size(self, "windows", self.windows)

    def init(self, params: Any, carry: Any, key: Array | None = None, chunk: Any = None) -> State:
        """The state before the first chunk.

        Args:
            params: the model's.
            carry: of all streams that are read side by side.
            key: what `loss` gets keys from, if it draws.
            chunk: one, for its shapes and dtypes alone; needed if windows overlap.

        Raises:
            ValueError: windows overlap, and there is no chunk.
        """
        if self.windows > 1 and chunk is None:
            raise ValueError(
                f"Trainer.init: with windows={self.windows} pass a chunk, whose shapes those that "
                "are kept will have"
            )
        none = Numbered(jnp.int32(-1), jax.tree.map(jnp.zeros_like, chunk))
        start = State(
            params,
            self._skipping.init(params),
            carry,
            (none,) * (self.windows - 1),
            jnp.int32(0),
            key,
        )
        # `step` gives the buffers of its state away, and these are the caller's
        return jax.tree.map(jnp.copy, start)

    def step(self, state: State, chunk: Any) -> tuple[State, Report]:
        """Read the next chunk and update once. The state that is passed is used up: go on with the
        one that is returned.
        """
        return _step(self, state, chunk)

    @property
    def _skipping(self) -> optax.GradientTransformationExtraArgs:
        # after which optax would apply what is not finite all the same
        never = jnp.iinfo(jnp.int32).max
        return optax.with_extra_args_support(
            optax.apply_if_finite(self.optimizer, max_consecutive_errors=never)
        )


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(trainer: Trainer, state: State, chunk: Any) -> tuple[State, Report]:
    newest = Numbered(state.position, chunk)

    def window(params: Any) -> tuple[Array, tuple[Any, ...]]:
        def read(part: Numbered, carry: Any) -> tuple[Array, Any]:
            key = None if state.key is None else jax.random.fold_in(state.key, part.number)
            return trainer.loss(params, carry, part.chunk, key)

        carries = [state.carry]
        for part in state.past:
            carries.append(
                lax.cond(
                    part.number < 0,
                    lambda carry: carry,
                    lambda carry, part=part: read(part, carry)[1],
                    carries[-1],
                )
            )
        value, last = read(newest, carries[-1])
        return value, (*carries, last)

    (value, carries), gradient = jax.value_and_grad(window, has_aux=True)(state.params)
    norm = optax.tree.norm(gradient)
    carry_is_finite = jnp.all(
        jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(carries[-1])])
    )
    sound = carry_is_finite & jnp.isfinite(norm)  # finite numbers may have a norm that is not
    gradient = jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), gradient)
    optimizer: Any
    updates, optimizer = trainer._skipping.update(
        gradient, state.optimizer, state.params, value=value
    )
    # The window moves on by one chunk; the carry before it is the one after its oldest chunk. A
    # skipped chunk leaves no trace.
    moved = carries[1], (*state.past, newest)[1:]
    carry, past = jax.tree.map(
        partial(jnp.where, optimizer.last_finite), moved, (state.carry, state.past)
    )
    after = State(
        optax.apply_updates(state.params, updates),
        optimizer,
        carry,
        past,
        state.position + 1,
        state.key,
    )
    return after, Report(value, norm, optimizer.total_notfinite)


def chunks(stream: Any, size: int) -> Iterator[Any]:
    """Cut arrays `[time, ...]` into chunks of `size` steps; fewer that are left at the end are not
    given.

    Args:
        stream: a pytree of arrays, each of which starts with time.
        size: k1, the steps of a chunk.

    Raises:
        ValueError: the size is not a positive integer, or longer than the stream.

    >>> [chunk["x"].tolist() for chunk in chunks({"x": jnp.arange(7)}, 3)]
    [[0, 1, 2], [3, 4, 5]]
    """
    check_size(chunks, "size", size)
    time = min(len(leaf) for leaf in jax.tree.leaves(stream))
    if size > time:
        raise ValueError(f"chunks: size is {size}, but the stream has {time} steps")
    return (
        jax.tree.map(lambda leaf, t=t: leaf[t : t + size], stream)
        for t in range(0, time - size + 1, size)
    )
