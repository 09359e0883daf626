"""Keras' weights, both ways."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Dropout, Elman, RecurrentDropout, Stack
from jaxrnn.activations import NAMED, HardSigmoid, LeakyReLU, activation
from jaxrnn.convert import carry_from_keras, carry_to_keras, from_keras, to_keras
from tests.support.conversions import (
    FEATURES,
    HIDDEN,
    LENGTHS,
    VALID,
    assert_refused,
    each_dtype,
    each_precision,
    random_inputs,
    random_like,
    random_params,
    scan,
    without_start,
)
from tests.support.helpers import assert_close, assert_equal
from tests.support.specs import BY_ID, every

keras = pytest.importorskip("keras", reason="needs keras: `make oracle-test` installs it")
layers = keras.layers

ALL = {"return_sequences": True, "return_state": True}


def both_ways(forward: str, merge: str | None, backward: str | None = None) -> Any:
    """A `Bidirectional`, with a backward layer of another kind if one is named."""
    other = (
        {"backward_layer": getattr(layers, backward)(HIDDEN, go_backwards=True, **ALL)}
        if backward
        else {}
    )
    return layers.Bidirectional(getattr(layers, forward)(HIDDEN, **ALL), merge_mode=merge, **other)


def on_each_other(*cells: Any) -> Any:
    return layers.RNN(list(cells), **ALL)


LAYERS: dict[str, Callable[[], Any]] = {
    "rnn": lambda: layers.SimpleRNN(HIDDEN, **ALL),
    "rnn_options": lambda: layers.SimpleRNN(HIDDEN, activation="leaky_relu", use_bias=False, **ALL),
    "rnn_dropout": lambda: layers.SimpleRNN(HIDDEN, dropout=0.2, recurrent_dropout=0.3, **ALL),
    "lstm": lambda: layers.LSTM(HIDDEN, **ALL),
    "lstm_options": lambda: layers.LSTM(
        HIDDEN, activation="softsign", recurrent_activation="hard_sigmoid", use_bias=False, **ALL
    ),
    "lstm_dropout": lambda: layers.LSTM(HIDDEN, dropout=0.2, **ALL),
    "gru": lambda: layers.GRU(HIDDEN, **ALL),
    "gru_after_options": lambda: layers.GRU(
        HIDDEN, activation="elu", recurrent_activation="hard_sigmoid", **ALL
    ),
    "gru_after_no_bias": lambda: layers.GRU(HIDDEN, use_bias=False, **ALL),
    "gru_before": lambda: layers.GRU(HIDDEN, reset_after=False, **ALL),
    "gru_before_no_bias": lambda: layers.GRU(
        HIDDEN, reset_after=False, use_bias=False, recurrent_dropout=0.3, **ALL
    ),
    "cell": lambda: layers.RNN(layers.GRUCell(HIDDEN), **ALL),
    "cells": lambda: on_each_other(
        layers.LSTMCell(HIDDEN, dropout=0.1), layers.GRUCell(2), layers.SimpleRNNCell(4)
    ),
    "cells_in_cells": lambda: on_each_other(
        layers.StackedRNNCells([layers.SimpleRNNCell(2), layers.LSTMCell(4)]), layers.GRUCell(2)
    ),
    "both": lambda: both_ways("LSTM", "concat"),
    "both_sum": lambda: both_ways("GRU", "sum"),
    "both_product": lambda: both_ways("SimpleRNN", "mul"),
    "both_mean": lambda: both_ways("SimpleRNN", "ave"),
    "both_pair": lambda: both_ways("GRU", None),
    "both_unlike": lambda: both_ways("GRU", "concat", "SimpleRNN"),
    "both_of_cells": lambda: layers.Bidirectional(
        on_each_other(layers.LSTMCell(HIDDEN), layers.GRUCell(2))
    ),
}


@pytest.fixture
def policy(dtype, monkeypatch):
    """Keras' layers are of this dtype, too; with JAX, its tanh would make float32 of float64."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    monkeypatch.setitem(keras.src.backend.common.dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    yield
    keras.config.set_dtype_policy(before)


def build(layer: Any, *shape: int) -> None:
    """For inputs `[..., *shape]`. All weights are set afterwards, and an orthogonal or a uniform
    start would be compiled for each shape.
    """
    zeros = lambda self, shape, dtype=None: np.zeros(shape, dtype)  # noqa: E731
    drawn = keras.initializers.Orthogonal, keras.initializers.VarianceScaling
    with ExitStack() as stack:
        for initializer in drawn:
            stack.enter_context(mock.patch.object(initializer, "__call__", zeros))
        layer.build((None, None, *shape))


def randomised(
    layer: Any, dtype: Any = "float32", in_features: int = FEATURES, space: tuple[int, ...] = ()
) -> Any:
    """The layer, built; none of its biases is zero, no two gates are alike."""
    build(layer, *space, in_features)
    layer.set_weights(random_like(layer.get_weights(), dtype))
    return layer


def loaded(config: Any, weights: Any, *space: int) -> Any:
    """A new layer of Keras."""
    layer = layers.deserialize(config)
    build(layer, *space, weights[0].shape[-2])
    layer.set_weights(weights)
    return layer


def read(layer: Any) -> tuple[jaxrnn.Cell, Any]:
    return from_keras(layers.serialize(layer), layer.get_weights())


def run_keras(layer: Any, xs: Any) -> Any:
    """Its final states, and its outputs, zero in the padding; time comes first."""

    @jax.jit
    def run(xs: Any) -> Any:
        returned = layer(xs.swapaxes(0, 1), mask=VALID.T)
        count = 2 if getattr(layer, "merge_mode", "") is None else 1
        ys = [jnp.where(VALID[..., None], jnp.swapaxes(y, 0, 1), 0) for y in returned[:count]]
        return keras.tree.flatten(returned[count:]), ys

    return run(xs)


def run(cell: jaxrnn.Cell, params: Any, xs: Any) -> Any:
    """The same of jaxrnn."""
    carry, ys = scan(cell, params, xs, lengths=LENGTHS)
    return jax.tree.leaves(carry), jax.tree.leaves(ys)


@pytest.mark.parametrize("id", LAYERS)
@each_precision
@pytest.mark.usefixtures("policy")
def test_equals_keras(id, dtype, tolerance):
    """The same final states and outputs from Keras' weights in jaxrnn, and from them again in a new
    layer of Keras.
    """
    theirs, xs = randomised(LAYERS[id](), dtype), random_inputs(dtype)
    wanted = run_keras(theirs, xs)
    cell, params = read(theirs)
    assert_close(run(cell, params, xs), wanted, tolerance)
    again = loaded(*to_keras(cell, params, return_state=True))
    assert_close(run_keras(again, xs), wanted, tolerance)
    assert read(again)[0] == cell


@pytest.mark.parametrize("id", ["lstm", "both_stacks"])
def test_states_come_and_go(id):
    """A run from states that are not zero, and those at its end."""
    made = {"both_stacks": lambda: layers.Bidirectional(on_each_other(*both_cells()))}
    theirs = randomised((made | LAYERS)[id](), "float32")
    xs, (cell, params) = random_inputs("float32"), read(theirs)
    start = random_like(cell.initial_carry(params, xs.shape[1:]))
    carry, ys = jaxrnn.scan(cell, params, xs, start)
    given = carry_to_keras(cell, start)
    wanted, *states = theirs(xs.swapaxes(0, 1), initial_state=given)
    assert_close(ys, np.swapaxes(wanted, 0, 1), 1e-5)
    assert_close(carry, carry_from_keras(cell, states), 1e-5)


def both_cells() -> list[Any]:
    return [layers.LSTMCell(HIDDEN), layers.GRUCell(4)]


def test_layers_on_each_other():
    """A list of layers, as those of a `Sequential`; its weights are one list."""
    theirs = [
        randomised(both_ways("GRU", "concat")),
        randomised(layers.LSTM(4, **ALL), in_features=2 * HIDDEN),
    ]
    xs, weights = (
        random_inputs("float32"),
        [array for layer in theirs for array in layer.get_weights()],
    )
    cell, params = from_keras([layers.serialize(layer) for layer in theirs], weights)
    assert cell == Stack((Bidirectional(GRU(HIDDEN)), LSTM(4)))
    below, ys = run_keras(theirs[0], xs)
    above, ys = run_keras(theirs[1], ys[0])
    assert_close(run(cell, params, xs), (below + above, ys), 1e-5)


@pytest.mark.parametrize("return_state", [False, True])
def test_what_the_layer_returns(return_state):
    """All outputs, zero where the mask is False."""
    cell, xs = LSTM(HIDDEN), random_inputs("float32")
    params = random_params(cell)
    returned = loaded(*to_keras(cell, params, return_state=return_state))(
        xs.swapaxes(0, 1), mask=VALID.T
    )
    assert isinstance(returned, list | tuple) == return_state
    ys = returned[0] if return_state else returned
    assert_close([np.swapaxes(ys, 0, 1)], run(cell, params, xs)[1], 1e-5)


HELD = {
    *(
        "elman_tanh",
        "elman_relu",
        "elman_irnn",
        "elman_no_bias",
        "lstm",
        "lstm_no_bias",
        "lstm_chrono",
        "stack",
        "stack_of_one",
    ),
    *("gru_after", "gru_after_no_bias", "gru_before", "gru_before_no_bias"),
    *("both_concat", "both_sum", "both_mean", "both_product", "both_pair"),
}


@each_dtype
@pytest.mark.parametrize("id", sorted(HELD))
def test_bits_come_back(id, dtype):
    cell: Any = BY_ID[id].cell
    params = random_params(cell, dtype)
    again, kept = read(loaded(*to_keras(cell, params)))
    one = id == "stack_of_one"
    assert again == without_start(cell.cells[0] if one else cell)
    assert_equal(kept, params[0] if one else params)


@every
def test_every_other_cell_is_refused(spec):
    if spec.id not in HELD | {"conv_lstm"}:
        assert_refused(spec, to_keras)


def test_minus_zero_is_kept():
    cell = GRU(HIDDEN)
    _, again = from_keras(
        *to_keras(cell, jax.tree.map(lambda a: -jnp.zeros_like(a), random_params(cell)))
    )
    assert all(np.signbit(leaf).all() for leaf in jax.tree.leaves(again))


NOT_IN_KERAS: dict[str, tuple[Any, str]] = {
    "peepholes": (
        LSTM(2, peepholes=True),
        "LSTM has peepholes=True, which a cell of Keras cannot hold",
    ),
    "slope": (
        Elman(2, activation="leaky_relu"),
        r"Elman has activation='leaky_relu', expected .*LeakyReLU\(slope=0\.2\)",
    ),
    "function": (GRU(2, candidate_activation=jnp.sin), "GRU has candidate_activation=.*sin"),
    "two_activations": (
        LSTM(2, output_activation="linear"),
        "candidate_activation='tanh' and output_activation='linear', but",
    ),
    "sizes": (Bidirectional(LSTM(4), Elman(5)), r"Bidirectional has outputs of sizes \(4, 5\)"),
    "both_in_stack": (Stack((Bidirectional(GRU(2)), LSTM(2))), "holds no Bidirectional"),
    "stack_dropout": (
        Stack((GRU(2), GRU(2)), dropout=0.5),
        "Stack has dense=False and dropout=0.5",
    ),
    "stack_dense": (Stack((GRU(2), GRU(2)), dense=True), "Stack has dense=True and dropout=0.0"),
    "each_step": (Dropout(LSTM(2), 0.2), "Dropout has locked=False, expected True"),
    "each_step_of_state": (
        RecurrentDropout(LSTM(2), 0.2, locked=False, draws=4),
        "RecurrentDropout has locked=False, expected True",
    ),
    "draws": (
        RecurrentDropout(LSTM(2), 0.2),
        "RecurrentDropout has draws=1, expected 4: Keras draws for each gate of LSTM",
    ),
    "two_dropouts": (
        Dropout(RecurrentDropout(GRU(2), 0.2, draws=3), 0.1, locked=True),
        "GRU has dropout=0.1 and recurrent_dro",
    ),
    "subclass": (type("Mine", (LSTM,), {})(2), "holds no Mine"),
}


@pytest.mark.parametrize(("cell", "message"), NOT_IN_KERAS.values(), ids=NOT_IN_KERAS)
def test_what_keras_does_not_have(cell, message):
    with pytest.raises(ValueError, match=f"^to_keras: .*{message}"):
        to_keras(cell, random_params(cell))


def test_parameters_of_another_cell_are_refused():
    with pytest.raises(
        ValueError, match=r"to_keras: params are a dict, expected what GRU\.init makes"
    ):
        to_keras(GRU(4), {})


# Activations and dropout


@pytest.mark.parametrize("name", [*NAMED, None])
def test_activations_of_keras_3(name):
    cell, params = read(randomised(layers.SimpleRNN(HIDDEN, activation=name)))
    z = jnp.linspace(-4, 4, 101)
    assert_close(activation(cell.activation)(z), keras.activations.get(name)(z), 1e-6)  # type: ignore[attr-defined]
    assert to_keras(cell, params)[0]["config"]["activation"] == (name or "linear")


def test_functions_that_have_a_name_in_keras():
    cells = [Elman(2, activation=given) for given in (jnp.tanh, LeakyReLU(0.2), HardSigmoid())]
    written = [to_keras(cell, random_params(cell))[0] for cell in cells]
    assert [layer["config"]["activation"] for layer in written] == [
        "tanh",
        "leaky_relu",
        "hard_sigmoid",
    ]


@pytest.mark.parametrize(("name", "draws"), [("SimpleRNN", 1), ("LSTM", 4), ("GRU", 3)])
def test_dropout(name, draws):
    """One mask of inputs, and one of states for each gate, as Keras draws them; several of inputs
    have no counterpart.
    """

    def masks(**rates: float) -> tuple[int, ...]:
        theirs = getattr(layers, f"{name}Cell")(HIDDEN, **rates)
        drawn = (
            theirs.get_dropout_mask(np.ones((1, FEATURES))),
            theirs.get_recurrent_dropout_mask(np.ones((1, HIDDEN))),
        )
        return tuple(
            len(mask) if isinstance(mask, list) else int(mask is not None) for mask in drawn
        )

    def converted(**rates: float) -> jaxrnn.Cell:
        return read(randomised(getattr(layers, name)(HIDDEN, **rates)))[0]

    plain = converted()
    assert masks(dropout=0.2) == (1, 0)
    assert converted(dropout=0.2) == Dropout(plain, 0.2, locked=True)
    assert masks(recurrent_dropout=0.3) == (0, draws)
    assert converted(recurrent_dropout=0.3) == RecurrentDropout(plain, 0.3, draws=draws)
    assert masks(dropout=0.2, recurrent_dropout=0.3) == (draws, draws)
    if draws == 1:
        assert converted(dropout=0.2, recurrent_dropout=0.3) == Dropout(
            RecurrentDropout(plain, 0.3), 0.2, locked=True
        )
    else:
        with pytest.raises(
            ValueError,
            match=rf"{name} has dropout=0\.2 and recurrent_dropout=0\.3: with both, Keras drops",
        ):
            converted(dropout=0.2, recurrent_dropout=0.3)
