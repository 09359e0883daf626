"""Keras' convolutional LSTMs, both ways."""

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Bidirectional, ConvLSTM, Dropout, RecurrentDropout, Stack
from jaxrnn.convert import carry_from_keras, carry_to_keras, from_keras, to_keras
from tests.convert.test_keras import ALL, keras, layers, loaded, policy, randomised, read
from tests.convert.test_keras_mistakes import drop, put, put_array
from tests.support.conversions import (
    BATCH,
    FEATURES,
    HIDDEN,
    each_dtype,
    each_precision,
    random_inputs,
    random_like,
    random_params,
    scan,
)
from tests.support.helpers import assert_close, assert_equal

assert policy  # a fixture

SPACE = {1: (7,), 2: (5, 6), 3: (3, 4, 3)}
LAYERS: dict[str, tuple[int, Callable[[], Any]]] = {
    "row": (1, lambda: layers.ConvLSTM1D(HIDDEN, 3, padding="same", **ALL)),
    "row_dilated": (1, lambda: layers.ConvLSTM1D(HIDDEN, 2, dilation_rate=3, **ALL)),
    "picture": (2, lambda: layers.ConvLSTM2D(HIDDEN, 3, padding="same", **ALL)),
    "picture_valid": (2, lambda: layers.ConvLSTM2D(HIDDEN, (2, 3), strides=(2, 1), **ALL)),
    "picture_options": (
        2,
        lambda: layers.ConvLSTM2D(
            HIDDEN,
            2,
            strides=2,
            padding="same",
            activation="softsign",
            recurrent_activation="hard_sigmoid",
            use_bias=False,
            **ALL,
        ),
    ),
    "volume": (3, lambda: layers.ConvLSTM3D(2, (2, 1, 3), padding="same", **ALL)),
    "volume_valid": (3, lambda: layers.ConvLSTM3D(2, 2, recurrent_dropout=0.1, **ALL)),
    "both": (1, lambda: layers.Bidirectional(layers.ConvLSTM1D(HIDDEN, 3, strides=2, **ALL))),
}


def run_keras(layer: Any, xs: Any, states: Any) -> Any:
    """Its final states and its outputs; time comes first."""

    @jax.jit
    def run(xs: Any, states: Any) -> Any:
        ys, *after = layer(xs.swapaxes(0, 1), initial_state=states)
        return after, jnp.swapaxes(ys, 0, 1)

    return run(xs, keras.tree.flatten(states))


@pytest.mark.parametrize("id", LAYERS)
@each_precision
@pytest.mark.usefixtures("policy")
def test_equals_keras(id, dtype, tolerance):
    """The same final states and outputs from Keras' weights and states in jaxrnn, and from them
    again in a new layer of Keras. Keras on JAX has no masks for pictures.
    """
    rank, make = LAYERS[id]
    theirs, xs = randomised(make(), dtype, space=SPACE[rank]), random_inputs(dtype, *SPACE[rank])
    cell, params = read(theirs)
    start = random_like(cell.initial_carry(params, xs.shape[1:]), dtype)
    wanted = run_keras(theirs, xs, carry_to_keras(cell, start))
    carry, ys = scan(cell, params, xs, start)
    assert_close((carry, ys), wanted, tolerance)
    assert_equal(carry_from_keras(cell, carry_to_keras(cell, carry)), carry)
    again = loaded(*to_keras(cell, params, return_state=True), *SPACE[rank])
    assert_close(run_keras(again, xs, carry_to_keras(cell, start)), wanted, tolerance)
    assert read(again)[0] == cell


CELLS: dict[str, jaxrnn.Cell] = {
    "row": ConvLSTM(2, 3, rank=1, strides=2),
    "picture": ConvLSTM(2, (3, 2), dilation=(1, 2), padding="valid", bias=False),
    "volume": ConvLSTM(2, 2, rank=3, gate_activation="hard_sigmoid"),
    "dropped": RecurrentDropout(ConvLSTM(2, 3), 0.2, draws=4),
    "both": Bidirectional(ConvLSTM(2, 3), ConvLSTM(2, 5), merge=None),
}


@each_dtype
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_bits_come_back(cell, dtype):
    params = random_params(cell, dtype)
    space = SPACE[cell.feature_axes - 1]
    again, kept = read(loaded(*to_keras(cell, params), *space))
    assert again == cell
    assert_equal(kept, params)


def test_layers_on_each_other():
    """Those of a `Sequential`, whose weights are one list; each picture is smaller."""
    theirs = [
        randomised(layers.ConvLSTM1D(HIDDEN, 3, **ALL), space=(9,)),
        randomised(layers.ConvLSTM1D(2, 2, strides=2, **ALL), in_features=HIDDEN, space=(7,)),
        randomised(layers.ConvLSTM1D(2, 3, **ALL), in_features=2, space=(3,)),
    ]
    weights = [array for layer in theirs for array in layer.get_weights()]
    cell, params = from_keras([layers.serialize(layer) for layer in theirs], weights)
    assert isinstance(cell, Stack)
    xs = random_inputs("float32", 9)

    @jax.jit
    def run(xs: Any) -> Any:
        ys, states = xs.swapaxes(0, 1), []
        for layer in theirs:
            ys, *after = layer(ys)
            states += after
        return states, jnp.swapaxes(ys, 0, 1)

    carry, ours = scan(cell, params, xs)
    assert_close((carry, ours), run(xs), 1e-5)
    assert_equal(carry_from_keras(cell, carry_to_keras(cell, carry)), carry)


def test_channels_first():
    """The way out that the refusal names."""
    layer = layers.ConvLSTM2D(HIDDEN, 3, data_format="channels_first", **ALL)
    layer.build((None, None, FEATURES, *SPACE[2]))
    layer.set_weights(random_like(layer.get_weights()))
    config, weights = layers.serialize(layer), layer.get_weights()
    with pytest.raises(ValueError, match="ConvLSTM2D has data_format='channels_first', expected"):
        from_keras(config, weights)
    config["config"]["data_format"] = "channels_last"
    xs = random_inputs("float32", *SPACE[2])
    turned = np.moveaxis(np.asarray(xs).swapaxes(0, 1), -1, -3)
    ys, *states = (np.moveaxis(array, -3, -1) for array in jax.jit(lambda xs: layer(xs))(turned))
    wanted = states, np.swapaxes(ys, 0, 1)
    assert_close(scan(*from_keras(config, weights), xs), wanted, 1e-5)


def test_what_says_nothing_of_the_function():
    config, weights = to_keras(cell := CELLS["picture"], random_params(CELLS["picture"]))
    config["config"] |= {"stateful": True, "return_sequences": False, "unit_forget_bias": False}
    assert from_keras(config, weights)[0] == cell


def test_as_keras_2_wrote_it():
    """Its sigmoid is the steep one; JSON has lists."""
    config, weights = to_keras(CELLS["volume"], random_params(CELLS["volume"]))
    old = {key: value for key, value in config["config"].items() if key not in ("seed", "dtype")}
    old = {**old, "time_major": False, "kernel_size": [2, 2, 2]}
    del old["zero_output_for_mask"]
    cell, _ = from_keras({"class_name": "ConvLSTM3D", "config": old}, weights)
    assert cell == ConvLSTM(2, 2, rank=3, gate_activation=jaxrnn.activations.HardSigmoid(0.2))


MISTAKES: dict[str, tuple[Callable[..., Any], str]] = {
    "no filters": (drop("filters"), r"ConvLSTM2D has no \['filters'\]"),
    "units": (put(units=4), r"ConvLSTM2D has unknown keys \['units'\]"),
    "filters": (put(filters=0), "ConvLSTM2D has filters='0', expected a positive integer"),
    "kernel": (put(kernel_size="3"), "ConvLSTM2D has kernel_size='3', expected a positive integer"),
    "axes": (
        put(strides=[1, 1, 1]),
        r"ConvLSTM2D has strides=\[1, 1, 1\], expected one for each of 2 axes",
    ),
    "zero": (put(dilation_rate=[1, 0]), r"ConvLSTM2D has dilation_rate='\[1, 0\]', expected a"),
    "causal": (put(padding="causal"), "ConvLSTM2D has padding='causal', expected 'same' or 'val"),
    "both": (put(strides=2, dilation_rate=2), "ConvLSTM: .* they cannot both be above 1"),
    "backwards": (put(go_backwards=True), "ConvLSTM2D has go_backwards=True, expected False"),
    "dropout": (
        put(dropout=0.2),
        r"ConvLSTM2D has dropout=0\.2 and recurrent_dropout=0\.0: Keras drops other inputs for "
        "each gate, and Dropout the same for all; set dropout to 0",
    ),
    "other rank": (
        lambda layer, weights: layer.update(class_name="ConvLSTM1D"),
        r"ConvLSTM1D has kernel_size=\[3, 3\], expected one for each of 1 axes",
    ),
    "matrix": (
        put_array(0, lambda array: array[0, 0]),
        r"weights\[0\] has shape \(3, 20\), expected \[kernel, kernel, in, columns\]",
    ),
    "kernels": (
        put_array(1, lambda array: array[:2]),
        r"weights\[1\] has shape \(2, 3, 5, 20\), expected \(3, 3, 5, 20\)",
    ),
    "two biases": (
        put_array(2, lambda array: np.tile(array, 2)),
        r"weights\[2\] has shape \(40,\), expected \(20,\)",
    ),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(change, message):
    cell = ConvLSTM(HIDDEN, 3)
    config, weights = to_keras(cell, random_params(cell))
    config["config"] |= {"kernel_size": [3, 3]}
    assert from_keras(copy.deepcopy(config), weights)[0] == cell
    change(config, weights)
    with pytest.raises(ValueError, match=f"^from_keras: {message}"):
        from_keras(config, weights)


NOT_IN_KERAS: dict[str, tuple[jaxrnn.Cell, str]] = {
    "peepholes": (
        ConvLSTM(2, 3, peepholes=(4, 4)),
        r"ConvLSTM has peepholes=\(4, 4\), which a",
    ),
    "two_activations": (
        ConvLSTM(2, 3, output_activation="linear"),
        "ConvLSTM has .* and output_activation='linear', but Keras' ConvLSTM has one",
    ),
    "gru": (jaxrnn.ConvGRU(2, 3), "a cell of Keras holds no ConvGRU, expected Elman, LSTM, ConvL"),
    "stack": (
        Stack((ConvLSTM(2, 3), ConvLSTM(2, 3))),
        "Stack holds a ConvLSTM, of which Keras has no cell",
    ),
    "dropout": (
        Dropout(ConvLSTM(2, 3), 0.2, locked=True),
        r"ConvLSTM2D has dropout=0\.2 and recurrent_dropout=0\.0: Keras drops other",
    ),
}


@pytest.mark.parametrize(("cell", "message"), NOT_IN_KERAS.values(), ids=NOT_IN_KERAS)
def test_what_keras_does_not_have(cell, message):
    with pytest.raises(ValueError, match=f"^to_keras: {message}"):
        to_keras(cell, random_params(cell))


PICTURE = ConvLSTM(HIDDEN, 3)
H = np.zeros((BATCH, *SPACE[2], HIDDEN), np.float32)
STATES: dict[str, tuple[Callable[..., Any], Any, Any, str]] = {
    "space": (
        carry_from_keras,
        PICTURE,
        [H, H[:, 1:]],
        r"c of state 0 has shape \(4, 4, 6, 5\), expected \(4, 5, 6, 5\)",
    ),
    "axes": (
        carry_from_keras,
        PICTURE,
        [H[0, 0, 0], H[0, 0, 0]],
        r"h of state 0 has shape \(5,\), expected \[\*batch, \*space, 5\] with 2 axes of space",
    ),
    "batch": (
        carry_from_keras,
        Stack((ConvLSTM(HIDDEN, 3), ConvLSTM(HIDDEN, 3))),
        [H, H, H[1:], H],
        r"h of state 1 has shape \(3, 5, 6, 5\), expected \(4, 5, 6, 5\)",
    ),
    "torch": (
        jaxrnn.convert.carry_from_torch,
        PICTURE,
        (H, H),
        "ConvLSTM has pictures for states, which no module of torch",
    ),
    "onnx": (
        jaxrnn.convert.carry_to_onnx,
        Bidirectional(PICTURE),
        (H, H),
        "Bidirectional has pictures for states, which no module of torch and no node of ONNX",
    ),
}


@pytest.mark.parametrize(("function", "cell", "given", "message"), STATES.values(), ids=STATES)
def test_states_that_do_not_fit(function, cell, given, message):
    with pytest.raises(ValueError, match=f"^{function.__name__}: {message}"):
        function(cell, given)
