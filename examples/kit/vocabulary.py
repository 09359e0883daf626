"""Words as numbers, with a place for those that are rare.

A word outside the vocabulary becomes one of a few numbered slots: the first such word of a source
is slot 0 on both sides, the next slot 1 (Luong et al. 2015, "Addressing the rare word problem").
What is written in a slot is then copied from the source."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from jaxrnn import sequences

PAD, START, STOP, LOST, SLOT = 0, 1, 2, 3, 4  # LOST: a rare word that is not in the source
SLOTS = 8
FIRST = SLOT + SLOTS  # the number of the first word


class Encoded(NamedTuple):
    """Sources and their translations, padded with `PAD`."""

    sources: np.ndarray  # [time, pairs]
    source_lengths: np.ndarray  # [pairs]
    targets: np.ndarray  # [time, pairs]
    target_lengths: np.ndarray  # [pairs]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words that have a number of their own."""

    words: tuple[str, ...]

    @classmethod
    def find(cls, texts: Iterable[Sequence[str]], least: int) -> "Vocabulary":
        """The words that occur at least so often, the most frequent first."""
        counts = Counter(word for text in texts for word in text)
        return cls(tuple(word for word, count in counts.most_common() if count >= least))

    def __len__(self) -> int:
        return FIRST + len(self.words)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: FIRST + k for k, word in enumerate(self.words)}

    def rare(self, source: Sequence[str]) -> list[str]:
        """Its words that have no number, each once: what stands in the slots."""
        return [*dict.fromkeys(word for word in source if word not in self._numbers)][:SLOTS]

    def encode(self, text: Sequence[str], source: Sequence[str]) -> list[int]:
        """The numbers of a text that is a source, or a translation of it."""
        slots = {word: SLOT + k for k, word in enumerate(self.rare(source))}
        return [self._numbers.get(word, slots.get(word, LOST)) for word in text]

    def encode_pairs(self, pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> Encoded:
        """Sources, and translations with a `STOP`, side by side."""
        both = [(self.encode(old, old), [*self.encode(new, old), STOP]) for old, new in pairs]
        columns = zip(*both, strict=True)
        sides = (sequences.pad([np.array(text, np.int32) for text in side]) for side in columns)
        (sources, of_sources, _), (targets, of_targets, _) = sides
        return Encoded(sources, of_sources, targets, of_targets)

    def decode(self, numbers: Iterable[int], source: Sequence[str]) -> list[str]:
        """The words before the first `STOP`; what is lost, or in an empty slot, is left out."""
        rare, words = self.rare(source), []
        for number in map(int, numbers):
            if number == STOP:
                break
            if number >= FIRST:
                words.append(self.words[number - FIRST])
            elif 0 <= number - SLOT < len(rare):
                words.append(rare[number - SLOT])
        return words
