"""One file per cell."""

from jaxrnn.cells.elman import Elman, ElmanParams
from jaxrnn.cells.gru import GRU, GRUParams
from jaxrnn.cells.lstm import LSTM, LSTMCarry, LSTMParams

__all__ = ["GRU", "LSTM", "Elman", "ElmanParams", "GRUParams", "LSTMCarry", "LSTMParams"]
