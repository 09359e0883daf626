"""What `generate` and `beam_search` share: the model, its prompt and inputs, and their checks."""

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn.core.call import check_lengths
from jaxrnn.core.cell import Params
from jaxrnn.core.check import check_size
from jaxrnn.core.trees import Tree, form
from jaxrnn.core.walk import select, valid_steps
from jaxrnn.methods.mesh import varying_as

Carry = TypeVar("Carry")
Token = Tree
"""What a model reads in one step: symbols `[*batch]` or features `[*batch, features]`."""

Outputs = Tree
"""What a model returns in one step, such as logits `[*batch, symbols]`."""

Model = Callable[..., tuple[Carry, Outputs]]
"""`model(params, carry, token) -> (carry, outputs)` reads one token of each sequence. The inputs of
the step are a fourth argument, and the context is the keyword `context`, if there are any."""


class Start(NamedTuple, Generic[Carry]):
    """The arguments of a model: parameters, carry, prompt, inputs and context."""

    params: Params
    carry: Carry  # [*batch, ...]
    prompt: Token  # [time, *batch], or [time, *batch, features]
    lengths: Array | None  # [*batch]
    inputs: Tree  # [time - 1 + steps, *batch, ...]
    context: Tree  # [*batch, ...]

    @property
    def symbols(self) -> bool:
        """Whether tokens are symbols. Otherwise they are features."""
        return jnp.issubdtype(_first(self.prompt).dtype, jnp.integer)

    @property
    def batch(self) -> tuple[int, ...]:
        """The sizes of the batch axes."""
        return _first(self.prompt).shape[1 : None if self.symbols else -1]

    @property
    def time(self) -> int:
        """The number of tokens of the longest prompt, padding included."""
        return len(_first(self.prompt))

    def at(self, rows: Tree, t: Array | int) -> Tree:
        """Return the row of each sequence that belongs to the token read at generated step t.

        At step 0, this is the last valid row of the prompt.
        """

        def leaf(rows: Array) -> Array:
            if self.lengths is None:
                return lax.dynamic_index_in_dim(rows, self.time - 1 + t, 0, keepdims=False)
            at = self.lengths.astype(jnp.int32) - 1 + t
            at = at.reshape(1, *at.shape, *[1] * (rows.ndim - 1 - at.ndim))
            return jnp.take_along_axis(rows, at, axis=0)[0]

        return jax.tree.map(leaf, rows)


class Reader(NamedTuple, Generic[Carry]):
    """A model, with all its arguments except the carry and the token."""

    model: Model[Carry]
    start: Start[Carry]
    vary: Callable[[Tree], Tree]  # makes arrays vary over the same mesh axes as the arguments

    def read(self, carry: Carry, token: Token, inputs: Tree) -> tuple[Carry, Outputs]:
        """Read a token of each sequence, and the inputs of its step."""
        params, context = self.start.params, self.start.context
        more = () if _is_empty(inputs) else (inputs,)
        named = {} if _is_empty(context) else {"context": context}
        return self.vary(self.model(params, carry, token, *more, **named))

    def next(self, carry: Carry, token: Token, t: Array | int) -> tuple[Carry, Outputs]:
        """Read a token at generated step t."""
        return self.read(carry, token, self.start.at(self.start.inputs, t))

    def read_prompt(self) -> Carry:
        """Return the carry after all tokens of each prompt except the last."""
        start = self.start
        valid = valid_steps(start.time, start.lengths, None)
        more = None if valid is None else valid[1:]  # whether another token of the prompt follows
        tokens, inputs = jax.tree.map(
            lambda rows: rows[: start.time - 1], (start.prompt, start.inputs)
        )

        def body(carry: Carry, at: tuple[Token, Tree, Array | None]) -> tuple[Carry, None]:
            token, inputs, more = at
            after, _ = self.read(carry, token, inputs)
            return after if more is None else select(more, after, carry), None

        return lax.scan(body, start.carry, (tokens, inputs, more))[0]


def make_reader(
    owner: str,
    model: Model[Carry],
    start: Start[Carry],
    choose: Callable[[Outputs], Tree],
    others: Tree,
) -> tuple[Reader[Carry], Tree]:
    """Make a reader, whose carry is as wide as the model returns it.

    Args:
        owner: names the caller in a message.
        model: the model.
        start: its arguments.
        choose: a function of the model's outputs.
        others: further arrays that influence the tokens.

    Returns:
        The reader, and the shapes and dtypes of `choose(outputs)`.

    Raises:
        ValueError: the model returns no pair, or changes the structure or a shape of its carry, or
            batch axes do not fit.
        TypeError: the model changes the dtypes of its carry, even of the widened one.
    """
    for argument, tree in (("carry", start.carry), ("context", start.context)):
        check_batch(owner, argument, tree, start.batch)
    vary = partial(varying_as, (start, others))
    token, given = start.at(start.prompt, 0), start.carry

    def go(carry: Carry) -> tuple[Carry, Tree]:
        result = Reader(model, start, lambda tree: tree).next(carry, token, 0)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise ValueError(
                f"{owner}: model returns arrays of shape {jax.tree.map(np.shape, result)}, "
                "expected a pair; return (carry, outputs)"
            )
        return result[0], choose(result[1])

    after, chosen = jax.eval_shape(go, given)
    hint = "; begin with cell.initial_carry, and return the carry after the step"
    check_form(owner, "carry that the model returns", after, given, hint)
    carry = jax.tree.map(_widened, given, after)
    if _dtypes(carry) != _dtypes(given):
        after, _ = jax.eval_shape(go, carry)
    if _dtypes(after) != _dtypes(carry):
        raise TypeError(
            f"{owner}: the carry that the model returns is {after}, expected the dtypes of "
            f"{jax.tree.map(jax.typeof, carry)}, its input; cast it in the model"
        )
    carry, prompt = vary((carry, start.prompt))
    return Reader(model, start._replace(carry=carry, prompt=prompt), vary), chosen


def checked_start(owner: str, model: Model[Carry], steps: int, start: Start[Carry]) -> Start[Carry]:
    """Return the arguments as arrays. Refuse a size, an axis or a length that does not fit."""
    check_size(owner, "steps", steps)
    try:
        hash(model)
    except TypeError as error:
        raise TypeError(
            f"{owner}: model is {model!r}, expected a hashable one; pass a function, or a method "
            "of a frozen dataclass"
        ) from error
    arrays: Any = jax.tree.map(jnp.asarray, start._replace(params=None))
    prompt = jax.tree.map(_wide_enough, arrays.prompt)
    start = arrays._replace(params=start.params, prompt=prompt)
    first = _first(start.prompt)
    if first.ndim < 1 or not len(first):
        raise ValueError(
            f"{owner}: prompt has shape {first.shape}, expected [time, *batch] with at least one "
            "token; begin it with a symbol that marks the beginning"
        )
    if start.lengths is not None:
        _check_lengths(owner, start.lengths, first)
    _check_inputs(owner, start, steps)
    return start


def _check_inputs(owner: str, start: Start[Carry], steps: int) -> None:
    """Refuse inputs that do not have one row for each token that is read."""
    wanted = (start.time - 1 + steps, *start.batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(start.inputs):
        if leaf.shape[: len(wanted)] != wanted:
            raise ValueError(
                f"{owner}: inputs{jax.tree_util.keystr(path)} has shape {leaf.shape}, expected "
                f"[time - 1 + steps, *batch, ...] with {wanted}; pass one row for each token of "
                "the prompt, and for each generated one except the last"
            )


def _check_lengths(owner: str, lengths: Array, first: Array) -> None:
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(
            f"{owner}: lengths has dtype {lengths.dtype}, expected integers; cast with .astype(int)"
        )
    batch = first.shape[1 : 1 + lengths.ndim]
    if lengths.shape != batch:
        raise ValueError(
            f"{owner}: lengths has shape {lengths.shape}, expected [*batch] = {batch} for a "
            f"prompt of shape {first.shape}"
        )
    hint = "begin every prompt with a symbol that marks the beginning"
    check_lengths(owner, len(first), lengths, least=1, hint=hint)


def check_batch(owner: str, argument: str, tree: Tree, batch: tuple[int, ...]) -> None:
    """Refuse arrays that do not start with the batch axes of the prompt."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.shape(leaf)[: len(batch)] != batch:
            name = f"{argument}{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{owner}: {name} has shape {jnp.shape(leaf)}, expected [*batch, ...] with "
                f"[*batch] = {batch}, as in the prompt"
            )


def check_form(owner: str, name: str, got: Tree, want: Tree, hint: str = "") -> None:
    """Refuse a result of the model or the sampler that does not have the form of its input."""
    if form(got) != form(want):
        given = jax.tree.map(jax.typeof, want)
        raise ValueError(
            f"{owner}: the {name} is {got}, expected the form of {given}, its input{hint}"
        )
    for new, old in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if jnp.issubdtype(new.dtype, jnp.inexact) != jnp.issubdtype(old.dtype, jnp.inexact):
            raise TypeError(
                f"{owner}: the {name} is {new.dtype}, expected the kind of {old.dtype}; cast it"
            )


def _wide_enough(tokens: Array) -> Array:
    """Widen symbols to at least 32 bits: a narrow dtype may be too small for generated ones."""
    narrow = jnp.issubdtype(tokens.dtype, jnp.integer) and jnp.iinfo(tokens.dtype).bits < 32
    return tokens.astype(jnp.int32) if narrow else tokens


def checked_stop(owner: str, stop: object) -> Array:
    """Return the stop symbols as an array. Refuse anything but a sequence of integers."""
    given: Any = stop
    try:
        symbols = jnp.asarray(tuple(given))
        if not symbols.size or jnp.issubdtype(symbols.dtype, jnp.integer):
            return symbols.astype(jnp.int32)
    except (TypeError, ValueError):
        pass
    raise TypeError(
        f"{owner}: stop is {stop!r}, expected a sequence of symbols, which are integers; pass [2] "
        "for the symbol 2"
    )


def is_stop(token: Array, stop: Array) -> Array:
    """Return whether each symbol is one of the stop symbols."""
    return jnp.isin(token.astype(stop.dtype), stop)


def _first(prompt: Token) -> Array:
    return jax.tree.leaves(prompt)[0]


def _is_empty(tree: Tree) -> bool:
    return not jax.tree.leaves(tree)


def _dtypes(tree: Tree) -> list[np.dtype]:
    return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def _widened(leaf: Array, like: jax.ShapeDtypeStruct) -> Array:
    """Cast a float to the dtype of `like` if that is wider. Return anything else unchanged."""
    floating = all(jnp.issubdtype(each.dtype, jnp.floating) for each in (leaf, like))
    wider = floating and jnp.finfo(like.dtype).bits > jnp.finfo(leaf.dtype).bits
    return leaf.astype(like.dtype) if wider else leaf
