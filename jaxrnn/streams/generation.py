"""Running a model on its own outputs: each token that is drawn is read in turn, inside one compiled
loop.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer

from jaxrnn.core.check import check_size
from jaxrnn.core.dtypes import wide
from jaxrnn.core.trees import form
from jaxrnn.core.walk import select, valid_steps
from jaxrnn.methods.mesh import varying_as

Model = Callable[[Any, Any, Any], tuple[Any, Any]]
"""`model(params, carry, token) -> (carry, outputs)`: read one token `[*batch]`; outputs are logits
`[*batch, symbols]`, say.
"""
Sampler = Callable[[Array | None, Any], Any]
"""`sample(key, outputs) -> token`: what is read next."""


class Generated(NamedTuple):
    """What `generate` wrote."""

    tokens: Any  # [steps, *batch]; after a sequence has stopped, its last token again
    # [*batch]: how many of them each sequence has, the symbol that stopped it included
    lengths: Array
    # of each sequence, before it reads its last token: `generate(model, params, carry, tokens[-1:],
    # ...)` goes on
    carry: Any


def greedy(key: Array | None, logits: Array) -> Array:
    """The likeliest symbol of each row.

    >>> int(greedy(None, jnp.array([0.1, 0.7, 0.2])))
    1
    """
    del key
    return jnp.argmax(logits, axis=-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Categorical:
    """Draw a symbol with probability `softmax(logits / temperature)`, in at least float32.

    Args:
        temperature: below 1 the likely symbols become likelier, above 1 the unlikely ones. Another
            one needs no other program.
        top_k: leave in only so many of the likeliest symbols (Fan et al. 2018); None for all.

    Raises:
        ValueError: the temperature is not positive, or `top_k` not a positive integer; when it
            draws, there is no key.

    >>> sample = Categorical(temperature=0.7, top_k=2)
    >>> int(sample(jax.random.key(0), jnp.array([-9.0, 5.0, -9.0, 5.0]))) in (1, 3)
    True
    """

    temperature: float = 1.0
    top_k: int | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self) -> None:
        if _is_concrete(self.temperature):  # within jax.jit it is not, and was checked outside
            _check_temperature(self.temperature)
        if self.top_k is not None:
            check_size(self, "top_k", self.top_k)

    def __call__(self, key: Array | None, logits: Array) -> Array:
        """One symbol for each row."""
        if key is None:
            raise ValueError(
                "Categorical: drawing needs a key; pass key=jax.random.key(0), or "
                "sample=jaxrnn.streams.generation.greedy"
            )
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        logits = logits.astype(wide(logits))  # noise of few bits would have ties
        temperature = jnp.asarray(self.temperature, logits.dtype)
        highest = jnp.max(logits, axis=-1, keepdims=True)  # without which a quotient may overflow
        return jax.random.categorical(key, (logits - highest) / temperature)


def generate(
    model: Model,
    params: Any,
    carry: Any,
    prompt: Any,
    *,
    steps: int,
    lengths: Any = None,
    sample: Sampler = greedy,
    stop: Sequence[int] = (),
    key: Array | None = None,
) -> Generated:
    """Read prompts, then go on with what the model gives: `carry, out = model(params, carry,
    token)`; `token = sample(key_t, out)`.

    One program is compiled for each model, shape and number of steps; it ends early once all
    sequences have stopped. It has no reverse-mode derivative. Under `jax.shard_map` each device
    ends by itself, so the model must not communicate over axes that split the batch.

    Args:
        model: `model(params, carry, token) -> (carry, outputs)`, hashable; pass the same function
            again, such as a method of a frozen dataclass, and it is not compiled again.
        params: the model's.
        carry: before the prompts, of all sequences: arrays `[*batch, ...]`. If the model gives it
            back wider, it is widened at once.
        prompt: what is read first, `[time, *batch]` integers, or `[time, *batch, features]` floats
            for a model of signals. At least one token each: a symbol that begins sequences, say.
        steps: how many tokens to write at most.
        lengths: integers `[*batch]`, at least 1: how many tokens of each prompt are valid, the rest
            is padding on the right.
        sample: `sample(key, outputs) -> token`: `greedy`, `Categorical(temperature, top_k)`, or a
            function of yours. For signals, the identity on outputs feeds them back.
        stop: symbols that end a sequence; they are written, and nothing after them.
        key: what to draw from; step t gets `jax.random.fold_in(key, t)`.

    Returns:
        The tokens, how many there are of each sequence, and the carry from which to go on.

    Raises:
        ValueError: a size, a length, the carry or what `sample` gives does not fit the prompt.
        TypeError: the model cannot be hashed or changes the dtype of its carry, or lengths are not
            integers.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> def count(params, carry, token):  # a model that says "one more", up to 4
    ...     return carry, jax.nn.one_hot(jnp.minimum(token + 1, 4), 5)
    >>> out = jaxrnn.generate(count, None, None, jnp.array([[0, 1], [0, 2]]), lengths=jnp.array([1, 2]), steps=5, stop=[4])
    >>> out.tokens.T.tolist(), out.lengths.tolist()
    ([[1, 2, 3, 4, 4], [3, 4, 4, 4, 4]], [4, 2])
    """
    check_size(generate, "steps", steps)
    try:
        hash(model)
    except TypeError as error:
        raise TypeError(
            f"generate: {model!r} cannot be hashed; pass a function, or a method of a frozen "
            "dataclass"
        ) from error
    carry, prompt = jax.tree.map(jnp.asarray, (carry, prompt))
    first = jax.tree.leaves(prompt)[0]
    if first.ndim < 1 or not len(first):
        raise ValueError(
            f"generate: prompt has shape {first.shape}, expected [time, *batch] with at least one "
            "token to begin with"
        )
    if lengths is not None:
        lengths = _checked(lengths, first)
    if jax.tree_util.all_leaves([sample]):  # a function: no pytree, as a Categorical is
        sample = jax.tree_util.Partial(sample)
    return _generate(
        model,
        steps,
        params,
        carry,
        prompt,
        lengths,
        sample,
        jnp.asarray(tuple(stop), jnp.int32),
        key,
    )


class _Writing(NamedTuple):
    t: Array
    carry: Any
    token: Any
    stopped: Array
    written: Generated


@partial(jax.jit, static_argnums=(0, 1))
def _generate(
    model: Model,
    steps: int,
    params: Any,
    carry: Any,
    prompt: Any,
    lengths: Array | None,
    sample: Sampler,
    stop: Array,
    key: Array | None,
) -> Generated:
    first = jax.tree.leaves(prompt)[0]
    symbols = jnp.issubdtype(first.dtype, jnp.integer)
    batch = first.shape[1:] if symbols else first.shape[1:-1]
    _check_batch(carry, batch)
    carry = _checked_carry(model, params, carry, prompt, sample, key)
    vary = partial(varying_as, (params, carry, prompt, lengths, sample, key))
    carry, prompt = vary((carry, prompt))

    def read(carry: Any, at: tuple[Any, Array | None]) -> tuple[Any, None]:
        token, more = at
        after, _ = vary(model(params, carry, token))
        return after if more is None else select(more, after, carry), None

    def write(now: _Writing) -> _Writing:
        after, outputs = vary(model(params, now.carry, now.token))
        drawn = vary(sample(None if key is None else jax.random.fold_in(key, now.t), outputs))
        drawn = jax.tree.map(lambda new, old: new.astype(old.dtype), drawn, now.token)
        carry, token = select(now.stopped, (now.carry, now.token), (after, drawn))
        tokens = jax.tree.map(
            lambda row, new: lax.dynamic_update_index_in_dim(row, new, now.t, 0),
            now.written.tokens,
            token,
        )
        written = Generated(tokens, now.written.lengths + (~now.stopped).astype(jnp.int32), None)
        stopped = now.stopped
        if symbols:
            stopped |= jnp.isin(token.astype(stop.dtype), stop)
        return _Writing(now.t + 1, carry, token, stopped, written)

    valid = valid_steps(len(first), lengths, None)
    more = None if valid is None else valid[1:]  # whether a token of the prompt follows
    carry, _ = lax.scan(read, carry, (jax.tree.map(lambda leaf: leaf[:-1], prompt), more))
    token = jax.tree.map(partial(_last, lengths), prompt)
    none = jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), token)
    stopped, written = vary((jnp.zeros(batch, bool), jnp.zeros(batch, jnp.int32)))
    start = _Writing(jnp.int32(0), carry, token, stopped, Generated(vary(none), written, None))
    end = lax.while_loop(lambda now: (now.t < steps) & ~jnp.all(now.stopped), write, start)

    def held(rows: Array, last: Array) -> Array:
        t = jnp.arange(steps, dtype=end.t.dtype).reshape(steps, *[1] * last.ndim)
        rest = t >= end.t  # all had stopped before
        return jnp.where(rest, last, rows)

    return Generated(
        jax.tree.map(held, end.written.tokens, end.token), end.written.lengths, end.carry
    )


def _last(lengths: Array | None, prompt: Array) -> Array:
    """The last token of each prompt."""
    if lengths is None:
        return prompt[-1]
    at = (lengths - 1).astype(jnp.int32)
    at = at.reshape(1, *at.shape, *[1] * (prompt.ndim - 1 - at.ndim))
    return jnp.take_along_axis(prompt, at, axis=0)[0]


def _checked(lengths: Any, first: Array) -> Array:
    lengths = jnp.asarray(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(
            f"generate: lengths has dtype {lengths.dtype}, expected integers; cast with "
            ".astype(int)"
        )
    batch = first.shape[1 : 1 + lengths.ndim]
    if lengths.shape != batch:
        raise ValueError(
            f"generate: lengths has shape {lengths.shape}, expected [*batch] = {batch} for a "
            f"prompt of shape {first.shape}"
        )
    if isinstance(lengths, Tracer) or not lengths.size:
        return lengths
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest < 1 or longest > len(first):
        raise ValueError(
            f"generate: lengths go from {shortest} to {longest}, expected 1 to {len(first)}; "
            "begin prompts with a symbol"
        )
    return lengths


def _check_batch(carry: Any, batch: tuple[int, ...]) -> None:
    """Refuse a carry that is not one of each sequence."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(carry):
        if jnp.shape(leaf)[: len(batch)] != batch:
            name = f"carry{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"generate: {name} has shape {jnp.shape(leaf)}, expected [*batch, ...] with the "
                f"prompt's batch {batch}"
            )


def _checked_carry(
    model: Model,
    params: Any,
    carry: Any,
    prompt: Any,
    sample: Sampler,
    key: Array | None,
) -> Any:
    """The carry as wide as the model gives it back.

    A model whose carry changes otherwise is refused, and a sampler that does not give what the
    model reads.
    """
    token = jax.tree.map(lambda leaf: leaf[0], prompt)

    def go(carry: Any) -> tuple[Any, Any]:
        after, outputs = model(params, carry, token)
        return after, sample(key, outputs)

    after, drawn = jax.eval_shape(go, carry)
    _check_form("carry that the model returns", after, carry)
    _check_form("token that sample returns", drawn, token)
    given, carry = carry, jax.tree.map(_widened, carry, after)
    if _dtypes(carry) != _dtypes(given):
        after, _ = jax.eval_shape(go, carry)
    if _dtypes(after) != _dtypes(carry):
        raise TypeError(
            f"generate: the carry that the model returns is {after}, expected the dtypes of "
            f"{jax.tree.map(jax.typeof, carry)}, its input; cast it in the model"
        )
    return carry


def _check_form(name: str, got: Any, want: Any) -> None:
    if form(got) != form(want):
        given = jax.tree.map(jax.typeof, want)
        raise ValueError(f"generate: the {name} is {got}, expected the form of {given}, its input")


def _dtypes(tree: Any) -> list[Any]:
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def _widened(leaf: Array, like: Any) -> Array:
    """A float as wide as another one; anything else as it is."""
    floating = all(jnp.issubdtype(each.dtype, jnp.floating) for each in (leaf, like))
    wider = floating and jnp.finfo(like.dtype).bits > jnp.finfo(leaf.dtype).bits
    return leaf.astype(like.dtype) if wider else leaf


def _check_temperature(given: Any) -> None:
    if isinstance(given, bool) or not np.all(np.asarray(given) > 0):
        raise ValueError(
            f"Categorical: temperature is {given!r}, expected a positive number; "
            "for the likeliest symbol, use sample=jaxrnn.streams.generation.greedy"
        )


def _is_concrete(value: Any) -> bool:
    """Whether it is a number or an array, and its value is known."""
    known = Real | np.generic | np.ndarray | Array
    return isinstance(value, known) and not isinstance(value, Tracer)
