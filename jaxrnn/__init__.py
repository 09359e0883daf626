"""jaxrnn: recurrent networks for JAX. Pure-function cells, run through scan, at home in Flax."""

from jaxrnn import activations, initializers
from jaxrnn._cell import Cell
from jaxrnn._numerics import affine
from jaxrnn._scan import scan, step, trajectory, unroll
from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMCarry, LSTMParams
from jaxrnn.combinators import Bidirectional, BidirectionalCarry, BidirectionalParams, Stack

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "Bidirectional",
    "BidirectionalCarry",
    "BidirectionalParams",
    "Cell",
    "Elman",
    "ElmanParams",
    "GRUParams",
    "LSTMCarry",
    "LSTMParams",
    "Stack",
    "activations",
    "affine",
    "initializers",
    "scan",
    "step",
    "trajectory",
    "unroll",
]
