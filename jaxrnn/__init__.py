"""jaxrnn: recurrent networks for JAX. Pure-function cells, run through scan, at home in Flax."""

from jaxrnn import activations, initializers
from jaxrnn._cell import Cell
from jaxrnn._numerics import affine
from jaxrnn._scan import scan, step, trajectory, unroll
from jaxrnn.cells import GRU, LSTM, MGU, Elman, ElmanParams, GRUParams, LSTMCarry, LSTMParams, MGUParams
from jaxrnn.combinators import (
    Bidirectional,
    BidirectionalCarry,
    BidirectionalParams,
    DropConnect,
    Dropout,
    Highway,
    HighwayParams,
    LearnedCarry,
    LearnedCarryParams,
    RecurrentDropout,
    Residual,
    Stack,
    StateNoise,
    Zoneout,
)

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "Bidirectional",
    "BidirectionalCarry",
    "BidirectionalParams",
    "Cell",
    "DropConnect",
    "Dropout",
    "Elman",
    "ElmanParams",
    "GRUParams",
    "Highway",
    "HighwayParams",
    "LSTMCarry",
    "LSTMParams",
    "LearnedCarry",
    "LearnedCarryParams",
    "MGUParams",
    "RecurrentDropout",
    "Residual",
    "Stack",
    "StateNoise",
    "Zoneout",
    "activations",
    "affine",
    "initializers",
    "scan",
    "step",
    "trajectory",
    "unroll",
]
