"""What a cell refuses when it is built and when it draws its parameters."""

# The arguments here are wrong on purpose.
# pyright: reportArgumentType=false

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, Stack
from jaxrnn.activations import LeakyReLU
from jaxrnn.initializers import Orthogonal
from tests.cells.test_errors import CELL, XS, says


@pytest.mark.parametrize(
    ("build", "kind", "parts"),
    [
        (lambda: GRU(0), ValueError, ["GRU: hidden is 0", "positive integer"]),
        (lambda: LSTM(2.5), ValueError, ["LSTM: hidden is 2.5", "positive integer"]),
        (lambda: Elman(True), ValueError, ["Elman: hidden is True", "positive integer"]),
        (
            lambda: GRU(4, reset_gate="never"),
            ValueError,
            ["GRU: reset_gate is 'never'", "['after', 'before']"],
        ),
        (lambda: Elman(4, activation="tan"), ValueError, ["Elman: activation 'tan' is unknown"]),
        (lambda: Elman(4, activation=3), TypeError, ["Elman: activation is 3", "expected a name"]),
        (lambda: LSTM(4, w_h_init="ortho"), ValueError, ["LSTM: w_h_init 'ortho'", "'orthogonal'"]),
        (lambda: LSTM(4, b_init=0.0), TypeError, ["LSTM: b_init is 0.0", "expected a name"]),
        (lambda: GRU(2**31), ValueError, ["GRU: hidden is 2147483648", "below 2**31"]),
        (lambda: LSTM(4, bias="False"), ValueError, ["LSTM: bias is 'False'", "True or False"]),
        (lambda: GRU(4, layer_norm=1), ValueError, ["GRU: layer_norm is 1", "True or False"]),
        (lambda: jaxrnn.Dropout(GRU(4), 0.5, locked="no"), ValueError, ["Dropout: locked is 'no'"]),
        (lambda: Stack([GRU(4)], dense=0), ValueError, ["Stack: dense is 0", "True or False"]),
        (lambda: Stack.repeat(GRU(4), 2, bidirectional="no"), ValueError, ["'no'"]),
        (lambda: LSTM(4, forget_bias="1"), ValueError, ["LSTM: forget_bias is '1'", "a number"]),
        (lambda: LSTM(4, clip=float("nan")), ValueError, ["LSTM: clip is nan", "positive number"]),
        (lambda: LSTM(4, clip=10**400), ValueError, ["LSTM: clip is 1000", "positive number"]),
        (lambda: LeakyReLU("0.1"), ValueError, ["LeakyReLU: slope is '0.1'", "expected a number"]),
        (lambda: GRU(4, w_x_init=LeakyReLU()), TypeError, ["w_x_init is", "(key, shape, dtype)"]),
        (lambda: GRU(4, w_x_init=jnp.tanh), TypeError, ["GRU: w_x_init is", "(key, shape, dtype)"]),
        (lambda: GRU(4, gate_activation=Orthogonal()), TypeError, ["gate_activation is", "(z)"]),
        (lambda: GRU(4, gate_activation=LeakyReLU), TypeError, ["gate_activation is", "(z)"]),
        (lambda: jaxrnn.Sparse(0.5, seed=-1), ValueError, ["Sparse: seed is -1", "integer from 0"]),
        (lambda: jaxrnn.StateNoise(GRU(4), None), ValueError, ["scale is None", "positive"]),
        (
            lambda: jaxrnn.Highway(GRU(4), bias="-1"),
            ValueError,
            ["Highway: bias is '-1'", "a number"],
        ),
        (lambda: jaxrnn.initializers.Chrono(2.5), ValueError, ["longest is 2.5", "integer"]),
        (lambda: jaxrnn.initializers.Chrono(2), ValueError, ["Chrono: longest is 2", "at least 3"]),
        (lambda: Stack([]), ValueError, ["Stack: cells is empty", "at least one"]),
        (
            lambda: Stack([GRU]),
            TypeError,
            ["Stack: cells holds the class GRU", "expected a jaxrnn.Cell"],
        ),
        (
            lambda: Stack([Bidirectional(GRU(4), merge=None), GRU(4)]),
            ValueError,
            ["merge=None", "two outputs"],
        ),
        (lambda: Bidirectional("gru"), TypeError, ["Bidirectional: forward holds a str"]),
        (lambda: Bidirectional(GRU(4), 4), TypeError, ["Bidirectional: backward holds an int"]),
        (
            lambda: Bidirectional(GRU(4), merge="max"),
            ValueError,
            ["Bidirectional: merge is 'max'", "'concat'"],
        ),
        (
            lambda: Bidirectional(GRU(4), GRU(5), merge="sum"),
            ValueError,
            ['merge="sum"', "(4, 5)", "equal sizes", "concat"],
        ),
    ],
    ids=lambda value: value[0][:40] if isinstance(value, list) else "",
)
def test_cells_refuse_when_they_are_built(build, kind, parts):
    with says(kind, *parts):
        build()


def test_numbers_of_numpy_become_those_of_python():
    """So that equal cells save equal, for jaxrnn.save writes the fields as they are."""
    given = LSTM(np.int64(5), bias=np.bool_(False), forget_bias=np.float32(2), clip=np.float64(0.5))
    given = dataclasses.replace(given, projection=np.int8(3))
    for field in dataclasses.fields(given):
        assert not isinstance(getattr(given, field.name), np.generic), field.name
    assert given == LSTM(5, bias=False, forget_bias=2.0, projection=3, clip=0.5)


@pytest.mark.parametrize("in_features", [0, -1, 3.0, "10", True, XS], ids=lambda v: str(v)[:4])
@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (GRU(4), "GRU"),
        (LSTM(4), "LSTM"),
        (Elman(4), "Elman"),
        (jaxrnn.MGU(4), "MGU"),
        (Stack([GRU(4), GRU(4)], dense=True), "Stack"),
        (Bidirectional(GRU(4)), "GRU"),
        (jaxrnn.Highway(GRU(4)), "Highway"),
        (jaxrnn.Residual(GRU(4)), "Residual"),
        (jaxrnn.LearnedCarry(GRU(4)), "GRU"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_init_refuses_what_is_no_size(cell, name, in_features):
    given = "an array of shape (5, 2, 3)" if in_features is XS else repr(in_features)
    parts = (f"{name}: in_features is {given}, expected", "positive integer", "=xs.shape[-1]")
    with says(ValueError, *parts):
        cell.init(jax.random.key(0), in_features)


@pytest.mark.parametrize("cell", [CELL, Stack([Elman(4), LSTM(4)])], ids=["GRU", "Stack"])
def test_the_shape_of_an_input_has_features(cell):
    params = cell.init(jax.random.key(0), 3)
    with says(ValueError, "initial_carry: input_shape is (2,), expected (*batch, 3)", "xs.shape"):
        cell.initial_carry(params, (2,))
    others = {"2": 2, "()": (), "None": None, "an array of shape (5, 2, 3)": XS}
    for given, shape in others.items():
        name = f"{type(cell).__name__}.initial_carry"
        with says(ValueError, f"{name}: input_shape is {given}, expected (*batch", "xs.shape[1:]"):
            cell.initial_carry(params, shape)
