"""Verses in two translations: King James's (1611, as of 1769) and the World English Bible (2000).

The files of the packages are parsed, not imported. Each is one call with literals.
"""

import ast
import re

import numpy as np

from kit.files import package_file, read_text

Verse = tuple[str, ...]
"""Words and punctuation in lower case."""
Pair = tuple[Verse, Verse]
"""A verse in the old translation and in the new one."""


def read_verses(version: str) -> dict[int, str]:
    """Return the text of each verse. Book 1, chapter 2, verse 3 has the number 1002003."""
    path = f"pythonbible_{version}/plain_text_readers_bible.py"
    program = ast.parse(read_text(package_file(f"pythonbible-{version}", path)))
    call = next(node.value for node in program.body if isinstance(node, ast.Assign))
    assert isinstance(call, ast.Call)
    text, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
    return {number: text[start : ends[number]] for number, start in starts.items()}


def split_words(text: str) -> Verse:
    """Split a text into words and punctuation marks in lower case.

    Quotes and brackets are left out. The words in brackets, which the translators added, are kept.
    """
    text = text.lower().replace("`", "'").replace("’", "'")
    return tuple(re.findall(r"[a-z]+(?:['-][a-z]+)*'?|[.,;:?!]", text))


def load() -> list[Pair]:
    """Load the 31,099 verses that both translations have."""
    old, new = read_verses("kjv"), read_verses("web")
    return [(split_words(old[n]), split_words(new[n])) for n in sorted(old.keys() & new.keys())]


def join_words(words: Verse | list[str]) -> str:
    """Join words and punctuation marks into a text in lower case."""
    return re.sub(r" ([.,;:?!])", r"\1", " ".join(words))


def split(longest: int, held_out: int) -> tuple[list[Pair], list[Pair]]:
    """Split verses into those for training and at most `held_out` others, always in the same way.

    Only verses of at most `longest` words in the old translation, and at most four more in the new
    one, are used. No source is in both parts, nor twice in the second.
    """
    pairs = [
        (old, new) for old, new in load() if 0 < len(old) <= longest and 0 < len(new) <= longest + 4
    ]
    order = np.random.default_rng(0).permutation(len(pairs))
    test = {pairs[k][0]: pairs[k] for k in order[:held_out]}
    return [pair for pair in pairs if pair[0] not in test], [*test.values()]
