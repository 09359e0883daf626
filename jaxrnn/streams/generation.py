"""Running a model on its own outputs: in one compiled loop it reads each token that is drawn."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from numpy.typing import ArrayLike

from jaxrnn.core.check import check_size
from jaxrnn.core.dtypes import wide
from jaxrnn.core.trees import Tree, form
from jaxrnn.core.walk import select, valid_steps
from jaxrnn.methods.mesh import varying_as

Params = TypeVar("Params")
Carry = TypeVar("Carry")
Token = Tree
"""What a model reads: symbols `[*batch]`, say, or features `[*batch, features]`."""

Outputs = Tree
"""What a model gives: logits `[*batch, symbols]`, say."""

Model = Callable[[Params, Carry, Token], tuple[Carry, Outputs]]
"""`model(params, carry, token) -> (carry, outputs)`: read one token of each sequence."""

Sampler = Callable[[Array | None, Outputs], Token]
"""`sample(key, outputs) -> token`: choose what is read next."""


class Generated(NamedTuple, Generic[Carry]):
    """What `generate` wrote.

    `generate(model, params, carry, tokens[-1:], ...)` goes on from there.
    """

    tokens: Token  # [steps, *batch]; after a sequence has stopped, its last token again
    lengths: Array  # [*batch]: how many tokens each sequence wrote, with the one that stopped it
    carry: Carry  # of each sequence, before it reads its last token


def greedy(key: Array | None, logits: Array) -> Array:
    """Choose the likeliest symbol of each row.

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
        temperature: below 1 it makes likely symbols likelier, above 1 unlikely ones. A change of it
            compiles nothing anew.
        top_k: draw from so many of the likeliest symbols only (Fan et al. 2018); None for all.

    Raises:
        ValueError: the temperature is not positive, or `top_k` is not a positive integer; or, when
            it draws, there is no key.

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
        """Draw one symbol for each row."""
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
        highest = jnp.max(logits, axis=-1, keepdims=True)  # else the quotient may overflow
        return jax.random.categorical(key, (logits - highest) / temperature)


def generate(
    model: Model[Params, Carry],
    params: Params,
    carry: Carry,
    prompt: Token,
    *,
    steps: int,
    lengths: ArrayLike | None = None,
    sample: Sampler = greedy,
    stop: Sequence[int] = (),
    key: Array | None = None,
) -> Generated[Carry]:
    """Read a prompt, then let the model go on by itself.

    At step t, `carry, outputs = model(params, carry, token)` and `token = sample(key_t, outputs)`.

    One program is compiled for each model, shape and number of steps. It ends early once all
    sequences have stopped. It has no reverse-mode derivative. Under `jax.shard_map` each device
    ends by itself, so the model must not communicate over axes that split the batch.

    Args:
        model: `model(params, carry, token) -> (carry, outputs)`. It must be hashable: the same
            function, or the method of an equal frozen dataclass, is not compiled again.
        params: the model's parameters.
        carry: the carry of all sequences before the prompt, arrays `[*batch, ...]`. If the model
            returns it in a wider dtype, it is widened before the first step.
        prompt: what is read first, integers `[time, *batch]`; or floats `[time, *batch, features]`
            for a model of signals. Each sequence needs at least one token, such as a symbol that
            marks its beginning.
        steps: how many tokens to write at most.
        lengths: integers `[*batch]`, at least 1: how many tokens of each prompt are valid. The rest
            is padding on the right.
        sample: `sample(key, outputs) -> token`: `greedy`, `Categorical(temperature, top_k)`, or
            your own. For signals, a function that returns the outputs feeds them back.
        stop: symbols that end a sequence. Such a symbol is written, and nothing after it.
        key: what to draw from; step t gets `jax.random.fold_in(key, t)`.

    Returns:
        The tokens, how many of them each sequence wrote, and the carry to go on from.

    Raises:
        ValueError: a size, a length, the carry or what `sample` gives does not fit the prompt.
        TypeError: the model cannot be hashed or changes the dtype of its carry, or lengths are not
            integers.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> def count(params, carry, token):  # a model that says "one more", up to 4
    ...     return carry, jax.nn.one_hot(jnp.minimum(token + 1, 4), 5)
    >>> prompt, lengths = jnp.array([[0, 1], [0, 2]]), jnp.array([1, 2])
    >>> out = jaxrnn.generate(count, None, None, prompt, lengths=lengths, steps=5, stop=[4])
    >>> out.tokens.T.tolist(), out.lengths.tolist()
    ([[1, 2, 3, 4, 4], [3, 4, 4, 4, 4]], [4, 2])
    """
    check_size(generate, "steps", steps)
    _check_hashable(model)
    carry, prompt = jax.tree.map(jnp.asarray, (carry, prompt))
    first = jax.tree.leaves(prompt)[0]
    if first.ndim < 1 or not len(first):
        raise ValueError(
            f"generate: prompt has shape {first.shape}, expected [time, *batch] with at least one "
            "token to begin with"
        )
    counts = None if lengths is None else _checked_lengths(lengths, first)
    if jax.tree_util.all_leaves([sample]):  # a function: no pytree, as a Categorical is
        sample = jax.tree_util.Partial(sample)
    ends = jnp.asarray(tuple(stop), jnp.int32)
    return _generate(model, steps, params, carry, prompt, counts, sample, ends, key)


@partial(jax.jit, static_argnums=(0, 1))
def _generate(
    model: Model[Params, Carry],
    steps: int,
    params: Params,
    carry: Carry,
    prompt: Token,
    lengths: Array | None,
    sample: Sampler,
    stop: Array,
    key: Array | None,
) -> Generated[Carry]:
    first = jax.tree.leaves(prompt)[0]
    symbols = jnp.issubdtype(first.dtype, jnp.integer)
    batch = first.shape[1:] if symbols else first.shape[1:-1]
    _check_batch(carry, batch)
    carry = _checked_carry(model, params, carry, prompt, sample, key)
    vary = partial(varying_as, (params, carry, prompt, lengths, sample, key))
    carry, prompt = vary((carry, prompt))
    writer = _Writer(model, sample, vary, params, key, stop if symbols else None)
    carry = _read(writer, carry, prompt, lengths)
    token = jax.tree.map(partial(_last, lengths), prompt)
    tokens = jax.tree.map(lambda leaf: jnp.zeros((steps, *leaf.shape), leaf.dtype), token)
    stopped, written, tokens = vary((jnp.zeros(batch, bool), jnp.zeros(batch, jnp.int32), tokens))
    start = _Writing(jnp.int32(0), carry, token, stopped, tokens, written)
    end = lax.while_loop(lambda now: (now.t < steps) & ~jnp.all(now.stopped), writer.write, start)

    def held(rows: Array, last: Array) -> Array:
        t = jnp.arange(steps, dtype=end.t.dtype).reshape(steps, *[1] * last.ndim)
        rest = t >= end.t  # all had stopped before
        return jnp.where(rest, last, rows)

    return Generated(jax.tree.map(held, end.tokens, end.token), end.lengths, end.carry)


class _Writing(NamedTuple, Generic[Carry]):
    """Where writing stands before step t."""

    t: Array
    carry: Carry
    token: Token  # what each sequence reads next
    stopped: Array
    tokens: Token  # [steps, *batch], zero from row t on
    lengths: Array


class _Writer(NamedTuple, Generic[Params, Carry]):
    """What is the same at every step."""

    model: Model[Params, Carry]
    sample: Sampler
    vary: Callable[[Tree], Tree]
    params: Params
    key: Array | None
    stop: Array | None  # None if tokens are not symbols

    def write(self, now: _Writing[Carry]) -> _Writing[Carry]:
        """Read a token and write the next one; a sequence that has stopped stays as it is."""
        after, outputs = self.vary(self.model(self.params, now.carry, now.token))
        key = None if self.key is None else jax.random.fold_in(self.key, now.t)
        drawn = self.vary(self.sample(key, outputs))
        drawn = jax.tree.map(lambda new, old: new.astype(old.dtype), drawn, now.token)
        carry, token = select(now.stopped, (now.carry, now.token), (after, drawn))
        tokens = jax.tree.map(
            lambda rows, new: lax.dynamic_update_index_in_dim(rows, new, now.t, 0),
            now.tokens,
            token,
        )
        lengths = now.lengths + (~now.stopped).astype(jnp.int32)
        stopped = now.stopped
        if self.stop is not None:
            stopped |= jnp.isin(token.astype(self.stop.dtype), self.stop)
        return _Writing(now.t + 1, carry, token, stopped, tokens, lengths)


def _read(
    writer: _Writer[Params, Carry], carry: Carry, prompt: Token, lengths: Array | None
) -> Carry:
    """The carry after all tokens of each prompt but the last."""
    valid = valid_steps(len(jax.tree.leaves(prompt)[0]), lengths, None)
    more = None if valid is None else valid[1:]  # whether a token of the prompt follows

    def read(carry: Carry, at: tuple[Token, Array | None]) -> tuple[Carry, None]:
        token, more = at
        after, _ = writer.vary(writer.model(writer.params, carry, token))
        return after if more is None else select(more, after, carry), None

    return lax.scan(read, carry, (jax.tree.map(lambda leaf: leaf[:-1], prompt), more))[0]


def _last(lengths: Array | None, prompt: Array) -> Array:
    """The last token of each prompt."""
    if lengths is None:
        return prompt[-1]
    at = (lengths - 1).astype(jnp.int32)
    at = at.reshape(1, *at.shape, *[1] * (prompt.ndim - 1 - at.ndim))
    return jnp.take_along_axis(prompt, at, axis=0)[0]


def _check_hashable(model: Model[Params, Carry]) -> None:
    try:
        hash(model)
    except TypeError as error:
        raise TypeError(
            f"generate: {model!r} cannot be hashed; pass a function, or a method of a frozen "
            "dataclass"
        ) from error


def _checked_lengths(given: ArrayLike, first: Array) -> Array:
    """The lengths as an array; refused if they do not fit the prompt."""
    lengths = jnp.asarray(given)
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


def _check_batch(carry: Tree, batch: tuple[int, ...]) -> None:
    """Refuse a carry that does not begin with the prompt's batch axes."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(carry):
        if jnp.shape(leaf)[: len(batch)] != batch:
            name = f"carry{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"generate: {name} has shape {jnp.shape(leaf)}, expected [*batch, ...] with the "
                f"prompt's batch {batch}"
            )


def _checked_carry(
    model: Model[Params, Carry],
    params: Params,
    carry: Carry,
    prompt: Token,
    sample: Sampler,
    key: Array | None,
) -> Carry:
    """The carry, as wide as the model returns it.

    A model that changes its carry in another way is refused, and so is a sampler whose token the
    model cannot read.
    """
    token = jax.tree.map(lambda leaf: leaf[0], prompt)

    def go(carry: Carry) -> tuple[Carry, Token]:
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


def _check_form(name: str, got: Tree, want: Tree) -> None:
    if form(got) != form(want):
        given = jax.tree.map(jax.typeof, want)
        raise ValueError(f"generate: the {name} is {got}, expected the form of {given}, its input")


def _dtypes(tree: Tree) -> list[np.dtype]:
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def _widened(leaf: Array, like: jax.ShapeDtypeStruct) -> Array:
    """A float at least as wide as `like`; anything else as it is."""
    floating = all(jnp.issubdtype(each.dtype, jnp.floating) for each in (leaf, like))
    wider = floating and jnp.finfo(like.dtype).bits > jnp.finfo(leaf.dtype).bits
    return leaf.astype(like.dtype) if wider else leaf


def _check_temperature(given: ArrayLike) -> None:
    if isinstance(given, bool) or not np.all(np.asarray(given) > 0):
        raise ValueError(
            f"Categorical: temperature is {given!r}, expected a positive number; "
            "for the likeliest symbol, use sample=jaxrnn.streams.generation.greedy"
        )


def _is_concrete(value: object) -> bool:
    """Whether it is a number or an array, and its value is known."""
    known = Real | np.generic | np.ndarray | Array
    return isinstance(value, known) and not isinstance(value, Tracer)
