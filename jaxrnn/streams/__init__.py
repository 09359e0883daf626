"""Sequences without an end: truncated BPTT, many streams side by side, models on their own outputs.

`jaxrnn.streams.tbptt` needs optax, so it is imported by name.
"""

from jaxrnn.streams.generation import Categorical, Generated, generate, greedy
from jaxrnn.streams.slots import Slots

__all__ = ["Categorical", "Generated", "Slots", "generate", "greedy"]
