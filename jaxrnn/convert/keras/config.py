"""Names and rules of Keras' configurations, for reading and writing."""

from typing import Literal, TypedDict

from jaxrnn.activations import NAMED, Activation, LeakyReLU
from jaxrnn.cells import GRU, LSTM, Elman
from jaxrnn.convert._errors import refuse
from jaxrnn.convert._layers import Plain

CELLS: dict[str, type[Plain]] = {"SimpleRNN": Elman, "LSTM": LSTM, "GRU": GRU}

CONVOLUTIONS = {f"ConvLSTM{rank}D": rank for rank in (1, 2, 3)}
"""Keras' names of a `ConvLSTM`, and the number of spatial axes of each."""

MERGES: dict[str | None, Literal["concat", "sum", "product", "mean"] | None] = {
    "concat": "concat",
    "sum": "sum",
    "mul": "product",
    "ave": "mean",
    None: None,
}
"""Keras' names of how a `Bidirectional` merges its outputs, and jaxrnn's."""

ACTIVATIONS: dict[str, Activation] = {
    **{name: name for name in NAMED},
    "leaky_relu": LeakyReLU(0.2),
}
"""Activations by Keras' names, which are jaxrnn's, too. Only the leaky ReLU has another slope."""

Version = Literal[2, 3] | None
"""The version of Keras that wrote a configuration; None if it is not known."""


class Serialized(TypedDict):
    """A layer or cell as `keras.layers.serialize` returns it."""

    module: str
    class_name: str
    config: dict[str, object]
    registered_name: str | None


def check_rates(
    caller: str, name: str, dropout: float, recurrent_dropout: float, gates: int
) -> None:
    """Refuse dropout for which Keras draws another mask of the input for each gate.

    A gated cell does so if it has dropout of both the input and the state. A convolution does so
    with any dropout of the input.
    """
    if dropout and gates > 1 and (recurrent_dropout or name in CONVOLUTIONS):
        given = f"{name} has dropout={dropout} and recurrent_dropout={recurrent_dropout}"
        which, hint = ("", "dropout") if name in CONVOLUTIONS else ("with both, ", "one of them")
        reason = f"{which}Keras drops other inputs for each gate, and Dropout the same for all"
        refuse(caller, f"{given}: {reason}; set {hint} to 0")
