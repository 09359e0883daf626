"""jaxrnn.linen inside Flax models, against Flax's own cells, and inside Flax's own RNN."""

import pickle
from typing import Any

import chex
import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import traverse_util

import jaxrnn
from jaxrnn.linen import RNN, RNNCell
from tests.support.homes import CELLS, IN, B, Leaky, T, by_name, inputs, random_params, transposed

LENGTHS = np.array([T, 1, T - 2])
KEY = jax.random.key(0)


class Tagger(nn.Module):
    """Embedding, RNN, dense."""

    cell: jaxrnn.Cell

    @nn.compact
    def __call__(self, tokens):
        _, ys = RNN(self.cell, name="rnn")(nn.Embed(5, 8)(tokens))
        return nn.Dense(5)(ys)


def test_an_ensemble_learns():
    """Two models at once name the token before the present one."""
    tokens = jax.random.randint(KEY, (16, 6), 0, 5)
    axes: dict[str, Any] = {"variable_axes": {"params": 0}, "in_axes": None, "axis_size": 2}
    ensemble: Any = nn.vmap(Tagger, split_rngs={"params": True}, **axes)
    model, tx = (
        ensemble(jaxrnn.Elman(8, w_h_init="lecun_normal")),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.03)),
    )

    def losses(params):
        logits, before = (
            model.apply({"params": params}, tokens)[:, :, 1:],
            jnp.stack([tokens, tokens])[:, :, :-1],
        )
        each = optax.softmax_cross_entropy_with_integer_labels(logits, before).mean(axis=(1, 2))
        return each.sum(), each

    @jax.jit
    def train(params, state):
        (_, each), gradients = jax.value_and_grad(losses, has_aux=True)(params)
        updates, state = tx.update(gradients, state)
        return optax.apply_updates(params, updates), state, each

    params = jax.jit(model.init)(KEY, tokens)["params"]
    assert params["rnn"]["w_h"].shape == (2, 8, 8)
    assert not np.allclose(*params["rnn"]["w_h"])
    state, each = tx.init(params), []
    for _ in range(80):
        params, state, loss = train(params, state)
        each.append(loss)
    assert np.all(each[0] > 1.4)
    assert np.all(each[-1] < 0.4)


def dense(kernel, bias=None):
    return {"kernel": kernel} if bias is None else {"kernel": kernel, "bias": bias}


def lstm_for_flax(p):
    kernels = {f"i{k}": dense(w) for k, w in zip("ifgo", jnp.split(p.w_x, 4, axis=-1), strict=True)}
    parts = zip("ifgo", jnp.split(p.w_h, 4, axis=-1), jnp.split(p.b, 4), strict=True)
    return kernels | {f"h{k}": dense(w, b) for k, w, b in parts}


def gru_for_flax(p):
    parts = zip("rzn", jnp.split(p.w_x, 3, axis=-1), jnp.split(p.b, 3), strict=True)
    hidden = zip("rzn", jnp.split(p.w_h, 3, axis=-1), (None, None, p.b_hn), strict=True)
    return {f"i{k}": dense(w, b) for k, w, b in parts} | {
        f"h{k}": dense(w, b) for k, w, b in hidden
    }


FLAX = {
    "LSTMCell": (jaxrnn.LSTM(4), nn.LSTMCell, lstm_for_flax),
    "OptimizedLSTMCell": (jaxrnn.LSTM(4), nn.OptimizedLSTMCell, lstm_for_flax),
    "GRUCell": (jaxrnn.GRU(4), nn.GRUCell, gru_for_flax),
    "SimpleCell": (
        jaxrnn.Elman(4),
        nn.SimpleCell,
        lambda p: {"i": dense(p.w_x, p.b), "h": dense(p.w_h)},
    ),
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", FLAX)
def test_equals_the_cells_of_flax(name, reverse):
    cell, flax_cell, convert = FLAX[name]
    params, xs = random_params(cell), inputs(B, T, IN)
    carry, ys = RNN(cell).apply({"params": by_name(params)}, xs, lengths=LENGTHS, reverse=reverse)
    theirs: Any = nn.RNN(flax_cell(4), return_carry=True, reverse=reverse, keep_order=True)
    want_carry, want_ys = theirs.apply(
        {"params": {"cell": convert(params)}}, xs, seq_lengths=LENGTHS
    )
    valid = np.arange(T) < LENGTHS[:, None]
    chex.assert_trees_all_close(ys, jnp.where(valid[..., None], want_ys, 0), atol=1e-6)
    chex.assert_trees_all_close(
        (carry.c, carry.h) if isinstance(cell, jaxrnn.LSTM) else carry, want_carry, atol=1e-6
    )


@pytest.mark.parametrize("name", ["elman", "lstm_no_bias", "gru_after", "gru_before", "stack"])
def test_cells_run_inside_flax_rnn(name):
    cell = CELLS[name]
    params, xs = random_params(cell), inputs(B, T, IN)
    rnn: Any = nn.RNN(RNNCell(cell), return_carry=True, reverse=True, keep_order=True)
    carry, ys = rnn.apply({"params": {"cell": by_name(params)}}, xs, seq_lengths=LENGTHS)
    want, want_ys = jaxrnn.scan(cell, params, xs.swapaxes(0, 1), lengths=LENGTHS, reverse=True)
    valid = np.arange(T) < LENGTHS[:, None]
    chex.assert_trees_all_close(
        (carry, jnp.where(valid[..., None], ys, 0)), (want, transposed(want_ys)), atol=1e-6
    )
    drawn = jax.eval_shape(rnn.init, KEY, xs)["params"]["cell"]
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, by_name(params))


def test_cells_run_inside_flax_bidirectional():
    cell = jaxrnn.Bidirectional(jaxrnn.LSTM(4), jaxrnn.GRU(3))
    params, xs = random_params(cell), inputs(B, T, IN)
    both = nn.Bidirectional(
        nn.RNN(RNNCell(cell.forward)), nn.RNN(RNNCell(cell.backward)), return_carry=True
    )
    variables = {f"{end}_rnn": {"cell": by_name(p)} for end, p in params._asdict().items()}
    carry, ys = both.apply({"params": variables}, xs)
    want, want_ys = jaxrnn.scan(cell, params, xs.swapaxes(0, 1))
    chex.assert_trees_all_close((carry, ys), (tuple(want), transposed(want_ys)), atol=1e-6)


def test_a_cell_inside_flax_rnn_keeps_a_wide_carry():
    rnn: Any = nn.RNN(
        RNNCell(CELLS["lstm"], dtype=jnp.bfloat16, param_dtype=jnp.bfloat16), return_carry=True
    )
    (carry, ys), variables = rnn.init_with_output(KEY, inputs(B, T, IN))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"bfloat16"}
    assert (carry.c.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru_before", "stack"])
def test_initialize_carry_needs_no_parameters(name):
    cell, module = CELLS[name], RNNCell(CELLS[name])
    carry = module.initialize_carry(KEY, (B, IN))
    chex.assert_trees_all_equal_shapes_and_dtypes(
        carry, cell.initial_carry(random_params(cell), (B, IN))
    )
    (_, y), _ = module.init_with_output(KEY, carry, inputs(B, IN))
    assert y.shape == (B, cell.out_features)
    assert module.num_feature_axes == 1


def test_a_learned_start_is_learned_inside_flax_rnn():
    cell, w, xs = Leaky(), inputs(IN), inputs(B, T, 2, IN)
    rnn: Any = nn.RNN(RNNCell(cell))
    assert jax.tree.map(jnp.shape, rnn.init(KEY, xs)) == {"params": {"cell": {"w": (IN,)}}}
    given = jax.grad(lambda w: rnn.apply({"params": {"cell": {"w": w}}}, xs).var())(w)
    want = jax.grad(lambda w: jaxrnn.scan(cell, w, xs.swapaxes(0, 1))[1].var())(w)
    chex.assert_trees_all_close(given, want, atol=1e-6)


def test_a_learned_start_needs_parameters():
    module, w, shape = RNNCell(Leaky()), inputs(IN), (B, 2, IN)
    with pytest.raises(
        ValueError, match=r"RNNCell: Leaky learns its initial carry, .* module\.bind\(variables\)"
    ):
        module.initialize_carry(KEY, shape)
    carry = module.bind({"params": {"w": w}}).initialize_carry(KEY, shape)
    chex.assert_trees_all_equal(carry, jnp.broadcast_to(w, shape))
    assert module.num_feature_axes == 2


def test_a_mistake_in_a_cell_is_its_own():
    class Misspelled(Leaky):
        def initial_carry(self, params, input_shape):
            return params.dtipe

    with pytest.raises(AttributeError, match="dtipe"):
        RNNCell(Misspelled()).initialize_carry(KEY, (B, 2, IN))


class Layer(nn.Module):
    """One layer of a deep network, to be scanned over."""

    @nn.compact
    def __call__(self, xs):
        return RNN(CELLS["elman"], name="rnn")(xs)[1], None


def test_layers_scanned_by_the_parent():
    xs = inputs(B, T, 4)
    deep: Any = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)()
    (ys, _), variables = deep.init_with_output(KEY, xs)
    params = variables["params"]["rnn"]
    assert params["w_h"].shape == (3, 4, 4)
    for layer in range(3):
        _, xs = RNN(CELLS["elman"]).apply(
            {"params": jax.tree.map(lambda leaf, k=layer: leaf[k], params)}, xs
        )
    chex.assert_trees_all_close(ys, xs, atol=1e-6)


@pytest.mark.parametrize("lift", [nn.jit, nn.remat])
def test_lifted_by_flax(lift):
    cell = jaxrnn.Stack((CELLS["elman"],))
    params, xs = random_params(cell), inputs(B, T, IN)
    module, variables = lift(RNN)(cell), {"params": by_name(params)}
    assert jax.eval_shape(module.init, KEY, xs) == jax.eval_shape(lambda: variables)
    given = jax.grad(lambda v: module.apply(v, xs, lengths=LENGTHS)[1].var())(variables)["params"]
    want = jax.grad(lambda p: jaxrnn.scan(cell, p, xs.swapaxes(0, 1), lengths=LENGTHS)[1].var())(
        params
    )
    chex.assert_trees_all_close(given, by_name(want), atol=1e-6)


def test_a_checkpointed_cell_inside_flax_rnn():
    cell = CELLS["elman"]
    params, xs = random_params(cell), inputs(B, T, IN)
    ys = nn.RNN(nn.remat(RNNCell)(cell)).apply({"params": {"cell": by_name(params)}}, xs)
    chex.assert_trees_all_close(
        ys, transposed(jaxrnn.scan(cell, params, xs.swapaxes(0, 1))[1]), atol=1e-6
    )


class Twice(nn.Module):
    """The same layer used twice."""

    def setup(self):
        self.rnn = RNN(CELLS["elman"])

    def __call__(self, xs):
        carry, _ = self.rnn(xs)
        return self.rnn(xs, carry)


def test_a_module_used_twice_has_one_set_of_parameters():
    xs = inputs(B, T, IN)
    (_, ys), variables = Twice().init_with_output(KEY, xs)
    assert set(variables["params"]["rnn"]) == {"w_x", "w_h", "b"}
    rnn, mine = RNN(CELLS["elman"]), {"params": variables["params"]["rnn"]}
    chex.assert_trees_all_close(ys, rnn.apply(mine, xs, rnn.apply(mine, xs)[0])[1], atol=1e-6)


def test_optax_masks_by_name():
    params = {"params": by_name(random_params(CELLS["stack"]))}
    recurrent = traverse_util.path_aware_map(lambda path, _: path[-1] == "w_h", params)
    decay = optax.masked(optax.add_decayed_weights(0.1), recurrent)
    updates, _ = decay.update(jax.tree.map(jnp.zeros_like, params), decay.init(params), params)
    moved = {
        path
        for path, leaf in traverse_util.flatten_dict(updates, sep="/").items()
        if jnp.any(leaf != 0)
    }
    assert moved == {"params/layer_0/w_h", "params/layer_1/w_h"}


def test_orbax_round_trip(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    variables = RNN(CELLS["bidirectional"]).init(KEY, inputs(B, T, IN))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step_1", variables)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "step_1", variables)
    chex.assert_trees_all_equal(restored, variables)


@pytest.mark.parametrize(
    "module",
    [RNN(CELLS["stack"], dtype=jnp.bfloat16), RNNCell(CELLS["lstm"])],
    ids=["RNN", "RNNCell"],
)
def test_modules_pickle(module):
    assert pickle.loads(pickle.dumps(module)) == module


def test_parameters_of_another_cell_are_refused():
    xs = inputs(B, T, IN)
    with pytest.raises(flax.errors.ScopeParamShapeError, match="w_x"):
        RNN(CELLS["lstm"]).apply(
            {"params": by_name(random_params(CELLS["lstm"]))}, inputs(B, T, IN + 1)
        )
    with pytest.raises(flax.errors.ScopeParamNotFoundError, match='"b"'):
        RNN(CELLS["lstm"]).apply({"params": by_name(random_params(CELLS["lstm_no_bias"]))}, xs)
    nested = {
        "params": {
            "forward": {},
            "backward": by_name(random_params(CELLS["bidirectional"]).backward),
        }
    }
    with pytest.raises(
        ValueError,
        match=r"linen\.RNN\(Bidirectional\): the parameters are \['backward/b'.*"
        r"expected 'forward/.*', too",
    ):
        RNN(CELLS["bidirectional"]).apply(nested, xs)
