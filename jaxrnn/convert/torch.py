"""Weights of `torch.nn.RNN`, `LSTM`, `GRU` and the three `*Cell` modules: dictionaries of arrays.

Torch keeps a matrix `[gates * hidden, in]` for each layer and direction; jaxrnn keeps its
transpose. The gates have jaxrnn's order, `i f g o` and `r z n`. Torch has two biases, which it
adds; jaxrnn has one. Only the candidate of a GRU needs both: the second is its `b_hn`.

Torch has no convolutional LSTM. Modules that people write have one convolution of input and state
together, or one of each. Their weights do not tell the order of the gates.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cells import GRU, LSTM, ConvLSTM, Elman, ElmanParams, GRUParams, LSTMParams
from jaxrnn.convert._arrays import gru_biases, reorder_gates, state_bias, to_numpy
from jaxrnn.convert._errors import refuse, said_by
from jaxrnn.convert._layers import (
    Layer,
    PlainParams,
    check_alike,
    check_cell,
    join_layers,
    own_layers,
)
from jaxrnn.convert._weights import Shapes, Weights
from jaxrnn.core.cell import Cell, Params
from jaxrnn.core.check import check_choice

_OPTIONS = {Elman: {"bias", "activation"}, LSTM: {"bias", "projection"}, GRU: {"bias"}}


def from_torch(
    state_dict: Mapping[str, object],
    prefix: str = "",
    *,
    nonlinearity: Literal["tanh", "relu"] = "tanh",
    convolutions: str | Sequence[str] | None = None,
    gates: str | None = None,
) -> tuple[Cell, Params]:
    """Read a recurrent module of torch, or one layer of a convolutional LSTM.

    Names and shapes tell its kind, layers, directions, biases and projection. A `state_dict` does
    not hold the dropout between layers; add it with `Stack(cell.cells, dropout=...)`.

    Args:
        state_dict: `module.state_dict()`: tensors, or arrays of any other framework.
        prefix: the beginning of the module's names in a larger model, such as `"encoder.rnn."`.
            Other names are ignored.
        nonlinearity: the activation of an `nn.RNN`, which its weights do not tell.
        convolutions: for a convolutional LSTM, the name of its `nn.Conv1d`, `nn.Conv2d` or
            `nn.Conv3d` after the prefix, such as `"conv"`, if it convolves
            `torch.cat([x, h], dim=1)`. If it has two convolutions, the names of that of the input
            and that of the state, such as `("conv_x", "conv_h")`. Pictures must keep their size:
            `padding=k // 2`, odd kernels, no strides.
        gates: the order of the gates in the rows of such a module, a letter for each, with g for
            the candidate: `"ifog"`.

    Returns:
        An `Elman`, `LSTM` or `GRU`, within a `Bidirectional` if there are two directions and within
        a `Stack` if there are several layers; or a `ConvLSTM`. And its parameters, in the dtype of
        the tensors. jaxrnn has channels last: `xs.movedim(2, -1)` moves those of an input.

    Raises:
        ValueError: a name is missing or unknown, or a shape or dtype does not fit that of the first
            layer. The message names the array. If a missing one exists with another prefix, the
            message names that, too.
        TypeError: `state_dict` is not a dictionary, a tensor is not floating, or it is float64 and
            JAX's float64 is off.

    >>> import numpy as np, jaxrnn
    >>> rows = {"weight_ih_l0": np.ones((16, 3), "f"), "weight_hh_l0": np.ones((16, 4), "f")}
    >>> cell, params = jaxrnn.convert.from_torch(rows)
    >>> cell == jaxrnn.LSTM(hidden=4, bias=False), params.w_x.shape
    (True, (3, 16))

    This reads a layer of the ConvLSTM module that is copied most, which has a list of cells:

    >>> layer = {"cell_list.0.conv.weight": np.ones((16, 5, 3, 3), "f")}
    >>> cell, params = jaxrnn.convert.from_torch(
    ...     layer, "cell_list.0.", convolutions="conv", gates="ifog"
    ... )
    >>> cell == jaxrnn.ConvLSTM(4, kernel_size=3, bias=False), params.w_x.shape
    (True, (3, 3, 1, 16))
    """
    check_choice(from_torch, "nonlinearity", nonlinearity, ("tanh", "relu"))
    weights = Weights(state_dict, "from_torch", prefix)
    if convolutions is not None or gates is not None:
        return _read_convolutions(weights, convolutions, gates, nonlinearity)
    module = _module_of(weights)
    if nonlinearity != "tanh" and module.gates != 1:
        reason = f"which only an nn.RNN has; this module has {module.gates} gates"
        refuse("from_torch", f"nonlinearity is {nonlinearity!r}, {reason}")
    arrays = weights.take(module.shapes(), one_dtype=True)
    with said_by("from_torch"):
        return join_layers(
            [
                [_read(module, arrays, suffix, nonlinearity) for suffix in directions]
                for directions in module.suffixes()
            ]
        )


class Module(NamedTuple):
    """A recurrent module of torch, whose layers and directions all have one size."""

    gates: int
    in_features: int
    hidden: int
    projection: int | None = None
    bias: bool = True
    layers: int = 1  # 0 for a *Cell, whose names hold no number of a layer
    bidirectional: bool = False

    def suffixes(self) -> list[list[str]]:
        """Return how the names of each layer and direction end."""
        ways = ("", "_reverse") if self.bidirectional else ("",)
        return [[f"_l{k}{way}" for way in ways] for k in range(self.layers)] or [[""]]

    def shapes(self) -> Shapes:
        """Return the shapes by name, in cuDNN's order: all matrices precede all biases.

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
    """Tell a module from the names, and from the shapes of its first layer."""
    if not any(f"weight_ih{at}" in weights for at in ("", "_l0")):
        weights.missing("weight_ih_l0", "weight_ih")
    first = "" if "weight_ih" in weights else "_l0"
    rows, in_features = weights.sizes(f"weight_ih{first}", "gates * hidden", "in")
    _, state = weights.sizes(f"weight_hh{first}", "gates * hidden", "state")
    projection = state if weights.has("weight_hr") else None
    gates = 4 if projection else rows // state
    if gates not in (1, 3, 4) or rows % gates or (hidden := rows // gates) < state:
        given = f"weight_hh{first} has a state of {state} for {rows} rows"
        wanted = "1, 3 or 4 times as many (RNN, GRU, LSTM), or more with a projection"
        refuse("from_torch", f"{given}, expected {wanted}")
    layers = next(k for k in itertools.count(1) if f"weight_ih_l{k}" not in weights) if first else 0
    both = weights.has("weight_ih_l0_reverse")
    return Module(gates, in_features, hidden, projection, weights.has("bias_"), layers, both)


def _read(
    module: Module, arrays: Mapping[str, Array], at: str, nonlinearity: str
) -> tuple[Cell, Params]:
    """Read the cell and the parameters of one layer and direction, whose names end with `at`."""
    hidden, bias = module.hidden, module.bias
    w_x, w_h = arrays[f"weight_ih{at}"].T, arrays[f"weight_hh{at}"].T
    biases = (arrays[f"bias_ih{at}"], arrays[f"bias_hh{at}"]) if bias else None
    if module.gates == 3:
        b, b_hn = gru_biases(*biases) if biases else (None, None)
        return GRU(hidden, bias=bias), GRUParams(w_x, w_h, b, b_hn)
    b = biases and biases[0] + biases[1]
    if module.gates == 1:
        return Elman(hidden, activation=nonlinearity, bias=bias), ElmanParams(w_x, w_h, b)
    w_r = arrays[f"weight_hr{at}"].T if module.projection else None
    return LSTM(hidden, bias=bias, projection=module.projection), LSTMParams(w_x, w_h, b, w_r=w_r)


def _read_convolutions(
    weights: Weights, names: str | Sequence[str] | None, gates: str | None, nonlinearity: str
) -> tuple[Cell, Params]:
    """Read the cell and the parameters of one layer of a convolutional LSTM."""
    names = [names] if isinstance(names, str) else [*(names or ())]
    if len(names) not in (1, 2):
        refuse("from_torch", f"convolutions are {names}, expected one name or two")
    if not isinstance(gates, str) or sorted(gates) != sorted("ifgo"):
        wanted = "the letters i f g o in the order in which the module splits, such as 'ifog'"
        refuse("from_torch", f"gates is {gates!r}, expected {wanted}")
    if nonlinearity != "tanh":
        refuse("from_torch", f"nonlinearity is {nonlinearity!r}, which only an nn.RNN has")
    arrays = weights.take(_shapes_of_convolutions(weights, names), one_dtype=True)
    # in one convolution or in two, the last channels are the state's
    w = jnp.concatenate([arrays[f"{name}.weight"] for name in names], axis=1)
    w = reorder_gates(jnp.moveaxis(w, (1, 0), (-2, -1)), gates, "ifgo")
    biases = [arrays[f"{name}.bias"] for name in names if f"{name}.bias" in arrays]
    b = reorder_gates(sum(biases[1:], biases[0]), gates, "ifgo") if biases else None
    *kernel, _, columns = w.shape
    hidden = columns // 4
    cell = ConvLSTM(hidden, tuple(kernel), rank=len(kernel), bias=bool(biases))
    return cell, LSTMParams(w[..., :-hidden, :], w[..., -hidden:, :], b)


def _shapes_of_convolutions(weights: Weights, names: Sequence[str]) -> Shapes:
    """Return the shapes of all arrays, from that of the first weight."""
    first, joined = f"{names[0]}.weight", len(names) == 1
    shape = weights.shape(first)
    fits = len(shape) in (3, 4, 5) and 0 not in shape and shape[0] % 4 == 0
    if not fits or (joined and shape[1] <= shape[0] // 4):
        wanted = f"expected [4 * hidden, {'in + hidden' if joined else 'in'}, *kernel]"
        raise ValueError(f"{weights.named(first)} has shape {shape}, {wanted}, of 3 to 5 axes")
    rows, _, *kernel = shape
    if any(size % 2 == 0 for size in kernel):
        reason = "padding=k // 2 makes a picture larger under an even kernel, and the state with it"
        refuse("from_torch", f"the kernel is {tuple(kernel)}, expected odd sizes: {reason}")
    shapes: Shapes = {first: shape}
    if not joined:
        shapes[f"{names[1]}.weight"] = (rows, rows // 4, *kernel)
    return shapes | {name: (rows,) for each in names if (name := f"{each}.bias") in weights}


def to_torch(cell: Cell, params: Params, *, cell_module: bool = False) -> dict[str, np.ndarray]:
    """Write a `state_dict` for `nn.RNN`, `nn.LSTM` or `nn.GRU`.

    The following loads it:

        arrays = to_torch(cell, params)
        module.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})

    `torch.from_numpy` does not read bfloat16. Use `torch.from_dlpack(jax.numpy.asarray(a))` there.

    Args:
        cell: an `Elman`, `LSTM` or `GRU`, a concatenating `Bidirectional`, or a `Stack` of equal
            ones.
        params: its parameters.
        cell_module: whether the names are those of `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell`.

    Returns:
        Arrays of NumPy in the dtype of the parameters, or of JAX if they are traced. jaxrnn's bias
        becomes `bias_ih`. `bias_hh` is zero, except for the candidate of a GRU.

    Raises:
        ValueError: the module cannot hold the cell or one of its options. The message names it.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4)
    >>> state_dict = jaxrnn.convert.to_torch(cell, cell.init(jax.random.key(0), in_features=3))
    >>> {name: array.shape for name, array in state_dict.items()}
    {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}
    """
    layers = own_layers("to_torch", cell, params, _check_layers)
    arrays = {name: to_numpy(array, own=True) for name, array in write_arrays(layers).items()}
    if not cell_module:
        return arrays
    if len(layers) > 1 or len(layers[0]) > 1 or "weight_hr_l0" in arrays:
        reason = "a module for one step holds one layer, one direction and no projection"
        refuse("to_torch", reason)
    return {name.removesuffix("_l0"): array for name, array in arrays.items()}


def _check_layers(layers: list[Layer]) -> None:
    """Refuse what no module holds."""
    for layer in layers:
        for cell, _ in layer:
            check_cell("to_torch", cell, _OPTIONS, "torch.nn")
            if isinstance(cell, Elman) and cell.activation not in ("tanh", "relu"):
                given = f"Elman has activation={cell.activation!r}"
                refuse("to_torch", f"{given}, expected 'tanh' or 'relu'")
    law = "all layers and directions of a module of torch are equal"
    check_alike("to_torch", layers, _OPTIONS[type(layers[0][0][0])], law)


def write_arrays(layers: Sequence[Layer]) -> dict[str, Array]:
    """Write the arrays of a module, by name."""
    return {
        f"{name}_l{k}{way}": array
        for k, layer in enumerate(layers)
        for (_, params), way in zip(layer, ("", "_reverse"), strict=False)
        for name, array in _write(params).items()
    }


def _write(params: PlainParams) -> dict[str, Array]:
    """Write the arrays of one layer and direction."""
    arrays = {"weight_ih": params.w_x.T, "weight_hh": params.w_h.T}
    if params.b is not None:
        b_hn = params.b_hn if isinstance(params, GRUParams) else None
        arrays |= {"bias_ih": params.b, "bias_hh": state_bias(params.b, b_hn)}
    if isinstance(params, LSTMParams) and params.w_r is not None:
        arrays["weight_hr"] = params.w_r.T
    return arrays
