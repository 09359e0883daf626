"""Passages of the World English Bible (2000, public domain) as words in lower case with tags.

The tag of a word says whether it has a capital, and which punctuation mark follows it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from kit.bible import read_verses

MARKS = ("", ",", ".", ";", ":", "?", "!")
TAGS = 2 * len(MARKS)  # lower case with each mark, then a capital with each mark
LONGEST = 64  # words of a passage


class Passage(NamedTuple):
    """Words in lower case, and a tag for each."""

    words: list[str]
    tags: np.ndarray


def take_apart(text: str) -> Passage:
    """Split a text into words and tags. Quotes, brackets and digits are left out."""
    words, tags = [], []
    text = text.replace("`", "'").replace("’", "'")
    for word, rest in re.findall(r"([A-Za-z]+(?:['-][A-Za-z]+)*)([^A-Za-z]*)", text):
        mark = re.search("[,.;:?!]", rest)
        words.append(word.lower())
        tags.append(word[0].isupper() * len(MARKS) + MARKS.index(mark[0] if mark else ""))
    return Passage(words, np.array(tags, int))


def put_together(words: Sequence[str], tags: Iterable[int]) -> list[str]:
    """Return each word with its capital and its mark: the inverse of `take_apart`."""
    together = []
    for word, tag in zip(words, tags, strict=True):
        capital, mark = divmod(int(tag), len(MARKS))
        together.append((word[0].upper() + word[1:] if capital else word) + MARKS[mark])
    return together


def cut(passage: Passage) -> list[Passage]:
    """Cut a passage into passages of `LONGEST` words. The last one may be shorter."""
    places = range(0, len(passage.words), LONGEST)
    return [Passage(passage.words[k : k + LONGEST], passage.tags[k : k + LONGEST]) for k in places]


def f1(texts: Sequence[Passage], found: Sequence[Any]) -> dict[str, float]:
    """Return the F1 scores of found tags: of capitals, of each mark, and of all together.

    F1 is the harmonic mean of recall and precision.
    """
    true, put = np.concatenate([p.tags for p in texts]), np.concatenate(found)
    (capital, mark), (put_capital, put_mark) = (np.divmod(tags, len(MARKS)) for tags in (true, put))
    rows = {"capital": (capital == 1, put_capital == 1)}
    rows |= {name: (mark == k, put_mark == k) for k, name in enumerate(MARKS) if name}
    sums = {name: np.array([np.sum(a & b), np.sum(a) + np.sum(b)]) for name, (a, b) in rows.items()}
    sums["all"] = np.sum([*sums.values()], axis=0)
    return {name: float(2 * hits / max(total, 1)) for name, (hits, total) in sums.items()}


def thin(passages: list[Passage], most: int) -> list[Passage]:
    """Return at most `most` of the passages, evenly spaced."""
    count = min(most, len(passages))
    return [passages[k * len(passages) // count] for k in range(count)]


def load() -> tuple[list[Passage], list[Passage], list[Passage]]:
    """Return the passages for training, validation and test. Each part has whole books.

    The test has every sixth book from Leviticus on, eleven books, which have few parallels in the
    others. Validation has Joshua, Amos and 1 Timothy.
    """
    parts: tuple[list[Passage], list[Passage], list[Passage]] = ([], [], [])
    for chapter, text in _chapters().items():
        book = chapter // 1000 - 1
        part = 2 if book % 6 == 2 else 1 if book % 24 == 5 else 0
        parts[part].extend(cut(take_apart(text)))
    return parts


def _chapters() -> dict[int, str]:
    """Return the text of each chapter. Chapter 2 of book 1 has the number 1002."""
    chapters: dict[int, list[str]] = {}
    for verse, text in read_verses("web").items():  # book 1, chapter 2, verse 3 has 1002003
        chapters.setdefault(verse // 1000, []).append(text)
    return {number: " ".join(verses) for number, verses in chapters.items()}
