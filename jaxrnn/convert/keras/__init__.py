"""Recurrent layers of Keras: configurations, and lists of arrays.

The layers are `SimpleRNN`, `LSTM`, `GRU`, their cells, stacks of these, `ConvLSTM1D`, `ConvLSTM2D`,
`ConvLSTM3D`, and `Bidirectional`.

Keras keeps matrices `[in, gates * hidden]`, as jaxrnn does. The gates of its LSTM have the order i
f c o, which is jaxrnn's i f g o. Those of its GRU have the order z r h, while jaxrnn's is r z n. A
GRU with `reset_after` has a bias of two rows, of the input and of the state. Kernels of its
convolutions are `[*kernel, in, gates * hidden]`, as jaxrnn's.
"""

from jaxrnn.convert.keras.read import from_keras
from jaxrnn.convert.keras.write import to_keras

__all__ = ["from_keras", "to_keras"]
