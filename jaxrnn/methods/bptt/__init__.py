"""Back-propagation through time in blocks."""

from jaxrnn.methods.bptt.entry import BPTT, Checkpointed

__all__ = ["BPTT", "Checkpointed"]
