"""Sequences without an end: truncated BPTT, many streams side by side, models on their own outputs.

`jaxrnn.streams.tbptt` needs optax, so it is imported by name.
"""

from jaxrnn.streams.beams import Beams, beam_search
from jaxrnn.streams.generation import Generated, generate
from jaxrnn.streams.sampling import Categorical, greedy
from jaxrnn.streams.slots import Slots

__all__ = ["Beams", "Categorical", "Generated", "Slots", "beam_search", "generate", "greedy"]
