"""What `from_keras` refuses, and what it says."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jaxrnn.convert import from_keras
from tests.convert.test_keras import LAYERS, layers, randomised
from tests.convert.test_keras_2 import to_cudnn

Change = Callable[[Any, list[Any]], Any]  # spoils a configuration, or its weights


def said(**changes: Any) -> Change:
    return lambda layer, weights: layer.update(changes)


def put(**changes: Any) -> Change:
    return lambda layer, weights: layer["config"].update(changes)


def drop(key: str) -> Change:
    return lambda layer, weights: layer["config"].pop(key)


def put_array(k: int, spoil: Callable[[Any], Any]) -> Change:
    return lambda layer, weights: weights.__setitem__(k, spoil(weights[k]))


def gru_of_cudnn(**options: Any) -> Change:
    return lambda layer, weights: (
        put(**options)(layer, weights),
        weights.__setitem__(slice(None), to_cudnn(weights)),
    )


MISTAKES: dict[str, tuple[str, Change, str]] = {
    "no class": (
        "gru",
        lambda layer, weights: layer.pop("class_name"),
        "config is .*, expected what keras.layers.serialize",
    ),
    "convolution": (
        "gru",
        said(class_name="Conv2D"),
        r"class_name is 'Conv2D' of keras.layers, expected one of \['Bidir",
    ),
    "other library": ("gru", said(module="my_layers"), "class_name is 'GRU' of my_layers"),
    "own class": ("gru", said(module=None), "class_name is 'GRU' of None"),
    "no units": ("gru", drop("units"), r"GRU has no \['units'\]"),
    "no reset": ("gru", drop("reset_after"), r"GRU has no \['reset_after'\]"),
    "unknown": ("gru", put(peepholes=True), r"GRU has unknown keys \['peepholes'\]"),
    "backwards": (
        "gru",
        put(go_backwards=True),
        "GRU has go_backwards=True, expected False.*jaxrnn.Reversed",
    ),
    "activation": (
        "gru",
        put(activation="gelu"),
        r"GRU has activation='gelu', expected one of \['elu'",
    ),
    "layer as activation": (
        "gru",
        put(activation={"class_name": "LeakyReLU"}),
        "GRU has activation=.*LeakyReLU",
    ),
    "old dropout": (
        "gru",
        put(implementation=2, dropout=0.2),
        r"GRU has dropout=0\.2 and .*, which Keras 2 drew",
    ),
    "cudnn relu": (
        "gru",
        gru_of_cudnn(recurrent_activation="relu"),
        r"weights\[2\] has shape \(30,\), expected \(2, 15\): no Cu",
    ),
    "cudnn before": (
        "gru",
        gru_of_cudnn(reset_after=False),
        r"weights\[2\] has shape \(30,\), expected \(15,\): no CuDNNGRU is",
    ),
    "merge": (
        "both",
        put(merge_mode=["max"]),
        r"Bidirectional has merge_mode=.*max.*, expected one of",
    ),
    "no backward layer": ("both", put(backward_layer={}), "config is '{}', expected what keras"),
    "no layer": ("both", drop("layer"), r"Bidirectional has no \['layer'\]"),
    "forwards": (
        "both",
        lambda layer, _: put(backward_layer=layer["config"]["layer"])(layer, _),
        "LSTM has go_backwards=False, expected True, for it is the backward_layer of a Bidir",
    ),
    "no weights": (
        "cells",
        lambda layer, weights: weights.clear(),
        r"weights\[0\] is missing; there are \[\]",
    ),
    "too few": (
        "cells",
        lambda layer, weights: weights.pop(),
        r"weights\[8\] is missing; there are \['weights\[0\]'",
    ),
    "too many": (
        "cells",
        lambda layer, weights: weights.append(weights[0]),
        r"unexpected \['weights\[9\]'\]",
    ),
    "scalar": (
        "cells",
        put_array(0, np.sum),
        r"weights\[0\] has shape \(\), expected \[in, columns\]",
    ),
    "transposed": (
        "cells",
        put_array(0, np.transpose),
        r"weights\[0\] has shape \(20, 3\), expected \(20, 20\)",
    ),
    "narrow": (
        "cells",
        put_array(3, lambda array: array[:4]),
        r"weights\[3\] has shape \(4, 6\), expected \(5, 6\)",
    ),
    "one bias": (
        "cells",
        put_array(5, lambda array: array[0]),
        r"weights\[5\] has shape \(6,\), expected \(2, 6\)",
    ),
    "classes": ("gru", said(class_name=["GRU"]), r"class_name is \['GRU'\] of keras\.layers"),
    "words": ("gru", put(use_bias="False"), "GRU has use_bias='False', expected True or False"),
    "no number": ("gru", put(units=None), "GRU has units='None', expected a positive integer"),
    "rate": ("gru", put(dropout=1.5), r"GRU has dropout='1\.5', expected a rate"),
    "integers": (
        "cells",
        put_array(0, lambda array: array.astype(int)),
        r"weights\[0\] has dtype int64, expected floating",
    ),
    "float64": (
        "cells",
        put_array(0, lambda array: array.astype(float)),
        r"weights\[0\] has dtype float64, which JAX would round",
    ),
}


@pytest.mark.parametrize(("kind", "change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(kind, change, message):
    layer = randomised(LAYERS[kind]())
    config, weights = layers.serialize(layer), layer.get_weights()
    before = copy.deepcopy(config)
    from_keras(config, weights)
    assert config == before
    change(config, weights)
    with pytest.raises((ValueError, TypeError), match=f"^from_keras: {message}"):
        from_keras(config, weights)
