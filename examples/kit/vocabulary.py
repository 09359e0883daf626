"""Words as numbers for translation, with slots for rare words.

A word outside the vocabulary becomes a numbered slot. The first such word of a source is slot 0 in
the source and in its translation, the next is slot 1, and so on (Luong et al. 2015, "Addressing the
rare word problem"). When a translation is decoded, a slot is replaced by its word of the source.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from jaxrnn import sequences
from kit.symbols import Symbols

PAD, START, STOP = 0, 1, 2
LOST = 3  # a rare word that has no slot
SLOTS, FIRST_SLOT = 8, 4  # how many slots there are, and the number of the first one
FIRST_WORD = FIRST_SLOT + SLOTS  # the number of the first word of the vocabulary


class Encoded(NamedTuple):
    """Sources and their translations, padded with `PAD`."""

    sources: np.ndarray  # [time, pairs]
    source_lengths: np.ndarray  # [pairs]
    targets: np.ndarray  # [time, pairs]
    target_lengths: np.ndarray  # [pairs]


@dataclasses.dataclass(frozen=True)
class SlotVocabulary:
    """The words that have numbers of their own; other words get slots."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]], least: int) -> "SlotVocabulary":
        """Collect the words that occur at least `least` times, the most frequent first."""
        return cls(Symbols.of(texts, least).known)

    def __len__(self) -> int:
        return FIRST_WORD + len(self.words)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: FIRST_WORD + k for k, word in enumerate(self.words)}

    def rare(self, source: Sequence[str]) -> list[str]:
        """Return the words of a source that get the slots, in the order of the slots."""
        return [*dict.fromkeys(word for word in source if word not in self._numbers)][:SLOTS]

    def encode(self, text: Sequence[str], source: Sequence[str]) -> list[int]:
        """Return the numbers of a text: of the source itself, or of a translation of it."""
        slots = {word: FIRST_SLOT + k for k, word in enumerate(self.rare(source))}
        return [self._numbers.get(word, slots.get(word, LOST)) for word in text]

    def encode_pairs(self, pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> Encoded:
        """Encode and pad pairs of a source and its translation, which gets a final `STOP`."""
        both = [(self.encode(old, old), [*self.encode(new, old), STOP]) for old, new in pairs]
        columns = zip(*both, strict=True)
        sides = (sequences.pad([np.array(text, np.int32) for text in side]) for side in columns)
        (sources, of_sources, _), (targets, of_targets, _) = sides
        return Encoded(sources, of_sources, targets, of_targets)

    def decode(self, numbers: Iterable[int], source: Sequence[str]) -> list[str]:
        """Return the words before the first `STOP`.

        `LOST` and slots for which the source has no word are left out.
        """
        rare, words = self.rare(source), []
        for number in map(int, numbers):
            if number == STOP:
                break
            if number >= FIRST_WORD:
                words.append(self.words[number - FIRST_WORD])
            elif 0 <= number - FIRST_SLOT < len(rare):
                words.append(rare[number - FIRST_SLOT])
        return words
