"""Streams: truncated BPTT, many streams at once, and generation from a model's own outputs.

`jaxrnn.streams.tbptt` needs optax, so it has to be imported by its own name.
"""

from jaxrnn.streams.beams import Beams, beam_search
from jaxrnn.streams.generation import Generated, generate
from jaxrnn.streams.sampling import Categorical, greedy
from jaxrnn.streams.slots import Slots

__all__ = ["Beams", "Categorical", "Generated", "Slots", "beam_search", "generate", "greedy"]
