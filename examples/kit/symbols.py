"""Numbers for words or characters."""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from functools import cached_property

import numpy as np

UNKNOWN = 0  # the number of whatever is not known


@dataclasses.dataclass(frozen=True)
class Symbols:
    """Words or characters, numbered from 1; `jaxrnn.storage.save_tree` takes it as metadata."""

    known: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[Iterable[str]], least: int = 1) -> "Symbols":
        """Those that texts have at least so many times, the most frequent first."""
        counts = Counter(symbol for text in texts for symbol in text)
        return cls(tuple(symbol for symbol, count in counts.most_common() if count >= least))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.known, start=1)}

    def encode(self, text: Iterable[str]) -> np.ndarray:
        """The number of each symbol, `UNKNOWN` for any other."""
        return np.array([self._numbers.get(symbol, UNKNOWN) for symbol in text], np.int32)

    @property
    def size(self) -> int:
        """How many numbers there are, `UNKNOWN` included."""
        return len(self.known) + 1
