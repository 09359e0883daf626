"""jaxrnn.nnx inside Flax models, against Flax's own cells, and inside Flax's own RNN."""

import pickle
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxrnn
from jaxrnn.nnx import RNN, RNNCell
from tests.support.homes import (
    CELLS,
    IN,
    B,
    Leaky,
    T,
    by_name,
    inputs,
    nnx_home,
    random_params,
    transposed,
)

LENGTHS: Any = np.array([T, 1, T - 2])


class Tagger(nnx.Module):
    """Embedding, RNN, dense."""

    def __init__(self, cell: jaxrnn.Cell, rngs: nnx.Rngs):
        self.embed = nnx.Embed(5, 8, rngs=rngs)
        self.rnn = RNN(cell, 8, rngs=rngs)
        self.readout = nnx.Linear(cell.out_features, 5, rngs=rngs)

    def __call__(self, tokens):
        _, ys = self.rnn(self.embed(tokens))
        return self.readout(ys)


def test_an_ensemble_learns():
    """Two models at once name the token before the present one."""
    tokens = jax.random.randint(jax.random.key(0), (16, 6), 0, 5)
    build = nnx.split_rngs(splits=2)(
        nnx.vmap(lambda rngs: Tagger(jaxrnn.Elman(8, w_h_init="lecun_normal"), rngs))
    )
    model = build(nnx.Rngs(0))
    optimizer = nnx.Optimizer(
        model, optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.03)), wrt=nnx.Param
    )

    def losses(model):
        logits, before = (
            nnx.vmap(lambda member: member(tokens))(model)[:, :, 1:],
            jnp.stack([tokens, tokens])[:, :, :-1],
        )
        each = optax.softmax_cross_entropy_with_integer_labels(logits, before).mean(axis=(1, 2))
        return each.sum(), each

    @nnx.jit
    def train(model, optimizer):
        (_, each), gradients = nnx.value_and_grad(losses, has_aux=True)(model)
        optimizer.update(model, gradients)
        return each

    assert model.rnn.w_h.shape == (2, 8, 8)
    assert not np.allclose(*model.rnn.w_h[...])
    each = [train(model, optimizer) for _ in range(80)]
    assert np.all(each[0] > 1.4)
    assert np.all(each[-1] < 0.4)


def lstm_for_flax(p):
    kernels = {
        f"i{k}": {"kernel": w}
        for k, w in zip(["i", "f_", "g", "o"], jnp.split(p.w_x, 4, axis=-1), strict=True)
    }
    parts = zip("ifgo", jnp.split(p.w_h, 4, axis=-1), jnp.split(p.b, 4), strict=True)
    return kernels | {f"h{k}": {"kernel": w, "bias": b} for k, w, b in parts}


def fused_lstm_for_flax(p):
    return {"dense_i": {"kernel": p.w_x}, "dense_h": {"kernel": p.w_h, "bias": p.b}}


def fused_for_flax(p):
    return {"dense_i": {"kernel": p.w_x, "bias": p.b}, "dense_h": {"kernel": p.w_h}}


FLAX = {
    "LSTMCell": (jaxrnn.LSTM(4), nnx.LSTMCell, lstm_for_flax),
    "OptimizedLSTMCell": (jaxrnn.LSTM(4), nnx.OptimizedLSTMCell, fused_lstm_for_flax),
    "GRUCell": (jaxrnn.GRU(4), nnx.GRUCell, fused_for_flax),
    "SimpleCell": (jaxrnn.Elman(4), nnx.SimpleCell, fused_for_flax),
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", FLAX)
def test_equals_the_cells_of_flax(name, reverse):
    cell, flax_cell, convert = FLAX[name]
    params, xs = random_params(cell), inputs(B, T, IN)
    if name == "GRUCell":
        params = params._replace(b_hn=np.zeros(4, np.float32))  # Flax's has none
    theirs: Any = nnx.RNN(
        flax_cell(IN, 4, rngs=nnx.Rngs(0)), return_carry=True, reverse=reverse, keep_order=True
    )
    nnx.update(theirs.cell, convert(params))
    carry, ys = nnx_home(cell, params)(xs, lengths=LENGTHS, reverse=reverse)
    want_carry, want_ys = theirs(xs, seq_lengths=LENGTHS)
    valid = np.arange(T) < LENGTHS[:, None]
    chex.assert_trees_all_close(ys, jnp.where(valid[..., None], want_ys, 0), atol=1e-6)
    chex.assert_trees_all_close(
        (carry.c, carry.h) if isinstance(cell, jaxrnn.LSTM) else carry, want_carry, atol=1e-6
    )


def flax_cell(cell, params, **options):
    module = RNNCell(cell, IN, rngs=nnx.Rngs(0), **options)
    nnx.update(module, by_name(params))
    return module


@pytest.mark.parametrize("name", ["elman", "lstm_no_bias", "gru_after", "gru_before", "stack"])
def test_cells_run_inside_flax_rnn(name):
    cell = CELLS[name]
    params, xs = random_params(cell), inputs(B, T, IN)
    rnn: Any = nnx.RNN(flax_cell(cell, params), return_carry=True, reverse=True, keep_order=True)
    carry, ys = rnn(xs, seq_lengths=LENGTHS)
    want, want_ys = jaxrnn.scan(cell, params, xs.swapaxes(0, 1), lengths=LENGTHS, reverse=True)
    valid = np.arange(T) < LENGTHS[:, None]
    chex.assert_trees_all_close(
        (carry, jnp.where(valid[..., None], ys, 0)), (want, transposed(want_ys)), atol=1e-6
    )


def test_cells_run_inside_flax_bidirectional():
    cell = jaxrnn.Bidirectional(jaxrnn.LSTM(4), jaxrnn.GRU(3))
    params, xs = random_params(cell), inputs(B, T, IN)
    forward, backward = (
        flax_cell(cell.forward, params.forward),
        flax_cell(cell.backward, params.backward),
    )
    carry, ys = nnx.Bidirectional(nnx.RNN(forward), nnx.RNN(backward), return_carry=True)(xs)
    want, want_ys = jaxrnn.scan(cell, params, xs.swapaxes(0, 1))
    chex.assert_trees_all_close((carry, ys), (tuple(want), transposed(want_ys)), atol=1e-6)


def test_a_cell_inside_flax_rnn_keeps_a_wide_carry():
    cell = RNNCell(
        CELLS["lstm"], IN, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
    )
    rnn: Any = nnx.RNN(cell, return_carry=True)
    carry, ys = rnn(inputs(B, T, IN))
    assert (cell.w_h.dtype, carry.c.dtype, ys.dtype) == (jnp.bfloat16, jnp.float32, jnp.bfloat16)


def test_a_learned_start():
    cell, w, shape = Leaky(), inputs(IN), (B, 2, IN)
    module, xs = flax_cell(cell, {"w": w}), inputs(B, T, 2, IN)
    chex.assert_trees_all_equal(module.initialize_carry(shape), jnp.broadcast_to(w, shape))
    ys = nnx.RNN(module)(xs)
    chex.assert_trees_all_close(
        ys, transposed(jaxrnn.scan(cell, w, xs.swapaxes(0, 1))[1]), atol=1e-6
    )
    assert module.num_feature_axes == 2


def test_the_state_is_parameters_alone():
    module = RNN(CELLS["bidirectional"], IN, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(module, nnx.Param)  # raises if anything is left over
    names = [(end, name) for end in ("forward", "backward") for name in ("w_x", "w_h", "b")]
    assert {path for path, _ in nnx.to_flat_state(params)} == set(names)
    xs = inputs(B, T, IN)
    chex.assert_trees_all_close(nnx.merge(graphdef, params)(xs), module(xs), atol=1e-6)
    again, _ = nnx.split(RNN(CELLS["bidirectional"], IN, rngs=nnx.Rngs(1)), nnx.Param)
    assert again == graphdef
    assert hash(again) == hash(graphdef)


def test_gradients_and_lifts():
    cell = jaxrnn.Stack((CELLS["elman"],))
    params, xs = random_params(cell), inputs(B, T, IN)

    def loss(module):
        return nnx.remat(lambda m, x: m(x, lengths=LENGTHS)[1])(module, xs).var()

    given = nnx.jit(nnx.grad(loss))(nnx_home(cell, params))
    want = jax.grad(lambda p: jaxrnn.scan(cell, p, xs.swapaxes(0, 1), lengths=LENGTHS)[1].var())(
        params
    )
    chex.assert_trees_all_close(nnx.to_pure_dict(given), by_name(want), atol=1e-6)


def test_a_module_may_be_closed_over():
    """A module without mutable state can be used under JAX's own transformations."""
    module, xs = nnx_home(CELLS["elman"], random_params(CELLS["elman"])), inputs(B, T, IN)
    carry, ys = jax.lax.scan(lambda carry, x: module(x, carry), jnp.zeros((B, 4)), xs[None])
    chex.assert_trees_all_close((carry, ys[0]), module(xs), atol=1e-6)


def test_optax_masks_by_name():
    params: Any = nnx.state(nnx_home(CELLS["stack"], random_params(CELLS["stack"])), nnx.Param)
    recurrent = nnx.map_state(lambda path, _: path[-1] == "w_h", params)
    decay = optax.masked(optax.add_decayed_weights(0.1), recurrent)
    updates: Any = decay.update(jax.tree.map(jnp.zeros_like, params), decay.init(params), params)[0]
    moved = {path for path, leaf in nnx.to_flat_state(updates) if jnp.any(leaf[...] != 0)}
    assert moved == {("layer_0", "w_h"), ("layer_1", "w_h")}


def test_orbax_round_trip(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    module = RNN(CELLS["bidirectional"], IN, rngs=nnx.Rngs(0))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step_1", nnx.state(module))
        checkpointer.wait_until_finished()
        other = nnx.eval_shape(lambda: RNN(CELLS["bidirectional"], IN, rngs=nnx.Rngs(1)))
        nnx.update(other, checkpointer.restore(tmp_path / "step_1", nnx.state(other)))
    chex.assert_trees_all_equal(
        nnx.to_pure_dict(nnx.state(other)), nnx.to_pure_dict(nnx.state(module))
    )


def test_modules_pickle():
    module = nnx_home(CELLS["stack"], random_params(CELLS["stack"]))
    xs, again = inputs(B, T, IN), pickle.loads(pickle.dumps(module))
    chex.assert_trees_all_equal(again(xs), module(xs))


class Clash(Leaky):
    """A cell whose parameter has the name of an attribute."""

    def init(self, key, in_features, dtype=jnp.float32):
        return {"cell": super().init(key, in_features, dtype)}


def test_mistakes_in_building():
    with pytest.raises(ValueError, match="LSTM: in_features is 0, expected a positive integer"):
        RNN(CELLS["lstm"], 0, rngs=nnx.Rngs(0))
    with pytest.raises(
        TypeError,
        match=r"jaxrnn\.nnx\.RNN\(LSTM\): rngs is an int, "
        r"expected a flax\.nnx\.Rngs such as nnx\.Rngs\(0\)",
    ):
        RNN(CELLS["lstm"], IN, rngs=0)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError,
        match=r"jaxrnn\.nnx\.RNNCell\(Clash\): parameter 'cell' has the name of an attribute",
    ):
        RNNCell(Clash(), IN, rngs=nnx.Rngs(0))


def test_mistakes_in_calling():
    cell = RNNCell(CELLS["lstm"], IN, rngs=nnx.Rngs(0))
    with pytest.raises(
        ValueError,
        match=r"RNNCell: carry_init is given, expected None, because LSTM defines its initial car",
    ):
        cell.initialize_carry((B, IN), carry_init=jax.nn.initializers.ones)
    with pytest.raises(
        ValueError,
        match=r"jaxrnn\.nnx\.RNNCell\(LSTM\): x has shape \(\), expected \[\*batch, features\]",
    ):
        cell(cell.initialize_carry((IN,)), jnp.ones(()))
    with pytest.raises(
        ValueError, match=r"w_x has shape \(5, 16\), expected \(6, 16\) for inputs with 6 features"
    ):
        RNN(CELLS["lstm"], IN, rngs=nnx.Rngs(0))(inputs(B, T, IN + 1))
