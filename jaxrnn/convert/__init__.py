"""Convert weights and states from and to other frameworks.

A `from_` function takes the arrays of another framework, and returns a cell and its parameters. A
`to_` function goes back. `carry_from_` and `carry_to_` functions convert the states of layers. No
framework is imported, except `onnx` when one of its models is read or written. `reorder_gates`
helps with formats that have no converter.

A function raises an error if the target cannot hold the cell or one of its options, or if an array
is missing or unknown. The error names it, and comes before anything is copied. Arrays may be traced
by `jit` and `vmap`, except those of ONNX models.
"""

from jaxrnn.convert._arrays import reorder_gates
from jaxrnn.convert.cudnn import from_cudnn, to_cudnn
from jaxrnn.convert.equinox import from_equinox, to_equinox
from jaxrnn.convert.flax import from_flax, to_flax
from jaxrnn.convert.haiku import from_haiku, to_haiku
from jaxrnn.convert.keras import from_keras, to_keras
from jaxrnn.convert.onnx import from_onnx, to_onnx
from jaxrnn.convert.states import (
    carry_from_keras,
    carry_from_onnx,
    carry_from_torch,
    carry_to_keras,
    carry_to_onnx,
    carry_to_torch,
)
from jaxrnn.convert.torch import from_torch, to_torch

__all__ = [
    "carry_from_keras",
    "carry_from_onnx",
    "carry_from_torch",
    "carry_to_keras",
    "carry_to_onnx",
    "carry_to_torch",
    "from_cudnn",
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_keras",
    "from_onnx",
    "from_torch",
    "reorder_gates",
    "to_cudnn",
    "to_equinox",
    "to_flax",
    "to_haiku",
    "to_keras",
    "to_onnx",
    "to_torch",
]
