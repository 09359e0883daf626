"""Truncated back-propagation through time: learning from streams that never end.

A stream is read in chunks of k1 steps. An update follows each chunk. Its gradient reaches k2 =
windows * k1 steps back; the carry from before those steps is a constant, without gradient (Williams
& Peng 1990, "BPTT(k2; k1)").
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxrnn.core.check import check_size
from jaxrnn.core.trees import Tree

__all__ = ["Loss", "Numbered", "Report", "State", "Trainer", "chunks"]

Params = TypeVar("Params")
Carry = TypeVar("Carry")
Chunk = TypeVar("Chunk")

Loss = Callable[[Params, Carry, Chunk, Array | None], tuple[Array, Carry]]
"""`loss(params, carry, chunk, key) -> (loss, carry)`: run the model over one chunk, from a carry;
return a number, and the carry after the chunk.
"""


class Numbered(NamedTuple, Generic[Chunk]):
    """A chunk and its number in the stream; -1 where there is none yet."""

    number: Array
    chunk: Chunk


class State(NamedTuple, Generic[Params, Carry, Chunk]):
    """Where training stands: one pytree of arrays, all that a checkpoint needs."""

    params: Params
    optimizer: optax.OptState
    carry: Carry  # before the chunks of `past`
    past: tuple[Numbered[Chunk], ...]  # those that gradients still reach, the oldest first
    position: Array  # how many chunks of the stream were read
    key: Array | None


class Report(NamedTuple):
    """What one update measured."""

    loss: Array  # of the newest chunk, before the update
    gradient_norm: Array  # over all parameters, before the optimiser clips it
    skipped: Array  # how many chunks of the stream were skipped so far


@dataclasses.dataclass(frozen=True)
class Trainer(Generic[Params, Carry, Chunk]):
    """One compiled update per chunk. It needs the memory of one window, however long the stream is.

    A sequence may end within a chunk: the loss says so by `jaxrnn.scan(..., reset=chunk.reset)`,
    and the carry restarts there.

    A chunk is skipped if the norm of its gradient, or the carry after it, is not finite: it changes
    neither parameters nor optimiser nor carry, and is counted (`optax.apply_if_finite`).

    Args:
        loss: `loss(params, carry, chunk, key) -> (loss, carry)`. Each chunk gets a key of its own;
            it is None if `init` was given none.
        optimizer: any of optax's; `optax.chain(optax.clip_by_global_norm(1.0), ...)` clips.
        windows: k2 / k1, how many chunks a gradient reaches back. With 1, every step is read once,
            and no chunk is kept. With more, windows overlap: each update runs all chunks of its
            window, but only the loss of the newest one counts.

    Raises:
        ValueError: `windows` is not a positive integer.

    Example, a model that learns to repeat the input of three steps before:

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

    loss: Loss[Params, Carry, Chunk]
    optimizer: optax.GradientTransformation
    windows: int = 1

    def __post_init__(self) -> None:
        check_size(self, "windows", self.windows)

    def init(
        self, params: Params, carry: Carry, key: Array | None = None, chunk: Chunk | None = None
    ) -> State[Params, Carry, Chunk]:
        """Make the state before the first chunk.

        Args:
            params: the model's parameters.
            carry: the carry of all streams that are read side by side.
            key: what `loss` gets its keys from, if it draws.
            chunk: any chunk, if windows overlap. Only its shapes and dtypes are looked at.

        Raises:
            ValueError: windows overlap, and no chunk is given.
        """
        past: tuple[Numbered[Chunk], ...] = ()
        if self.windows > 1:
            if chunk is None:
                raise ValueError(
                    f"Trainer.init: with windows={self.windows} pass a chunk; the chunks that are "
                    "kept have its shapes"
                )
            none = Numbered(jnp.int32(-1), jax.tree.map(jnp.zeros_like, chunk))
            past = (none,) * (self.windows - 1)
        optimizer = self._skipping.init(cast(optax.Params, params))
        start = State(params, optimizer, carry, past, jnp.int32(0), key)
        # `step` gives the buffers of its state away, and these are the caller's
        return jax.tree.map(jnp.copy, start)

    def step(
        self, state: State[Params, Carry, Chunk], chunk: Chunk
    ) -> tuple[State[Params, Carry, Chunk], Report]:
        """Read the next chunk and update once.

        The state that is passed is used up: go on with the one that is returned.
        """
        return _step(self, state, chunk)

    @property
    def _skipping(self) -> optax.GradientTransformationExtraArgs:
        # after so many errors, optax would apply even what is not finite
        never = jnp.iinfo(jnp.int32).max
        return optax.with_extra_args_support(
            optax.apply_if_finite(self.optimizer, max_consecutive_errors=never)
        )

    def _window(
        self, params: Params, state: State[Params, Carry, Chunk], newest: Numbered[Chunk]
    ) -> tuple[Array, tuple[Carry, ...]]:
        """The newest chunk's loss; the carries before the window and after each of its chunks."""

        def read(part: Numbered[Chunk], carry: Carry) -> tuple[Array, Carry]:
            key = None if state.key is None else jax.random.fold_in(state.key, part.number)
            return self.loss(params, carry, part.chunk, key)

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
        loss, last = read(newest, carries[-1])
        return loss, (*carries, last)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(
    trainer: Trainer[Params, Carry, Chunk], state: State[Params, Carry, Chunk], chunk: Chunk
) -> tuple[State[Params, Carry, Chunk], Report]:
    newest = Numbered(state.position, chunk)
    window = jax.value_and_grad(trainer._window, has_aux=True)
    (loss, carries), gradient = window(state.params, state, newest)
    norm = optax.tree.norm(gradient)
    # the norm by itself: numbers that are finite may have one that is not
    sound = _is_finite(carries[-1]) & jnp.isfinite(norm)
    gradient = jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), gradient)
    params = cast(optax.Params, state.params)
    updates, after = trainer._skipping.update(gradient, state.optimizer, params, value=loss)
    optimizer = cast(optax.ApplyIfFiniteState, after)
    # The window moves on by one chunk; the carry before it is the one after its oldest chunk. A
    # skipped chunk leaves no trace.
    moved = carries[1], (*state.past, newest)[1:]
    carry, past = jax.tree.map(
        partial(jnp.where, optimizer.last_finite), moved, (state.carry, state.past)
    )
    updated = cast(Params, optax.apply_updates(params, updates))
    position = state.position + 1
    return (
        State(updated, optimizer, carry, past, position, state.key),
        Report(loss, norm, optimizer.total_notfinite),
    )


def _is_finite(tree: Tree) -> Array:
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def chunks(stream: Chunk, size: int) -> Iterator[Chunk]:
    """Cut arrays `[time, ...]` into chunks of `size` steps, and drop what is left at the end.

    Args:
        stream: a pytree of arrays, each of which starts with time.
        size: k1, the number of steps of a chunk.

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
