"""Many streams in one batch, as in a server. Each joins, leaves and restarts on its own."""

import threading
from collections.abc import Hashable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxrnn.core.call import (
    check_carry,
    check_causal,
    check_cell,
    check_inputs,
    check_lengths,
    check_params,
)
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import check_size, name_of
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import select
from jaxrnn.drivers import scan, step
from jaxrnn.streams._buffers import check_dtypes, check_form, copied, get, put, with_starts


class Slots:
    """A batch of slots, each of which holds the carry of one stream.

    One compiled program advances all streams that have new input. The carry of a stream without new
    input is held. No stream influences another. The outputs of a stream are those of one
    `jaxrnn.scan` over all its input, whatever pieces it arrives in. The program is compiled at the
    first `advance`, and never again when streams join and leave.

    Threads may share the slots. Their calls take effect one after the other.

    Args:
        cell: a causal cell. If it takes a context, each stream passes its own to `join`.
        params: its parameters.
        size: the largest number of streams at a time.
        like: the input of one step of one stream, such as `jnp.zeros(in_features)`, or a pytree of
            such arrays. Nothing but shapes and dtypes is used.
        chunk: how many steps of each stream `advance` reads at once. Longer input is cut into
            chunks, and the last chunk is padded. For input of single steps, 1 is the fastest.

    Raises:
        TypeError: `cell` is not a cell, or is not causal; or `like` is not floating.
        ValueError: `size` or `chunk` is not positive, or the parameters do not fit the input.

    >>> import jax, jax.numpy as jnp, numpy as np, jaxrnn
    >>> cell = jaxrnn.GRU(hidden=4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> slots = jaxrnn.streams.Slots(cell, params, size=8, like=jnp.zeros(3))
    >>> slots.join("ann")
    0
    >>> ys = slots.advance({"ann": np.ones((2, 3))})
    >>> slots.join("ben")
    1
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
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), like
        )
        check_inputs(cell, like, timed=False)
        leaves, self._structure = jax.tree.flatten(like)
        self._shapes, self._dtypes = [k.shape for k in leaves], [k.dtype for k in leaves]
        shape = self._shapes[0]
        check_params(cell, params, shape[-1])
        self._start = cell.initial_carry(params, shape)
        # A copy, because `_advance` and `put` donate these buffers, so nobody else may hold them.
        self._carry = copied(cell.initial_carry(params, (size, *shape)))
        self._context: Tree = None  # [size, ...], once a stream has brought one
        self._lock = threading.Lock()
        self._slot_of: dict[Hashable, int] = {}
        self._free = list(reversed(range(size)))
        self._taken = np.zeros(size, bool)
        self._fresh = np.zeros(size, bool)  # which slots restart before their next step

    @property
    def streams(self) -> tuple[Hashable, ...]:
        """The names of the streams that have a slot, in the order in which they joined."""
        with self._lock:
            return tuple(self._slot_of)

    @property
    def carry(self) -> Carry:
        """A copy of the carry of all slots, a pytree of arrays `[size, ...]`.

        A stream that has read nothing has its initial carry.
        """
        with self._lock:
            return with_starts(self._carry, self._start, self._fresh)

    def join(self, name: Hashable, carry: Carry = None, *, context: Tree = None) -> int:
        """Give a stream a slot.

        Args:
            name: any hashable name that no other stream has.
            carry: the carry to start from, without a batch axis, such as `leave` returns;
                `cell.initial_carry` if left out.
            context: the context of a `ContextCell`: arrays without a batch axis, with the same
                shapes for all streams.

        Returns:
            The number of the slot, which is the stream's index in `carry` and in `advance_array`.

        Raises:
            ValueError: the name is taken, every slot is taken, the carry or the context does not
                fit, a context is missing, or the cell takes none.
            TypeError: a dtype does not fit, so that numbers would be rounded.
        """
        with self._lock:
            if name in self._slot_of:
                hint = f"to start it again, use restart({name!r})"
                raise ValueError(f"Slots: {name!r} has joined already; {hint}")
            if not self._free:
                hint = "let a stream leave, or make size larger"
                raise ValueError(f"Slots: all {self._size} slots are taken; {hint}")
            if carry is not None:
                check_form("carry", carry, self._start)
                carry = check_carry(self._cell, self._params, carry, self._shapes[0])
            context = self._checked_context(name, context)
            slot = self._free.pop()
            if carry is not None:
                self._carry = put(self._carry, carry, slot)
            if context is not None:
                self._context = put(self._contexts(context), context, slot)
            self._fresh[slot], self._taken[slot] = carry is None, True
            self._slot_of[name] = slot
            return slot

    def leave(self, name: Hashable) -> Carry:
        """Free the slot of a stream.

        Args:
            name: the name of the stream.

        Returns:
            The stream's carry, without the axis of slots. The stream may join again with it, here
            or in other `Slots`.

        Raises:
            ValueError: there is no such stream.
        """
        with self._lock:
            slot = self._slot(name)
            # a copy, because whoever gets it may donate it
            carry = copied(self._start) if self._fresh[slot] else get(self._carry, slot)
            self._taken[slot] = False
            self._free.append(self._slot_of.pop(name))
        return carry

    def restart(self, name: Hashable) -> None:
        """Restart a stream: its next step starts from `cell.initial_carry`.

        Args:
            name: the name of the stream.

        Raises:
            ValueError: there is no such stream.
        """
        with self._lock:
            self._fresh[self._slot(name)] = True

    def advance(self, inputs: Mapping[Hashable, Tree]) -> dict[Hashable, Tree]:
        """Advance some of the streams by their new input.

        Args:
            inputs: for each stream an array `[steps, *features]`, or a pytree of such arrays. The
                number of steps may differ.

        Returns:
            For each stream the outputs, a NumPy array `[steps, out_features]`.

        Raises:
            ValueError: there is no such stream, or its input does not fit. No stream has then
                advanced.
        """
        with self._lock:
            slots = np.array([self._slot(name) for name in inputs], np.intp)
            outputs = self._read(slots, self._columns(inputs)) if inputs else []
            return dict(zip(inputs, outputs, strict=True))

    def advance_array(self, xs: Tree, lengths: ArrayLike | None = None) -> Tree:
        """Advance all streams by one array, which is faster than a dictionary for many streams.

        One program is compiled for each number of steps.

        Args:
            xs: the input of each slot, `[time, size, *features]`, or a pytree of such arrays.
                `join` returns the slot of a stream.
            lengths: integers `[size]`: the number of valid steps of each slot, 0 for a slot without
                a stream. If left out, every step of every stream is valid.

        Returns:
            The outputs, a NumPy array `[time, size, out_features]`, zero at steps that are not
            valid.

        Raises:
            ValueError: a shape or a length does not fit, or a slot without a stream has input.
            TypeError: `lengths` are not integers.

        >>> import jax, jax.numpy as jnp, numpy as np, jaxrnn
        >>> cell = jaxrnn.GRU(hidden=4)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> slots = jaxrnn.streams.Slots(cell, params, size=8, like=jnp.zeros(3))
        >>> ann, ben = slots.join("ann"), slots.join("ben")
        >>> ys = slots.advance_array(np.ones((5, 8, 3)))
        >>> ys.shape, bool((ys[:, ann] == ys[:, ben]).all()), bool((ys[:, 2:] == 0).all())
        ((5, 8, 4), True, True)
        """
        with self._lock:
            leaves = self._checked_array(xs)
            return self._run(leaves, self._checked_lengths(lengths, len(leaves[0])))

    def _read(self, slots: np.ndarray, columns: list[list[np.ndarray]]) -> list[Tree]:
        """Read the input of these slots chunk by chunk, and return their outputs."""
        steps, outputs = np.array([len(first) for first in columns[0]]), []
        cut = steps.max() > self._chunk
        for start in range(0, max(1, steps.max()), self._chunk):
            here = slice(start, start + self._chunk)
            counts = np.clip(steps - start, 0, self._chunk)
            ends = np.cumsum(counts)
            # the time and the slot of each step, one stream after the other
            at = np.arange(ends[-1]) - np.repeat(ends - counts, counts), np.repeat(slots, counts)
            xs = []
            for column, shape, dtype in zip(columns, self._shapes, self._dtypes, strict=True):
                rows = np.zeros((self._chunk, self._size, *shape), dtype)
                rows[at] = np.concatenate([leaf[here] for leaf in column] if cut else column)
                xs.append(rows)
            lengths = np.zeros(self._size, np.int32)
            lengths[slots] = counts
            ys, structure = jax.tree.flatten(self._run(xs, lengths))
            spans = list(zip((ends - counts).tolist(), ends.tolist(), strict=True))
            pieces = [[flat[k:end] for k, end in spans] for flat in (leaf[at] for leaf in ys)]
            outputs.append([structure.unflatten(own) for own in zip(*pieces, strict=True)])
        if len(outputs) == 1:
            return outputs[0]
        return [
            jax.tree.map(lambda *parts: np.concatenate(parts), *own)
            for own in zip(*outputs, strict=True)
        ]

    def _run(self, leaves: Sequence[Array | np.ndarray], lengths: np.ndarray) -> Tree:
        """Advance each slot by its number of steps. Return the outputs as NumPy arrays."""
        if self._cell.takes_context and self._context is None:
            raise ValueError("Slots: no stream has a context; pass one by join(name, context=...)")
        xs = jax.tree.unflatten(self._structure, leaves)
        given = (self._carry, xs, lengths, self._fresh, self._context)
        self._carry, ys = _advance(self._cell, self._params, *given)
        # a new array, because JAX may still read the old one
        self._fresh = np.zeros(self._size, bool)
        return jax.tree.map(np.asarray, ys)  # waits for JAX, so the caller may change the input

    def _slot(self, name: Hashable) -> int:
        if name not in self._slot_of:
            raise ValueError(f"Slots: there is no stream {name!r}; let it join first")
        return self._slot_of[name]

    def _contexts(self, one: Tree) -> Tree:
        """Return the contexts of all slots, which are zero until a stream passes one."""
        if self._context is not None:
            return self._context
        return jax.tree.map(lambda leaf: jnp.zeros((self._size, *leaf.shape), leaf.dtype), one)

    def _checked_context(self, name: Hashable, context: Tree) -> Tree:
        takes = self._cell.takes_context
        if takes != (context is not None):
            cell = name_of(self._cell)
            raise ValueError(
                f"Slots: {cell} takes a context, but {name!r} has none; pass context="
                if takes
                else f"Slots: {cell} takes no context, but {name!r} has one; leave it out"
            )
        if self._context is not None:
            like = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self._context
            )
            check_form("context", context, like)
            check_dtypes("context", context, like)
        context = jax.tree.map(jnp.asarray, context)
        if context is not None and self._context is None:  # tracing a step checks the first one
            x = jax.tree.unflatten(self._structure, map(jnp.zeros, self._shapes, self._dtypes))
            run = partial(step, self._cell, self._params, self._start, x)
            jax.eval_shape(lambda context: run(context=context), context)
        return context

    def _columns(self, inputs: Mapping[Hashable, Tree]) -> list[list[np.ndarray]]:
        """Return the arrays of all streams, for each leaf of the input.

        They are checked all at once, because there may be many streams.
        """
        try:
            leaves = [self._structure.flatten_up_to(xs) for xs in inputs.values()]
        except ValueError:
            leaves = []
        columns = [[np.asarray(leaf) for leaf in column] for column in zip(*leaves, strict=True)]
        shapes = [[leaf.shape for leaf in column] for column in columns]
        forms = [{shape[1:] for shape in set(own) if shape} for own in shapes]
        fits = forms == [{shape} for shape in self._shapes] and all(() not in own for own in shapes)
        if fits and all([*map(len, column)] == [*map(len, columns[0])] for column in columns[1:]):
            return columns
        if len(inputs) > 1:  # find the stream whose input does not fit
            for name, xs in inputs.items():
                self._columns({name: xs})
        ((name, xs),) = inputs.items()
        raise ValueError(
            f"Slots: the input of {name!r} has shape {jax.tree.map(np.shape, xs)}, expected "
            f"{self._expected('steps')}"
        )

    def _checked_array(self, xs: Tree) -> list[Array | np.ndarray]:
        """Return the leaves of the input of all slots. Refuse other shapes."""
        leaves, structure = jax.tree.flatten(xs)
        arrays = [leaf if isinstance(leaf, Array) else np.asarray(leaf) for leaf in leaves]
        shapes = [leaf.shape for leaf in arrays]
        time = shapes[0][:1] if shapes else ()
        wanted = [(*time, self._size, *shape) for shape in self._shapes]
        if structure != self._structure or not time or shapes != wanted:
            raise ValueError(
                f"Slots: xs has shape {jax.tree.map(np.shape, xs)}, expected "
                f"{self._expected('time', self._size)}"
            )
        dtypes = zip(arrays, self._dtypes, strict=True)
        return [leaf.astype(dtype, copy=False) for leaf, dtype in dtypes]

    def _checked_lengths(self, given: ArrayLike | None, time: int) -> np.ndarray:
        if given is None:
            return np.where(self._taken, np.int32(time), np.int32(0))
        lengths = np.asarray(given)
        if not np.issubdtype(lengths.dtype, np.integer):
            raise TypeError(f"Slots: lengths has dtype {lengths.dtype}, expected integers; cast it")
        if lengths.shape != (self._size,):
            raise ValueError(
                f"Slots: lengths has shape {lengths.shape}, expected [size] = {(self._size,)}"
            )
        check_lengths(Slots, time, lengths)
        if np.any(lengths[~self._taken]):
            slot = int(np.flatnonzero(~self._taken & (lengths > 0))[0])
            raise ValueError(
                f"Slots: lengths[{slot}] is {lengths[slot]}, but no stream has this slot; set it "
                "to 0, or let a stream join"
            )
        return lengths.astype(np.int32)

    def _expected(self, *leading: object) -> Tree:
        shapes = [(*leading, *shape) for shape in self._shapes]
        return jax.tree.unflatten(self._structure, shapes)


@partial(jax.jit, donate_argnums=2)
def _advance(
    cell: Cell,
    params: Params,
    carry: Carry,
    xs: Tree,
    lengths: Array,
    fresh: Array,
    context: Tree,
) -> tuple[Carry, Tree]:
    """Advance all slots by one chunk.

    A slot that is `fresh` restarts first. A slot with length 0 is held.
    """
    start = cell.initial_carry(params, jax.tree.leaves(xs)[0].shape[1:])
    return scan(cell, params, xs, select(fresh, start, carry), lengths=lengths, context=context)
