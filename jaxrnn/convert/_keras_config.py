"""The configurations of Keras' recurrent layers, both ways: which cell, with which options."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxrnn.activations import NAMED, Activation, HardSigmoid, LeakyReLU, activation
from jaxrnn.cells import GRU, LSTM, Elman
from jaxrnn.combinators import Bidirectional, Dropout, RecurrentDropout, Stack
from jaxrnn.convert._common import check_options, listed, refuse
from jaxrnn.core.cell import Cell

_CELLS = {"SimpleRNN": Elman, "LSTM": LSTM, "GRU": GRU}
_GATES = {Elman: 1, LSTM: 4, GRU: 3}
_OPTIONS = {
    Elman: {"bias", "activation"},
    LSTM: {"bias", "gate_activation", "candidate_activation", "output_activation"},
    GRU: {"bias", "reset", "gate_activation", "candidate_activation"},
}
_MERGES = {"concat": "concat", "sum": "sum", "mul": "product", "ave": "mean", None: None}
# jaxrnn's slope is 0.01
_ACTIVATIONS: dict[str, Activation] = {
    **{name: name for name in NAMED},
    "leaky_relu": LeakyReLU(0.2),
}

_DROPOUTS = {"dropout": Dropout, "recurrent_dropout": RecurrentDropout}  # outermost first

_PLAIN = {"units", "activation", "use_bias"}
_GATED = _PLAIN | {"recurrent_activation"}
_NEEDED = {"SimpleRNN": _PLAIN, "LSTM": _GATED, "GRU": _GATED | {"reset_after"}}
_NEEDED |= {f"{name}Cell": keys for name, keys in _NEEDED.items()}
_NEEDED |= {
    "CuDNNLSTM": {"units"},
    "CuDNNGRU": {"units"},
    "RNN": {"cell"},
    "StackedRNNCells": {"cells"},
    "Bidirectional": {"layer", "merge_mode"},
}
_DEFAULTS = {
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "go_backwards": False,
    "backward_layer": None,
}

_Check = tuple[Callable[[Any], bool], str]
_FLAG: _Check = (lambda value: isinstance(value, bool), "True or False")
_RATE: _Check = (
    lambda value: isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < 1,
    "a rate in [0, 1)",
)
_VALUES: dict[str, _Check] = {
    "units": (lambda value: type(value) is int and value > 0, "a positive integer"),
    **dict.fromkeys(("use_bias", "reset_after", "go_backwards"), _FLAG),
    **dict.fromkeys(("dropout", "recurrent_dropout"), _RATE),
    "merge_mode": (lambda value: value in [*_MERGES], f"one of {[*_MERGES]}"),
    "cells": (
        lambda value: isinstance(value, list | tuple) and len(value) > 0,
        "cells, bottom first",
    ),
}
"""What a value of a configuration must be; the others are looked at where they are read."""

# What says how parameters start and are trained, what the layer returns, and how it is computed:
# not which function it is.
_IGNORED = {
    *(
        "name",
        "trainable",
        "dtype",
        "seed",
        "batch_input_shape",
        "input_dim",
        "input_length",
        "time_major",
        "implementation",
    ),
    *(
        "return_sequences",
        "return_state",
        "zero_output_for_mask",
        "stateful",
        "unroll",
        "unit_forget_bias",
        "activity_regularizer",
    ),
    *(
        "kernel_initializer",
        "kernel_regularizer",
        "kernel_constraint",
        "bias_initializer",
        "bias_regularizer",
        "bias_constraint",
    ),
    *("recurrent_initializer", "recurrent_regularizer", "recurrent_constraint"),
}

_KERAS_2 = {"implementation", "time_major"}
_KERAS_3 = {"seed", "zero_output_for_mask"}

Version = Literal[2, 3] | None
"""Of the Keras that wrote a configuration."""


def read_config(layer: Any, version: Version, backwards: bool = False) -> Cell:
    """The cell that a configuration describes."""
    name, config = _open(layer)
    if config["go_backwards"] != backwards:
        refuse(
            "from_keras",
            f"{name} has go_backwards={config['go_backwards']}, expected {backwards}; a layer "
            "that goes backwards by itself gives its "
            "outputs in the order of processing: read it with go_backwards=False, wrap the cell "
            "in jaxrnn.Reversed, and flip them",
        )
    if name == "Bidirectional":
        forward = read_config(config["layer"], version)
        # Keras 2 leaves it out
        like_forward = {
            **config["layer"],
            "config": {**config["layer"]["config"], "go_backwards": True},
        }
        given = like_forward if config["backward_layer"] is None else config["backward_layer"]
        backward = read_config(given, version, backwards=True)
        return Bidirectional(forward, backward, merge=_MERGES[config["merge_mode"]])  # type: ignore[arg-type]
    if name == "RNN":
        return read_config(config["cell"], version)
    if name == "StackedRNNCells":
        return Stack([read_config(cell, version) for cell in config["cells"]])
    if name.startswith("CuDNN"):
        return _CELLS[name.removeprefix("CuDNN")](config["units"])
    # Keras 2 wrote a "module" too, in its last versions, and "zero_output_for_mask" beside
    # "time_major".
    version = 2 if config.keys() & _KERAS_2 else 3 if config.keys() & _KERAS_3 else version
    name = name.removesuffix("Cell")
    return _with_dropout(name, _read_cell(name, config, version), config, version)


def _open(layer: Any) -> tuple[str, dict[str, Any]]:
    """The class and the configuration of something serialised, complete and without unknown keys."""
    whole = isinstance(layer, Mapping) and {"class_name", "config"} <= layer.keys()
    if not whole or not isinstance(layer["config"], Mapping):
        given, wanted = (
            str(layer)[:80],
            "keras.layers.serialize(layer) gives: class_name and config",
        )
        refuse("from_keras", f"config is {given!r}, expected what {wanted}")
    name, config = layer["class_name"], {**_DEFAULTS, **layer["config"]}
    module = layer.get("module", "keras.layers")  # older files do not say; None is the user's own
    if not isinstance(name, str) or name not in _NEEDED or module != "keras.layers":
        refuse(
            "from_keras",
            f"class_name is {name!r} of {module}, expected one of {sorted(_NEEDED)} of "
            "keras.layers",
        )
    if missing := _NEEDED[name] - config.keys():
        refuse(
            "from_keras",
            f"{name} has no {sorted(missing)} in its config; there are "
            f"{listed(map(str, layer['config']))}",
        )
    if unknown := config.keys() - _NEEDED[name] - _DEFAULTS.keys() - _IGNORED:
        refuse(
            "from_keras",
            f"{name} has unknown keys {listed(map(str, unknown))} in its config, expected "
            f"{sorted(_NEEDED[name])}",
        )
    for key, value in config.items():
        holds, expected = _VALUES.get(key, (None, ""))
        if holds and not holds(value):
            refuse("from_keras", f"{name} has {key}={str(value)[:80]!r}, expected {expected}")
    return name, config


def _read_cell(name: str, config: dict[str, Any], version: Version) -> Cell:
    """The cell of a `SimpleRNN`, `LSTM` or `GRU`."""
    hidden, bias = config["units"], config["use_bias"]
    function = _read_activation(name, "activation", config, version)
    if name == "SimpleRNN":
        return Elman(hidden, activation=function, bias=bias)
    gate = _read_activation(name, "recurrent_activation", config, version)
    if name == "LSTM":
        return LSTM(
            hidden,
            bias=bias,
            gate_activation=gate,
            candidate_activation=function,
            output_activation=function,
        )
    reset = "after" if config["reset_after"] else "before"
    return GRU(hidden, reset=reset, bias=bias, gate_activation=gate, candidate_activation=function)


def _read_activation(name: str, key: str, config: dict[str, Any], version: Version) -> Activation:
    given = config[key]
    if not isinstance(given, str) or given not in _ACTIVATIONS:
        refuse(
            "from_keras",
            f"{name} has {key}={str(given)[:80]!r}, expected one of {sorted(_ACTIVATIONS)}",
        )
    if given == "hard_sigmoid" and version is None:
        refuse(
            "from_keras",
            f"{name} has {key}='hard_sigmoid', of slope 0.2 in Keras 2 and 1/6 in Keras 3; say "
            "which: version=2 or 3",
        )
    return HardSigmoid(0.2) if given == "hard_sigmoid" and version == 2 else _ACTIVATIONS[given]


def _with_dropout(name: str, cell: Cell, config: dict[str, Any], version: Version) -> Cell:
    """The cell in the combinators that draw as Keras 3 does: once for each sequence."""
    rate, recurrent, gates = config["dropout"], config["recurrent_dropout"], _GATES[type(cell)]
    if (rate or recurrent) and version != 3:
        refuse(
            "from_keras",
            f"{name} has dropout={rate} and recurrent_dropout={recurrent}, which Keras 2 drew in "
            "several ways: set both to 0 to read "
            "the cell alone, or pass version=3 if that wrote it",
        )
    _check_rates("from_keras", name, rate, recurrent, gates)
    if recurrent:
        cell = RecurrentDropout(cell, recurrent, draws=gates)
    return Dropout(cell, rate, locked=True) if rate else cell


def _check_rates(
    target: str, name: str, dropout: float, recurrent_dropout: float, gates: int
) -> None:
    if dropout and recurrent_dropout and gates > 1:
        refuse(
            target,
            f"{name} has dropout={dropout} and recurrent_dropout={recurrent_dropout}: with both, "
            "Keras drops other inputs for each "
            "gate, which Dropout does not; set one of them to 0",
        )


def write_layer(cell: Cell, dtype: str, return_state: bool) -> dict[str, Any]:
    """A layer of one or two directions."""
    returned = {
        "return_sequences": True,
        "return_state": return_state,
        "zero_output_for_mask": True,
    }
    cell = _unstacked(cell)
    if not isinstance(cell, Bidirectional):
        return _write_one_way(cell, dtype, returned)
    if (sizes := (cell.forward.out_features, cell.backward.out_features)) != sizes[:1] * 2:
        refuse(
            "to_keras",
            f"Bidirectional has outputs of sizes {sizes}, but Keras takes both to be of one size",
        )
    forward = _write_one_way(cell.forward, dtype, returned)
    backward = _write_one_way(cell.backward, dtype, {**returned, "go_backwards": True})
    merge = next(name for name, own in _MERGES.items() if own == cell.merge)
    return _serialized(
        "Bidirectional",
        {"layer": forward, "backward_layer": backward, "merge_mode": merge, "dtype": dtype},
    )


def _write_one_way(cell: Cell, dtype: str, returned: dict[str, bool]) -> dict[str, Any]:
    inner = _write_cell(cell, dtype)
    if inner["class_name"] == "StackedRNNCells":
        return _serialized("RNN", {"cell": inner, "dtype": dtype, **returned})
    return _serialized(inner["class_name"].removesuffix("Cell"), {**inner["config"], **returned})


def _write_cell(cell: Any, dtype: str) -> dict[str, Any]:
    """What an `RNN` runs."""
    cell = _unstacked(cell)
    if isinstance(cell, Stack):
        if cell.dense or cell.dropout:
            refuse(
                "to_keras",
                f"Stack has dense={cell.dense} and dropout={cell.dropout}, expected False and 0: "
                "StackedRNNCells has neither; its "
                "cells can have Dropout(cell, rate, locked=True)",
            )
        return _serialized(
            "StackedRNNCells",
            {"cells": [_write_cell(inner, dtype) for inner in cell.cells], "dtype": dtype},
        )
    rates, draws = dict.fromkeys(_DROPOUTS, 0.0), None
    for key, kind in _DROPOUTS.items():
        if isinstance(cell, kind):
            if not cell.locked:
                refuse(
                    "to_keras",
                    f"{kind.__name__} has locked=False, expected True: Keras draws once for each "
                    "sequence",
                )
            rates[key], draws, cell = cell.rate, getattr(cell, "draws", None), cell.cell
    if type(cell) not in _OPTIONS:
        refuse(
            "to_keras",
            f"no cell of Keras holds a {type(cell).__name__}; expected Elman, LSTM or GRU, in "
            "RecurrentDropout, Dropout, Stack and "
            "Bidirectional, in this order; a Stack of other layers can be converted one by one",
        )
    name, gates = (
        next(name for name, kind in _CELLS.items() if kind is type(cell)),
        _GATES[type(cell)],
    )
    check_options("to_keras", cell, _OPTIONS[type(cell)], f"Keras' {name}")
    if draws not in (None, gates):
        refuse(
            "to_keras",
            f"RecurrentDropout has draws={draws}, expected {gates}: Keras draws for each gate of "
            f"{name}",
        )
    _check_rates("to_keras", name, gates=gates, **rates)
    # The weights are set anyway, Keras has no orthogonal ones in bfloat16, and only Keras 3 writes
    # a seed.
    start = {"recurrent_initializer": "zeros", "seed": None}
    return _serialized(f"{name}Cell", {**_write_options(cell), **rates, **start, "dtype": dtype})


def _unstacked(cell: Cell) -> Cell:
    """A stack of one cell is that cell: Keras cannot run a `StackedRNNCells` of one."""
    return _unstacked(cell.cells[0]) if isinstance(cell, Stack) and len(cell.cells) == 1 else cell


def _write_options(cell: Any) -> dict[str, Any]:
    """The options of an `Elman`, `LSTM` or `GRU`."""
    config: dict[str, Any] = {"units": cell.hidden, "use_bias": cell.bias}
    if isinstance(cell, Elman):
        return {**config, "activation": _write_activation(cell, "activation")}
    config |= {
        "activation": _write_activation(cell, "candidate_activation"),
        "recurrent_activation": _write_activation(cell, "gate_activation"),
    }
    if isinstance(cell, GRU):
        return {**config, "reset_after": cell.reset == "after"}
    if _write_activation(cell, "output_activation") != config["activation"]:
        refuse(
            "to_keras",
            f"LSTM has candidate_activation={cell.candidate_activation!r} and "
            f"output_activation={cell.output_activation!r}, but "
            "Keras' LSTM has one activation for both",
        )
    return config


def _write_activation(cell: Cell, field: str) -> str:
    own = getattr(cell, field)
    for name, known in _ACTIVATIONS.items():
        if activation(known) == activation(own):
            return name
    refuse(
        "to_keras",
        f"{type(cell).__name__} has {field}={own!r}, expected one of {list(_ACTIVATIONS.values())}",
    )


def _serialized(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": name, "config": config, "registered_name": None}
