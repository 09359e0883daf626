"""ONNX's RNN, LSTM and GRU operators, both ways, as they are in opset 22.

A node is one layer, whose directions stand on the first axis of its arrays:

    W  [directions, gates * hidden, in]
    R  [directions, gates * hidden, hidden]
    B  [directions, 2 * gates * hidden], two halves that are added
    P  [directions, 3 * hidden], peepholes

Its gates stand in the order `i o f g` or `z r n`. Coupled gates are f = 1 - i there and i = 1 - f
here. Where a(-z) = 1 - a(z), as for σ, each gate is the other with the sign of its parameters
changed.

The modules: `schema` asks ONNX what it knows of a node; `operators` and `activations` pair its
words with jaxrnn's. `read`, `graph` and `chain` go from a model to a cell; `write` and `model` go
back.
"""

from jaxrnn.convert.onnx.read import from_onnx
from jaxrnn.convert.onnx.write import to_onnx

__all__ = ["from_onnx", "to_onnx"]
