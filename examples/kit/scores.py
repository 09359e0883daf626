"""Perplexity and accuracy of predictions of the next symbol, by models and by n-grams."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kit.symbols import UNKNOWN
from kit.text import evaluation_chunks, grams
from kit.training import SequenceModel


class Score(NamedTuple):
    """The quality of predictions of the symbols of a text."""

    perplexity: float
    top1: float  # the share of symbols that were the likeliest one
    top5: float  # the share of symbols that were among the five likeliest

    @classmethod
    def of(cls, nats: np.ndarray, ranks: np.ndarray) -> "Score":
        """Compute the score from the cross-entropies in nats and the ranks of all symbols."""
        return cls(float(np.exp(nats.mean())), float((ranks < 1).mean()), float((ranks < 5).mean()))

    def __str__(self) -> str:
        right = f"first guess right {self.top1:6.1%}    one of five {self.top5:6.1%}"
        return f"perplexity {self.perplexity:6.1f}    {right}"


@partial(jax.jit, static_argnums=0)
def nats_and_ranks(model: SequenceModel, params: Any, carry: Any, inputs: Any, targets: Any) -> Any:
    """Return the carry after a chunk `[time, *batch]`, and a pair of arrays over its targets.

    The pair has the cross-entropies in nats and the ranks.
    """
    carry, logits = model.scan(params, carry, inputs)
    own = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return carry, (jax.nn.logsumexp(logits, axis=-1) - own, ranks(logits, targets))


def score(model: SequenceModel, params: Any, ids: np.ndarray, start: int) -> Score:
    """Score the predictions of a model on a text. The model reads the symbol `start` first."""
    cut = evaluation_chunks(ids, start, batch=16, chunk=32)
    carry, parts = model.initial_carry(params, cut.inputs.shape[2:]), []
    for inputs, targets, valid in zip(*cut, strict=True):
        carry, told = nats_and_ranks(model, params, carry, inputs, targets)
        parts.append(np.array(told)[:, valid])
    return Score.of(*np.concatenate(parts, axis=1))


def ranks(scores: Any, came: Any) -> Any:
    """Return the rank of the symbols that came: how many symbols have higher scores.

    `UNKNOWN` does not count as a prediction. If it came, its rank is the number of symbols.

    Args:
        scores: the scores of all symbols `[*batch, symbols]`.
        came: the symbols that came `[*batch]`.
    """
    own = jnp.take_along_axis(scores, came[..., None], axis=-1)
    better = (scores[..., UNKNOWN + 1 :] > own).sum(axis=-1)
    return jnp.where(came == UNKNOWN, scores.shape[-1], better)


class NGram:
    """The n-gram model of `kit.text.ngram_bits`, with the probabilities of all symbols.

    Args:
        ids: the text in which n-grams are counted.
        order: the length n of the longest n-grams.
        symbols: how many numbers there are, `UNKNOWN` included.
    """

    def __init__(self, ids: np.ndarray, order: int, symbols: int) -> None:
        self.order, self.symbols = order, symbols
        self._counts = [
            np.unique(grams(ids, n, symbols), return_counts=True) for n in range(1, order + 1)
        ]

    def probabilities(self, context: np.ndarray) -> np.ndarray:
        """Return the probabilities `[symbols]` of the next symbol after a context.

        The context has at least `order - 1` symbols.
        """
        p = np.full(self.symbols, 1 / self.symbols)
        for n, (known_grams, counts) in enumerate(self._counts):
            known = 0
            for symbol in context[len(context) - n :]:
                known = known * self.symbols + int(symbol)
            ends = np.searchsorted(known_grams, [known * self.symbols, (known + 1) * self.symbols])
            followed, often = known_grams[slice(*ends)] % self.symbols, counts[slice(*ends)]
            if len(often):
                p *= len(often) / (often.sum() + len(often))
                p[followed] += often / (often.sum() + len(often))
        return p

    def score(self, ids: np.ndarray) -> Score:
        """Score the predictions on a text."""
        padded, told = np.append(np.full(self.order - 1, UNKNOWN), ids), np.zeros((2, len(ids)))
        for t, came in enumerate(ids):
            p = self.probabilities(padded[t : t + self.order - 1])
            better = len(p) if came == UNKNOWN else np.sum(p[UNKNOWN + 1 :] > p[came])
            told[:, t] = -np.log(p[came]), better
        return Score.of(*told)
