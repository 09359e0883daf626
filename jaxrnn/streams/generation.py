"""Generation: one compiled loop in which a model reads its own outputs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpy.typing import ArrayLike

from jaxrnn.core.cell import Params
from jaxrnn.core.check import check_flag, takes
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
    checked_stop,
    is_stop,
    make_reader,
)
from jaxrnn.streams.sampling import greedy

Sampler = Callable[[Array | None, Outputs], Token]
"""`sample(key, outputs) -> token` chooses the token that is read next."""


class Generated(NamedTuple, Generic[Carry]):
    """What `generate` returns.

    To continue, call `generate(model, params, out.carry, out.tokens[-1:], ...)`.

    >>> def count(params, carry, token):
    ...     return carry, jax.nn.one_hot(token + 1, 9)
    >>> out = generate(count, None, None, jnp.array([0]), steps=3)
    >>> out = generate(count, None, out.carry, out.tokens[-1:], steps=3)
    >>> out.tokens.tolist(), int(out.lengths)
    ([4, 5, 6], 3)
    """

    tokens: Token  # [steps, *batch]; once a sequence has stopped, its last token is repeated
    lengths: Array  # [*batch]: the number of tokens of each sequence, its stop symbol included
    carry: Carry  # the carry of each sequence, before it reads its last token
    outputs: Outputs  # [steps, *batch, ...], zero after a sequence has stopped; None if not kept


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
    """Read a prompt, and then generate tokens, each from the tokens before it.

        carry, outputs = model(params, carry, token)
        token = sample(key_t, outputs)

    One program is compiled for each model, shape and number of steps. It ends early once all
    sequences have stopped. It has no reverse-mode derivative. Under `jax.shard_map` each device
    ends on its own, so the model must not communicate over mesh axes that split the batch.

    Args:
        model: `model(params, carry, token) -> (carry, outputs)`. If there are `inputs`, it is
            called with those of the step as a fourth argument. If there is a `context`, it gets
            this as a keyword, as `jaxrnn.step` does. It must be hashable. The same function, or
            the method of an equal frozen dataclass, is not compiled again.
        params: the model's parameters.
        carry: the carry of all sequences before the prompt, arrays `[*batch, ...]`. If the model
            returns it in a wider dtype, it is widened before the first step.
        prompt: the first tokens, integers `[time, *batch]`, or floats `[time, *batch, features]`
            for a model of signals. Each sequence needs at least one token, such as a symbol that
            marks its beginning.
        steps: the largest number of tokens to generate.
        lengths: integers `[*batch]`, at least 1: how many tokens of each prompt are valid. The rest
            is padding on the right.
        inputs: further inputs that are known in advance, a pytree of arrays `[time - 1 + steps,
            *batch, ...]`. Row k is read together with the k-th token of a sequence; its prompt
            comes first, and its generated tokens follow. A forecaster that reads value k thus finds
            in row k what is known of step k + 1.
        context: a pytree `[*batch, ...]` that stays the same over time, such as the memory that a
            `ContextCell` attends to.
        sample: `sample(key, outputs) -> token`: `greedy`, `Categorical(temperature, top_k, top_p)`,
            or a function of your own. For signals, a function that returns the outputs feeds them
            back.
        stop: symbols that end a sequence. The stop symbol is the sequence's last token.
        key: the random key. Step t draws from `jax.random.fold_in(key, t)`.
        keep: whether to return the model's outputs at each generated step, such as logits or the
            parameters of a distribution.

    Returns:
        The tokens, the number of tokens of each sequence, the carry to continue from, and the
        outputs, which are None unless `keep`.

    Raises:
        ValueError: a size, a length, the carry, `inputs`, `context` or the result of `sample` does
            not fit the prompt; or the model does not return `(carry, outputs)`.
        TypeError: the model is not hashable, or changes the dtype of its carry; `lengths` or `stop`
            are not integers; or `sample` is not a function of two arguments, or returns another
            kind of numbers than the prompt holds.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> def count(params, carry, token):  # predicts the next number, up to 4
    ...     return carry, jax.nn.one_hot(jnp.minimum(token + 1, 4), 5)
    >>> prompt, lengths = jnp.array([[0, 1], [0, 2]]), jnp.array([1, 2])
    >>> out = jaxrnn.generate(count, None, None, prompt, lengths=lengths, steps=5, stop=[4])
    >>> out.tokens.T.tolist(), out.lengths.tolist()
    ([[1, 2, 3, 4, 4], [3, 4, 4, 4, 4]], [4, 2])

    A forecaster reads the last value, and what is known of the next step.

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
    if not takes(sample, 2):
        raise TypeError(
            f"generate: sample is {sample!r}, expected a function sample(key, outputs) -> token; "
            "pass greedy of jaxrnn.streams, or construct Categorical()"
        )
    counts = None if lengths is None else jnp.asarray(lengths)
    start = Start(params, carry, prompt, counts, inputs, context)
    start = checked_start("generate", model, steps, start)
    if jax.tree_util.all_leaves([sample]):  # a plain function; a Categorical is a pytree
        sample = jax.tree_util.Partial(sample)
    ends = checked_stop("generate", stop)
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
        check_batch("generate", "with keep=True, outputs", outputs, batch)

    def rows(like: Tree) -> Tree:
        return jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), like)

    stopped, lengths = jnp.zeros(batch, bool), jnp.zeros(batch, jnp.int32)
    written = (stopped, lengths, rows(token), rows(outputs) if keep else None)
    writer = _Writer(reader, sample, key, stop if start.symbols else None)
    now = _Writing(jnp.int32(0), reader.read_prompt(), token, *reader.vary(written))
    end = lax.while_loop(lambda now: (now.t < steps) & ~jnp.all(now.stopped), writer.write, now)

    def held(rows: Array, last: Array) -> Array:
        t = jnp.arange(steps, dtype=end.t.dtype).reshape(steps, *[1] * last.ndim)
        rest = t >= end.t  # the loop has ended before these steps
        return jnp.where(rest, last, rows)

    tokens = jax.tree.map(held, end.tokens, end.token)
    kept = without_masked(end.outputs, valid_steps(steps, end.lengths, None))
    return Generated(tokens, end.lengths, end.carry, kept)


class _Writing(NamedTuple, Generic[Carry]):
    """The state of the loop before step t."""

    t: Array
    carry: Carry
    token: Token  # the token that each sequence reads next
    stopped: Array
    lengths: Array
    tokens: Token  # [steps, *batch], zero from row t on
    outputs: Outputs | None  # [steps, *batch, ...]


class _Writer(NamedTuple, Generic[Carry]):
    """The constants of the loop, and its body."""

    reader: Reader[Carry]
    sample: Sampler
    key: Array | None
    stop: Array | None  # None if tokens are not symbols

    def write(self, now: _Writing[Carry]) -> _Writing[Carry]:
        """Read a token and write the next one. A sequence that has stopped does not change."""
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
