"""From a configuration of Keras to a cell."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, TypeGuard, cast, get_args

from jaxrnn.activations import Activation, HardSigmoid
from jaxrnn.cells import GRU, LSTM, ConvLSTM, Elman
from jaxrnn.combinators import Bidirectional, Dropout, RecurrentDropout, Stack
from jaxrnn.convert._errors import listed, refuse
from jaxrnn.convert.keras.config import (
    ACTIVATIONS,
    CELLS,
    CONVOLUTIONS,
    MERGES,
    Serialized,
    Version,
    check_rates,
)
from jaxrnn.core.cell import Cell


class _Config(TypedDict):
    """The keys that are read. Each class has those in `_NEEDED`, and those in `_DEFAULTS`."""

    units: int
    use_bias: bool
    activation: object
    recurrent_activation: object
    reset_after: bool
    filters: int  # of a convolution, as the next four
    kernel_size: int | list[int]
    strides: int | list[int]
    dilation_rate: int | list[int]
    padding: Literal["same", "valid"]
    cell: Serialized  # of an RNN
    cells: list[Serialized]  # of StackedRNNCells, bottom first
    layer: Serialized  # of a Bidirectional, as the next two
    backward_layer: Serialized | None
    merge_mode: str | None
    dropout: float
    recurrent_dropout: float
    go_backwards: bool


_SizeKey = Literal["kernel_size", "strides", "dilation_rate"]
_SIZE_KEYS: tuple[_SizeKey, ...] = get_args(_SizeKey)
_PLAIN = {"units", "activation", "use_bias"}
_GATED = _PLAIN | {"recurrent_activation"}
_OF_PICTURES = (_GATED - {"units"}) | {
    *("filters", *_SIZE_KEYS, "padding", "data_format"),
}
_NEEDED = {"SimpleRNN": _PLAIN, "LSTM": _GATED, "GRU": _GATED | {"reset_after"}}
_NEEDED |= {f"{name}Cell": keys for name, keys in _NEEDED.items()}
_NEEDED |= dict.fromkeys(CONVOLUTIONS, _OF_PICTURES)
_NEEDED |= {
    "CuDNNLSTM": {"units"},
    "CuDNNGRU": {"units"},
    "RNN": {"cell"},
    "StackedRNNCells": {"cells"},
    "Bidirectional": {"layer", "merge_mode"},
}
"""The classes that are read, and the keys that each must have."""

_DEFAULTS = {
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "go_backwards": False,
    "backward_layer": None,
}
"""The keys that may be missing, and their values then."""

_IGNORED = {
    *("name", "trainable", "dtype", "seed", "batch_input_shape", "input_dim", "input_length"),
    *("time_major", "implementation", "stateful", "unroll", "unit_forget_bias"),
    *("return_sequences", "return_state", "zero_output_for_mask", "activity_regularizer"),
    *("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
    *("recurrent_initializer", "recurrent_regularizer", "recurrent_constraint"),
    *("bias_initializer", "bias_regularizer", "bias_constraint"),
}
"""The keys that do not change the function of a layer.

They say how its parameters start and are trained, what it returns, and how it is computed.
"""

_KERAS_2 = {"implementation", "time_major"}
_KERAS_3 = {"seed", "zero_output_for_mask"}
"""Keys that tell the version of Keras that wrote them."""


def _is_rate(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < 1


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0


def _are_sizes(value: object) -> bool:
    return _is_size(value) or (isinstance(value, list | tuple) and all(map(_is_size, value)))


_Check = tuple[Callable[[object], bool], str]
_FLAG: _Check = (lambda value: isinstance(value, bool), "True or False")
_RATE: _Check = (_is_rate, "a rate in [0, 1)")
_SIZE: _Check = (_is_size, "a positive integer")
_SIZES: _Check = (_are_sizes, "a positive integer, or one for each axis of space")
_VALUES: dict[str, _Check] = {
    "units": _SIZE,
    "filters": _SIZE,
    **dict.fromkeys(_SIZE_KEYS, _SIZES),
    "padding": (lambda value: value in ["same", "valid"], "'same' or 'valid'"),
    "data_format": (
        lambda value: value == "channels_last",
        "'channels_last', as jaxrnn has them; the weights are the same, so say so, and move the "
        "axis of the inputs",
    ),
    "use_bias": _FLAG,
    "reset_after": _FLAG,
    "go_backwards": _FLAG,
    "dropout": _RATE,
    "recurrent_dropout": _RATE,
    "merge_mode": (lambda value: value in [*MERGES], f"one of {[*MERGES]}"),
    "cells": (
        lambda value: isinstance(value, list | tuple) and len(value) > 0,
        "cells, bottom first",
    ),
}
"""Checks of the values of some keys. The others are checked where they are read."""


def read_config(layer: object, version: Version, backwards: bool = False) -> Cell:
    """Return the cell that a configuration describes.

    Args:
        layer: the configuration.
        version: the version of Keras that wrote it, if the configuration does not tell.
        backwards: whether this is the backward layer of a `Bidirectional`.
    """
    name, config = _open(layer)
    _check_direction(name, config, backwards)
    if name == "Bidirectional":
        return _read_bidirectional(config, version)
    if name == "RNN":
        return read_config(config["cell"], version)
    if name == "StackedRNNCells":
        return Stack([read_config(cell, version) for cell in config["cells"]])
    if name.startswith("CuDNN"):
        return CELLS[name.removeprefix("CuDNN")](config["units"])
    # The last versions of Keras 2 wrote zero_output_for_mask, too, but with time_major.
    version = 2 if config.keys() & _KERAS_2 else 3 if config.keys() & _KERAS_3 else version
    name = name.removesuffix("Cell")
    return _with_dropout(name, _read_cell(name, config, version), config, version)


def _open(layer: object) -> tuple[str, _Config]:
    """Return the class and the options of something serialised, with defaults, all keys checked."""
    if not _is_serialized(layer):
        wanted = "what keras.layers.serialize(layer) gives: class_name and config"
        refuse("from_keras", f"config is {str(layer)[:80]!r}, expected {wanted}")
    name, given = layer["class_name"], cast(Mapping[str, object], layer["config"])
    module = layer.get("module", "keras.layers")  # older files do not say; None is the user's own
    if not isinstance(name, str) or name not in _NEEDED or module != "keras.layers":
        known = f"expected one of {sorted(_NEEDED)} of keras.layers"
        refuse("from_keras", f"class_name is {name!r} of {module}, {known}")
    needed, config = _NEEDED[name], {**_DEFAULTS, **given}
    if missing := needed - config.keys():
        there = f"there are {listed(map(str, given))}"
        refuse("from_keras", f"{name} has no {sorted(missing)} in its config; {there}")
    if unknown := config.keys() - needed - _DEFAULTS.keys() - _IGNORED:
        keys, known = listed(map(str, unknown)), f"expected {sorted(needed)}"
        refuse("from_keras", f"{name} has unknown keys {keys} in its config, {known}")
    for key in config.keys() & _VALUES.keys():
        (holds, expected), value = _VALUES[key], config[key]
        if not holds(value):
            refuse("from_keras", f"{name} has {key}={str(value)[:80]!r}, expected {expected}")
    return name, cast(_Config, config)


def _is_serialized(layer: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether this is a dictionary with a class name and a configuration."""
    keys = {"class_name", "config"}
    return (
        isinstance(layer, Mapping) and keys <= layer.keys() and isinstance(layer["config"], Mapping)
    )


def _check_direction(name: str, config: _Config, backwards: bool) -> None:
    """Refuse `go_backwards`, except in the backward layer of a `Bidirectional`, which needs it."""
    if config["go_backwards"] == backwards:
        return
    given = f"{name} has go_backwards={config['go_backwards']}, expected {backwards}"
    if backwards:
        refuse("from_keras", f"{given}, for it is the backward_layer of a Bidirectional")
    reason = "Keras returns the outputs of such a layer from the last step to the first"
    hint = "read it with go_backwards=False, wrap the cell in jaxrnn.Reversed, and flip its outputs"
    refuse("from_keras", f"{given}; {reason}: {hint}")


def _read_bidirectional(config: _Config, version: Version) -> Cell:
    """Return the `Bidirectional` that a configuration describes."""
    layer = config["layer"]
    forward = read_config(layer, version)
    # Keras 2 leaves out a backward layer that equals the forward one.
    like_forward = {**layer, "config": {**layer["config"], "go_backwards": True}}
    given = like_forward if config["backward_layer"] is None else config["backward_layer"]
    backward = read_config(given, version, backwards=True)
    return Bidirectional(forward, backward, merge=MERGES[config["merge_mode"]])


def _read_cell(name: str, config: _Config, version: Version) -> Cell:
    """Return the cell of a `SimpleRNN`, `LSTM`, `GRU` or convolution."""
    hidden, bias = config["filters" if name in CONVOLUTIONS else "units"], config["use_bias"]
    function = _read_activation(name, "activation", config["activation"], version)
    if name == "SimpleRNN":
        return Elman(hidden, activation=function, bias=bias)
    gate = _read_activation(name, "recurrent_activation", config["recurrent_activation"], version)
    options: dict[str, Any] = {
        "bias": bias,
        "gate_activation": gate,
        "candidate_activation": function,
    }
    if name == "GRU":
        return GRU(hidden, reset_gate="after" if config["reset_after"] else "before", **options)
    options["output_activation"] = function
    if name == "LSTM":
        return LSTM(hidden, **options)
    kernel, strides, dilation = (_read_sizes(name, config, key) for key in _SIZE_KEYS)
    return ConvLSTM(
        hidden,
        kernel,
        rank=CONVOLUTIONS[name],
        strides=strides,
        dilation=dilation,
        padding=config["padding"],
        **options,
    )


def _read_sizes(name: str, config: _Config, key: _SizeKey) -> int | tuple[int, ...]:
    """Return one size for all spatial axes, or one for each."""
    value, rank = config[key], CONVOLUTIONS[name]
    if isinstance(value, int):
        return value
    if len(value) != rank:
        refuse("from_keras", f"{name} has {key}={value!r}, expected one for each of {rank} axes")
    return tuple(value)


def _read_activation(name: str, key: str, given: object, version: Version) -> Activation:
    """Return the activation that a key names."""
    if not isinstance(given, str) or given not in ACTIVATIONS:
        known = f"expected one of {sorted(ACTIVATIONS)}"
        refuse("from_keras", f"{name} has {key}={str(given)[:80]!r}, {known}")
    if given == "hard_sigmoid" and version is None:
        reason = "of slope 0.2 in Keras 2 and 1/6 in Keras 3; say which: version=2 or 3"
        refuse("from_keras", f"{name} has {key}='hard_sigmoid', {reason}")
    return HardSigmoid(0.2) if given == "hard_sigmoid" and version == 2 else ACTIVATIONS[given]


def _with_dropout(name: str, cell: Cell, config: _Config, version: Version) -> Cell:
    """Return the cell in combinators that drop out as Keras 3 does, one mask for each sequence."""
    rate, recurrent, gates = config["dropout"], config["recurrent_dropout"], cell.gates
    if (rate or recurrent) and version != 3:
        given = f"{name} has dropout={rate} and recurrent_dropout={recurrent}"
        hint = "set both to 0 to read the cell alone, or pass version=3 if that wrote it"
        refuse("from_keras", f"{given}, which Keras 2 drew in several ways: {hint}")
    check_rates("from_keras", name, rate, recurrent, gates)
    if recurrent:
        cell = RecurrentDropout(cell, recurrent, draws=gates)
    return Dropout(cell, rate, locked=True) if rate else cell
