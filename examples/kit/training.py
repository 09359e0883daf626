"""What trains and scores models of sequences: an optimiser, and a held-out text in chunks."""

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
    """Clip by the global norm, then AdamW, whose rate warms up from `start` to `peak` and goes down
    to zero along a cosine.
    """
    last = max(steps, warm_up + 1)
    rate = optax.warmup_cosine_decay_schedule(start, peak, warm_up, last)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=b2, weight_decay=1e-2))


def count(tree: Any) -> int:
    """How many numbers the arrays of a tree have."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


class SequenceModel(Protocol):
    """Predicts each symbol from those before it; hashable, for `jax.jit`."""

    def initial_carry(self, params: Any, batch: tuple[int, ...]) -> Any: ...
    def scan(self, params: Any, carry: Any, ids: jax.Array) -> tuple[Any, jax.Array]: ...


@partial(jax.jit, static_argnums=0)
def _score(model: SequenceModel, params: Any, carry: Any, chunk: Any) -> tuple[Any, jax.Array]:
    """The carry after a chunk `(inputs, targets, valid)`, and the nats that its targets take."""
    inputs, targets, valid = chunk
    carry, logits = model.scan(params, carry, inputs)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return carry, jnp.where(valid, nats, 0).sum()


def bits_per_symbol(model: SequenceModel, params: Any, chunks: Chunks) -> float:
    """What a text in chunks takes, the carry going from each chunk to the next."""
    carry, total = model.initial_carry(params, chunks.inputs.shape[2:]), 0.0
    for chunk in zip(*chunks, strict=True):
        carry, nats = _score(model, params, carry, chunk)
        total += float(nats)
    return total / math.log(2) / int(chunks.valid.sum())
