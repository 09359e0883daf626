"""What both Flax homes promise: they are jaxrnn.scan, with readable parameters, batch-major
sequences and Flax's dtypes.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx, traverse_util

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from tests.support.homes import (
    CELLS,
    HOMES,
    IN,
    TREES,
    B,
    Decay,
    Leaky,
    T,
    by_name,
    each_cell,
    each_home,
    each_tree,
    inputs,
    random_params,
    transposed,
)


@each_home
@each_cell
def test_equals_scan_with_every_flag(home, cell):
    params, xs = random_params(cell), inputs(B, T, IN)
    lengths, mask, reset = np.array([T, 0, T - 2]), inputs(B, T) < 1, inputs(B, T) > 0.5
    carry = jax.tree.map(jnp.ones_like, cell.initial_carry(params, (B, IN)))
    given = home(cell, params)(xs, carry, lengths=lengths, mask=mask, reset=reset, reverse=True)
    flags = {"lengths": lengths, "mask": mask.T, "reset": reset.T, "reverse": True}
    want_carry, want_ys = jaxrnn.scan(cell, params, xs.swapaxes(0, 1), carry, **flags)
    chex.assert_trees_all_close(given, (want_carry, transposed(want_ys)), atol=1e-6)
    chex.assert_trees_all_equal(
        jax.tree.map(lambda leaf: leaf[1], given[0]), jax.tree.map(lambda leaf: leaf[1], carry)
    )


@each_home
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
@pytest.mark.parametrize("name", ["lstm", "pair"])
def test_any_number_of_batch_axes(home, name, batch):
    cell = CELLS[name]
    params, xs, lengths = (
        random_params(cell),
        inputs(*batch, T, IN),
        np.arange(2, 2 + np.prod(batch, dtype=int)).reshape(batch) % T,
    )
    given = home(cell, params)(xs, lengths=lengths)
    carry, ys = jaxrnn.scan(cell, params, jnp.moveaxis(xs, -2, 0), lengths=lengths)
    chex.assert_trees_all_close(given, (carry, transposed(ys, len(batch))), atol=1e-6)


@each_home
def test_time_major(home):
    cell = CELLS["lstm"]
    params, xs = random_params(cell), inputs(T, B, IN)
    mask, reset = xs[..., 0] < 1, xs[..., 1] > 1
    given = home(cell, params, time_major=True)(xs, mask=mask, reset=reset)
    chex.assert_trees_all_close(
        given, jaxrnn.scan(cell, params, xs, mask=mask, reset=reset), atol=1e-6
    )


@each_home
def test_pictures_in_layers(home):
    """Time comes after the batch, however many axes a picture has."""
    picture = jaxrnn.ConvLSTM(2, 3, rank=1)
    cell = jaxrnn.Stack((jaxrnn.Bidirectional(picture), picture))
    params, xs, lengths = random_params(cell), inputs(B, T, 5, IN), np.array([T, 0, T - 2])
    carry, ys = home(cell, params)(xs, lengths=lengths)
    wanted, wanted_ys = jaxrnn.scan(cell, params, xs.swapaxes(0, 1), lengths=lengths)
    chex.assert_trees_all_close((carry, ys), (wanted, wanted_ys.swapaxes(0, 1)), atol=1e-6)


@each_home
def test_images_and_a_bare_parameter(home):
    cell, params, xs = Leaky(), inputs(IN), inputs(B, T, 2, IN)
    given = home(cell, {"w": params})(xs)
    carry, ys = jaxrnn.scan(cell, params, xs.swapaxes(0, 1))
    chex.assert_trees_all_close(given, (carry, transposed(ys)), atol=1e-6)


@each_home
def test_inputs_may_be_a_pytree(home):
    cell, params, xs = Decay(), {"gate": {"rate": inputs(IN)}}, (inputs(B, T, IN), inputs(B, T))
    given = home(cell, params)(xs, lengths=[T, 2, 0])
    carry, ys = jaxrnn.scan(
        cell, params, jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), xs), lengths=[T, 2, 0]
    )
    chex.assert_trees_all_close(given, (carry, transposed(ys)), atol=1e-6)


@each_home
def test_plain_lists_are_flags_too(home):
    cell, params, xs = CELLS["elman"], random_params(CELLS["elman"]), inputs(1, 2, IN)
    _, ys = home(cell, params)(xs, mask=[[True, False]], reset=[[False, True]])
    assert jnp.all(ys[0, 1] == 0)


@each_tree
@each_cell
def test_parameters_have_readable_names(tree, cell):
    assert jax.eval_shape(lambda: tree(cell)) == jax.eval_shape(
        lambda: by_name(cell.init(jax.random.key(0), IN))
    )


@each_tree
def test_names_are_what_users_write(tree):
    def names(cell):
        return set(traverse_util.flatten_dict(jax.eval_shape(lambda: tree(cell)), sep="/"))

    assert names(jaxrnn.LSTM(4)) == {"w_x", "w_h", "b"}
    assert names(jaxrnn.GRU(4, bias=False)) == {"w_x", "w_h"}
    assert names(jaxrnn.Bidirectional(jaxrnn.LSTM(4, bias=False))) == {
        "forward/w_x",
        "forward/w_h",
        "backward/w_x",
        "backward/w_h",
    }
    assert names(jaxrnn.Stack((jaxrnn.Elman(4, bias=False),) * 2)) == {
        "layer_0/w_x",
        "layer_0/w_h",
        "layer_1/w_x",
        "layer_1/w_h",
    }


@each_tree
def test_parameters_are_drawn_as_the_cell_draws_them(tree):
    params = tree(jaxrnn.Stack((jaxrnn.LSTM(4), jaxrnn.LSTM(4))))
    first, second = params["layer_0"]["w_h"], params["layer_1"]["w_h"]
    assert not jnp.allclose(first, second)
    for gate in jnp.split(first, 4, axis=-1):
        chex.assert_trees_all_close(gate @ gate.T, jnp.eye(4), atol=1e-5)


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize("kind", HOMES)
@each_cell
def test_every_cell_works_in_bfloat16(kind, cell):
    drawn = TREES[kind](cell, param_dtype=jnp.bfloat16)
    assert dtypes(drawn) == {"bfloat16"}
    params, xs = random_params(cell), inputs(B, T, IN)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    carry, ys = jax.eval_shape(HOMES[kind](cell, narrow, param_dtype=jnp.bfloat16), xs)
    assert (dtypes(carry), dtypes(ys)) == ({"float32"}, {"float32"})
    carry, ys = jax.eval_shape(HOMES[kind](cell, params, dtype=jnp.bfloat16), xs)
    assert (dtypes(carry), dtypes(ys)) == ({"float32"}, {"bfloat16"})


@each_home
def test_dtype_casts_inputs_and_parameters(home):
    cell = CELLS["stack"]
    params, xs = random_params(cell), inputs(B, T, IN)
    narrow_params, narrow_xs = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, xs))
    carry, ys = jaxrnn.scan(cell, narrow_params, narrow_xs.swapaxes(0, 1))
    chex.assert_trees_all_close(
        home(cell, params, dtype=jnp.bfloat16)(xs), (carry, transposed(ys)), atol=1e-6
    )


@each_home
def test_gradients_are_those_of_scan(home):
    cell = CELLS["elman"]
    params, xs = random_params(cell), inputs(B, T, IN)
    given = jax.grad(lambda xs: home(cell, params)(xs, lengths=jnp.array([T, 0, 2]))[1].var())(xs)
    want = jax.grad(
        lambda xs: jaxrnn.scan(cell, params, xs.swapaxes(0, 1), lengths=jnp.array([T, 0, 2]))[
            1
        ].var()
    )(xs)
    chex.assert_trees_all_close(given, want, atol=1e-6)


class Twice(jaxrnn.methods.Autodiff):
    """Doubles the outputs, so that it shows where it ran."""

    def run(self, *args: Any) -> tuple[Any, Any]:
        carry, ys = super().run(*args)
        return carry, 2 * ys


@each_home
def test_method_is_an_option(home):
    cell, xs = CELLS["elman"], inputs(B, T, IN)
    twice, once = (
        home(cell, random_params(cell), method=method)(xs)[1] for method in (Twice(), "autodiff")
    )
    np.testing.assert_array_equal(twice, 2 * once)
    with pytest.raises(ValueError, match=r"jaxrnn\.\w+\.RNN: method is 'rtrl', expected one of"):
        home(cell, random_params(cell), method="rtrl")


MISTAKES = {
    "mask": (
        {"mask": np.ones((T, B), bool)},
        r"RNN\(LSTM\): mask has shape \(6, 3\), expected \[\*batch, time\] = \(3, 6\)",
    ),
    "reset": (
        {"reset": np.ones((B,), bool)},
        r"reset has shape \(3,\), expected \[\*batch, time\] = \(3, 6\)(?!;)",
    ),
    "lengths": (
        {"lengths": np.ones((T,), "int32")},
        r"lengths has shape \(6,\), expected \[\*batch\] = \(3,\); pass time_major=True",
    ),
    "one length": ({"lengths": 6}, r"lengths has shape \(\), expected \[\*batch\] = \(3,\)(?!;)"),
    "mask dtype": ({"mask": np.ones((B, T), "f")}, "mask has dtype float32, expected bool"),
    "carry": (
        {"carry": jaxrnn.LSTMCarry._make(np.zeros((2, 2, 4), "f"))},
        r"carry\.h has shape \(2, 4\), expected \(3, 4\)",
    ),
}


@each_home
@pytest.mark.parametrize(("flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_flags(home, flags, message):
    with pytest.raises((ValueError, TypeError), match=message):
        home(CELLS["lstm"], random_params(CELLS["lstm"]))(inputs(B, T, IN), **flags)


@each_home
def test_mistakes_in_inputs(home):
    rnn = home(CELLS["lstm"], random_params(CELLS["lstm"]))
    with pytest.raises(
        ValueError,
        match=r"RNN\(LSTM\): xs has shape \(5,\), "
        r"expected \[\*batch, time, features\].*jaxrnn\.step",
    ):
        rnn(inputs(IN))
    with pytest.raises(ValueError, match=r"xs holds no array"):
        rnn(())
    with pytest.raises(
        ValueError,
        match=r"xs\[1\] has shape \(6, 3\), expected .* with \[\*batch, time\] = \(3, 6\)",
    ):
        rnn((inputs(B, T, IN), inputs(T, B)))
    with pytest.raises(TypeError, match=r"xs has dtype int32, expected floating .* embed"):
        rnn(jnp.ones((B, T, IN), int))
    with pytest.raises(ValueError, match=r"expected \[time, \*batch, features\]"):
        home(CELLS["lstm"], random_params(CELLS["lstm"]), time_major=True)(inputs(IN))


@each_home
def test_core_messages_come_with_the_shape_that_was_passed(home):
    rnn = home(CELLS["lstm"], random_params(CELLS["lstm"]))
    with pytest.raises(ValueError, match=r"carry") as caught:
        rnn(inputs(B, T, IN), jnp.zeros((B, 4)))
    assert any(
        "got xs of shape (3, 6, 5) and moved time to the front" in note
        for note in caught.value.__notes__
    )


@pytest.mark.parametrize("build", [jaxrnn.linen.RNN, jaxrnn.linen.RNNCell], ids=["RNN", "RNNCell"])
def test_linen_takes_cells_only(build):
    with pytest.raises(
        TypeError,
        match=r"jaxrnn\.linen\.RNN.*: cell must be a jaxrnn\.Cell, "
        "got the class LSTM",
    ):
        build(jaxrnn.LSTM)


@pytest.mark.parametrize("build", [jaxrnn.nnx.RNN, jaxrnn.nnx.RNNCell], ids=["RNN", "RNNCell"])
def test_nnx_takes_cells_only(build):
    with pytest.raises(
        TypeError, match=r"jaxrnn\.nnx\.RNN.*: cell must be a jaxrnn\.Cell, got an int"
    ):
        build(4, IN, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", ["bidirectional", "pair"])
def test_flax_cannot_step_what_needs_the_future(name):
    with pytest.raises(
        TypeError, match=r"jaxrnn\.linen\.RNNCell: .* needs the whole sequence.*jaxrnn\.linen\.RNN"
    ):
        jaxrnn.linen.RNNCell(CELLS[name])
    with pytest.raises(
        TypeError, match=r"jaxrnn\.nnx\.RNNCell: .* needs the whole sequence.*jaxrnn\.nnx\.RNN"
    ):
        jaxrnn.nnx.RNNCell(CELLS[name], IN, rngs=nnx.Rngs(0))


def test_mgu_is_flaxs():
    """`MGU(form="flax")` has the equations of `flax.linen.MGUCell`."""
    flax_cell, xs = linen.MGUCell(4), jax.random.normal(jax.random.key(1), (B, T, IN))
    rnn = linen.RNN(flax_cell)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, rnn.init(jax.random.key(0), xs))
    p = variables["params"]["cell"]
    params = jaxrnn.MGUParams(
        w_x=jnp.concatenate([p["if"]["kernel"], p["in"]["kernel"]], axis=-1),
        w_h=jnp.concatenate([p["hf"]["kernel"], p["hn"]["kernel"]], axis=-1),
        b=jnp.concatenate([p["if"]["bias"], p["in"]["bias"]]),
        b_hn=p["hn"]["bias"],
    )
    _, ys = jaxrnn.scan(jaxrnn.MGU(4, form="flax"), params, jnp.moveaxis(xs, 1, 0))
    expected: Any = rnn.apply(variables, xs)
    np.testing.assert_allclose(jnp.moveaxis(ys, 0, 1), expected, atol=1e-6)
