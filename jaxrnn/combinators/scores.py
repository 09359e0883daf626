"""Score functions of `Attention`: how well a hidden state matches each place of a memory."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.core.affine import Affine, matmul
from jaxrnn.core.cell import Params
from jaxrnn.core.check import check_fields, check_flag, check_size
from jaxrnn.core.dtypes import promote, wide
from jaxrnn.initializers import draw_gates


class Score(ABC):
    """A score function of `Attention`: a frozen dataclass of hyperparameters with pure methods.

    A subclass defines `init` and `__call__`, and `keys` if it transforms the memory.

    Example: the negative squared distance between h and a key.

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Distance(jaxrnn.combinators.Score):
    ...     def init(self, key, query, memory, dtype=jnp.float32):
    ...         return jax.random.normal(key, (memory, query), dtype)
    ...     def keys(self, params, values):
    ...         return values @ params
    ...     def __call__(self, params, h, keys, affine=jaxrnn.affine):
    ...         return -jnp.sum((h[..., None, :] - keys) ** 2, axis=-1)
    >>> cell = jaxrnn.Attention(jaxrnn.GRU(4), Distance())
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> memory = jaxrnn.Memory(jnp.ones((2, 5, 4)))
    >>> jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), context=memory)[1].shape
    (7, 2, 4)
    """

    @abstractmethod
    def init(self, key: Array, query: int, memory: int, dtype: DTypeLike = jnp.float32) -> Params:
        """Draw the parameters.

        Args:
            key: the random key.
            query: the size of the hidden state.
            memory: the size of a place of the memory.
            dtype: the dtype of the parameters.
        """

    def keys(self, params: Params, values: Array) -> Any:
        """Transform the memory `[*batch, places, memory]` once, before the first step.

        The default returns it as it is.
        """
        del params
        return values

    @abstractmethod
    def __call__(self, params: Params, h: Array, keys: Any, affine: Affine) -> Array:
        """Compute the scores `[*batch, places]` of a hidden state `h [*batch, query]`.

        Products by parameters and keys go through `affine`, as in `jaxrnn.Cell.step`.
        """


class AdditiveParams(NamedTuple):
    """Parameters of `Additive`.

    >>> import jax
    >>> params = Additive(8).init(jax.random.key(0), query=4, memory=6)
    >>> params.w_q.shape, params.w_k.shape, params.b.shape, params.v.shape
    ((4, 8), (6, 8), (8,), (8,))
    """

    w_q: Array  # [query, features]
    w_k: Array  # [memory, features]
    b: Array | None  # [features]
    v: Array  # [features]


@dataclasses.dataclass(frozen=True)
class Additive(Score):
    """The additive score (Bahdanau, Cho & Bengio 2015).

        score(h, m) = v · tanh(h W_q + m W_k + b)

    Args:
        features: the size of `v`; that of the hidden state if left out.
        bias: whether there is a `b`.

    Raises:
        ValueError: `features` is not positive, or `bias` is not a bool.

    >>> Additive(8)
    Additive(features=8, bias=True)
    """

    features: int | None = None
    _: dataclasses.KW_ONLY
    bias: bool = True

    def __post_init__(self) -> None:
        if self.features is not None:
            check_fields(self, check_size, "features")
        check_fields(self, check_flag, "bias")

    def init(
        self, key: Array, query: int, memory: int, dtype: DTypeLike = jnp.float32
    ) -> AdditiveParams:
        k_q, k_k, k_v = jax.random.split(key, 3)
        size = self.features or query
        w_q, w_k, v = (
            draw_gates("lecun_normal", k, (rows, columns), dtype, gates=1)
            for k, rows, columns in ((k_q, query, size), (k_k, memory, size), (k_v, size, 1))
        )
        return AdditiveParams(w_q, w_k, jnp.zeros(size, dtype) if self.bias else None, v[:, 0])

    def keys(self, params: AdditiveParams, values: Array) -> Array:
        """Compute `m W_k + b`."""
        keys = matmul(values, params.w_k)
        return keys if params.b is None else keys + promote(params.b, keys)

    def __call__(self, params: AdditiveParams, h: Array, keys: Array, affine: Affine) -> Array:
        q = affine(None, h, params.w_q)
        return affine(None, jnp.tanh(q[..., None, :] + keys), params.v, linear=_weigh)


@dataclasses.dataclass(frozen=True)
class Dot(Score):
    """The dot product (Luong, Pham & Manning 2015), for a memory as wide as the hidden state.

        score(h, m) = h · m

    Args:
        scaled: whether to divide by the square root of the size (Vaswani et al. 2017).

    Raises:
        ValueError: `scaled` is not a bool. From `init`: the sizes differ.

    >>> Dot(scaled=True)
    Dot(scaled=True)
    """

    _: dataclasses.KW_ONLY
    scaled: bool = False

    def __post_init__(self) -> None:
        check_fields(self, check_flag, "scaled")

    def init(self, key: Array, query: int, memory: int, dtype: DTypeLike = jnp.float32) -> None:
        """Return None, because there are no parameters.

        Raises:
            ValueError: the hidden state and the memory differ in size.
        """
        del key, dtype
        if query != memory:
            raise ValueError(
                f"Dot: the hidden state has {query} features and the memory {memory}, expected "
                'equal sizes; use score="general", which has a matrix between them'
            )

    def __call__(self, params: None, h: Array, keys: Array, affine: Affine) -> Array:
        del params
        scores = affine(None, h, keys, linear=_dot)
        return scores * h.shape[-1] ** -0.5 if self.scaled else scores


class GeneralParams(NamedTuple):
    """Parameters of `General`.

    >>> import jax
    >>> General().init(jax.random.key(0), query=4, memory=6).w_k.shape
    (6, 4)
    """

    w_k: Array  # [memory, query]


@dataclasses.dataclass(frozen=True)
class General(Score):
    """The general score (Luong, Pham & Manning 2015).

        score(h, m) = h · (m W_k)

    >>> General()
    General()
    """

    def init(
        self, key: Array, query: int, memory: int, dtype: DTypeLike = jnp.float32
    ) -> GeneralParams:
        return GeneralParams(draw_gates("lecun_normal", key, (memory, query), dtype, gates=1))

    def keys(self, params: GeneralParams, values: Array) -> Array:
        """Compute `m W_k`."""
        return matmul(values, params.w_k)

    def __call__(self, params: GeneralParams, h: Array, keys: Array, affine: Affine) -> Array:
        del params
        return affine(None, h, keys, linear=_dot)


SCORES: dict[str, Score] = {"additive": Additive(), "dot": Dot(), "general": General()}


def _weigh(e: Array, v: Array) -> Array:
    """Return `e [..., places, n] · v [n]`."""
    return matmul(e, v)


def _dot(h: Array, keys: Array) -> Array:
    """Return `h [..., n] · keys [..., places, n]`."""
    h = h.astype(keys.dtype)
    return jnp.einsum("...n,...pn->...p", h, keys, preferred_element_type=wide(keys))


def mix(weights: Array, values: Array) -> Array:
    """Return the sum over places of `weights [..., places]` times `values [..., places, n]`."""
    weights = weights.astype(values.dtype)
    return jnp.einsum("...p,...pn->...n", weights, values, preferred_element_type=wide(values))
