"""Cells around cells, one file per combinator."""

from jaxrnn.combinators.bidirectional import Bidirectional, BidirectionalCarry, BidirectionalParams
from jaxrnn.combinators.candidate_dropout import CandidateDropout
from jaxrnn.combinators.constrained import Constrained
from jaxrnn.combinators.dropconnect import DropConnect
from jaxrnn.combinators.dropout import Dropout
from jaxrnn.combinators.learned_carry import LearnedCarry, LearnedCarryParams
from jaxrnn.combinators.recurrent_dropout import RecurrentDropout
from jaxrnn.combinators.residual import Highway, HighwayParams, Residual
from jaxrnn.combinators.reversed import Reversed
from jaxrnn.combinators.stack import Stack
from jaxrnn.combinators.state_noise import StateNoise
from jaxrnn.combinators.zoneout import Zoneout

__all__ = [
    "Bidirectional",
    "BidirectionalCarry",
    "BidirectionalParams",
    "CandidateDropout",
    "Constrained",
    "DropConnect",
    "Dropout",
    "Highway",
    "HighwayParams",
    "LearnedCarry",
    "LearnedCarryParams",
    "RecurrentDropout",
    "Residual",
    "Reversed",
    "Stack",
    "StateNoise",
    "Zoneout",
]
