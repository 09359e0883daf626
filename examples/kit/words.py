"""Text for models of words: how it is split, and the vocabulary."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from kit.symbols import UNKNOWN, Symbols

SPEECH = "¶"  # the word that begins each speech, in place of the speaker's name
ENDS = (".", "?", "!", SPEECH)  # the words that end a sentence

_ASIDE = re.compile(r"^#.*$|_[^_]*_", re.MULTILINE)  # headings and stage directions
_SPEAKER = re.compile(r"\*\*[^*]+\*\*")
_MARKS = re.compile(r"[\\\[\]*]")
_WORD = re.compile(rf"{SPEECH}|--|'?[^\W\d_]+(?:'[^\W\d_]+)*|\w+|[^\w\s]")


def spoken(play: str) -> str:
    """Return the speeches of a play in Markdown, with `SPEECH` before each."""
    return _MARKS.sub("", _SPEAKER.sub(f" {SPEECH} ", _ASIDE.sub(" ", play)))


def split(text: str) -> list[str]:
    """Split a text into words in lower case. A punctuation mark is a word, too."""
    return _WORD.findall(text.lower())


def join(words: Sequence[str]) -> str:
    """Join words into a text, with spaces where English has them, and without `SPEECH`."""
    text = " ".join(word for word in words if word != SPEECH)
    return re.sub(r" ([,.;:?!])", r"\1", re.sub(r" (--?) ", r"\1", text))


def find(text: list[str], sentences: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the first position in a text of each sentence that it has, and the sentence's words."""
    for sentence in map(split, sentences):
        size = len(sentence)
        places = (k for k in range(len(text)) if text[k : k + size] == sentence)
        yield from ((place, sentence) for place in islice(places, 1))


class Guess(NamedTuple):
    """The prediction of a model for one word of a text, and that word."""

    came: str  # the word of the text
    probability: float  # of that word
    likeliest: list[tuple[str, float]]  # words and their probabilities


class Vocabulary(Symbols):
    """Words as numbers, and the likeliest of them."""

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the words of numbers, none of which is `UNKNOWN`."""
        return [self.known[number - 1] for number in ids]

    def likeliest(self, p: Any, count: int = 5) -> list[tuple[str, float]]:
        """Return the likeliest known words, each with its probability.

        Args:
            p: the probabilities of all numbers, that of `UNKNOWN` included.
            count: how many words to return.
        """
        best = np.argsort(-np.asarray(p)[1:], kind="stable")[:count] + 1
        return [(word, float(p[k])) for word, k in zip(self.decode(best), best, strict=True)]

    def guess(self, p: Any, came: str) -> Guess:
        """Return the prediction with probabilities `p` for the word `came`.

        A word that is not in the vocabulary has the probability 0.
        """
        (number,) = self.encode([came])
        return Guess(came, float(p[number]) if number != UNKNOWN else 0.0, self.likeliest(p))
