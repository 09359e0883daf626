"""Activations: their equations in NumPy, at the edges too, and in cells that are saved and
differentiated.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.activations import (
    ELU,
    NAMED,
    Affine,
    HardSigmoid,
    LeakyReLU,
    ScaledTanh,
    ThresholdedReLU,
    activation,
)
from tests.support.conversions import each_dtype, random_inputs, random_params
from tests.support.helpers import assert_close

EQUATIONS: dict[Any, Any] = {
    Affine(0.75, 0.125): lambda z: 0.75 * z + 0.125,
    ELU(0.3): lambda z: np.where(z > 0, z, 0.3 * np.expm1(np.minimum(z, 0))),
    HardSigmoid(0.2, 0.4): lambda z: np.clip(0.2 * z + 0.4, 0, 1),
    LeakyReLU(0.2): lambda z: np.maximum(z, 0) + 0.2 * np.minimum(z, 0),
    ScaledTanh(1.7159, 2 / 3): lambda z: 1.7159 * np.tanh(2 / 3 * z),
    ThresholdedReLU(0.5): lambda z: np.where(z > 0.5, z, 0 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "hard_sigmoid": lambda z: np.clip(z / 6 + 0.5, 0, 1),
    "leaky_relu": lambda z: np.maximum(z, 0) + 0.01 * np.minimum(z, 0),
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.logaddexp(0, z),
    "softsign": lambda z: z / (1 + np.abs(z)),
    "tanh": np.tanh,
}
each = pytest.mark.parametrize("given", EQUATIONS, ids=str)
Z = np.array([-80.0, -3.0, -0.5, -1e-3, 0.0, 1e-3, 0.25, 0.5, 0.75, 3.0, 80.0])


def test_every_name_has_an_equation():
    assert {given for given in EQUATIONS if isinstance(given, str)} == NAMED.keys()


@each
def test_equations(given, x64):
    np.testing.assert_allclose(
        activation(given)(jnp.asarray(Z)), EQUATIONS[given](Z), rtol=1e-14, atol=1e-14
    )


@each_dtype
@each
def test_dtypes_and_nan_are_kept(given, dtype):
    got = activation(given)(jnp.asarray([np.nan, 1.0], dtype))
    assert got.dtype == dtype
    assert jnp.isnan(got).tolist() == [True, False]


@each
def test_gradients_are_those_of_differences(given, x64):
    z, step = np.array([-3.3, -0.7, -0.2, 0.1, 0.4, 0.9, 3.3]), 1e-6  # no edge within a step
    difference = (EQUATIONS[given](z + step) - EQUATIONS[given](z - step)) / (2 * step)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(activation(given)))(jnp.asarray(z)), difference, atol=1e-8
    )


@each
def test_cells_with_it_are_saved(given, tmp_path):
    cell = jaxrnn.GRU(4, gate_activation=given, candidate_activation=given)
    params, xs = random_params(cell), random_inputs("float32")
    jaxrnn.save(tmp_path / "cell", cell, params)
    again, read = jaxrnn.load(tmp_path / "cell")
    assert again == cell
    assert_close(jaxrnn.scan(again, read, xs), jaxrnn.scan(cell, params, xs), 0)
