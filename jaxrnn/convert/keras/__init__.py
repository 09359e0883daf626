"""Recurrent layers of Keras: configurations, and lists of arrays.

They are `SimpleRNN`, `LSTM`, `GRU`, their cells, stacks of these, `ConvLSTM1D`, `ConvLSTM2D`,
`ConvLSTM3D`, and `Bidirectional`.

Keras keeps matrices `[in, gates * hidden]`, as jaxrnn does. The gates of its LSTM stand in the
order i f c o, which is jaxrnn's; those of its GRU in the order z r h, which is not. A GRU with
`reset_after` has a bias of two rows: the input's and the state's. Kernels of its convolutions are
`[*kernel, in, gates * hidden]`, as jaxrnn's.
"""

from jaxrnn.convert.keras.read import from_keras
from jaxrnn.convert.keras.write import to_keras

__all__ = ["from_keras", "to_keras"]
