"""jaxrnn: recurrent networks for JAX, with cells that are pure functions, and modules for Flax."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from jaxrnn import activations, combinators, initializers, methods, sequences, streams
from jaxrnn.cells import (
    GRU,
    LSTM,
    MGU,
    STLSTM,
    ConvGRU,
    ConvLSTM,
    Elman,
    ElmanParams,
    GRUParams,
    Jordan,
    JordanCarry,
    JordanParams,
    LSTMCarry,
    LSTMParams,
    MGUParams,
    STLSTMCarry,
    STLSTMLayer,
)
from jaxrnn.combinators import (
    Attention,
    AttentionCarry,
    AttentionParams,
    Bidirectional,
    BidirectionalCarry,
    BidirectionalParams,
    CandidateDropout,
    Constrained,
    Dense,
    DenseParams,
    DropConnect,
    Dropout,
    Highway,
    HighwayParams,
    LearnedCarry,
    LearnedCarryParams,
    Memory,
    Pointwise,
    Readout,
    ReadoutParams,
    RecurrentDropout,
    Residual,
    Reversed,
    Stack,
    StateNoise,
    Zoneout,
    attention_weights,
)
from jaxrnn.constraints import Dale, Sparse, SpectralNorm
from jaxrnn.core.affine import affine
from jaxrnn.core.cell import Cell
from jaxrnn.core.composite import Composite, substep
from jaxrnn.core.kinds import ContextCell, LinearCell, NoisyCell, WithContext
from jaxrnn.drivers import scan, step, trajectory, unroll
from jaxrnn.labels import labels
from jaxrnn.storage import load, save
from jaxrnn.streams import Beams, Generated, beam_search, generate

if TYPE_CHECKING:
    from jaxrnn import convert, diagnostics, testing
    from jaxrnn.streams import tbptt

__version__ = "0.1.0"

_WHEN_ASKED = {
    "convert": "jaxrnn.convert",
    "diagnostics": "jaxrnn.diagnostics",
    "tbptt": "jaxrnn.streams.tbptt",
    "testing": "jaxrnn.testing",
}
"""Modules that are imported on first use, because they take long to import or import optax."""


def __getattr__(name: str) -> ModuleType:
    if name not in _WHEN_ASKED:
        raise AttributeError(f"module 'jaxrnn' has no attribute {name!r}")
    return importlib.import_module(_WHEN_ASKED[name])


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "GRU",
    "LSTM",
    "MGU",
    "STLSTM",
    "Attention",
    "AttentionCarry",
    "AttentionParams",
    "Beams",
    "Bidirectional",
    "BidirectionalCarry",
    "BidirectionalParams",
    "CandidateDropout",
    "Cell",
    "Composite",
    "Constrained",
    "ContextCell",
    "ConvGRU",
    "ConvLSTM",
    "Dale",
    "Dense",
    "DenseParams",
    "DropConnect",
    "Dropout",
    "Elman",
    "ElmanParams",
    "GRUParams",
    "Generated",
    "Highway",
    "HighwayParams",
    "Jordan",
    "JordanCarry",
    "JordanParams",
    "LSTMCarry",
    "LSTMParams",
    "LearnedCarry",
    "LearnedCarryParams",
    "LinearCell",
    "MGUParams",
    "Memory",
    "NoisyCell",
    "Pointwise",
    "Readout",
    "ReadoutParams",
    "RecurrentDropout",
    "Residual",
    "Reversed",
    "STLSTMCarry",
    "STLSTMLayer",
    "Sparse",
    "SpectralNorm",
    "Stack",
    "StateNoise",
    "WithContext",
    "Zoneout",
    "activations",
    "affine",
    "attention_weights",
    "beam_search",
    "combinators",
    "convert",
    "diagnostics",
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
    "substep",
    "tbptt",
    "testing",
    "trajectory",
    "unroll",
]
