"""What parameters start from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import initializers
from jaxrnn.initializers import (
    Chrono,
    GlorotUniform,
    Identity,
    LecunNormal,
    Orthogonal,
    TorchUniform,
)
from tests.support.jaxprs import equations

HIDDEN, FEATURES = 16, 12
GATES = {jaxrnn.Elman: 1, jaxrnn.LSTM: 4, jaxrnn.GRU: 3}
each_cell = pytest.mark.parametrize("make", GATES, ids=lambda make: make.__name__)


def blocks(make, array):
    return np.split(np.asarray(array, np.float64), GATES[make], axis=-1)


@each_cell
def test_recurrent_weights_are_orthogonal_per_gate(make):
    drawn = blocks(make, make(HIDDEN).init(jax.random.key(0), FEATURES).w_h)
    for block in drawn:
        np.testing.assert_allclose(block @ block.T, np.eye(HIDDEN), atol=1e-5)
    for k, block in enumerate(drawn[1:]):
        assert np.abs(block - drawn[k]).max() > 0.1, "gates are drawn apart"


def test_models_that_are_drawn_at_once_are_those_drawn_alone():
    """One QR factorisation at a time: two batches of them hung on a CPU of two cores."""
    keys, cell = jax.random.split(jax.random.key(0), 3), jaxrnn.GRU(4)
    draw = jax.vmap(lambda key: cell.init(key, 3))
    together = jax.jit(draw)(keys)
    for k, key in enumerate(keys):
        alone = jax.tree.leaves(cell.init(key, 3))
        for got, wanted in zip(jax.tree.leaves(together), alone, strict=True):
            np.testing.assert_allclose(got[k], wanted, rtol=1e-5, atol=1e-6)
    drawn = [e for _, e in equations(jax.make_jaxpr(draw)(keys).jaxpr) if "qr" in e.primitive.name]
    assert drawn
    assert max(variable.aval.ndim for e in drawn for variable in e.invars) == 2


@each_cell
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize(
    "init", [Orthogonal(), Identity(), GlorotUniform(), LecunNormal(), TorchUniform()], ids=repr
)
def test_every_initializer_works_in_short_floats(make, dtype, init):
    params = make(HIDDEN, w_x_init=init, w_h_init=init).init(jax.random.key(0), FEATURES, dtype)
    wide = make(HIDDEN, w_x_init=init, w_h_init=init).init(jax.random.key(0), FEATURES)
    for narrow, full in zip(jax.tree.leaves(params), jax.tree.leaves(wide), strict=True):
        assert narrow.dtype == dtype
        np.testing.assert_array_equal(narrow, np.asarray(full).astype(dtype))


@each_cell
def test_torch_uniform_has_torchs_bound(make):
    options = dict.fromkeys(("w_x_init", "w_h_init", "b_init"), "torch_uniform")
    cell = make(HIDDEN, **options, **({"forget_bias": 0.0} if make is jaxrnn.LSTM else {}))
    params = cell.init(jax.random.key(0), FEATURES)
    for leaf in jax.tree.leaves(params):
        assert 0.8 * HIDDEN**-0.5 < np.abs(leaf).max() <= HIDDEN**-0.5


@each_cell
def test_input_weights_have_the_variance_of_one_gate(make):
    draw = {
        init: make(256, w_x_init=init).init(jax.random.key(0), 64).w_x
        for init in ("lecun_normal", "glorot_uniform")
    }
    assert np.var(draw["lecun_normal"]) == pytest.approx(1 / 64, rel=0.1)
    assert np.var(draw["glorot_uniform"]) == pytest.approx(2 / (64 + 256), rel=0.1)


def test_irnn_starts_as_a_running_sum():
    """Le, Jaitly & Hinton: with the identity, ReLU and no biases, positive inputs are added up."""
    cell = jaxrnn.Elman(HIDDEN, activation="relu", w_h_init=Identity())
    params = cell.init(jax.random.key(0), FEATURES)
    np.testing.assert_array_equal(params.w_h, np.eye(HIDDEN))
    positive = params._replace(w_x=jnp.abs(params.w_x))
    xs = jnp.abs(jax.random.normal(jax.random.key(1), (5, FEATURES)))
    np.testing.assert_allclose(
        jaxrnn.scan(cell, positive, xs)[0], xs.sum(0) @ positive.w_x, rtol=1e-5
    )


def test_unit_forget_bias_is_the_default_and_an_argument():
    for value, cell in ((1.0, jaxrnn.LSTM(HIDDEN)), (2.5, jaxrnn.LSTM(HIDDEN, forget_bias=2.5))):
        i, f, g, o = blocks(jaxrnn.LSTM, cell.init(jax.random.key(0), FEATURES).b)
        np.testing.assert_array_equal(f, value)
        np.testing.assert_array_equal([i, g, o], 0)


def test_chrono_sets_time_scales():
    """Tallec & Ollivier: b_f = log U(1, longest - 1) and b_i = -b_f; in a GRU the update gate
    keeps.
    """
    i, f, g, o = blocks(
        jaxrnn.LSTM, jaxrnn.LSTM(500, forget_bias=Chrono(100)).init(jax.random.key(0), FEATURES).b
    )
    np.testing.assert_array_equal(i, -f)
    np.testing.assert_array_equal([g, o], 0)
    assert f.min() >= 0
    assert f.max() <= np.log(99)
    assert np.exp(f).mean() == pytest.approx(50, rel=0.1)
    r, z, n = blocks(
        jaxrnn.GRU, jaxrnn.GRU(500, update_bias=Chrono(100)).init(jax.random.key(0), FEATURES).b
    )
    assert np.exp(z).mean() == pytest.approx(50, rel=0.1)
    np.testing.assert_array_equal([r, n], 0)


@each_cell
def test_parameters_left_out_are_none(make):
    params = make(HIDDEN, bias=False).init(jax.random.key(0), FEATURES)
    assert params.b is None
    assert len(jax.tree.leaves(params)) == 2


def test_a_callable_of_jax_is_accepted():
    cell = jaxrnn.GRU(HIDDEN, w_h_init=jax.nn.initializers.normal(0.5))
    assert float(cell.init(jax.random.key(0), FEATURES).w_h.std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("name", initializers.NAMED)
def test_every_name_draws(name):
    assert initializers.initializer(name)(jax.random.key(0), (3, 4), jnp.float32).shape == (3, 4)
