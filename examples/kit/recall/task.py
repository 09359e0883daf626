"""The sequences of the recall task, and a network that learns it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxrnn

SYMBOLS = 4


def recall(key: jax.Array, length: int, batch: int) -> tuple[jax.Array, jax.Array]:
    """Draw sequences `[length + 1, batch, SYMBOLS + 1]`, and their symbols `[batch]`.

    The first step shows the symbol as a one-hot vector. The last feature is noise at every step.
    """
    of_symbols, of_noise = jax.random.split(key)
    symbols = jax.random.randint(of_symbols, (batch,), 0, SYMBOLS)
    noise = jax.random.normal(of_noise, (length + 1, batch, 1))
    shown = jnp.zeros((length + 1, batch, SYMBOLS)).at[0].set(jax.nn.one_hot(symbols, SYMBOLS))
    return jnp.concatenate([shown, noise], axis=-1), symbols


class Network(NamedTuple):
    """A cell with a linear readout of its last output.

    With `backwards`, the cell reads the sequence from its end, and sees the symbol last.
    """

    cell: jaxrnn.Cell
    backwards: bool = False

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draw the parameters."""
        of_cell, of_readout = jax.random.split(key)
        size = self.cell.out_features
        w = jax.random.normal(of_readout, (size, SYMBOLS)) / size**0.5
        return {"rnn": self.cell.init(of_cell, SYMBOLS + 1), "w": w}

    def inputs(self, xs: jax.Array) -> jax.Array:
        """Return the inputs in the order in which the cell reads them."""
        return xs[::-1] if self.backwards else xs

    def logits(self, params: Any, ys: jax.Array) -> jax.Array:
        """Return the logits `[batch, SYMBOLS]` of outputs `[time, batch, features]`."""
        return ys[-1] @ params["w"]

    def loss(self, params: Any, ys: jax.Array, symbols: jax.Array) -> jax.Array:
        """Return the mean cross-entropy in nats."""
        logits = self.logits(params, ys)
        return optax.softmax_cross_entropy_with_integer_labels(logits, symbols).mean()
