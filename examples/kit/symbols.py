"""Words or characters as numbers."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Self

import numpy as np

UNKNOWN = 0  # the number of every symbol that is not in the vocabulary


@dataclasses.dataclass(frozen=True)
class Symbols:
    """A vocabulary of words or characters, numbered from 1.

    `jaxrnn.storage.save_tree` can store it as metadata.
    """

    known: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[Iterable[str]], least: int = 1, most: int | None = None) -> Self:
        """Collect the symbols of texts, the most frequent first.

        Args:
            texts: the texts, each a sequence of symbols.
            least: how often a symbol must occur in all texts together.
            most: the largest number of symbols; by default there is no limit.
        """
        counts = Counter(symbol for text in texts for symbol in text)
        return cls(tuple(symbol for symbol, count in counts.most_common(most) if count >= least))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.known, start=1)}

    def encode(self, text: Iterable[str]) -> np.ndarray:
        """Return the number of each symbol, `UNKNOWN` for one that is not in the vocabulary."""
        return np.array([self._numbers.get(symbol, UNKNOWN) for symbol in text], np.int32)

    @property
    def size(self) -> int:
        """How many numbers `encode` can return, `UNKNOWN` included."""
        return len(self.known) + 1
