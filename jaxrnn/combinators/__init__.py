"""Combinators: cells around other cells, one file each."""

from jaxrnn.combinators.attention import (
    Attention,
    AttentionCarry,
    AttentionParams,
    Memory,
    attention_weights,
)
from jaxrnn.combinators.bidirectional import Bidirectional, BidirectionalCarry, BidirectionalParams
from jaxrnn.combinators.candidate_dropout import CandidateDropout
from jaxrnn.combinators.constrained import Constrained
from jaxrnn.combinators.dropconnect import DropConnect
from jaxrnn.combinators.dropout import Dropout
from jaxrnn.combinators.layers import Dense, DenseParams, Pointwise
from jaxrnn.combinators.learned_carry import LearnedCarry, LearnedCarryParams
from jaxrnn.combinators.readout import Readout, ReadoutParams
from jaxrnn.combinators.recurrent_dropout import RecurrentDropout
from jaxrnn.combinators.residual import Highway, HighwayParams, Residual
from jaxrnn.combinators.reversed import Reversed
from jaxrnn.combinators.scores import (
    Additive,
    AdditiveParams,
    Dot,
    General,
    GeneralParams,
    Score,
)
from jaxrnn.combinators.stack import Stack
from jaxrnn.combinators.state_noise import StateNoise
from jaxrnn.combinators.zoneout import Zoneout

__all__ = [
    "Additive",
    "AdditiveParams",
    "Attention",
    "AttentionCarry",
    "AttentionParams",
    "Bidirectional",
    "BidirectionalCarry",
    "BidirectionalParams",
    "CandidateDropout",
    "Constrained",
    "Dense",
    "DenseParams",
    "Dot",
    "DropConnect",
    "Dropout",
    "General",
    "GeneralParams",
    "Highway",
    "HighwayParams",
    "LearnedCarry",
    "LearnedCarryParams",
    "Memory",
    "Pointwise",
    "Readout",
    "ReadoutParams",
    "RecurrentDropout",
    "Residual",
    "Reversed",
    "Score",
    "Stack",
    "StateNoise",
    "Zoneout",
    "attention_weights",
]
