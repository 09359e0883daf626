"""Damaged configurations of Keras: `from_keras` refuses them by name, or reads what they say."""

import copy
import random
from typing import Any

import jax
import numpy as np

from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    Cell,
    ConvLSTM,
    Dropout,
    Elman,
    RecurrentDropout,
    Stack,
)
from jaxrnn.convert import from_keras, to_keras
from tests.fuzz._refusals import unless_refused
from tests.support.conversions import params_like

HIDDEN = 4
CELLS: tuple[Cell, ...] = (
    Elman(HIDDEN),
    LSTM(HIDDEN, gate_activation="hard_sigmoid"),
    GRU(HIDDEN, reset_gate="before", bias=False),
    Dropout(GRU(HIDDEN), 0.2, locked=True),
    RecurrentDropout(LSTM(HIDDEN), 0.2, draws=4),
    Stack([GRU(HIDDEN), Elman(HIDDEN)]),
    Bidirectional(LSTM(HIDDEN), merge="sum"),
    RecurrentDropout(ConvLSTM(HIDDEN, (3, 1)), 0.2, draws=4),
    Bidirectional(Stack([Elman(HIDDEN), LSTM(HIDDEN)])),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 4, 8, -1, 0.0, 0.25, 1.0, float("nan"), "", "tanh", "relu", "4"),
    *("GRU", "LSTM", "SimpleRNN", "RNN", "concat", "mul", [], {}, [None], ["tanh"], {"a": 1}),
)
READ = (
    *("units", "activation", "recurrent_activation", "use_bias", "reset_after"),
    *("dropout", "recurrent_dropout", "go_backwards", "merge_mode"),
    *("filters", "padding", "data_format"),
)
SIZES = ["kernel_size", "strides", "dilation_rate"]


def case(random: random.Random) -> str:
    cell = random.choice(CELLS)
    config, weights = to_keras(cell, jax.tree.map(ones, params_like(cell)))
    damaged = copy.deepcopy(config)
    holder = random.choice(holders_of(damaged))
    key = random.choice([*holder] if isinstance(holder, dict) else range(len(holder)))
    change = random.choice(("put", "put", "put", "drop", "rename"))
    old = holder[key] if change == "put" else holder.pop(key)
    if change == "put":
        holder[key] = random.choice(VALUES)
    name: Any = random.choice(("size", "hidden", 3, *READ))
    if change == "rename":
        holder.append(old) if isinstance(holder, list) else holder.update({name: old})
    what = f"{type(cell).__name__}: {key} of {str(holder)[:200]}, after {change}"
    names = [str(key), "config", "class_name", "weights[", "cells", "outputs of one size"]
    names += SIZES if isinstance(holder, list) else []
    names += [str(name)] if change == "rename" else []
    read = unless_refused(lambda: from_keras(damaged, weights), "from_keras", names, what)
    if read is None:
        return "refused"
    compare(damaged, to_keras(*read)[0], what)
    return "read"


def ones(form: Any) -> np.ndarray:
    return np.ones(form.shape, "f")


def holders_of(tree: Any) -> list[Any]:
    """The dictionaries and lists in a configuration that hold something."""
    if not isinstance(tree, dict | list) or not tree:
        return []
    values = tree.values() if isinstance(tree, dict) else tree
    return [tree, *(holder for value in values for holder in holders_of(value))]


def compare(given: Any, written: Any, what: str) -> None:
    """What a configuration says, the one that is written of what was read says, too."""
    name = given["class_name"].removesuffix("Cell")
    assert name == written["class_name"].removesuffix("Cell"), f"{what} was read as {written}"
    config, again = given["config"], written["config"]
    for key in READ:
        wanted = again.get(key, False if key == "go_backwards" else None)
        assert config.get(key, wanted) == wanted, f"{what}: {key} was read as {wanted}"
    for key in ("layer", "backward_layer", "cell"):
        if config.get(key) is not None:
            compare(config[key], again[key], what)
    for inner, inner_again in zip(config.get("cells", ()), again.get("cells", ()), strict=True):
        compare(inner, inner_again, what)
