"""Samplers, which choose the next symbol from a model's logits."""

import dataclasses
from numbers import Real

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from numpy.typing import ArrayLike

from jaxrnn.core.check import check_size
from jaxrnn.core.dtypes import wide


def greedy(key: Array | None, logits: Array) -> Array:
    """Choose the most likely symbol of each row.

    Args:
        key: not used.
        logits: `[*batch, symbols]`.

    Returns:
        The symbols, integers `[*batch]`.

    >>> int(greedy(None, jnp.array([0.1, 0.7, 0.2])))
    1
    """
    del key
    return jnp.argmax(logits, axis=-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Categorical:
    """Draw a symbol at random.

        P(symbol) = softmax(logits / temperature)

    Probabilities are computed in at least float32. Changing `temperature` or `top_p` to another
    number does not compile anything again.

    Args:
        temperature: a number below 1 favours likely symbols, a number above 1 unlikely ones.
        top_k: draw from the k most likely symbols, and those as likely as the k-th (Fan et al.
            2018). None means all symbols.
        top_p: nucleus sampling (Holtzman et al. 2020): draw from the smallest set of most likely
            symbols with a total probability of at least `top_p`. `temperature` and `top_k` are
            applied first. The set always has the most likely symbol. None means all symbols.

    Raises:
        ValueError: `temperature` is not positive, `top_k` is not a positive integer, or `top_p` is
            not in (0, 1]. From the call: there is no key.

    >>> sample = Categorical(temperature=0.7, top_k=2)
    >>> int(sample(jax.random.key(0), jnp.array([-9.0, 5.0, -9.0, 5.0]))) in (1, 3)
    True
    >>> sample = Categorical(top_p=0.6)
    >>> int(sample(jax.random.key(0), jnp.log(jnp.array([0.1, 0.7, 0.2]))))
    1
    """

    temperature: float = 1.0
    top_k: int | None = dataclasses.field(default=None, metadata={"static": True})
    top_p: float | None = None

    def __post_init__(self) -> None:
        # values that are traced were checked outside of jax.jit
        if is_concrete(self.temperature):
            _check_temperature(self.temperature)
        if self.top_p is not None and is_concrete(self.top_p):
            _check_top_p(self.top_p)
        if self.top_k is not None:
            check_size(self, "top_k", self.top_k)

    def __call__(self, key: Array | None, logits: Array) -> Array:
        """Draw one symbol `[*batch]` for each row of the logits `[*batch, symbols]`.

        Raises:
            ValueError: `key` is None.
        """
        if key is None:
            raise ValueError(
                "Categorical: key is None, expected a random key; pass key=jax.random.key(0), or "
                "sample=jaxrnn.streams.greedy"
            )
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        logits = logits.astype(wide(logits))  # in a narrow dtype, random noise would have ties
        temperature = jnp.asarray(self.temperature, logits.dtype)
        highest = jnp.max(logits, axis=-1, keepdims=True)  # so that the quotient cannot overflow
        logits = (logits - highest) / temperature
        if self.top_p is not None:
            logits = jnp.where(_nucleus(logits, self.top_p), logits, -jnp.inf)
        return jax.random.categorical(key, logits)


def _nucleus(logits: Array, top_p: ArrayLike) -> Array:
    """Return which symbols are in the smallest set of most likely ones of probability `top_p`."""
    order = jnp.argsort(-logits, axis=-1)
    likeliest_first = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    # The sum starts at the least likely symbol, whose small number would be lost in a sum near 1.
    rest = lax.cumsum(likeliest_first, axis=logits.ndim - 1, reverse=True)
    # A symbol belongs to the set if those before it have a smaller probability than `top_p`.
    within = rest > 1 - jnp.asarray(top_p, logits.dtype)
    within = within.at[..., 0].set(True)
    return jnp.take_along_axis(within, jnp.argsort(order, axis=-1), axis=-1)


def _check_temperature(given: ArrayLike) -> None:
    if isinstance(given, bool) or not np.all(np.asarray(given) > 0):
        raise ValueError(
            f"Categorical: temperature is {given!r}, expected a positive number; "
            "for the most likely symbol, use sample=jaxrnn.streams.greedy"
        )


def _check_top_p(given: ArrayLike) -> None:
    known = np.asarray(given)
    if isinstance(given, bool) or not np.all((known > 0) & (known <= 1)):
        raise ValueError(
            f"Categorical: top_p is {given!r}, expected a probability in (0, 1]; "
            "for all symbols, leave it out"
        )


def is_concrete(value: object) -> bool:
    """Return whether a value is a number or an array that is known, not traced."""
    known = Real | np.generic | np.ndarray | Array
    return isinstance(value, known) and not isinstance(value, Tracer)
