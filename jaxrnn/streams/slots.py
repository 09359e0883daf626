"""Many streams side by side, as a server holds them: each joins, leaves and restarts when it likes."""

import threading
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn.core.call import check_causal, check_cell, check_inputs, check_params
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import check_size
from jaxrnn.core.trees import form
from jaxrnn.drivers import scan


class Slots:
    """A carry of `size` slots, each of which a stream may hold, and one program that advances all
    streams that have input.

    A stream that has none is held, not advanced; what one does has no influence on another. What it
    gives is what one `jaxrnn.scan` over all its input would have given, whatever the pieces. The
    program is compiled once, at the first `advance`, whoever comes and goes.

    Threads may share it: their calls take effect one after the other, each as a whole.

    Args:
        cell: a causal cell.
        params: its parameters.
        size: how many streams there can be at a time.
        like: one step's input of one stream, `jnp.zeros(in_features)`, say; or a pytree of such.
            Only shapes and dtypes are looked at.
        chunk: how many steps of each stream one call of the program reads. With 1 a single step
            costs least; longer input is cut into chunks, of which the last is padded.

    Raises:
        TypeError: the cell needs the future, or is not a cell, or `like` is not floating.
        ValueError: a size is not positive, or the parameters are not for such input.

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
    >>> bool(np.allclose(ys["ann"][0], jaxrnn.scan(cell, params, jnp.ones((3, 3)))[1][2], atol=1e-6))
    True
    >>> carry = slots.leave("ann")
    >>> slots.streams
    ('ben',)
    """

    def __init__(self, cell: Cell, params: Params, size: int, like: Any, *, chunk: int = 1) -> None:
        check_cell(cell, "streaming.Slots")
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
        # Copies of its own: programs write into them, and nobody else may hold them.
        self._carry = _copied(cell.initial_carry(params, (size, *shape)))
        self._lock = threading.Lock()
        self._slot_of: dict[Hashable, int] = {}
        self._free = list(reversed(range(size)))
        self._fresh = np.zeros(size, bool)  # which slots restart before their next step

    @property
    def streams(self) -> tuple[Hashable, ...]:
        """The names of those that have a slot, in the order in which they joined."""
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
            name: any that no other stream has.
            carry: from which it goes on, such as `leave` gave it; `cell.initial_carry` if left out.

        Raises:
            ValueError: the name is taken, or all slots are, or the carry has another form.
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
            Its carry, a pytree of arrays without the axis of slots, with which it may join again,
            here or elsewhere.

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

    def advance(self, inputs: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read what has come in.

        Args:
            inputs: for some of the streams, arrays `[steps, *features]`, of any number of steps
                each.

        Returns:
            Their outputs, arrays of NumPy `[steps, out_features]`.

        Raises:
            ValueError: there is no such stream, or its input has another shape; then nothing was
                read.
        """
        with self._lock:
            return self._read(inputs)

    def _read(self, inputs: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        given = {self._slot(name): self._checked_input(name, xs) for name, xs in inputs.items()}
        steps = {slot: len(jax.tree.leaves(xs)[0]) for slot, xs in given.items()}
        outputs: dict[int, list[Any]] = {slot: [] for slot in given}
        for start in range(0, max(1, *steps.values()) if steps else 0, self._chunk):
            xs = jax.tree.map(
                lambda leaf: np.zeros((self._chunk, self._size, *leaf.shape), leaf.dtype),
                self._like,
            )
            lengths = np.zeros(self._size, np.int32)
            for slot, whole in given.items():
                lengths[slot] = np.clip(steps[slot] - start, 0, self._chunk)
                for rows, leaf in zip(jax.tree.leaves(xs), jax.tree.leaves(whole), strict=True):
                    rows[: lengths[slot], slot] = leaf[start : start + self._chunk]
            at = (self._carry, xs, lengths, self._fresh)
            self._carry, ys = _advance(self._cell, self._params, *at)
            # another array: JAX may still be reading this one
            self._fresh = self._fresh & (lengths == 0)
            for slot, parts in outputs.items():
                parts.append(
                    jax.tree.map(
                        lambda leaf, at=(slice(lengths[slot]), slot): np.asarray(leaf)[at], ys
                    )
                )
        return {
            name: jax.tree.map(lambda *parts: np.concatenate(parts), *outputs[self._slot_of[name]])
            for name in inputs
        }

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

    def _checked_input(self, name: Hashable, xs: Any) -> Any:
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
    cell: Cell, params: Params, carry: Carry, xs: Any, lengths: Array, fresh: Array
) -> tuple[Carry, Any]:
    """One chunk of all slots; those that are `fresh` restart before it, those of length 0 are held."""
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
