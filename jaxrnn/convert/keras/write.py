"""From a cell and its parameters to a layer of Keras."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.activations import activation
from jaxrnn.cells import GRU, LSTM, ConvLSTM, Elman, GRUParams
from jaxrnn.cells._convolution import for_each_axis
from jaxrnn.combinators import Bidirectional, Dropout, RecurrentDropout, Stack
from jaxrnn.convert._arrays import reorder_gates, state_bias, to_numpy
from jaxrnn.convert._errors import refuse
from jaxrnn.convert._layers import Plain, PlainParams, check_cell, is_plain, own_params
from jaxrnn.convert.keras.config import (
    ACTIVATIONS,
    CELLS,
    CONVOLUTIONS,
    MERGES,
    Serialized,
    check_rates,
)
from jaxrnn.core.cell import Cell, Params

_Config = dict[str, object]

_OF_LSTM = {"bias", "gate_activation", "candidate_activation", "output_activation"}
_OPTIONS = {
    Elman: {"bias", "activation"},
    LSTM: _OF_LSTM,
    ConvLSTM: _OF_LSTM | {"kernel_size", "rank", "strides", "dilation", "padding"},
    GRU: {"bias", "reset_gate", "gate_activation", "candidate_activation"},
}

_ORDER = (
    ", in RecurrentDropout, Dropout, Stack and Bidirectional, in this order; a Stack of other "
    "layers can be converted one by one"
)


def to_keras(
    cell: Cell, params: Params, *, return_state: bool = False
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Write a recurrent layer of Keras 3.

        config, weights = to_keras(cell, params)
        layer = keras.layers.deserialize(config)
        layer.build((None, None, in_features))
        layer.set_weights(weights)

    Build a convolutional layer for the size of its pictures, `(None, None, *space, in_features)`.

    The layer returns all outputs, zero where the mask is False. It has the dtype of the parameters.

    Args:
        cell: an `Elman`, `LSTM` or `GRU`, a `Stack` of such, or a `Bidirectional` of them or of
            stacks. Each of the three may be in a `Dropout` with `locked=True`, or in a
            `RecurrentDropout` with `locked=True` and as many draws as gates. Or a `ConvLSTM`, alone
            or in a `Bidirectional`, which may be in such a `RecurrentDropout`.
        params: its parameters.
        return_state: whether the layer returns the final states, too.

    Returns:
        The serialised layer, and its arrays of NumPy, or of JAX if they are traced.

    Raises:
        ValueError: Keras cannot hold the cell or one of its options. The message names it, and says
            why.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4)
    >>> config, weights = jaxrnn.convert.to_keras(cell, cell.init(jax.random.key(0), in_features=3))
    >>> config["class_name"], config["config"]["reset_after"], [array.shape for array in weights]
    ('GRU', True, [(3, 12), (4, 12), (2, 12)])
    """
    dtype = str(jnp.result_type(*(jax.tree.leaves(params) or ["float32"])))
    config = _write_layer(cell, dtype, return_state)
    layers = jax.tree.leaves(own_params("to_keras", cell, params), is_leaf=is_plain)
    return {**config}, [array for layer in layers for array in _write_arrays(layer)]


def _write_arrays(params: PlainParams) -> list[np.ndarray]:
    """Return kernel, recurrent kernel and bias of a plain cell, as Keras orders them."""
    b = params.b
    arrays = [params.w_x, params.w_h, *([] if b is None else [b])]
    if isinstance(params, GRUParams):
        if b is not None and params.b_hn is not None:
            arrays[2] = jnp.stack([b, state_bias(b, params.b_hn)])
        arrays = [reorder_gates(array, "rzn", "zrn") for array in arrays]
    return [to_numpy(array) for array in arrays]


def _write_layer(cell: Cell, dtype: str, return_state: bool) -> Serialized:
    """Return a layer of one or two directions."""
    returned: _Config = {
        "return_sequences": True,
        "return_state": return_state,
        "zero_output_for_mask": True,
    }
    cell = _unstacked(cell)
    if not isinstance(cell, Bidirectional):
        return _write_one_way(cell, dtype, returned)
    if (sizes := (cell.forward.out_features, cell.backward.out_features)) != sizes[:1] * 2:
        reason = "but Keras takes both to be of one size"
        refuse("to_keras", f"Bidirectional has outputs of sizes {sizes}, {reason}")
    both: _Config = {
        "layer": _write_one_way(cell.forward, dtype, returned),
        "backward_layer": _write_one_way(cell.backward, dtype, {**returned, "go_backwards": True}),
        "merge_mode": next(name for name, own in MERGES.items() if own == cell.merge),
        "dtype": dtype,
    }
    return _serialized("Bidirectional", both)


def _write_one_way(cell: Cell, dtype: str, returned: _Config) -> Serialized:
    """Return a layer of one direction."""
    inner = _write_cell(cell, dtype)
    if inner["class_name"] == "StackedRNNCells":
        return _serialized("RNN", {"cell": inner, "dtype": dtype, **returned})
    return _serialized(inner["class_name"].removesuffix("Cell"), {**inner["config"], **returned})


def _write_cell(cell: Cell, dtype: str) -> Serialized:
    """Return a cell for an `RNN`: a plain one, or `StackedRNNCells`."""
    cell = _unstacked(cell)
    if not isinstance(cell, Stack):
        return _write_plain(cell, dtype)
    if cell.dense or cell.dropout:
        given = f"Stack has dense={cell.dense} and dropout={cell.dropout}, expected False and 0"
        hint = "its cells can have Dropout(cell, rate, locked=True)"
        refuse("to_keras", f"{given}: StackedRNNCells has neither; {hint}")
    if cell.outputs != "top":
        refuse("to_keras", f"Stack has outputs={cell.outputs!r}, expected 'top'")
    cells = [_write_cell(inner, dtype) for inner in cell.cells]
    if any(inner["class_name"].removesuffix("Cell") in CONVOLUTIONS for inner in cells):
        reason = "of which Keras has no cell for StackedRNNCells; convert its layers one by one"
        refuse("to_keras", f"Stack holds a ConvLSTM, {reason}")
    return _serialized("StackedRNNCells", {"cells": cells, "dtype": dtype})


def _unstacked(cell: Cell) -> Cell:
    """Return the cell within a stack of one, because Keras cannot run `StackedRNNCells` of one."""
    return _unstacked(cell.cells[0]) if isinstance(cell, Stack) and len(cell.cells) == 1 else cell


def _write_plain(cell: Cell, dtype: str) -> Serialized:
    """Return a plain cell, with its dropout."""
    dropout, recurrent_dropout, draws = 0.0, 0.0, None
    if isinstance(cell, Dropout):
        dropout, cell = _locked_rate(cell), cell.cell
    if isinstance(cell, RecurrentDropout):
        recurrent_dropout, draws, cell = _locked_rate(cell), cell.draws, cell.cell
    check_cell("to_keras", cell, _OPTIONS, "a cell of Keras", within=_ORDER)
    assert isinstance(cell, Plain)  # `check_cell` refuses all others
    name = _name_of(cell)
    if draws not in (None, cell.gates):
        reason = f"expected {cell.gates}: Keras draws for each gate of {name}"
        refuse("to_keras", f"RecurrentDropout has draws={draws}, {reason}")
    check_rates("to_keras", name, dropout, recurrent_dropout, cell.gates)
    config: _Config = {
        **_write_options(cell),
        "dropout": dropout,
        "recurrent_dropout": recurrent_dropout,
        # The weights are replaced anyway, and Keras cannot draw orthogonal ones in bfloat16.
        "recurrent_initializer": "zeros",
        "seed": None,  # only Keras 3 writes one, so it tells the version
        "dtype": dtype,
    }
    return _serialized(f"{name}Cell", config)


def _name_of(cell: Plain) -> str:
    """Return the name of the layer of Keras that has the same function as a cell."""
    if isinstance(cell, ConvLSTM):
        return next(name for name, rank in CONVOLUTIONS.items() if rank == cell.rank)
    return next(name for name, kind in CELLS.items() if kind is type(cell))


def _locked_rate(cell: Dropout | RecurrentDropout) -> float:
    """Return the rate of a dropout, which must be locked."""
    if not cell.locked:
        reason = "expected True: Keras draws once for each sequence"
        refuse("to_keras", f"{type(cell).__name__} has locked=False, {reason}")
    return cell.rate


def _write_options(cell: Plain) -> _Config:
    """Return the options of a plain cell, by Keras' keys."""
    config: _Config = {"use_bias": cell.bias, **_write_sizes(cell)}
    if isinstance(cell, Elman):
        return {**config, "activation": _write_activation(cell, "activation")}
    config["activation"] = _write_activation(cell, "candidate_activation")
    config["recurrent_activation"] = _write_activation(cell, "gate_activation")
    if isinstance(cell, GRU):
        return {**config, "reset_after": cell.reset_gate == "after"}
    if _write_activation(cell, "output_activation") != config["activation"]:
        candidate, output = cell.candidate_activation, cell.output_activation
        name = type(cell).__name__
        given = f"{name} has candidate_activation={candidate!r} and output_activation={output!r}"
        refuse("to_keras", f"{given}, but Keras' {name} has one activation for both")
    return config


def _write_sizes(cell: Plain) -> _Config:
    """Return the number of units, or the sizes and options of a convolution."""
    if not isinstance(cell, ConvLSTM):
        return {"units": cell.hidden}
    sizes = {
        "kernel_size": cell.kernel_size,
        "strides": cell.strides,
        "dilation_rate": cell.dilation,
    }
    return {
        "filters": cell.hidden,
        **{key: [*for_each_axis(size, cell.rank)] for key, size in sizes.items()},
        "padding": cell.padding,
        "data_format": "channels_last",
    }


def _write_activation(cell: Plain, field: str) -> str:
    """Return Keras' name of an activation of a cell."""
    own = getattr(cell, field)
    for name, known in ACTIVATIONS.items():
        if activation(known) == activation(own):
            return name
    known = f"expected one of {list(ACTIVATIONS.values())}"
    refuse("to_keras", f"{type(cell).__name__} has {field}={own!r}, {known}")


def _serialized(name: str, config: _Config) -> Serialized:
    """Return a layer or cell in the form of `keras.layers.serialize`."""
    return {
        "module": "keras.layers",
        "class_name": name,
        "config": config,
        "registered_name": None,
    }
