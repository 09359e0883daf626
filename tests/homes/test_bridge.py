"""Between Flax models and jaxrnn's functions: parameters both ways, single steps, one output for
each sequence.
"""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.sequences import last_output, max_output, mean_output
from tests.support.homes import (
    CELLS,
    IN,
    B,
    Leaky,
    T,
    each_home,
    inputs,
    linen_home,
    nnx_home,
    random_params,
)

DEEP = jaxrnn.Stack.repeat(jaxrnn.Elman(4), 2, bidirectional=True)
XS, LENGTHS = inputs(B, T, IN), np.array([T, 0, T - 2])


class Classifier(nn.Module):
    """One label for each sequence."""

    @nn.compact
    def __call__(self, xs, lengths):
        _, y = jaxrnn.linen.RNN(DEEP, outputs="last", name="rnn")(xs, lengths=lengths)
        return nn.Dense(3)(y)


class NNXClassifier(nnx.Module):
    """The same in NNX."""

    def __init__(self, rngs):
        self.rnn = jaxrnn.nnx.RNN(DEEP, IN, outputs="last", rngs=rngs)
        self.dense = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, xs, lengths):
        return self.dense(self.rnn(xs, lengths=lengths)[1])


def trained_in_linen() -> Any:
    """The parameters of the RNN, out of the variables of the model."""
    model: Any = Classifier()
    tx = optax.adam(0.1)
    variables = model.init(jax.random.key(0), XS, LENGTHS)

    @jax.jit
    def train(variables, state):
        grads = jax.grad(lambda v: jnp.sum(model.apply(v, XS, LENGTHS) ** 2))(variables)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(variables, updates), state

    state = tx.init(variables)
    for _ in range(2):
        variables, state = train(variables, state)
    return jaxrnn.linen.params(DEEP, variables["params"]["rnn"])


def trained_in_nnx() -> Any:
    """The parameters of the RNN, out of the model."""
    model = NNXClassifier(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        optimizer.update(model, nnx.grad(lambda m: jnp.sum(m(XS, LENGTHS) ** 2))(model))

    for _ in range(2):
        train(model, optimizer)
    return model.rnn.params


@pytest.mark.parametrize("trained", [trained_in_linen, trained_in_nnx])
def test_a_model_of_flax_leaves_it_and_comes_back(trained, tmp_path):
    """Trained in Flax, converted, saved, loaded, and run by both homes again."""
    params = trained()
    weights = jaxrnn.convert.to_torch(DEEP, params)
    assert weights["weight_ih_l1_reverse"].shape == (4, 8)
    np.testing.assert_array_equal(weights["weight_hh_l0"], params[0].forward.w_h.T)
    jaxrnn.save(tmp_path / "model.safetensors", DEEP, params)
    cell, loaded = jaxrnn.load(tmp_path / "model.safetensors")
    chex.assert_trees_all_equal(loaded, params)

    carry, ys = jaxrnn.scan(cell, loaded, XS.swapaxes(0, 1), lengths=LENGTHS)
    wanted = (carry, last_output(ys, cell, lengths=LENGTHS))
    rnn = jaxrnn.linen.RNN(cell, outputs="last")
    variables = jaxrnn.linen.variables(cell, loaded)
    chex.assert_trees_all_close(rnn.apply(variables, XS, lengths=LENGTHS), wanted, atol=1e-6)
    again = jaxrnn.nnx.RNN.from_params(cell, loaded, outputs="last")
    chex.assert_trees_all_close(again(XS, lengths=LENGTHS), wanted, atol=1e-6)
    chex.assert_trees_all_equal(again.params, loaded)


@pytest.mark.parametrize("name", ["learned_carry", "lstm_no_bias", "pair", "zoneout"])
def test_parameters_go_to_variables_and_back(name):
    cell, params = CELLS[name], random_params(CELLS[name])
    variables = jaxrnn.linen.variables(cell, params)
    for given in (variables, variables["params"]):
        chex.assert_trees_all_equal(jaxrnn.linen.params(cell, given), params)
    wanted = jax.eval_shape(jaxrnn.linen.RNN(cell, deterministic=True).init, jax.random.key(0), XS)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, wanted)
    module = jaxrnn.nnx.RNN.from_params(cell, params, rngs=nnx.Rngs(dropout=0))
    chex.assert_trees_all_equal(module.params, params)
    drawn = jaxrnn.nnx.RNN(cell, IN, rngs=nnx.Rngs(params=1, dropout=0))
    assert nnx.graphdef(module) == nnx.graphdef(drawn)


def test_parameters_of_any_cell():
    """One that takes inputs of its own size alone, and one bare parameter."""
    cells: list[tuple[jaxrnn.Cell, int]] = [(jaxrnn.Residual(jaxrnn.GRU(4)), 4), (Leaky(), 3)]
    for cell, size in cells:
        params = cell.init(jax.random.key(0), size)
        variables = jaxrnn.linen.variables(cell, params)
        chex.assert_trees_all_equal(jaxrnn.linen.params(cell, variables), params)
        assert jaxrnn.nnx.RNN.from_params(cell, params).in_features == size
    half = jaxrnn.GRU(4).init(jax.random.key(0), 3, jnp.bfloat16)
    assert jaxrnn.nnx.RNN.from_params(jaxrnn.GRU(4), half).param_dtype == jnp.bfloat16
    traced = jax.jit(lambda p: jaxrnn.nnx.RNN.from_params(jaxrnn.GRU(4), p).params)(half)
    chex.assert_trees_all_equal(traced, half)


def test_a_layer_without_parameters():
    layer = jaxrnn.Pointwise("relu", IN)
    assert jaxrnn.linen.params(layer, {"params": {}}) == ()
    assert jaxrnn.nnx.RNN.from_params(layer, ())(inputs(B, T, IN))[1].shape == (B, T, IN)


def test_parameters_of_another_cell_are_refused():
    variables = jaxrnn.linen.variables(CELLS["lstm"], random_params(CELLS["lstm"]))
    for cell, given, message in (
        (
            CELLS["gru_after"],
            variables,
            r"GRU has the parameters \['b', 'b_hn'.*got \['b', 'w_h', 'w_x",
        ),
        (jaxrnn.LSTM(3), variables, r"LSTM has a parameter 'b' of shape \(12,\), got the shape \("),
        (
            CELLS["lstm"],
            {"params": {"rnn": variables["params"], "dense": {"bias": np.ones(3)}}},
            r".*got \['dense/bias', 'rnn/b', .*; 'rnn/' holds them: pass that part",
        ),
    ):
        with pytest.raises(ValueError, match=rf"^jaxrnn\.linen\.params: {message}"):
            jaxrnn.linen.params(cell, given)
    with pytest.raises(ValueError, match="parameter has the name 'a/b', expected one without a sl"):
        jaxrnn.linen.variables(Leaky(), {"a/b": np.ones(IN), "a": {"b": np.ones(IN)}})
    params = random_params(CELLS["lstm"])
    with pytest.raises(ValueError, match=r"^jaxrnn\.linen\.variables: GRU has .* parameters"):
        jaxrnn.linen.variables(CELLS["gru_after"], params)
    with pytest.raises(ValueError, match=r"^jaxrnn\.nnx\.RNN\.from_params: GRU has the param"):
        jaxrnn.nnx.RNN.from_params(CELLS["gru_after"], params)


@pytest.mark.parametrize("batch", [(), (B,), (2, 3)], ids=str)
def test_single_steps(batch):
    """Of any batch axes, from a carry and from the initial one, in Flax's dtypes."""
    cell = CELLS["stack"]
    params, x = random_params(cell), inputs(*batch, IN)
    carry = jax.tree.map(lambda leaf: leaf + 0.5, cell.initial_carry(params, x.shape))
    variables = jaxrnn.linen.variables(cell, params)
    module = jaxrnn.nnx.RNN.from_params(cell, params)
    for given in (carry, None):
        start = cell.initial_carry(params, x.shape) if given is None else given
        wanted = jaxrnn.step(cell, params, start, x)
        in_linen = jaxrnn.linen.RNN(cell).apply(variables, x, given, method="step")
        chex.assert_trees_all_equal(in_linen, wanted)
        chex.assert_trees_all_equal(module.step(x, given), wanted)
    narrow = jaxrnn.nnx.RNN.from_params(cell, params, dtype=jnp.bfloat16)
    after, y = narrow.step(x, None)
    assert (after[0].c.dtype, y.dtype) == (jnp.float32, jnp.bfloat16)


def test_a_step_may_make_the_parameters():
    rnn = jaxrnn.linen.RNN(CELLS["lstm"])
    key = jax.random.key(0)
    by_step = rnn.init(key, XS[:, 0], None, method="step")
    chex.assert_trees_all_equal(by_step, rnn.init(key, XS))


def test_a_trained_cell_is_served_in_slots():
    """Streams of different lengths, step by step, as the home runs them whole."""
    cell = CELLS["stack"]
    module = nnx_home(cell, random_params(cell))
    slots = jaxrnn.streams.Slots(cell, module.params, size=2, like=jnp.zeros(IN))
    slots.join("a")
    slots.join("b")
    pieces = [slots.advance({"a": XS[0, :2], "b": XS[1, :1]}), slots.advance({"a": XS[0, 2:3]})]
    got = np.concatenate([piece["a"] for piece in pieces])
    np.testing.assert_allclose(got, module(XS)[1][0, :3], atol=1e-6)
    np.testing.assert_allclose(pieces[0]["b"], module(XS)[1][1, :1], atol=1e-6)


@each_home
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_one_output_for_each_sequence(home, time_major, reverse):
    """At the end of the walk, which `reverse` turns round; over valid steps."""
    cell = CELLS["bidirectional"]
    params, mask = random_params(cell), inputs(T, B) < 1
    xs = XS.swapaxes(0, 1)
    flags = {"lengths": LENGTHS, "mask": mask, "reverse": reverse}
    carry, ys = jaxrnn.scan(cell, params, xs, **flags)
    valid = {"lengths": LENGTHS, "mask": mask}
    ends = jaxrnn.Reversed(cell) if reverse else cell
    wanted = {
        "last": last_output(ys, ends, **valid),
        "mean": mean_output(ys, **valid),
        "max": max_output(ys, **valid),
    }
    given = (xs, flags) if time_major else (XS, flags | {"mask": mask.T})
    for outputs, y in wanted.items():
        got = home(cell, params, outputs=outputs, time_major=time_major)(given[0], **given[1])
        chex.assert_trees_all_close(got, (carry, y), atol=1e-6)
    states = carry.forward.h, carry.backward
    if mask[-1, 0] and not reverse:
        np.testing.assert_allclose(wanted["last"][0], np.concatenate([s[0] for s in states]))


def test_outputs_is_one_of_four_words():
    for build in (linen_home, nnx_home):
        with pytest.raises(ValueError, match=r"RNN: outputs is 'sum', expected one of \['all', 'l"):
            build(CELLS["lstm"], random_params(CELLS["lstm"]), outputs="sum")
