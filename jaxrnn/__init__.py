"""jaxrnn: recurrent networks for JAX. Pure-function cells, run through scan, at home in Flax."""

from jaxrnn import activations, convert, initializers, methods, sequences, streams
from jaxrnn.cells import (
    GRU,
    LSTM,
    MGU,
    Elman,
    ElmanParams,
    GRUParams,
    LSTMCarry,
    LSTMParams,
    MGUParams,
)
from jaxrnn.combinators import (
    Bidirectional,
    BidirectionalCarry,
    BidirectionalParams,
    CandidateDropout,
    Constrained,
    DropConnect,
    Dropout,
    Highway,
    HighwayParams,
    LearnedCarry,
    LearnedCarryParams,
    RecurrentDropout,
    Residual,
    Reversed,
    Stack,
    StateNoise,
    Zoneout,
)
from jaxrnn.constraints import Dale, Sparse, SpectralNorm
from jaxrnn.core.affine import affine
from jaxrnn.core.cell import Cell, ContextCell, LinearCell, NoisyCell, WithContext
from jaxrnn.core.composite import Composite
from jaxrnn.drivers import scan, step, trajectory, unroll
from jaxrnn.labels import labels
from jaxrnn.storage import load, save
from jaxrnn.streams import Beams, Generated, beam_search, generate

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "Beams",
    "Bidirectional",
    "BidirectionalCarry",
    "BidirectionalParams",
    "CandidateDropout",
    "Cell",
    "Composite",
    "Constrained",
    "ContextCell",
    "Dale",
    "DropConnect",
    "Dropout",
    "Elman",
    "ElmanParams",
    "GRUParams",
    "Generated",
    "Highway",
    "HighwayParams",
    "LSTMCarry",
    "LSTMParams",
    "LearnedCarry",
    "LearnedCarryParams",
    "LinearCell",
    "MGUParams",
    "NoisyCell",
    "RecurrentDropout",
    "Residual",
    "Reversed",
    "Sparse",
    "SpectralNorm",
    "Stack",
    "StateNoise",
    "WithContext",
    "Zoneout",
    "activations",
    "affine",
    "beam_search",
    "convert",
    "generate",
    "initializers",
    "labels",
    "load",
    "methods",
    "save",
    "scan",
    "sequences",
    "step",
    "streams",
    "trajectory",
    "unroll",
]
