"""Sequences of different lengths: padding, packing, reversing, and one output per sequence."""

from jaxrnn.sequences.order import reverse, shift
from jaxrnn.sequences.outputs import last_output, max_output, mean_output, repeat_output
from jaxrnn.sequences.ragged import Packed, Padded, bucket, pack, pad, unpack

__all__ = [
    "Packed",
    "Padded",
    "bucket",
    "last_output",
    "max_output",
    "mean_output",
    "pack",
    "pad",
    "repeat_output",
    "reverse",
    "shift",
    "unpack",
]
