"""Samplers: how the next symbol is chosen from a model's logits."""

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
        top_p: nucleus sampling (Holtzman et al. 2020): draw from the smallest set of likeliest
            symbols whose probabilities, at this temperature and among those that `top_k` leaves,
            add up to at least so much. The likeliest is always one of them. None for all. A change
            from one number to another compiles nothing anew.

    Raises:
        ValueError: the temperature is not positive, `top_k` is not a positive integer, or `top_p`
            is not in (0, 1]; or, when it draws, there is no key.

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
        # within jax.jit they are not concrete, and were checked outside
        if is_concrete(self.temperature):
            _check_temperature(self.temperature)
        if self.top_p is not None and is_concrete(self.top_p):
            _check_top_p(self.top_p)
        if self.top_k is not None:
            check_size(self, "top_k", self.top_k)

    def __call__(self, key: Array | None, logits: Array) -> Array:
        """Draw one symbol for each row."""
        if key is None:
            raise ValueError(
                "Categorical: drawing needs a key; pass key=jax.random.key(0), or "
                "sample=jaxrnn.streams.greedy"
            )
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        logits = logits.astype(wide(logits))  # noise of few bits would have ties
        temperature = jnp.asarray(self.temperature, logits.dtype)
        highest = jnp.max(logits, axis=-1, keepdims=True)  # else the quotient may overflow
        logits = (logits - highest) / temperature
        if self.top_p is not None:
            logits = jnp.where(_nucleus(logits, self.top_p), logits, -jnp.inf)
        return jax.random.categorical(key, logits)


def _nucleus(logits: Array, top_p: ArrayLike) -> Array:
    """Which symbols are in the smallest set of likeliest ones that has the probability `top_p`."""
    order = jnp.argsort(-logits, axis=-1)
    likeliest_first = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    # Summed from the least likely on, whose small numbers would be lost in a sum near 1.
    rest = lax.cumsum(likeliest_first, axis=logits.ndim - 1, reverse=True)
    within = rest > 1 - jnp.asarray(top_p, logits.dtype)  # those before it are not enough
    within = within.at[..., 0].set(True)
    return jnp.take_along_axis(within, jnp.argsort(order, axis=-1), axis=-1)


def _check_temperature(given: ArrayLike) -> None:
    if isinstance(given, bool) or not np.all(np.asarray(given) > 0):
        raise ValueError(
            f"Categorical: temperature is {given!r}, expected a positive number; "
            "for the likeliest symbol, use sample=jaxrnn.streams.greedy"
        )


def _check_top_p(given: ArrayLike) -> None:
    known = np.asarray(given)
    if isinstance(given, bool) or not np.all((known > 0) & (known <= 1)):
        raise ValueError(
            f"Categorical: top_p is {given!r}, expected a probability in (0, 1]; "
            "for all symbols, leave it out"
        )


def is_concrete(value: object) -> bool:
    """Whether it is a number or an array, and its value is known."""
    known = Real | np.generic | np.ndarray | Array
    return isinstance(value, known) and not isinstance(value, Tracer)
