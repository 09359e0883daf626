"""Weights of other frameworks, both ways: dictionaries of arrays in, a cell and its parameters out, and back.

No framework is imported; `onnx` only when one of its files is read or written. What a target cannot hold is refused by name.
"""

from jaxrnn.convert.torch import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]
