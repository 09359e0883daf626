"""The cells, one file each, with the NamedTuples of their parameters and carries."""

from jaxrnn.cells.conv_gru import ConvGRU
from jaxrnn.cells.conv_lstm import ConvLSTM
from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, GRUParams
from jaxrnn.cells.jordan import Jordan, JordanCarry, JordanParams, Taught
from jaxrnn.cells.lstm import LSTM, LSTMCarry, LSTMParams
from jaxrnn.cells.mgu import MGU, MGUParams
from jaxrnn.cells.st_lstm import STLSTM, STLSTMCarry, STLSTMLayer, decoupling_loss

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "STLSTM",
    "ConvGRU",
    "ConvLSTM",
    "Elman",
    "ElmanParams",
    "GRUParams",
    "Jordan",
    "JordanCarry",
    "JordanParams",
    "LSTMCarry",
    "LSTMParams",
    "MGUParams",
    "STLSTMCarry",
    "STLSTMLayer",
    "Taught",
    "decoupling_loss",
]
