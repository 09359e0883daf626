"""Convert ONNX's RNN, LSTM and GRU operators of opset 22.

A node is one layer. The first axis of its arrays is that of its directions:

    W  [directions, gates * hidden, in]
    R  [directions, gates * hidden, hidden]
    B  [directions, 2 * gates * hidden]: two biases, which are added
    P  [directions, 3 * hidden], peepholes

Its gates have the order `i o f g` or `z r n`. Coupled gates are f = 1 - i in ONNX and i = 1 - f in
jaxrnn. If an activation has a(-z) = 1 - a(z), as σ has, one gate becomes the other when the sign of
its parameters changes.

`schema` asks ONNX for its rules about a node. `operators` and `activations` pair ONNX's names with
jaxrnn's. `read`, `graph` and `chain` go from a model to a cell; `write` and `model` go back.
"""

from jaxrnn.convert.onnx.read import from_onnx
from jaxrnn.convert.onnx.write import to_onnx

__all__ = ["from_onnx", "to_onnx"]
