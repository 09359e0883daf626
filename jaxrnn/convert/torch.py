"""Weights of `torch.nn.RNN`, `LSTM`, `GRU` and of the three `*Cell` modules, as dictionaries of
arrays.

Torch keeps a matrix `[gates * hidden, in]` for each layer and direction, its gates in the order `i
f g o` or `r z n`, and two biases that are added; jaxrnn keeps the transpose, and one bias. Only the
candidate of a GRU needs both: the second is its `b_hn`."""

import itertools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMParams
from jaxrnn.convert._common import (
    Weights,
    check_options,
    gru_biases,
    join_layers,
    layers_of,
    own_params,
    recurrent_bias,
    refuse,
    said_by,
    to_numpy,
)
from jaxrnn.core.cell import Cell, Params
from jaxrnn.core.check import check_choice

_OPTIONS = {Elman: {"bias", "activation"}, GRU: {"bias"}, LSTM: {"bias", "projection"}}


def from_torch(
    state_dict: Mapping[str, Any],
    prefix: str = "",
    *,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
) -> tuple[Cell, Params]:
    """Read a recurrent module of torch.

    Kind, layers, directions, biases and projection follow from names and shapes. Dropout between
    layers is not in a `state_dict`; `Stack(cell.cells, dropout=...)` has it.

    Args:
        state_dict: `module.state_dict()`: tensors, or arrays of any other kind.
        prefix: what the names start with in a larger model, such as `"encoder.rnn."`; other names
            are not looked at.
        nonlinearity: that of an `nn.RNN`, whose weights do not say.

    Returns:
        An `Elman`, `LSTM` or `GRU`, within a `Bidirectional` if there are two directions and a
        `Stack` if there are several layers; and its parameters, in the dtype of the tensors.

    Raises:
        ValueError: a name is missing or unknown, or a shape or a dtype is another than the first
            layer's; the message names it, and the prefix with which a missing one is there.
        TypeError: `state_dict` is no dictionary, or a tensor is not floating, or is float64 where
            JAX has no float64.

    >>> import numpy as np, jaxrnn
    >>> state_dict = {"weight_ih_l0": np.ones((16, 3), np.float32), "weight_hh_l0": np.ones((16, 4), np.float32)}
    >>> cell, params = jaxrnn.convert.from_torch(state_dict)
    >>> cell == jaxrnn.LSTM(hidden=4, bias=False), params.w_x.shape
    (True, (3, 16))
    """
    check_choice(from_torch, "nonlinearity", nonlinearity, ("tanh", "relu"))
    weights = Weights(state_dict, "from_torch", prefix)
    module = _module_of(weights)
    if nonlinearity != "tanh" and module.gates != 1:
        reason = f"which only an nn.RNN has; this module has {module.gates} gates"
        refuse("from_torch", f"nonlinearity is {nonlinearity!r}, {reason}")
    arrays = weights.take(module.shapes(), one_dtype=True)
    with said_by("from_torch"):
        return join_layers(
            [
                [_read(module, arrays, way, nonlinearity) for way in ways]
                for ways in module.suffixes()
            ]
        )


class Module(NamedTuple):
    """What the arrays of a module are, whose layers and directions are of one size."""

    gates: int
    in_features: int
    hidden: int
    projection: int | None = None
    bias: bool = True
    layers: int = 1  # 0 for a *Cell, whose names have no layer in them
    bidirectional: bool = False

    def suffixes(self) -> list[list[str]]:
        """What the names of each layer and direction end with."""
        ways = ("", "_reverse") if self.bidirectional else ("",)
        return [[f"_l{k}{way}" for way in ways] for k in range(self.layers)] or [[""]]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The arrays in cuDNN's order: the matrices of all layers stand before all biases.

        >>> Module(gates=1, in_features=3, hidden=4, layers=0).shapes()
        {'weight_ih': (4, 3), 'weight_hh': (4, 4), 'bias_ih': (4,), 'bias_hh': (4,)}
        """
        rows, state = self.gates * self.hidden, self.projection or self.hidden
        suffixes, shapes = self.suffixes(), {}
        for k, layer in enumerate(suffixes):
            features = len(layer) * state if k else self.in_features
            for at in layer:
                shapes |= {f"weight_ih{at}": (rows, features), f"weight_hh{at}": (rows, state)}
        every = [at for layer in suffixes for at in layer]
        if self.bias:
            shapes |= {f"bias_{part}{at}": (rows,) for at in every for part in ("ih", "hh")}
        if self.projection:
            shapes |= {f"weight_hr{at}": (self.projection, self.hidden) for at in every}
        return shapes


def _module_of(weights: Weights) -> Module:
    """The module that the names, and the matrices of the first layer, speak of."""
    first = "" if "weight_ih" in weights else "_l0"
    rows, in_features = weights.sizes(f"weight_ih{first}", "gates * hidden", "in")
    _, state = weights.sizes(f"weight_hh{first}", "gates * hidden", "state")
    projection = state if weights.has("weight_hr") else None
    gates = 4 if projection else rows // state
    if gates not in (1, 3, 4) or rows % gates or (hidden := rows // gates) < state:
        given = f"weight_hh{first} has a state of {state} for {rows} rows"
        refuse(
            "from_torch",
            f"{given}, expected 1, 3 or 4 times as many (RNN, GRU, LSTM), or more with a "
            "projection",
        )
    layers = next(k for k in itertools.count(1) if f"weight_ih_l{k}" not in weights) if first else 0
    both = weights.has("weight_ih_l0_reverse")
    return Module(gates, in_features, hidden, projection, weights.has("bias_"), layers, both)


def _read(
    module: Module, arrays: Mapping[str, jax.Array], at: str, nonlinearity: str
) -> tuple[Cell, Params]:
    """One layer and direction."""
    hidden, bias = module.hidden, module.bias
    w_x, w_h = arrays[f"weight_ih{at}"].T, arrays[f"weight_hh{at}"].T
    biases = (arrays[f"bias_ih{at}"], arrays[f"bias_hh{at}"]) if bias else None
    if module.gates == 3:
        return GRU(hidden, bias=bias), GRUParams(
            w_x, w_h, *(gru_biases(*biases) if biases else (None, None))
        )
    b = biases and biases[0] + biases[1]
    if module.gates == 1:
        return Elman(hidden, activation=nonlinearity, bias=bias), ElmanParams(w_x, w_h, b)
    w_r = arrays[f"weight_hr{at}"].T if module.projection else None
    return LSTM(hidden, bias=bias, projection=module.projection), LSTMParams(w_x, w_h, b, w_r=w_r)


def to_torch(cell: Cell, params: Params, *, cell_module: bool = False) -> dict[str, np.ndarray]:
    """Write a `state_dict` for `nn.RNN`, `nn.LSTM` or `nn.GRU`.

    `module.load_state_dict({name: torch.from_numpy(a) for name, a in to_torch(cell,
    params).items()})` loads it; for bfloat16, of which NumPy's bridge knows nothing, write
    `torch.from_dlpack(jax.numpy.asarray(a))`.

    Args:
        cell: an `Elman`, `LSTM` or `GRU`, a concatenating `Bidirectional` or a `Stack` of equal
            ones.
        params: its parameters.
        cell_module: names for `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell`.

    Returns:
        Arrays in the dtype of the parameters, which stay of JAX where they are traced. jaxrnn's
        bias is torch's `bias_ih`; `bias_hh` is zero, but for a GRU's candidate.

    Raises:
        ValueError: the module cannot hold the cell, or an option of it; the message says which.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4)
    >>> state_dict = jaxrnn.convert.to_torch(cell, cell.init(jax.random.key(0), in_features=3))
    >>> {name: array.shape for name, array in state_dict.items()}
    {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
    """
    layers = layers_of("to_torch", cell, params)
    for layer in layers:
        for inner, _ in layer:
            _check_cell(inner)
    layers = layers_of("to_torch", cell, own_params("to_torch", cell, params))
    first = layers[0][0][0]
    state_dict: dict[str, np.ndarray] = {}
    for k, layer in enumerate(layers):
        for (inner, p), way in zip(layer, ("", "_reverse"), strict=False):
            if _function(inner) != _function(first) or len(layer) != len(layers[0]):
                refuse(
                    "to_torch",
                    f"all layers and directions of a module of torch are equal, but {inner} "
                    f"differs from {first}",
                )
            state_dict |= {f"{name}_l{k}{way}": array for name, array in _write(p).items()}
    if cell_module:
        if len(layers) > 1 or len(layers[0]) > 1 or "weight_hr_l0" in state_dict:
            refuse(
                "to_torch", "a module for one step holds one layer, one direction and no projection"
            )
        return {name.removesuffix("_l0"): array for name, array in state_dict.items()}
    return state_dict


def _check_cell(cell: Cell) -> None:
    """Refuse what no module holds."""
    if type(cell) not in _OPTIONS:
        refuse("to_torch", f"torch.nn has no {type(cell).__name__}")
    check_options("to_torch", cell, _OPTIONS[type(cell)], f"torch.nn.{_module(cell)}")
    if isinstance(cell, Elman) and cell.activation not in ("tanh", "relu"):
        refuse("to_torch", f"Elman has activation={cell.activation!r}, expected 'tanh' or 'relu'")


def _write(params: Any) -> dict[str, np.ndarray]:
    """One layer and direction."""
    written = {"weight_ih": params.w_x.T, "weight_hh": params.w_h.T}
    if params.b is not None:
        written |= {
            "bias_ih": params.b,
            "bias_hh": recurrent_bias(params.b, getattr(params, "b_hn", None)),
        }
    if getattr(params, "w_r", None) is not None:
        written["weight_hr"] = params.w_r.T
    return {name: to_numpy(array, own=True) for name, array in written.items()}


def _module(cell: Cell) -> str:
    return "RNN" if isinstance(cell, Elman) else type(cell).__name__


def _function(cell: Any) -> tuple[Any, ...]:
    """What must be equal in all layers."""
    return type(cell), *(getattr(cell, name) for name in ("hidden", *sorted(_OPTIONS[type(cell)])))
