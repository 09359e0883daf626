"""Passages of the World English Bible (2000, public domain), as words and what stands at each word:
whether it has a capital, and which mark follows it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kit.bible import read_verses

MARKS = ("", ",", ".", ";", ":", "?", "!")
TAGS = 2 * len(MARKS)  # of a word in lower case with each mark, then of a capital with each
LONGEST = 64


class Passage(NamedTuple):
    """Words in lower case, and a tag for each."""

    words: list[str]
    tags: np.ndarray


def take_apart(text: str) -> Passage:
    """What a text consists of; quotes and brackets are left out."""
    words, tags = [], []
    text = text.replace("`", "'").replace("’", "'")
    for word, rest in re.findall(r"([A-Za-z]+(?:['-][A-Za-z]+)*)([^A-Za-z]*)", text):
        mark = re.search("[,.;:?!]", rest)
        words.append(word.lower())
        tags.append(word[0].isupper() * len(MARKS) + MARKS.index(mark[0] if mark else ""))
    return Passage(words, np.array(tags, int))


def put_together(words: Sequence[str], tags: Iterable[int]) -> list[str]:
    """Each word with its capital and its mark."""
    together = []
    for word, tag in zip(words, tags, strict=True):
        capital, mark = divmod(int(tag), len(MARKS))
        together.append((word[0].upper() + word[1:] if capital else word) + MARKS[mark])
    return together


def cut(passage: Passage) -> list[Passage]:
    """Pieces of `LONGEST` words, and what is left over."""
    places = range(0, len(passage.words), LONGEST)
    return [Passage(passage.words[k : k + LONGEST], passage.tags[k : k + LONGEST]) for k in places]


def f1(texts: Sequence[Passage], found: Sequence[Any]) -> dict[str, float]:
    """How well each kind of thing is restored, and all of them: the harmonic mean of how many were
    found and how many that were put in are right.
    """
    true, put = np.concatenate([p.tags for p in texts]), np.concatenate(found)
    (capital, mark), (put_capital, put_mark) = (np.divmod(tags, len(MARKS)) for tags in (true, put))
    rows = {"capital": (capital == 1, put_capital == 1)}
    rows |= {name: (mark == k, put_mark == k) for k, name in enumerate(MARKS) if name}
    sums = {name: np.array([np.sum(a & b), np.sum(a) + np.sum(b)]) for name, (a, b) in rows.items()}
    sums["all"] = np.sum([*sums.values()], axis=0)
    return {name: float(2 * hits / max(total, 1)) for name, (hits, total) in sums.items()}


def thin(passages: list[Passage], most: int) -> list[Passage]:
    """At most so many, evenly spaced."""
    count = min(most, len(passages))
    return [passages[k * len(passages) // count] for k in range(count)]


def load() -> tuple[list[Passage], list[Passage], list[Passage]]:
    """Passages to train on, to choose by, and to hold out: those of whole books.

    Held out is every sixth book, from Leviticus on: eleven, with few parallels in the others. Three
    are there to choose by: Joshua, Amos, 1 Timothy.
    """
    parts: tuple[list[Passage], list[Passage], list[Passage]] = ([], [], [])
    for chapter, text in _chapters().items():
        book = chapter // 1000 - 1
        part = 2 if book % 6 == 2 else 1 if book % 24 == 5 else 0
        parts[part].extend(cut(take_apart(text)))
    return parts


def _chapters() -> dict[int, str]:
    """The text of each chapter; the number of the book is in the thousands."""
    chapters: dict[int, list[str]] = {}
    for verse, text in read_verses("web").items():  # book 1, chapter 2, verse 3 has 1002003
        chapters.setdefault(verse // 1000, []).append(text)
    return {number: " ".join(verses) for number, verses in chapters.items()}
