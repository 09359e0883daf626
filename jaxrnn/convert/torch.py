"""Weights of `torch.nn.RNN`, `LSTM`, `GRU` and of the three `*Cell` modules, as dictionaries of arrays.

Torch keeps a matrix `[gates * hidden, in]` for each layer and direction, its gates in the order `i f g o` or `r z n`, and two biases
that are added; jaxrnn keeps the transpose, and one bias. Only the candidate of a GRU needs both: the second is its `b_hn`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jaxrnn._cell import Cell, Params
from jaxrnn._check import check_choice
from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMParams
from jaxrnn.convert._common import Weights, check_options, gru_biases, join_layers, layers_of, recurrent_bias, refuse, to_numpy

_OPTIONS = {Elman: {"bias", "activation"}, GRU: {"bias"}, LSTM: {"bias", "projection"}}


def from_torch(
    state_dict: Mapping[str, Any], prefix: str = "", *, nonlinearity: Literal["tanh", "relu"] = "tanh"
) -> tuple[Cell, Params]:
    """Read a recurrent module of torch.

    Kind, layers, directions, biases and projection follow from names and shapes. Dropout between layers is not in a
    `state_dict`; `Stack(cell.cells, dropout=...)` has it.

    Args:
        state_dict: `module.state_dict()`: tensors, or arrays of any other kind.
        prefix: what the names start with in a larger model, such as `"encoder.rnn."`; other names are not looked at.
        nonlinearity: that of an `nn.RNN`, whose weights do not say.

    Returns:
        An `Elman`, `LSTM` or `GRU`, within a `Bidirectional` if there are two directions and a `Stack` if there are several layers;
        and its parameters, in the dtype of the tensors.

    Raises:
        ValueError: a name is missing or unknown, or a shape is another; the message names it.
        TypeError: a tensor is not floating, or is float64 where JAX has no float64.

    >>> import numpy as np, jaxrnn
    >>> state_dict = {"weight_ih_l0": np.ones((16, 3), np.float32), "weight_hh_l0": np.ones((16, 4), np.float32)}
    >>> cell, params = jaxrnn.convert.from_torch(state_dict)
    >>> cell == jaxrnn.LSTM(hidden=4, bias=False), params.w_x.shape
    (True, (3, 16))
    """
    check_choice(from_torch, "nonlinearity", nonlinearity, ("tanh", "relu"))
    weights = Weights(state_dict, prefix, "from_torch")
    if "weight_ih" in weights:  # a *Cell
        layers = [[_read(weights, "", nonlinearity)]]
    else:
        layers, k = [], 0
        while not layers or f"weight_ih_l{k}" in weights:
            ways = ("", "_reverse") if f"weight_ih_l{k}_reverse" in weights else ("",)
            layers.append([_read(weights, f"_l{k}{way}", nonlinearity) for way in ways])
            k += 1
    weights.finish()
    return join_layers(layers)


def _read(weights: Weights, suffix: str, nonlinearity: str) -> tuple[Cell, Params]:
    """One layer and direction."""
    rows, features = weights.shape(f"weight_ih{suffix}")
    projection = weights.shape(f"weight_hr{suffix}")[0] if f"weight_hr{suffix}" in weights else None
    state = weights.shape(f"weight_hh{suffix}")[1]
    gates = 4 if projection else rows // state
    hidden = rows // gates if gates else 0
    if gates not in (1, 3, 4) or rows != gates * hidden:
        raise ValueError(
            f"from_torch: weight_hh{suffix} has {rows} rows for a state of {state}, expected 1, 3 or 4 times as many (RNN, GRU, LSTM)"
        )
    if nonlinearity != "tanh" and gates != 1:
        raise ValueError(
            f"from_torch: nonlinearity is {nonlinearity!r}, which only an nn.RNN has; {suffix or 'this'} has {gates} gates"
        )
    w_x = weights.take(f"weight_ih{suffix}", (rows, features)).T
    w_h = weights.take(f"weight_hh{suffix}", (rows, projection or hidden)).T
    bias = f"bias_ih{suffix}" in weights
    b_x, b_h = (weights.take(f"bias_{part}{suffix}", (rows,)) if bias else None for part in ("ih", "hh"))
    b = None if b_x is None or b_h is None else b_x + b_h
    if gates == 1:
        return Elman(hidden, activation=nonlinearity, bias=bias), ElmanParams(w_x, w_h, b)
    if gates == 4:
        w_r = weights.take(f"weight_hr{suffix}", (projection, hidden)).T if projection else None
        return LSTM(hidden, bias=bias, projection=projection), LSTMParams(w_x, w_h, b, w_r=w_r)
    if b_x is None or b_h is None:
        return GRU(hidden, bias=False), GRUParams(w_x, w_h, None, None)
    return GRU(hidden), GRUParams(w_x, w_h, *gru_biases(b_x, b_h))


def to_torch(cell: Cell, params: Params, *, cell_module: bool = False) -> dict[str, np.ndarray]:
    """Write a `state_dict` for `nn.RNN`, `nn.LSTM` or `nn.GRU`.

    `module.load_state_dict({name: torch.from_numpy(a) for name, a in to_torch(cell, params).items()})` loads it; for bfloat16, of
    which NumPy's bridge knows nothing, write `torch.from_dlpack(jax.numpy.asarray(a))`.

    Args:
        cell: an `Elman`, `LSTM` or `GRU`, a concatenating `Bidirectional` or a `Stack` of equal ones.
        params: its parameters.
        cell_module: names for `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell`.

    Returns:
        Arrays in the dtype of the parameters. jaxrnn's bias is torch's `bias_ih`; `bias_hh` is zero, but for a GRU's candidate.

    Raises:
        ValueError: the module cannot hold the cell, or an option of it; the message says which.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4)
    >>> state_dict = jaxrnn.convert.to_torch(cell, cell.init(jax.random.key(0), in_features=3))
    >>> {name: array.shape for name, array in state_dict.items()}
    {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
    """
    layers = layers_of("to_torch", cell, params)
    first = layers[0][0][0]
    state_dict: dict[str, np.ndarray] = {}
    for k, layer in enumerate(layers):
        for (inner, p), way in zip(layer, ("", "_reverse"), strict=False):
            if type(inner) not in _OPTIONS:
                refuse("to_torch", f"torch.nn has no {type(inner).__name__}")
            check_options("to_torch", inner, _OPTIONS[type(inner)], f"torch.nn.{_module(inner)}")
            if isinstance(inner, Elman) and inner.activation not in ("tanh", "relu"):
                refuse("to_torch", f"Elman has activation={inner.activation!r}, expected 'tanh' or 'relu'")
            if _function(inner) != _function(first) or len(layer) != len(layers[0]):
                refuse("to_torch", f"all layers and directions of a module of torch are equal, but {inner} differs from {first}")
            state_dict |= {f"{name}_l{k}{way}": array for name, array in _write(p).items()}
    if cell_module:
        if len(layers) > 1 or len(layers[0]) > 1 or "weight_hr_l0" in state_dict:
            refuse("to_torch", "a module for one step holds one layer, one direction and no projection")
        return {name.removesuffix("_l0"): array for name, array in state_dict.items()}
    return state_dict


def _write(params: Any) -> dict[str, np.ndarray]:
    """One layer and direction."""
    written = {"weight_ih": params.w_x.T, "weight_hh": params.w_h.T}
    if params.b is not None:
        written |= {"bias_ih": params.b, "bias_hh": recurrent_bias(params.b, getattr(params, "b_hn", None))}
    if getattr(params, "w_r", None) is not None:
        written["weight_hr"] = params.w_r.T
    return {name: np.array(to_numpy(array), order="C") for name, array in written.items()}


def _module(cell: Cell) -> str:
    return "RNN" if isinstance(cell, Elman) else type(cell).__name__


def _function(cell: Any) -> tuple[Any, ...]:
    """What must be equal in all layers."""
    return type(cell), *(getattr(cell, name) for name in ("hidden", *sorted(_OPTIONS[type(cell)])))
