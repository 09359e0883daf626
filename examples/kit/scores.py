"""How well the next symbol of a text is guessed, by a model and by counting."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kit.symbols import UNKNOWN
from kit.text import evaluation_chunks, grams
from kit.training import SequenceModel


class Score(NamedTuple):
    """How well the symbols of a text were guessed."""

    perplexity: float
    top1: float  # how often the likeliest one was the one that came
    top5: float

    @classmethod
    def of(cls, nats: np.ndarray, ranks: np.ndarray) -> "Score":
        """From what each symbol took, and how many others were thought likelier."""
        return cls(float(np.exp(nats.mean())), float((ranks < 1).mean()), float((ranks < 5).mean()))

    def __str__(self) -> str:
        right = f"first guess right {self.top1:6.1%}    one of five {self.top5:6.1%}"
        return f"perplexity {self.perplexity:6.1f}    {right}"


@partial(jax.jit, static_argnums=0)
def judge(model: SequenceModel, params: Any, carry: Any, inputs: Any, targets: Any) -> Any:
    """The carry after a chunk `[time, *batch]`, and of each target the nats that it takes and its
    rank.
    """
    carry, logits = model.scan(params, carry, inputs)
    own = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return carry, (jax.nn.logsumexp(logits, axis=-1) - own, ranks(logits, targets))


def score(model: SequenceModel, params: Any, ids: np.ndarray, start: int) -> Score:
    """How well a model guesses a text, in order; `start` is what it reads first."""
    cut = evaluation_chunks(ids, start, batch=16, chunk=32)
    carry, parts = model.initial_carry(params, cut.inputs.shape[2:]), []
    for inputs, targets, valid in zip(*cut, strict=True):
        carry, told = judge(model, params, carry, inputs, targets)
        parts.append(np.array(told)[:, valid])
    return Score.of(*np.concatenate(parts, axis=1))


def ranks(scores: Any, came: Any) -> Any:
    """How many symbols have better scores `[*batch, symbols]` than those that came `[*batch]`; the
    unknown symbol is no guess, and never right.
    """
    own = jnp.take_along_axis(scores, came[..., None], axis=-1)
    better = (scores[..., UNKNOWN + 1 :] > own).sum(axis=-1)
    return jnp.where(came == UNKNOWN, scores.shape[-1], better)


class NGram:
    """The interpolated n-gram model of `kit.text.ngram_bits`, for the probabilities of all symbols.

    Args:
        ids: the text in which it counts.
        order: how many symbols it looks at, the next one included.
        symbols: how many there are.
    """

    def __init__(self, ids: np.ndarray, order: int, symbols: int) -> None:
        self.order, self.symbols = order, symbols
        self._counts = [
            np.unique(grams(ids, n, symbols), return_counts=True) for n in range(1, order + 1)
        ]

    def probabilities(self, context: np.ndarray) -> np.ndarray:
        """Of all symbols after the last ones of a context."""
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
        """How well a text is guessed."""
        padded, told = np.append(np.full(self.order - 1, UNKNOWN), ids), np.zeros((2, len(ids)))
        for t, came in enumerate(ids):
            p = self.probabilities(padded[t : t + self.order - 1])
            better = len(p) if came == UNKNOWN else np.sum(p[UNKNOWN + 1 :] > p[came])
            told[:, t] = -np.log(p[came]), better
        return Score.of(*told)
