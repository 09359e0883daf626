"""Many streams side by side, as a server holds them: each joins, leaves and restarts by itself."""

import threading
from collections.abc import Hashable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn.core.call import check_causal, check_cell, check_inputs, check_params
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import check_size
from jaxrnn.core.trees import Tree, form
from jaxrnn.drivers import scan


class Slots:
    """`size` slots, each of which holds the carry of one stream, and one program that advances all
    streams that have input.

    A stream without input is held, and no stream influences another. The outputs of a stream are
    those of one `jaxrnn.scan` over all its input, whatever pieces it came in. The program is
    compiled once, at the first `advance`, and stays the same when streams join and leave.

    Threads may share it: their calls take effect one after the other, each as a whole.

    Args:
        cell: a causal cell.
        params: its parameters.
        size: how many streams there can be at a time.
        like: one step's input of one stream, such as `jnp.zeros(in_features)`, or a pytree of such.
            Only shapes and dtypes are looked at.
        chunk: how many steps of each stream the program reads at once. Longer input is cut into
            chunks, and the last one is padded. A single step costs least with 1.

    Raises:
        TypeError: `cell` is not a cell, or needs the future; or `like` is not floating.
        ValueError: a size is not positive, or the parameters do not fit the input.

    >>> import jax, jax.numpy as jnp, numpy as np, jaxrnn
    >>> cell = jaxrnn.GRU(hidden=4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> slots = jaxrnn.streams.Slots(cell, params, size=8, like=jnp.zeros(3))
    >>> slots.join("ann")
    >>> ys = slots.advance({"ann": np.ones((2, 3))})
    >>> slots.join("ben")
    >>> ys = slots.advance({"ann": np.ones((1, 3)), "ben": np.ones((5, 3))})
    >>> ys["ann"].shape, ys["ben"].shape
    ((1, 4), (5, 4))
    >>> whole = jaxrnn.scan(cell, params, jnp.ones((3, 3)))[1]
    >>> bool(np.allclose(ys["ann"][0], whole[2], atol=1e-6))
    True
    >>> carry = slots.leave("ann")
    >>> slots.streams
    ('ben',)
    """

    def __init__(
        self, cell: Cell, params: Params, size: int, like: Tree, *, chunk: int = 1
    ) -> None:
        check_cell(cell, "streams.Slots")
        check_causal(cell, "stream")
        check_size(Slots, "size", size)
        check_size(Slots, "chunk", chunk)
        self._cell, self._params, self._size, self._chunk = cell, params, size, chunk
        self._like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), like
        )
        check_inputs(cell, self._like, timed=False)
        shape = jax.tree.leaves(self._like)[0].shape
        check_params(cell, params, shape[-1])
        self._start = cell.initial_carry(params, shape)
        # A copy: `_advance` and `_put` write into these buffers, so nobody else may hold them.
        self._carry = _copied(cell.initial_carry(params, (size, *shape)))
        self._lock = threading.Lock()
        self._slot_of: dict[Hashable, int] = {}
        self._free = list(reversed(range(size)))
        self._fresh = np.zeros(size, bool)  # which slots restart before their next step

    @property
    def streams(self) -> tuple[Hashable, ...]:
        """The names of the streams that have a slot, in the order in which they joined."""
        with self._lock:
            return tuple(self._slot_of)

    @property
    def carry(self) -> Carry:
        """A copy of the carry of all slots, a pytree of arrays `[size, ...]`."""
        with self._lock:
            return _copied(self._carry)

    def join(self, name: Hashable, carry: Carry = None) -> None:
        """Give a stream a slot.

        Args:
            name: a name that no other stream has.
            carry: the carry to go on from, such as `leave` returned; `cell.initial_carry` if left
                out.

        Raises:
            ValueError: the name is taken, every slot is taken, or the carry does not fit.
        """
        with self._lock:
            if name in self._slot_of:
                hint = f"to begin it anew, use restart({name!r})"
                raise ValueError(f"Slots: {name!r} has joined already; {hint}")
            if not self._free:
                hint = "let a stream leave, or make more with size="
                raise ValueError(f"Slots: all {self._size} slots are taken; {hint}")
            slot = self._free[-1]
            if carry is not None:
                self._carry = _put(self._carry, self._checked_carry(carry), slot)
            self._fresh[slot] = carry is None
            self._slot_of[name] = self._free.pop()

    def leave(self, name: Hashable) -> Carry:
        """Take a stream's slot away.

        Returns:
            Its carry, without the axis of slots. The stream may join again with it, here or in
            other slots.

        Raises:
            ValueError: there is no such stream.
        """
        with self._lock:
            slot = self._slot(name)
            carry = self._start if self._fresh[slot] else _get(self._carry, slot)
            self._free.append(self._slot_of.pop(name))
        return carry

    def restart(self, name: Hashable) -> None:
        """Begin a stream anew: its next step starts from `cell.initial_carry`.

        Raises:
            ValueError: there is no such stream.
        """
        with self._lock:
            self._fresh[self._slot(name)] = True

    def advance(self, inputs: Mapping[Hashable, Tree]) -> dict[Hashable, Tree]:
        """Advance some of the streams by the input that has come in.

        Args:
            inputs: for each of these streams an array `[steps, *features]`, or a pytree of such;
                the number of steps may differ.

        Returns:
            For each of them the outputs, an array of NumPy `[steps, out_features]`.

        Raises:
            ValueError: there is no such stream, or its input does not fit; no stream has advanced.
        """
        with self._lock:
            given = {self._slot(name): self._checked_input(name, xs) for name, xs in inputs.items()}
            outputs = self._read(given)
            return {name: outputs[self._slot_of[name]] for name in inputs}

    def _read(self, given: Mapping[int, Tree]) -> dict[int, Tree]:
        """Read the input of these slots, chunk by chunk."""
        steps = {slot: len(jax.tree.leaves(xs)[0]) for slot, xs in given.items()}
        outputs: dict[int, list[Tree]] = {slot: [] for slot in given}
        for start in range(0, max(1, *steps.values()) if steps else 0, self._chunk):
            xs, lengths = self._gathered(given, start)
            at = (self._carry, xs, lengths, self._fresh)
            self._carry, ys = _advance(self._cell, self._params, *at)
            # a new array: JAX may still be reading the old one
            self._fresh = self._fresh & (lengths == 0)
            ys = jax.tree.map(np.asarray, ys)
            for slot, parts in outputs.items():
                own = np.s_[: lengths[slot], slot]
                parts.append(jax.tree.map(lambda leaf, own=own: leaf[own], ys))
        return {
            slot: jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts)
            for slot, parts in outputs.items()
        }

    def _gathered(self, given: Mapping[int, Tree], start: int) -> tuple[Tree, np.ndarray]:
        """One chunk of all slots, from step `start` on, and how many steps of each are input."""
        shape = (self._chunk, self._size)
        xs = jax.tree.map(lambda leaf: np.zeros((*shape, *leaf.shape), leaf.dtype), self._like)
        lengths = np.zeros(self._size, np.int32)
        for slot, whole in given.items():
            for rows, leaf in zip(jax.tree.leaves(xs), jax.tree.leaves(whole), strict=True):
                piece = leaf[start : start + self._chunk]
                rows[: len(piece), slot] = piece
                lengths[slot] = len(piece)
        return xs, lengths

    def _slot(self, name: Hashable) -> int:
        if name not in self._slot_of:
            raise ValueError(f"Slots: there is no stream {name!r}; let it join first")
        return self._slot_of[name]

    def _checked_carry(self, carry: Carry) -> Carry:
        if form(carry) != form(self._start):
            raise ValueError(
                f"Slots: carry is {carry}, expected the form of one stream's, "
                f"{jax.tree.map(jax.typeof, self._start)}"
            )
        return jax.tree.map(jnp.asarray, carry)

    def _checked_input(self, name: Hashable, xs: Tree) -> Tree:
        xs = jax.tree.map(np.asarray, xs)
        steps = np.shape(jax.tree.leaves(xs)[0])[:1]
        wanted = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*steps, *leaf.shape), leaf.dtype), self._like
        )
        if not steps or form(xs) != form(wanted):
            shapes = jax.tree.map(lambda leaf: ("steps", *leaf.shape), self._like)
            raise ValueError(
                f"Slots: the input of {name!r} has shape {jax.tree.map(np.shape, xs)}, expected "
                f"{shapes}"
            )
        return xs


@partial(jax.jit, donate_argnums=2)
def _advance(
    cell: Cell, params: Params, carry: Carry, xs: Tree, lengths: Array, fresh: Array
) -> tuple[Carry, Tree]:
    """Advance all slots by one chunk.

    A slot that is `fresh` restarts before it. A slot of length 0 is held.
    """
    first = jax.tree.leaves(xs)[0]
    reset = jnp.zeros(first.shape[:2], bool).at[0].set(fresh)
    return scan(cell, params, xs, carry, lengths=lengths, reset=reset)


@partial(jax.jit, donate_argnums=0)
def _put(carry: Carry, one: Carry, slot: Array) -> Carry:
    return jax.tree.map(
        lambda leaf, own: lax.dynamic_update_index_in_dim(leaf, own.astype(leaf.dtype), slot, 0),
        carry,
        one,
    )


@jax.jit
def _get(carry: Carry, slot: Array) -> Carry:
    return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, slot, 0, keepdims=False), carry)


def _copied(carry: Carry) -> Carry:
    return jax.tree.map(jnp.array, carry)
