"""Text for models of words: what counts as one, and numbers for words."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from kit.symbols import UNKNOWN, Symbols

SPEECH = "¶"  # the word that begins a speech; the names of speakers are left out
ENDS = (".", "?", "!", SPEECH)

_ASIDE = re.compile(r"^#.*$|_[^_]*_", re.MULTILINE)  # headings and stage directions
_SPEAKER = re.compile(r"\*\*[^*]+\*\*")
_MARKS = re.compile(r"[\\\[\]*]")
_WORD = re.compile(rf"{SPEECH}|--|'?[^\W\d_]+(?:'[^\W\d_]+)*|\w+|[^\w\s]")


def spoken(play: str) -> str:
    """What is said on stage in a play in Markdown, with `SPEECH` before each speech."""
    return _MARKS.sub("", _SPEAKER.sub(f" {SPEECH} ", _ASIDE.sub(" ", play)))


def split(text: str) -> list[str]:
    """Words in lower case; a sign of punctuation is one, too."""
    return _WORD.findall(text.lower())


def join(words: Sequence[str]) -> str:
    """Words as one writes them."""
    text = " ".join(word for word in words if word != SPEECH)
    return re.sub(r" ([,.;:?!])", r"\1", re.sub(r" (--?) ", r"\1", text))


def find(text: list[str], sentences: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Where sentences first stand in a text, if they do, and their words."""
    for sentence in map(split, sentences):
        size = len(sentence)
        places = (k for k in range(len(text)) if text[k : k + size] == sentence)
        yield from ((place, sentence) for place in islice(places, 1))


class Guess(NamedTuple):
    """What was thought likely in one place, and what came."""

    came: str
    probability: float
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
        """Return what was likely where the word `came` stands.

        An unknown word counts as having had the probability 0.
        """
        (number,) = self.encode([came])
        return Guess(came, float(p[number]) if number != UNKNOWN else 0.0, self.likeliest(p))
