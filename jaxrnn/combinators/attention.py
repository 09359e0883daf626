"""Attention to a memory."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.combinators import joined
from jaxrnn.combinators.scores import SCORES, Score, mix
from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import Carry, Cell, Params, abstract_carry, abstract_params, one_row
from jaxrnn.core.check import (
    check_choice,
    check_fields,
    check_in_features,
    check_inner,
    check_size,
    described,
    name_of,
)
from jaxrnn.core.composite import Delegate
from jaxrnn.core.kinds import ContextCell, WithContext
from jaxrnn.core.trees import Tree, is_float, path_names
from jaxrnn.initializers import draw_gates


class Memory(NamedTuple):
    """The memory that an `Attention` attends to. It is passed as the driver's `context`.

    >>> import jax.numpy as jnp, jaxrnn
    >>> values, valid = jnp.ones((2, 5, 6)), jnp.arange(5) < jnp.array([[5], [3]])
    >>> memory = jaxrnn.Memory(values, valid)
    >>> memory.values.shape, memory.valid.sum(axis=1).tolist()
    ((2, 5, 6), [5, 3])
    """

    values: Array  # [*batch, places, features]
    valid: Array | None = None  # [*batch, places], bool: False for padding; None if there is none


class AttentionParams(NamedTuple):
    """Parameters of `Attention`.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Attention(jaxrnn.GRU(4), memory=6, attend="after")
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> params.inner.w_x.shape, params.score.w_k.shape, params.w_c.shape
    ((7, 12), (6, 4), (10, 4))
    """

    inner: Params  # the cell's, whose input is wider by what attention adds to it
    score: Params  # the score function's
    w_c: Array | None  # [memory + hidden, features]; None for attend="before"


class AttentionCarry(NamedTuple):
    """Carry of an `Attention` with `attend="after"`.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Attention(jaxrnn.GRU(4), attend="after", features=5)
    >>> carry = cell.initial_carry(cell.init(jax.random.key(0), in_features=3), (2, 3))
    >>> carry.inner.shape, carry.attended.shape
    ((2, 4), (2, 5))
    """

    inner: Carry  # the cell's
    attended: Array  # [*batch, features], a of the last step


class _Prepared(NamedTuple):
    keys: Any
    values: Array
    valid: Array | None


@dataclasses.dataclass(frozen=True)
class Attention(Delegate[AttentionParams, Any], ContextCell[AttentionParams, Any]):
    """A cell that attends to a memory at every step.

    The memory is the driver's context, `jaxrnn.Memory(values, valid)`. It has the places m_1 … m_P.
    A hidden state h attends to it by

        α = softmax over p of score(h, m_p),    c = Σ α_p m_p

    With `attend="before"` (Bahdanau, Cho & Bengio 2015), h_{t-1} attends before the step:

        h_t, y_t = cell([x_t; c_t])

    With `attend="after"` (Luong, Pham & Manning 2015, with input feeding), h_t attends after the
    step:

        h_t = cell([x_t; a_{t-1}]),    a_t = tanh([c_t; h_t] W_c),    y_t = a_t

    h is the part `h` of the cell's carry, or the carry itself if it is a single array. For a
    `Stack` it is the h of the top layer. Places that are not valid get no weight. If no place is
    valid, c is zero. `attention_weights` returns α of all steps.

    With `attend="before"`, the carry is the cell's. With `attend="after"`, it is
    `AttentionCarry(inner, attended)`. Put combinators that draw around the attention:
    `Zoneout(Attention(cell), h=0.1)`, `Dropout(Attention(cell), 0.2)`.

    Args:
        cell: any causal cell with an h that draws nothing and takes no context.
        score: `"additive"`, `"dot"`, `"general"`, or a `Score` such as `Additive(features)`.
        memory: the size of a place of the memory; that of the cell's output if left out.
        attend: `"before"` or `"after"` the step.
        features: the size of a, for `attend="after"`; that of the cell's output if left out.

    Raises:
        ValueError: `attend` or the name of a score is unknown; a size is not positive; `features`
            is given with `attend="before"`; or the cell is not causal, is noisy, or takes a
            context. From `init`: the carry has no h, or `"dot"` gets different sizes. From a
            driver: the memory has another shape.
        TypeError: `cell` is not a cell, `score` is neither a name nor a `Score`, or, from a driver,
            the context is not a `Memory`.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Attention(jaxrnn.LSTM(4), "additive", memory=6)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> memory = jaxrnn.Memory(jnp.ones((2, 5, 6)), jnp.arange(5) < jnp.array([[5], [3]]))
    >>> states, ys = jaxrnn.trajectory(cell, params, jnp.ones((7, 2, 3)), context=memory)
    >>> states.h.shape, ys.shape
    ((8, 2, 4), (7, 2, 4))
    >>> jaxrnn.attention_weights(cell, params, states, memory).shape
    (7, 2, 5)
    """

    cell: Cell
    score: str | Score = "additive"
    _: dataclasses.KW_ONLY
    memory: int | None = None
    attend: Literal["before", "after"] = "before"
    features: int | None = None

    def __post_init__(self) -> None:
        check_inner(self, "cell", self.cell)
        if isinstance(self.score, str):
            check_choice(self, "score", self.score, tuple(SCORES))
        elif not isinstance(self.score, Score):
            raise TypeError(
                f"Attention: score is {described(self.score)}, expected one of {[*SCORES]} or a "
                "jaxrnn.combinators.Score such as Additive(128)"
            )
        check_choice(self, "attend", self.attend, ("before", "after"))
        for name in ("memory", "features"):
            if getattr(self, name) is not None:
                check_fields(self, check_size, name)
        if self.features is not None and self.attend == "before":
            raise ValueError(
                f"Attention: features is {self.features}, expected None, because "
                'attend="before" has no output layer; use attend="after", or leave it out'
            )
        self._check_cell()

    def _check_cell(self) -> None:
        name = name_of(self.cell)
        for bad, why, hint in (
            (not self.cell.causal, "needs later inputs", "use a causal cell"),
            (self.cell.noisy, "draws random numbers", f"put it around: {name}(Attention(...))"),
            (self.cell.takes_context, "takes a context itself", "attend in one of the two"),
        ):
            if bad:
                raise ValueError(f"Attention: cell is a {name}, which {why}; {hint}")

    @property
    def _score(self) -> Score:
        return SCORES[self.score] if isinstance(self.score, str) else self.score

    @property
    def _places(self) -> int:
        """The size of a place of the memory."""
        return self.memory or self.cell.out_features

    @property
    def _joined(self) -> int:
        """The size of what is concatenated to the input."""
        return self._places if self.attend == "before" else self.out_features

    def inner(self, params: AttentionParams) -> Params:
        """Return the cell's parameters."""
        return params.inner

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> AttentionParams:
        """Draw the cell's parameters, for its wider input, and those of the attention."""
        size = check_in_features(self, in_features) + self._joined
        k_cell, k_score, k_c = jax.random.split(key, 3)
        hidden = self._hidden_size(size)
        w_c = None
        if self.attend == "after":
            shape = (self._places + hidden, self.out_features)
            w_c = draw_gates("lecun_normal", k_c, shape, dtype, gates=1)
        score = self._score.init(k_score, hidden, self._places, dtype)
        return AttentionParams(self.cell.init(k_cell, size, dtype), score, w_c)

    def _hidden_size(self, in_features: int) -> int:
        params = abstract_params(self.cell, in_features)
        carry = abstract_carry(self.cell, params, one_row(self.cell, in_features))
        return self._hidden(carry).shape[-1]

    def _hidden(self, carry: Carry) -> Array:
        """Return the hidden state h in a carry of the cell, of the top layer that has a carry."""
        while type(carry) is tuple and jax.tree.leaves(carry):  # of a `Stack`
            carry = [layer for layer in carry if jax.tree.leaves(layer)][-1]
        leaves = jax.tree_util.tree_leaves_with_path(carry)
        found = [
            leaf
            for path, leaf in leaves
            if is_float(leaf) and (path_names(path) or [""])[-1] in ("", "h")
        ]
        if not found:
            raise ValueError(
                f"Attention: the carry of {name_of(self.cell)} has no part h, expected one that "
                "attends to the memory; name its hidden state h"
            )
        return found[-1]

    def initial_carry(self, params: AttentionParams, input_shape: tuple[int, ...]) -> Carry:
        *batch, in_features = input_shape
        own = self.cell.initial_carry(params.inner, (*batch, in_features + self._joined))
        if self.attend == "before":
            return own
        return AttentionCarry(own, jnp.zeros((*batch, self.out_features), self._hidden(own).dtype))

    def prepare(self, params: AttentionParams, context: Memory) -> _Prepared:
        """Compute the keys, and set the padding of the memory to zero."""
        values, valid = _checked(context, self._places)
        if valid is not None:
            values = jnp.where(valid[..., None], values, jnp.zeros((), values.dtype))
        return _Prepared(self._score.keys(params.score, values), values, valid)

    def project(self, params: AttentionParams, xs: Array) -> joined.Input:
        """Return the input, and its part in the cell's products of the joined input."""
        return joined.before(self.cell, params.inner, xs, self._joined)

    def step(
        self, params: WithContext, carry: Any, u: joined.Input, affine: Affine = default_affine
    ) -> tuple[Any, Array]:
        own: AttentionParams = params.params
        if self.attend == "before":
            _, seen = self._look(own, self._hidden(carry), params.context, affine)
            return joined.step(self.cell, own.inner, carry, u, seen, affine)
        after, _ = joined.step(self.cell, own.inner, carry.inner, u, carry.attended, affine)
        h = self._hidden(after)
        _, seen = self._look(own, h, params.context, affine)
        assert own.w_c is not None
        a = jnp.tanh(affine(None, jnp.concatenate([seen, h.astype(seen.dtype)], axis=-1), own.w_c))
        return AttentionCarry(after, a), a

    def _look(
        self, params: AttentionParams, h: Array, memory: _Prepared, affine: Affine
    ) -> tuple[Array, Array]:
        """Return the weights α and their weighted sum c of the memory."""
        keys, values, valid = memory
        if values.ndim != h.ndim + 1:
            raise ValueError(
                f"Attention: context.values has shape {values.shape}, expected [*batch, places, "
                f"{self._places}] for a batch of shape {h.shape[:-1]}"
            )
        weights = _softmax(self._score(params.score, h, keys, affine), valid)
        return weights, affine(None, weights, values, linear=mix)

    def read(self, params: AttentionParams, ys: Array, xs: Tree) -> Array:
        """Return the outputs unchanged. The step has called the cell's own `read`."""
        del params, xs
        return ys

    def in_features(self, params: AttentionParams) -> int:
        """Return the size of the input, without what attention adds to it."""
        return self.cell.in_features(params.inner) - self._joined

    def labels(self, params: AttentionParams) -> AttentionParams:
        role: Any = lambda path, _: "bias" if path_names(path)[-1:] == ["b"] else "attention"  # noqa: E731
        score, w_c = jax.tree_util.tree_map_with_path(role, (params.score, params.w_c))
        return AttentionParams(self.cell.labels(params.inner), score, w_c)

    def check_in_features(self, in_features: int) -> None:
        self.cell.check_in_features(in_features + self._joined)

    @property
    def takes_context(self) -> bool:
        return True

    @property
    def out_features(self) -> int:
        """The size of the cell's output, or of a."""
        return self.features or self.cell.out_features  # attend="before" has no features


def attention_weights(
    cell: Attention, params: AttentionParams, states: Any, context: Memory
) -> Array:
    """Compute the weights α of an `Attention` at every step, for plots.

    Args:
        cell: the attention. For one inside another cell, pass its own part of `params` and
            `states`.
        params: its parameters.
        states: the states that `jaxrnn.trajectory` returns, `[time + 1, *batch, ...]`.
        context: the memory that it attended to.

    Returns:
        The weights `[time, *batch, places]`. The vectors c of all steps are
        `jnp.einsum("t...p,...pn->t...n", weights, context.values)`.

    Raises:
        TypeError: `cell` is not an `Attention`, or `context` is not a `Memory`.
        ValueError: the memory has another shape.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Attention(jaxrnn.GRU(4), "dot")
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> memory = jaxrnn.Memory(jnp.ones((2, 5, 4)))
    >>> states, ys = jaxrnn.trajectory(cell, params, jnp.ones((7, 2, 3)), context=memory)
    >>> weights = jaxrnn.attention_weights(cell, params, states, memory)
    >>> weights.shape, bool(jnp.allclose(weights.sum(axis=-1), 1))
    ((7, 2, 5), True)
    """
    if not isinstance(cell, Attention):
        raise TypeError(
            f"attention_weights: cell is {described(cell)}, expected a jaxrnn.Attention; for one "
            "inside another cell, pass it with its part of params and states"
        )
    prepared = cell.prepare(params, context)
    before = cell.attend == "before"
    carries = jax.tree.map(lambda leaf: leaf[:-1] if before else leaf[1:], states)
    h = cell._hidden(carries if before else carries.inner)
    return jax.vmap(lambda h: cell._look(params, h, prepared, default_affine)[0])(h)


def _softmax(scores: Array, valid: Array | None) -> Array:
    """Apply the softmax over the valid places. Without a valid place, all weights are zero."""
    if valid is None:
        return jax.nn.softmax(scores, axis=-1)
    least = jnp.asarray(jnp.finfo(scores.dtype).min, scores.dtype)
    weights = jax.nn.softmax(jnp.where(valid, scores, least), axis=-1)
    return jnp.where(valid, weights, jnp.zeros((), weights.dtype))


def _checked(context: object, features: int) -> Memory:
    """Return the memory. Refuse anything else, and other shapes or dtypes."""
    if not isinstance(context, Memory):
        given = "an array" if isinstance(context, Array) else described(context)
        raise TypeError(
            f"Attention: context is {given}, expected "
            "jaxrnn.Memory(values, valid), or jaxrnn.Memory(values) without padding"
        )
    values, valid = context
    if values.ndim < 2 or values.shape[-1] != features:
        raise ValueError(
            f"Attention: context.values has shape {values.shape}, expected [*batch, places, "
            f"{features}]; set the size of a place by Attention(memory=...)"
        )
    if valid is not None and (valid.shape != values.shape[:-1] or valid.dtype != jnp.bool_):
        raise ValueError(
            f"Attention: context.valid is {valid.dtype}{[*valid.shape]}, expected "
            f"bool{[*values.shape[:-1]]}; it says which places are not padding"
        )
    return context
