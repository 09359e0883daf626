"""Cells around cells, one file per combinator."""

from jaxrnn.combinators.bidirectional import Bidirectional, BidirectionalCarry, BidirectionalParams
from jaxrnn.combinators.stack import Stack

__all__ = ["Bidirectional", "BidirectionalCarry", "BidirectionalParams", "Stack"]
