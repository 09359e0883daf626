"""Beam search: a narrow search for the most likely sequences of a model."""

from collections.abc import Sequence
from functools import partial
from typing import Generic, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike

from jaxrnn.core.cell import Params
from jaxrnn.core.check import check_size
from jaxrnn.core.dtypes import wide
from jaxrnn.core.trees import Tree
from jaxrnn.streams._prompts import (
    Carry,
    Model,
    Reader,
    Start,
    Token,
    checked_start,
    checked_stop,
    is_stop,
    make_reader,
)
from jaxrnn.streams.sampling import is_concrete


class Beams(NamedTuple):
    """The sequences that `beam_search` finds, the best score first.

    If it finds fewer than `best`, the others have the log-probability minus infinity and length 0.

    >>> def model(params, carry, token):
    ...     return carry, jnp.log(jnp.array([0.75, 0.25]))
    >>> out = beam_search(model, None, None, jnp.array([0]), steps=2, width=2, stop=[], best=2)
    >>> out.tokens.T.tolist()[0], out.lengths.tolist()
    ([0, 0], [2, 2])
    """

    tokens: Array  # [steps, *batch, best]; once a sequence has stopped, its last token is repeated
    lengths: Array  # [*batch, best]: the number of tokens of each, its stop symbol included
    log_probabilities: Array  # [*batch, best]: the sums over the tokens of each


def beam_search(
    model: Model[Carry],
    params: Params,
    carry: Carry,
    prompt: Token,
    *,
    steps: int,
    width: int,
    stop: Sequence[int],
    length_penalty: float = 0.0,
    best: int = 1,
    lengths: ArrayLike | None = None,
    inputs: Tree = None,
    context: Tree = None,
) -> Beams:
    """Search for the best continuations of a prompt.

        score(Y) = log P(Y) / ((5 + |Y|) / 6) ** length_penalty    (Wu et al. 2016)

    |Y| is the number of generated symbols, the stop symbol included. At each step, the `width` most
    likely live beams are lengthened by one symbol. A beam that ends in a stop symbol and is among
    the `width` most likely of its step is finished. It is set aside, and another beam takes its
    place. After `steps` symbols, unfinished beams count, too.

    One program is compiled for each model, shape and number of steps. It ends early once no live
    beam can still become one of the best. With a width of 1 and no length penalty, the search
    equals `generate` with `greedy`.

    Args:
        model: as in `generate`. Its outputs are logits `[*batch, symbols]`. `jax.vmap` runs it over
            the beams, so it gets the axes of one beam, `[*batch, ...]`.
        params: the model's parameters.
        carry: the carry of all sequences before the prompt, arrays `[*batch, ...]`.
        prompt: the first tokens, integers `[time, *batch]`, at least one for each sequence.
        steps: the largest number of tokens to generate.
        width: the number of live beams of each sequence.
        stop: symbols that end a sequence; `()` if every sequence has `steps` symbols.
        length_penalty: 0 finds the most likely sequences. A larger number, such as 0.6 to 1,
            favours long ones. Changing it does not compile anything again.
        best: the number of sequences to return, at most `width`.
        lengths: integers `[*batch]`, at least 1: how many tokens of each prompt are valid.
        inputs: as in `generate`, `[time - 1 + steps, *batch, ...]`.
        context: as in `generate`, `[*batch, ...]`. All beams of a sequence share one copy.

    Returns:
        The best sequences, with their lengths and log-probabilities.

    Raises:
        ValueError: a size, a length, the carry, `inputs` or `context` does not fit the prompt; the
            model does not return `(carry, logits)`; or `length_penalty` is negative.
        TypeError: the model is not hashable, or changes the dtype of its carry; or `prompt`,
            `lengths` or `stop` are not integers.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> likely = jnp.log(jnp.array([[0.0, 0.6, 0.4], [0.5, 0.25, 0.25], [0.9, 0.1, 0.0]]))
    >>> def model(params, carry, token):  # row k: what follows symbol k; 0 ends a sequence
    ...     return carry, likely[token]
    >>> out = jaxrnn.beam_search(model, None, None, jnp.array([0]), steps=3, width=2, stop=[0])
    >>> out.tokens[:, 0].tolist(), out.lengths.tolist()  # greedy finds 1, 0 with probability 0.3
    ([2, 0, 0], [2])
    >>> round(float(jnp.exp(out.log_probabilities[0])), 2)
    0.36
    """
    width = check_size(beam_search, "width", width)
    best = check_size(beam_search, "best", best)
    if best > width:
        raise ValueError(
            f"beam_search: best is {best}, expected at most width = {width}; make width larger"
        )
    _check_penalty(length_penalty)
    counts = None if lengths is None else jnp.asarray(lengths)
    start = Start(params, carry, prompt, counts, inputs, context)
    start = checked_start("beam_search", model, steps, start)
    if len(leaves := jax.tree.leaves(start.prompt)) != 1 or not start.symbols:
        raise TypeError(
            f"beam_search: prompt holds {[str(leaf.dtype) for leaf in leaves]}, expected one array "
            "of integers; use generate for signals"
        )
    ends = checked_stop("beam_search", stop)
    sizes = _Sizes(int(steps), width, best)
    return _search(model, sizes, start, ends, length_penalty)


@partial(jax.jit, static_argnums=(0, 1))
def _search(
    model: Model[Carry],
    sizes: "_Sizes",
    start: Start[Carry],
    stop: Array,
    length_penalty: ArrayLike,
) -> Beams:
    batch, others = start.batch, (stop, length_penalty)
    reader, logits = make_reader("beam_search", model, start, lambda outputs: outputs, others)
    _check_logits(logits, batch)
    search = _Search(reader, sizes, stop, length_penalty)

    def none(beams: int) -> Beams:
        tokens = jnp.zeros((sizes.steps, *batch, beams), start.prompt.dtype)
        lengths = jnp.zeros((*batch, beams), jnp.int32)
        return Beams(tokens, lengths, jnp.full(lengths.shape, -jnp.inf, wide(logits)))

    live = none(sizes.width)
    # All beams are equal at first, so only the first of them may count.
    live = live._replace(log_probabilities=live.log_probabilities.at[..., 0].set(0))

    def repeated(leaf: Array) -> Array:
        return jnp.repeat(jnp.expand_dims(leaf, len(batch)), sizes.width, axis=len(batch))

    token = start.at(reader.start.prompt, 0)
    carry, token = jax.tree.map(repeated, (reader.read_prompt(), token))
    live, done = reader.vary((live, none(sizes.best)))
    now = _Searching(jnp.int32(0), carry, token, live, done)
    end = lax.while_loop(search.may_improve, search.lengthen, now)
    return _tidy(search.better(end.done, end.live))


class _Sizes(NamedTuple):
    steps: int
    width: int
    best: int


class _Searching(NamedTuple, Generic[Carry]):
    """The state of the search before step t."""

    t: Array
    carry: Carry  # [*batch, width, ...], of live beams
    token: Array  # [*batch, width]: the token that each live beam reads next
    live: Beams  # the beams that may be lengthened, the most likely first
    done: Beams  # the beams that have stopped, the best score first


class _Search(NamedTuple, Generic[Carry]):
    """The constants of the search, and its loop."""

    reader: Reader[Carry]
    sizes: _Sizes
    stop: Array
    length_penalty: ArrayLike

    def may_improve(self, now: _Searching[Carry]) -> Array:
        """Return whether a live beam can still become one of the best.

        Its score is at most the one that it has if every further symbol has probability 1.
        """
        steps = jnp.int32(self.sizes.steps)
        attainable = self._score(now.live.log_probabilities[..., 0], steps)
        worst = self._score(now.done.log_probabilities[..., -1], now.done.lengths[..., -1])
        return (now.t < self.sizes.steps) & jnp.any(attainable > worst)

    def lengthen(self, now: _Searching[Carry]) -> _Searching[Carry]:
        """Read a symbol of each live beam, and lengthen the most likely beams by one symbol."""
        width, beam_axis = self.sizes.width, now.token.ndim - 1
        read = partial(self.reader.next, t=now.t)
        after, logits = jax.vmap(read, beam_axis, beam_axis)(now.carry, now.token)
        candidates, parent, token = self._candidates(now, logits)
        stops = is_stop(token, self.stop)
        stopped = jax.tree.map(lambda leaf: leaf[..., :width], _where(stops, candidates))
        log_p, chosen = lax.top_k(_where(~stops, candidates).log_probabilities, width)
        live = _take(candidates, chosen)._replace(log_probabilities=log_p)
        token = _along(token, chosen, beam_axis)
        of_parent = partial(_along, at=_along(parent, chosen, beam_axis), axis=beam_axis)
        carry = jax.tree.map(of_parent, after)
        return _Searching(now.t + 1, carry, token, live, self.better(now.done, stopped))

    def _candidates(self, now: _Searching[Carry], logits: Array) -> tuple[Beams, Array, Array]:
        """Return the most likely live beams with one more symbol, their parents, and the symbols.

        There are enough of them that `width` do not end in a stop symbol.
        """
        width, symbols = logits.shape[-2:]
        log_p = jax.nn.log_softmax(logits.astype(wide(logits)), axis=-1)
        log_p += now.live.log_probabilities[..., None]
        many = width * min(1 + self.stop.size, symbols)
        log_p, chosen = lax.top_k(log_p.reshape(*log_p.shape[:-2], width * symbols), many)
        parent, token = jnp.divmod(chosen, symbols)
        token = token.astype(now.token.dtype)
        tokens, lengths, _ = _take(now.live, parent)
        tokens = lax.dynamic_update_index_in_dim(tokens, token, now.t, 0)
        return Beams(tokens, lengths + 1, log_p), parent, token

    def better(self, first: Beams, second: Beams) -> Beams:
        """Return the best of both."""
        both = jax.tree.map(lambda *pair: jnp.concatenate(pair, axis=-1), first, second)
        scores = self._score(both.log_probabilities, both.lengths)
        return _take(both, lax.top_k(scores, self.sizes.best)[1])

    def _score(self, log_p: Array, lengths: Array) -> Array:
        penalty = jnp.asarray(self.length_penalty, log_p.dtype)
        return log_p / ((5 + lengths.astype(log_p.dtype)) / 6) ** penalty


def _tidy(found: Beams) -> Beams:
    """Repeat the last token after the end of each beam, and set the length of missing ones to 0."""
    tokens, lengths, log_p = found
    t = jnp.arange(len(tokens), dtype=jnp.int32).reshape(-1, *[1] * lengths.ndim)
    tokens = jnp.take_along_axis(tokens, jnp.minimum(t, lengths[None] - 1), axis=0)
    return Beams(tokens, jnp.where(log_p > -jnp.inf, lengths, 0), log_p)


def _take(beams: Beams, at: Array) -> Beams:
    """Take the beams `at [*batch, count]` of each sequence."""
    axis = at.ndim - 1
    tokens = jnp.take_along_axis(beams.tokens, at[None], axis=-1)
    lengths, log_p = (_along(leaf, at, axis) for leaf in beams[1:])
    return Beams(tokens, lengths, log_p)


def _along(leaf: Array, at: Array, axis: int) -> Array:
    """Take the entries `at [*batch, count]` of a leaf `[*batch, beams, ...]`."""
    at = at.reshape(*at.shape, *[1] * (leaf.ndim - at.ndim))
    return jnp.take_along_axis(leaf, at, axis=axis)


def _where(condition: Array, beams: Beams) -> Beams:
    """Give beams for which the condition is False the probability zero."""
    log_p = jnp.where(condition, beams.log_probabilities, -jnp.inf)
    return beams._replace(log_probabilities=log_p)


def _check_logits(logits: Tree, batch: tuple[int, ...]) -> None:
    leaves = jax.tree.leaves(logits)
    fits = len(leaves) == 1 and leaves[0].shape[:-1] == batch and leaves[0].ndim > len(batch)
    if not fits or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise ValueError(
            f"beam_search: the model returns {logits}, expected logits [*batch, symbols] with "
            f"[*batch] = {batch}, as in the prompt"
        )


def _check_penalty(given: ArrayLike) -> None:
    if is_concrete(given) and not np.all(np.asarray(given) >= 0):
        raise ValueError(
            f"beam_search: length_penalty is {given!r}, expected a number of at least 0; 0 finds "
            "the most likely sequences"
        )
