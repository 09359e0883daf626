"""Running a model on its own outputs: in one compiled loop it reads each token that is drawn."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpy.typing import ArrayLike

from jaxrnn.core.cell import Params
from jaxrnn.core.check import check_flag
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import select, valid_steps, without_masked
from jaxrnn.streams._prompts import (
    Carry,
    Model,
    Outputs,
    Reader,
    Start,
    Token,
    check_batch,
    check_form,
    checked_start,
    is_stop,
    make_reader,
)
from jaxrnn.streams.sampling import greedy

Sampler = Callable[[Array | None, Outputs], Token]
"""`sample(key, outputs) -> token`: choose what is read next."""


class Generated(NamedTuple, Generic[Carry]):
    """What `generate` wrote.

    `generate(model, params, carry, tokens[-1:], ...)` goes on from there.
    """

    tokens: Token  # [steps, *batch]; after a sequence has stopped, its last token again
    lengths: Array  # [*batch]: how many tokens each sequence wrote, with the one that stopped it
    carry: Carry  # of each sequence, before it reads its last token
    outputs: Outputs  # [steps, *batch, ...], zero after it has stopped; None if not kept


def generate(
    model: Model[Carry],
    params: Params,
    carry: Carry,
    prompt: Token,
    *,
    steps: int,
    lengths: ArrayLike | None = None,
    inputs: Tree = None,
    context: Tree = None,
    sample: Sampler = greedy,
    stop: Sequence[int] = (),
    key: Array | None = None,
    keep: bool = False,
) -> Generated[Carry]:
    """Read a prompt, then let the model go on by itself.

    At step t, `carry, outputs = model(params, carry, token)` and `token = sample(key_t, outputs)`.

    One program is compiled for each model, shape and number of steps. It ends early once all
    sequences have stopped. It has no reverse-mode derivative. Under `jax.shard_map` each device
    ends by itself, so the model must not communicate over axes that split the batch.

    Args:
        model: `model(params, carry, token) -> (carry, outputs)`; `model(params, carry, token,
            inputs)` if there are inputs; with the keyword `context` if there is one, as
            `jaxrnn.step` has it. It must be hashable: the same function, or the method of an equal
            frozen dataclass, is not compiled again.
        params: the model's parameters.
        carry: the carry of all sequences before the prompt, arrays `[*batch, ...]`. If the model
            returns it in a wider dtype, it is widened before the first step.
        prompt: what is read first, integers `[time, *batch]`; or floats `[time, *batch, features]`
            for a model of signals. Each sequence needs at least one token, such as a symbol that
            marks its beginning.
        steps: how many tokens to write at most.
        lengths: integers `[*batch]`, at least 1: how many tokens of each prompt are valid. The rest
            is padding on the right.
        inputs: what is known besides, of the future, too: a pytree of arrays
            `[time - 1 + steps, *batch, ...]`. Row k belongs to the k-th token that a sequence
            reads, first those of its prompt and then what it has written. So what a forecaster that
            reads value k knows of step k + 1 stands in row k.
        context: what stays the same over time, such as the memory that a `ContextCell` attends to,
            a pytree `[*batch, ...]`.
        sample: `sample(key, outputs) -> token`: `greedy`, `Categorical(temperature, top_k, top_p)`,
            or your own. For signals, a function that returns the outputs feeds them back.
        stop: symbols that end a sequence. Such a symbol is written, and nothing after it.
        key: what to draw from; step t gets `jax.random.fold_in(key, t)`.
        keep: whether to return what the model gave at each step of writing: logits, or the
            parameters of a distribution.

    Returns:
        The tokens, how many of them each sequence wrote, the carry to go on from, and the outputs,
        None if they are not kept.

    Raises:
        ValueError: a size, a length, the carry, inputs, the context or what `sample` gives does not
            fit the prompt.
        TypeError: the model cannot be hashed or changes the dtype of its carry, or lengths are not
            integers.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> def count(params, carry, token):  # a model that says "one more", up to 4
    ...     return carry, jax.nn.one_hot(jnp.minimum(token + 1, 4), 5)
    >>> prompt, lengths = jnp.array([[0, 1], [0, 2]]), jnp.array([1, 2])
    >>> out = jaxrnn.generate(count, None, None, prompt, lengths=lengths, steps=5, stop=[4])
    >>> out.tokens.T.tolist(), out.lengths.tolist()
    ([[1, 2, 3, 4, 4], [3, 4, 4, 4, 4]], [4, 2])

    A forecaster reads the last value, and what is known of the next step:

    >>> def forecast(params, carry, value, calendar):
    ...     value = carry + 0.5 * (value - carry) + calendar
    ...     return carry, value
    >>> past, calendar = jnp.array([[0.0], [8.0]]), jnp.array([[0.0], [0.0], [1.0]])
    >>> options = {"inputs": calendar, "sample": lambda key, value: value, "keep": True}
    >>> out = jaxrnn.generate(forecast, None, jnp.zeros(()), past, steps=2, **options)
    >>> out.tokens[:, 0].tolist(), out.outputs.shape
    ([4.0, 3.0], (2, 1))
    """
    keep = check_flag("generate", "keep", keep)
    counts = None if lengths is None else jnp.asarray(lengths)
    start = Start(params, carry, prompt, counts, inputs, context)
    start = checked_start("generate", model, steps, start)
    if jax.tree_util.all_leaves([sample]):  # a function: no pytree, as a Categorical is
        sample = jax.tree_util.Partial(sample)
    ends = jnp.asarray(tuple(stop), jnp.int32)
    return _generate(model, steps, keep, start, sample, ends, key)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(
    model: Model[Carry],
    steps: int,
    keep: bool,
    start: Start[Carry],
    sample: Sampler,
    stop: Array,
    key: Array | None,
) -> Generated[Carry]:
    def choose(outputs: Outputs) -> tuple[Token, Outputs]:
        return sample(key, outputs), outputs

    reader, (drawn, outputs) = make_reader("generate", model, start, choose, (sample, key))
    token, batch = start.at(reader.start.prompt, 0), start.batch
    check_form("generate", "token that sample returns", drawn, token)
    if keep:
        check_batch("generate", "what the model returns to keep: outputs", outputs, batch)

    def rows(like: Tree) -> Tree:
        return jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), like)

    stopped, lengths = jnp.zeros(batch, bool), jnp.zeros(batch, jnp.int32)
    written = (stopped, lengths, rows(token), rows(outputs) if keep else None)
    writer = _Writer(reader, sample, key, stop if start.symbols else None)
    now = _Writing(jnp.int32(0), reader.read_prompt(), token, *reader.vary(written))
    end = lax.while_loop(lambda now: (now.t < steps) & ~jnp.all(now.stopped), writer.write, now)

    def held(rows: Array, last: Array) -> Array:
        t = jnp.arange(steps, dtype=end.t.dtype).reshape(steps, *[1] * last.ndim)
        rest = t >= end.t  # all had stopped before
        return jnp.where(rest, last, rows)

    tokens = jax.tree.map(held, end.tokens, end.token)
    kept = without_masked(end.outputs, valid_steps(steps, end.lengths, None))
    return Generated(tokens, end.lengths, end.carry, kept)


class _Writing(NamedTuple, Generic[Carry]):
    """Where writing stands before step t."""

    t: Array
    carry: Carry
    token: Token  # what each sequence reads next
    stopped: Array
    lengths: Array
    tokens: Token  # [steps, *batch], zero from row t on
    outputs: Outputs | None  # [steps, *batch, ...]


class _Writer(NamedTuple, Generic[Carry]):
    """What is the same at every step."""

    reader: Reader[Carry]
    sample: Sampler
    key: Array | None
    stop: Array | None  # None if tokens are not symbols

    def write(self, now: _Writing[Carry]) -> _Writing[Carry]:
        """Read a token and write the next one; a sequence that has stopped stays as it is."""
        after, outputs = self.reader.next(now.carry, now.token, now.t)
        key = None if self.key is None else jax.random.fold_in(self.key, now.t)
        drawn = self.reader.vary(self.sample(key, outputs))
        drawn = jax.tree.map(lambda new, old: new.astype(old.dtype), drawn, now.token)
        carry, token = select(now.stopped, (now.carry, now.token), (after, drawn))

        def put(rows: Array, new: Array) -> Array:
            return lax.dynamic_update_index_in_dim(rows, new, now.t, 0)

        tokens = jax.tree.map(put, now.tokens, token)
        kept = None if now.outputs is None else jax.tree.map(put, now.outputs, outputs)
        lengths = now.lengths + (~now.stopped).astype(jnp.int32)
        stopped = now.stopped
        if self.stop is not None:
            stopped |= is_stop(token, self.stop)
        return _Writing(now.t + 1, carry, token, stopped, lengths, tokens, kept)
