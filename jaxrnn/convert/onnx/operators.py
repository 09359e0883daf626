"""ONNX's recurrent operators, and the cells that compute the same."""

import dataclasses

from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMParams
from jaxrnn.convert._errors import refuse
from jaxrnn.convert._layers import Plain, PlainParams
from jaxrnn.convert.onnx.activations import mirrors
from jaxrnn.core.cell import Cell


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of ONNX, and the cell that computes the same."""

    name: str
    cell: type[Plain]
    params: type[PlainParams]
    theirs: str  # the order of its gates in ONNX
    ours: str  # the order of its gates in jaxrnn
    activations: dict[str, str]  # the cell's activations, in ONNX's order, and ONNX's defaults
    options: tuple[str, ...]  # the cell's other options, which both directions share


_GATED = {"gate_activation": "Sigmoid", "candidate_activation": "Tanh"}
_LSTM = {**_GATED, "output_activation": "Tanh"}
_RNN = {"activation": "Tanh"}

OPERATORS = {
    operator.name: operator
    for operator in (
        Operator("RNN", Elman, ElmanParams, "n", "n", _RNN, ("bias", "clip")),
        Operator("GRU", GRU, GRUParams, "zrn", "rzn", _GATED, ("bias", "clip", "reset_gate")),
        Operator(
            *("LSTM", LSTM, LSTMParams, "iofg", "ifgo", _LSTM),
            options=("bias", "clip", "coupled", "peepholes"),
        ),
    )
}

BY_CELL: dict[type[Cell], Operator] = {each.cell: each for each in OPERATORS.values()}


def check_coupling(caller: str, cell: Plain) -> None:
    """Refuse an LSTM with coupled gates unless their activation has a(-z) = 1 - a(z)."""
    if isinstance(cell, LSTM) and cell.coupled and not mirrors(cell.gate_activation):
        refuse(
            caller,
            "the gates of the LSTM are coupled, in ONNX as f = 1 - i and in jaxrnn as i = 1 - f; "
            "that is the same only for a gate activation with a(-z) = 1 - a(z), such as "
            f"'sigmoid', not for {cell.gate_activation!r}",
        )
