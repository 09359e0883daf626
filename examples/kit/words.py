"""Text for models of words: what counts as one, and numbers for words."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from kit.text import UNKNOWN

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


class Vocabulary(NamedTuple):
    """The commonest words of a text, the commonest first; word k has the number k + 1."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, text: Sequence[str], symbols: int) -> "Vocabulary":
        """Of at most so many symbols, the unknown word included."""
        return cls(tuple(word for word, _ in Counter(text).most_common(symbols - 1)))

    def encode(self, text: Sequence[str]) -> np.ndarray:
        numbers = {word: number for number, word in enumerate(self.words, start=1)}
        return np.array([numbers.get(word, UNKNOWN) for word in text], np.int32)

    def decode(self, ids: Any) -> list[str]:
        """Words of numbers none of which is `UNKNOWN`."""
        return [self.words[number - 1] for number in ids]

    def likeliest(self, p: Any, count: int = 5) -> list[tuple[str, float]]:
        """The likeliest words by the probabilities of all symbols; the unknown one is no guess."""
        best = np.argsort(-np.asarray(p)[1:], kind="stable")[:count] + 1
        return [(word, float(p[k])) for word, k in zip(self.decode(best), best, strict=True)]

    def guess(self, p: Any, came: str) -> Guess:
        """The likeliest words where one came; one that is not known had no probability."""
        number = self.encode([came])[0]
        return Guess(came, float(p[number]) if number != UNKNOWN else 0.0, self.likeliest(p))
