"""Verses in two translations: King James's (1611, as of 1769) and the World English Bible (2000).

The packages are read, not imported: what they hold is one call with literals in it."""

import ast
import re

import numpy as np

from kit.files import package_file, read_text

Verse = tuple[str, ...]
"""Words and punctuation in lower case."""
Pair = tuple[Verse, Verse]
"""A verse in old words and in new ones."""


def read_verses(version: str) -> dict[int, str]:
    """The text of each verse, by its number."""
    path = f"pythonbible_{version}/plain_text_readers_bible.py"
    program = ast.parse(read_text(package_file(f"pythonbible-{version}", path)))
    call = next(node.value for node in program.body if isinstance(node, ast.Assign))
    assert isinstance(call, ast.Call)
    text, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
    return {number: text[start : ends[number]] for number, start in starts.items()}


def split_words(text: str) -> Verse:
    """Words and punctuation, without brackets (words that the translators added) and quotes."""
    text = text.lower().replace("`", "'").replace("’", "'")
    return tuple(re.findall(r"[a-z]+(?:['-][a-z]+)*'?|[.,;:?!]", text))


def load() -> list[Pair]:
    """The 31,099 verses that both have: old words and new ones."""
    old, new = read_verses("kjv"), read_verses("web")
    return [(split_words(old[n]), split_words(new[n])) for n in sorted(old.keys() & new.keys())]


def join_words(words: Verse | list[str]) -> str:
    """Text again, in lower case."""
    return re.sub(r" ([.,;:?!])", r"\1", " ".join(words))


def split(longest: int, held_out: int) -> tuple[list[Pair], list[Pair]]:
    """Verses to train on and verses to hold out, always the same ones, of at most so many words in
    the source and four more in the translation; no source is on both sides.
    """
    pairs = [
        (old, new) for old, new in load() if 0 < len(old) <= longest and 0 < len(new) <= longest + 4
    ]
    order = np.random.default_rng(0).permutation(len(pairs))
    test = {pairs[k][0]: pairs[k] for k in order[:held_out]}
    return [pair for pair in pairs if pair[0] not in test], [*test.values()]
