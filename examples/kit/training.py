"""An optimiser, the size of a model, and the score of a model of sequences."""

import math
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from kit.text import Chunks


def make_adamw(
    peak: float, steps: int, warm_up: int, start: float = 0.0, b2: float = 0.999
) -> optax.GradientTransformation:
    """Make AdamW with gradients clipped to a global norm of 1.

    The learning rate rises from `start` to `peak` in `warm_up` steps, and falls to zero along a
    cosine.
    """
    last = max(steps, warm_up + 1)
    rate = optax.warmup_cosine_decay_schedule(start, peak, warm_up, last)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=b2, weight_decay=1e-2))


def count_parameters(params: Any) -> int:
    """Return how many numbers the arrays of a pytree hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


class SequenceModel(Protocol):
    """A model that predicts each symbol from those before it. It is hashable, for `jax.jit`."""

    def initial_carry(self, params: Any, batch: tuple[int, ...]) -> Any:
        """Return the carry before the first symbol."""
        ...

    def scan(self, params: Any, carry: Any, ids: jax.Array) -> tuple[Any, jax.Array]:
        """Return the carry after symbols `[time, *batch]`, and the logits of each next symbol."""
        ...


@partial(jax.jit, static_argnums=0)
def _score(model: SequenceModel, params: Any, carry: Any, chunk: Any) -> tuple[Any, jax.Array]:
    """Return the carry after a chunk of `Chunks`, and the sum of its cross-entropies in nats."""
    inputs, targets, valid = chunk
    carry, logits = model.scan(params, carry, inputs)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return carry, jnp.where(valid, nats, 0).sum()


def bits_per_symbol(model: SequenceModel, params: Any, chunks: Chunks) -> float:
    """Return the mean cross-entropy of a text in bits. Each chunk starts from the last carry."""
    carry, total = model.initial_carry(params, chunks.inputs.shape[2:]), 0.0
    for chunk in zip(*chunks, strict=True):
        carry, nats = _score(model, params, carry, chunk)
        total += float(nats)
    return total / math.log(2) / int(chunks.valid.sum())
