"""Multiply in the weights' dtype, accumulate and carry in at least float32, emit in the input's
dtype; nothing promotes silently.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.core.cell import abstract_params
from tests.support import reference
from tests.support.helpers import (
    DRIVERS,
    all_flags,
    assert_close,
    assert_equal,
    at_step,
    both_directions,
    cast,
    form_of_carry,
    is_floating,
    make_carry,
    make_flags,
    make_params,
    make_xs,
    value_and_grads,
)
from tests.support.specs import every_program, some

FEW = ("elman_tanh", "lstm", "gru_after", "gru_before", "stack_with_both", "user_decaying")


def floating_dtypes(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree) if is_floating(leaf)}


def narrow(spec, dtype):
    """A call whose parameters and inputs have this dtype."""
    params, xs = make_params(spec, dtype), make_xs(spec, dtype=dtype)
    return params, xs, make_carry(spec, params, xs)


def check_narrow(spec, dtype, tolerance, arguments, last, ys):
    """Every cell runs in such weights, and gives what the equations say to their precision."""
    drawn = abstract_params(spec.cell, spec.in_features, dtype)
    assert floating_dtypes(drawn) == floating_dtypes(ys) == {jnp.dtype(dtype)}
    assert floating_dtypes(last) == floating_dtypes(arguments[2]) == {jnp.dtype(jnp.float32)}
    expected = reference.run(spec.reference, *arguments, **make_flags())
    assert_close((last, ys), expected, tolerance)


@every_program
@pytest.mark.usefixtures("strict")
def test_bfloat16_weights(spec):
    """Forwards and backwards."""
    arguments = narrow(spec, jnp.bfloat16)
    outputs, grads = value_and_grads(jaxrnn.scan, spec.cell, *arguments, **make_flags())
    check_narrow(spec, jnp.bfloat16, 4e-2, arguments, *outputs)
    check_gradients(arguments, grads)


@some(*FEW, "lstm_all", "stack_connected", "user_clockwork")
@pytest.mark.usefixtures("strict")
def test_float16_weights(spec):
    arguments = narrow(spec, jnp.float16)
    outputs = jaxrnn.scan(spec.cell, *arguments, **make_flags())
    check_narrow(spec, jnp.float16, 5e-3, arguments, *outputs)


def check_gradients(arguments, grads):
    assert [g.dtype for g in jax.tree.leaves(grads)] == [
        a.dtype for a in jax.tree.leaves(arguments) if is_floating(a)
    ]
    assert all(np.all(np.isfinite(np.asarray(leaf, np.float32))) for leaf in jax.tree.leaves(grads))


@some(*FEW)
@pytest.mark.parametrize("method", ["bptt", "checkpointed", "autodiff"])
def test_gradients_of_narrow_weights(spec, method):
    """Within the rounding of bfloat16 of the gradients at the same point in float32; float16, too,
    by the default.
    """
    arguments = narrow(spec, jnp.bfloat16)
    wide = cast(arguments, jnp.float32)

    def driver(*args, **flags):
        return jaxrnn.scan(*args, method=method, **flags)

    _, got = value_and_grads(driver, spec.cell, *arguments)
    _, expected = value_and_grads(jaxrnn.scan, spec.cell, *wide)
    assert_close(got, expected, 5e-2)
    if method == "bptt":
        halves = narrow(spec, jnp.float16)
        check_gradients(halves, value_and_grads(driver, spec.cell, *halves)[1])


@every_program
@pytest.mark.usefixtures("x64", "strict")
def test_float64_promotes_nothing(spec):
    """Under x64 no constant falls back to float32 and none widens."""
    blocks = DRIVERS["carries_in_blocks"]
    params, xs, carry = narrow(spec, jnp.float64)
    outputs = jax.eval_shape(
        lambda *args: value_and_grads(blocks, spec.cell, *args, **make_flags()),
        params,
        xs,
        carry,
    )
    assert floating_dtypes(outputs) == {jnp.dtype(jnp.float64)}
    assert floating_dtypes(form_of_carry(spec, params, xs)) == {jnp.dtype(jnp.float64)}


@every_program
@pytest.mark.usefixtures("x64", "strict")
def test_float32_under_x64_stays_float32(spec):
    """And promotes nothing, with x64 or without: what it would promote to exists here."""
    params, xs, carry = narrow(spec, jnp.float32)
    outputs = jax.eval_shape(
        lambda *args: value_and_grads(jaxrnn.scan, spec.cell, *args, **make_flags()),
        params,
        xs,
        carry,
    )
    assert floating_dtypes((params, outputs)) == {jnp.dtype(jnp.float32)}


@some(*FEW, "nested", "user_clockwork")
@pytest.mark.parametrize(
    ("of_params", "of_xs", "of_carry"),
    [
        (jnp.float32, jnp.bfloat16, jnp.float32),
        (jnp.bfloat16, jnp.float32, jnp.float32),
        (jnp.float16, jnp.bfloat16, jnp.float32),
        (jnp.float32, jnp.float64, jnp.float32),
        (jnp.float64, jnp.float32, jnp.float64),
        (jnp.float64, jnp.bfloat16, jnp.float64),
    ],
)
@pytest.mark.usefixtures("x64", "strict")
def test_mixed_dtypes(spec, of_params, of_xs, of_carry):
    """The input's dtype is that of the output, the weights' decides the carry's."""
    params, xs = make_params(spec, of_params), make_xs(spec, dtype=of_xs)
    for driver in (jaxrnn.scan, jaxrnn.trajectory):
        carry, ys = jax.eval_shape(
            lambda *args, driver=driver: driver(spec.cell, *args, **make_flags()), params, xs
        )
        assert floating_dtypes(carry) == {jnp.dtype(of_carry)}
        assert floating_dtypes(ys) == {jnp.dtype(of_xs)}
    if spec.causal:
        at = (params, form_of_carry(spec, params, xs), at_step(xs, 0))
        after, y = jax.eval_shape(lambda *args: jaxrnn.step(spec.cell, *args), *at)
        assert floating_dtypes(after) == {jnp.dtype(of_carry)}
        assert y.dtype == of_xs


@some("lstm_all", "dropped")
def test_no_rank_is_promoted(spec):
    """Axes are added explicitly, so that JAX may refuse to add them."""
    at, flags = narrow(spec, jnp.float32), {**make_flags(), "key": jax.random.key(0)}
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(lambda *args: value_and_grads(jaxrnn.scan, spec.cell, *args, **flags), *at)
        jax.eval_shape(lambda xs: jaxrnn.sequences.reverse(xs, flags["lengths"]), at[1])


@some(*FEW)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32], ids=["bfloat16", "float32"])
@pytest.mark.usefixtures("strict")
def test_unroll_and_trajectory_promote_nothing(spec, dtype):
    params, xs, start = narrow(spec, dtype)
    for driver in (jaxrnn.unroll, jaxrnn.trajectory):
        carry, ys = jax.eval_shape(
            lambda *args, driver=driver: driver(spec.cell, *args, **make_flags()), params, xs, start
        )
        assert floating_dtypes(carry) == {jnp.dtype(jnp.float32)}
        assert floating_dtypes(ys) == {jnp.dtype(dtype)}


def test_products_are_accumulated_in_float32():
    """1 + 2^-9 of each term would be lost in a bfloat16 sum from the first hundred terms on."""
    h, w = jnp.full((1, 4096), 1.0, jnp.bfloat16), jnp.full((4096, 1), 0.0078125, jnp.bfloat16)
    h = h.at[0, 1:].set(0.01)
    got = jaxrnn.affine(None, h, w)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(
        got, np.asarray(h, np.float64) @ np.asarray(w, np.float64), rtol=1e-5
    )


def test_the_state_is_not_rounded_to_the_weights_dtype():
    """A memory of bfloat16 would not grow beyond 256 by steps of 1; the carry of bfloat16 weights
    does.
    """
    cell = jaxrnn.Elman(1, activation="linear", bias=False)
    params = jaxrnn.ElmanParams(
        jnp.full((1, 1), 0.001, jnp.bfloat16), jnp.zeros((1, 1), jnp.bfloat16), None
    )
    h, _ = jaxrnn.scan(cell, params, jnp.full((2, 1, 1), 257.0, jnp.float32))
    assert h.dtype == jnp.float32
    lstm = jaxrnn.LSTM(1)
    params = jaxrnn.LSTMParams(
        jnp.zeros((1, 4), jnp.bfloat16),
        jnp.zeros((1, 4), jnp.bfloat16),
        jnp.full(4, 20.0, jnp.bfloat16),
    )
    carry, _ = jaxrnn.scan(lstm, params, jnp.zeros((300, 1, 1)))
    np.testing.assert_allclose(carry.c, 300.0, rtol=1e-5)


@some(*FEW, "user_clockwork")
def test_a_narrower_carry_is_widened(spec):
    params, xs, carry = narrow(spec, jnp.float32)
    carry = cast(carry, jnp.bfloat16)
    wide = cast(carry, jnp.float32)
    flags = all_flags()
    assert_equal(
        jaxrnn.scan(spec.cell, params, xs, carry, **flags),
        jaxrnn.scan(spec.cell, params, xs, wide, **flags),
    )
    _, (_, _, of_carry) = value_and_grads(jaxrnn.scan, spec.cell, params, xs, carry, **flags)
    assert floating_dtypes(of_carry) == {jnp.dtype(jnp.bfloat16)}


@some("lstm", "stack", "user_clockwork")
@pytest.mark.usefixtures("x64")
def test_a_wider_carry_is_refused(spec):
    """It would lose digits."""
    params, xs, carry = narrow(spec, jnp.float32)
    carry = cast(carry, jnp.float64)
    with pytest.raises(
        TypeError,
        match=r"dtype float64, expected float32 or a narrower float; it would lose digits",
    ):
        jaxrnn.scan(spec.cell, params, xs, carry)


@some("lstm", "user_clockwork")
def test_a_carry_of_another_kind_is_refused(spec):
    params, xs, carry = narrow(spec, jnp.float32)
    integers = jax.tree.map(lambda a: a.astype(jnp.int32), carry)
    with pytest.raises(
        TypeError, match=r"dtype int32, expected float32 or a narrower float; cast it yourself"
    ):
        jaxrnn.scan(spec.cell, params, xs, integers)
    floats = jax.tree.map(lambda a: a.astype(jnp.float32), carry)
    if not is_floating(jax.tree.leaves(carry)[-1]):
        with pytest.raises(TypeError, match=r"dtype float32, expected int32"):
            jaxrnn.scan(spec.cell, params, xs, floats)


@every_program
@pytest.mark.parametrize("dtype", [jnp.int32, bool])
def test_integer_inputs_are_refused(spec, dtype):
    params, xs = make_params(spec, jnp.float32), make_xs(spec, dtype=dtype)
    with pytest.raises(
        TypeError,
        match=r"xs has dtype (int32|bool), expected floating numbers; embed or one-hot encode",
    ):
        jaxrnn.scan(spec.cell, params, xs)


@some("lstm", "stack_with_both")
@both_directions
@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32])
def test_lengths_of_any_integer_dtype(spec, reverse, dtype):
    params, xs, carry = narrow(spec, jnp.float32)
    lengths = np.array([5, 3, 0, 2])
    got = jaxrnn.scan(
        spec.cell, params, xs, carry, lengths=jax.device_put(lengths.astype(dtype)), reverse=reverse
    )
    assert_close(
        got,
        reference.run(spec.reference, params, xs, carry, lengths=lengths, reverse=reverse),
        1e-5,
    )


def test_narrow_lengths_do_not_overflow():
    """300 steps, counted by bytes."""
    cell = jaxrnn.Elman(1)
    params = cell.init(jax.random.key(0), 1)
    xs = jnp.ones((300, 2, 1))
    short = jaxrnn.scan(cell, params, xs, lengths=jnp.array([3, 127], jnp.int8))
    assert_equal(short, jaxrnn.scan(cell, params, xs, lengths=jnp.array([3, 127])))
