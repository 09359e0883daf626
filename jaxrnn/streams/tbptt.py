"""Truncated back-propagation through time, for streams without an end.

A stream is read in chunks of k1 steps. Each chunk is followed by an update. Its gradient reaches k2
= windows * k1 steps back. The carry before those steps is a constant, without gradient (Williams &
Peng 1990, "BPTT(k2; k1)").
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from jaxrnn.core.check import check_size
from jaxrnn.core.trees import Tree, form

__all__ = ["Loss", "Numbered", "Report", "State", "Trainer", "chunks"]

Params = TypeVar("Params")
Carry = TypeVar("Carry")
Chunk = TypeVar("Chunk")

Loss = Callable[[Params, Carry, Chunk, Array | None], tuple[Array, Carry]]
"""`loss(params, carry, chunk, key) -> (loss, carry)` runs the model over one chunk, from a carry.

It returns a number, and the carry after the chunk.
"""


class Numbered(NamedTuple, Generic[Chunk]):
    """A chunk and its number in the stream.

    >>> past = Numbered(number=jnp.int32(4), chunk={"x": jnp.ones((10, 8, 1))})
    >>> past.chunk["x"].shape
    (10, 8, 1)
    """

    number: Array  # int32; -1 if there is no chunk yet
    chunk: Chunk


class State(NamedTuple, Generic[Params, Carry, Chunk]):
    """The state of training: a pytree of arrays that holds everything a checkpoint needs.

    >>> loss = lambda params, carry, chunk, key: (params * chunk.sum(), carry)
    >>> trainer = Trainer(loss, optax.sgd(1))
    >>> state = trainer.init(jnp.float32(2), carry=())
    >>> state, report = trainer.step(state, jnp.ones(3))
    >>> float(state.params), int(state.position)
    (-1.0, 1)
    """

    params: Params
    optimizer: optax.OptState
    carry: Carry  # before the chunks of `past`
    past: tuple[Numbered[Chunk], ...]  # the chunks that gradients still reach, the oldest first
    position: Array  # the number of chunks read so far, int32
    key: Array | None


class Report(NamedTuple):
    """The measurements of one update.

    >>> loss = lambda params, carry, chunk, key: (params * chunk.sum(), carry)
    >>> trainer = Trainer(loss, optax.sgd(1))
    >>> _, report = trainer.step(trainer.init(jnp.float32(2), carry=()), jnp.ones(3))
    >>> float(report.loss), float(report.gradient_norm), int(report.skipped)
    (6.0, 3.0, 0)
    """

    loss: Array  # of the newest chunk, before the update
    gradient_norm: Array  # over all parameters, before the optimiser clips it
    skipped: Array  # the number of chunks skipped so far, int32


@dataclasses.dataclass(frozen=True)
class Trainer(Generic[Params, Carry, Chunk]):
    """Trains a model by truncated BPTT: one compiled update for each chunk.

    It needs the memory of one window, however long the stream is. A sequence may end within a
    chunk. The loss then passes `reset` to `jaxrnn.scan`, and the carry restarts there.

    A chunk is skipped if the norm of its gradient, or the carry after it, is not finite. It then
    changes neither the parameters nor the optimiser nor the carry, and the report counts it
    (`optax.apply_if_finite`).

    Args:
        loss: `loss(params, carry, chunk, key) -> (loss, carry)`. Each chunk gets a key of its own,
            or None if `init` got no key.
        optimizer: an optimiser of optax. `optax.chain(optax.clip_by_global_norm(1.0), ...)` clips.
        windows: k2 / k1, the number of chunks that a gradient reaches back. With 1, every step is
            computed once, and no chunk is stored. With more, the windows overlap: each update runs
            all chunks of its window, but its loss is that of the newest chunk.

    Raises:
        ValueError: `windows` is not a positive integer.

    Example: a model that learns to repeat the input of three steps before.

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
            carry: the carry of all streams of the batch, such as `cell.initial_carry`.
            key: the random key from which `loss` gets its keys, if it draws.
            chunk: any chunk, if windows overlap. Nothing but its shapes and dtypes is used.

        Raises:
            ValueError: `carry` is None; or windows overlap, and `chunk` is left out.
        """
        if carry is None:
            raise ValueError(
                "Trainer.init: carry is None, expected the carry of all streams of the batch; pass "
                "cell.initial_carry(params, input_shape), or () for a model without one"
            )
        past: tuple[Numbered[Chunk], ...] = ()
        if self.windows > 1:
            if chunk is None:
                raise ValueError(
                    f"Trainer.init: chunk is None with windows={self.windows}, expected a chunk, "
                    "for the shapes of those that are stored; pass chunk="
                )
            none = Numbered(jnp.int32(-1), jax.tree.map(jnp.zeros_like, chunk))
            past = (none,) * (self.windows - 1)
        optimizer = self._skipping.init(cast(optax.Params, params))
        start = State(params, optimizer, carry, past, jnp.int32(0), key)
        # `step` donates the buffers of its state, and these belong to the caller
        return jax.tree.map(jnp.copy, start)

    def step(
        self, state: State[Params, Carry, Chunk], chunk: Chunk
    ) -> tuple[State[Params, Carry, Chunk], Report]:
        """Read the next chunk and update once.

        Args:
            state: the state. Its buffers are donated, so it cannot be used again.
            chunk: the next chunk of the stream, with the shapes of all others.

        Returns:
            The new state, and the measurements of this update.

        Raises:
            ValueError: `loss` does not return a number and a carry like its input.
        """
        return _step(self, state, chunk)

    @property
    def _skipping(self) -> optax.GradientTransformationExtraArgs:
        # after this many errors in a row, optax would apply an update that is not finite
        never = jnp.iinfo(jnp.int32).max
        return optax.with_extra_args_support(
            optax.apply_if_finite(self.optimizer, max_consecutive_errors=never)
        )

    def _window(
        self, params: Params, state: State[Params, Carry, Chunk], newest: Numbered[Chunk]
    ) -> tuple[Array, tuple[Carry, ...]]:
        """Return the newest chunk's loss, and the carries before and after all chunks."""

        def read(part: Numbered[Chunk], carry: Carry) -> tuple[Array, Carry]:
            key = None if state.key is None else jax.random.fold_in(state.key, part.number)
            result = self.loss(params, carry, part.chunk, key)
            if form(result) != form(expected := (0.0, carry)):
                raise ValueError(
                    f"Trainer: loss returns arrays of shape {jax.tree.map(np.shape, result)}, "
                    f"expected (loss, carry) of shape {jax.tree.map(np.shape, expected)}; return a "
                    "number, and the carry after the chunk"
                )
            return result

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
    # checked separately: finite numbers may have a norm that is not finite
    sound = _is_finite(carries[-1]) & jnp.isfinite(norm)
    gradient = jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), gradient)
    params = cast(optax.Params, state.params)
    updates, after = trainer._skipping.update(gradient, state.optimizer, params, value=loss)
    optimizer = cast(optax.ApplyIfFiniteState, after)
    # The window moves by one chunk, so it begins with the carry after its oldest chunk. After a
    # skipped chunk it does not move.
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
    """Cut a stream into chunks of `size` steps. Steps that do not fill a chunk are dropped.

    Args:
        stream: a pytree of arrays `[time, ...]`.
        size: k1, the number of steps of a chunk.

    Returns:
        An iterator over the chunks, pytrees of arrays `[size, ...]`.

    Raises:
        ValueError: `size` is not a positive integer, or larger than the number of steps; or this
            differs between the arrays.

    >>> [chunk["x"].tolist() for chunk in chunks({"x": jnp.arange(7)}, 3)]
    [[0, 1, 2], [3, 4, 5]]
    """
    check_size(chunks, "size", size)
    times = sorted({len(leaf) for leaf in jax.tree.leaves(stream)})
    if len(times) != 1:
        raise ValueError(
            f"chunks: the leaves of stream have {times} steps, expected as many in every leaf; "
            "put time first, and cut the longer ones"
        )
    time = times[0]
    if size > time:
        raise ValueError(f"chunks: size is {size}, expected at most {time}, the number of steps")
    return (
        jax.tree.map(lambda leaf, t=t: leaf[t : t + size], stream)
        for t in range(0, time - size + 1, size)
    )
