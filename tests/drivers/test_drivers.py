"""All drivers compute the same: values, and gradients with random cotangents on the outputs and on
the carry.
"""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from tests.support.helpers import (
    DRIVERS,
    all_flags,
    assert_close,
    assert_equal,
    both_directions,
    concatenate,
    cut,
    each_driver,
    forms,
    is_floating,
    make_carry,
    make_flags,
    make_params,
    make_xs,
    one_step_shape,
    over_steps,
    value_and_grads,
)
from tests.support.specs import every, every_causal, some

pytestmark = pytest.mark.usefixtures("x64")

SHORT = (3, 2)  # for gradients of unrolled programs, which are slow to compile


@every
def test_scan_equals_unroll(spec):
    params, xs, flags = make_params(spec), make_xs(spec), make_flags()
    carry = make_carry(spec, params, xs)
    unrolled = jaxrnn.unroll(spec.cell, params, xs, carry, reverse=True, **flags)
    assert_close(jaxrnn.scan(spec.cell, params, xs, carry, reverse=True, **flags), unrolled, 1e-12)


@some(
    "elman_tanh",
    "lstm",
    "gru_before",
    "both_pair",
    "stack_with_both",
    "user_decaying",
    "user_clockwork",
)
def test_scan_equals_unroll_in_gradients(spec):
    params, xs, flags = make_params(spec), make_xs(spec, SHORT), make_flags(SHORT)
    arguments = (spec.cell, params, xs, make_carry(spec, params, xs))
    scanned = value_and_grads(jaxrnn.scan, *arguments, reverse=True, **flags)
    assert_close(scanned, value_and_grads(jaxrnn.unroll, *arguments, reverse=True, **flags), 1e-11)


@every_causal
def test_scan_equals_a_loop_over_step(spec):
    params, xs = make_params(spec), make_xs(spec, SHORT)
    arguments = (spec.cell, params, xs, make_carry(spec, params, xs))
    assert_close(
        value_and_grads(jaxrnn.scan, *arguments), value_and_grads(over_steps, *arguments), 1e-11
    )


@every
def test_gradients_without_flags_and_carry(spec):
    """From the initial carry, which may depend on the parameters."""
    params, xs = make_params(spec), make_xs(spec)
    got = value_and_grads(DRIVERS["preactivations_in_blocks"], spec.cell, params, xs)
    assert_close(got, value_and_grads(DRIVERS["autodiff"], spec.cell, params, xs), 1e-11)


@some("gru_after", "user_decaying", "user_clockwork", "user_fast_weights")
@each_driver
def test_all_gradients_agree(spec, driver):
    params, xs = make_params(spec), make_xs(spec)
    arguments = (spec.cell, params, xs, make_carry(spec, params, xs))
    assert_close(
        value_and_grads(driver, *arguments), value_and_grads(DRIVERS["autodiff"], *arguments), 1e-11
    )


@every
def test_no_carry_is_the_initial_carry(spec):
    params, xs = make_params(spec), make_xs(spec)
    carry = spec.cell.initial_carry(params, one_step_shape(xs))
    assert_close(
        jaxrnn.scan(spec.cell, params, xs),
        jaxrnn.scan(spec.cell, params, xs, carry, **all_flags()),
        1e-13,
    )


@every
def test_no_steps(spec):
    params, one = make_params(spec), make_xs(spec, (1, 2))
    carry, xs = make_carry(spec, params, one), cut(one, 0, 0)
    _, form = jax.eval_shape(lambda: jaxrnn.scan(spec.cell, params, one))
    empty = jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape[1:]), leaf.dtype), form)
    assert_equal(jaxrnn.scan(spec.cell, params, xs, carry), (carry, empty))
    assert_equal(jaxrnn.unroll(spec.cell, params, xs, carry, reverse=True), (carry, empty))


@some("lstm", "gru_before", "stack_with_both", "user_decaying", "user_clockwork")
@each_driver
def test_gradients_of_no_steps(spec, driver):
    params, xs = make_params(spec), make_xs(spec, (0, 2))
    (last, _), (of_params, _, of_carry) = value_and_grads(
        driver, spec.cell, params, xs, make_carry(spec, params, xs)
    )
    assert all(not jnp.any(leaf) for leaf in jax.tree.leaves(of_params))
    assert forms(of_carry) == jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype) if is_floating(a) else None, last
    )
    assert all(jnp.all(leaf != 0) for leaf in jax.tree.leaves(of_carry))


@every_causal
@both_directions
def test_one_step(spec, reverse):
    params, xs = make_params(spec), make_xs(spec, (1, 2))
    carry = make_carry(spec, params, xs)
    last, y = jaxrnn.step(spec.cell, params, carry, jax.tree.map(lambda leaf: leaf[0], xs))
    assert_close(jaxrnn.scan(spec.cell, params, xs, carry, reverse=reverse), (last, y[None]), 1e-14)


@every_causal
@both_directions
def test_two_runs_in_a_row_equal_one(spec, reverse):
    """Reversed, the pieces are taken backwards. Between them lies no boundary; in them are masked
    steps and resets.
    """
    params, xs = make_params(spec), make_xs(spec, (6, 3))
    carry = start = make_carry(spec, params, xs)
    flags = make_flags((6, 3))
    flags["reset"][3] = False
    pieces = [slice(0, 3), slice(3, 6)]
    ys = {}
    for piece in reversed(pieces) if reverse else pieces:
        carry, ys[piece.start] = jaxrnn.scan(
            spec.cell,
            params,
            cut(xs, piece.start, piece.stop),
            carry,
            mask=flags["mask"][piece],
            reset=flags["reset"][piece],
            reverse=reverse,
        )
    del flags["lengths"]
    whole = jaxrnn.scan(spec.cell, params, xs, start, reverse=reverse, **flags)
    assert_close((carry, concatenate(ys[0], ys[3])), whole, 1e-12)


@every_causal
@both_directions
def test_trajectory(spec, reverse):
    """Each state is the carry of a run that stops there."""
    params, xs, flags = make_params(spec), make_xs(spec), make_flags()
    start = make_carry(spec, params, xs)
    states, ys = jaxrnn.trajectory(spec.cell, params, xs, start, reverse=reverse, **flags)
    assert_equal(jax.tree.map(lambda leaf: leaf[0], states), start)
    for steps in (1, 2, 5):
        walked = range(5 - steps, 5) if reverse else range(steps)
        mask = flags["mask"].copy()
        mask[[t for t in range(5) if t not in walked]] = False
        last, ys_then = jaxrnn.scan(
            spec.cell, params, xs, start, reverse=reverse, **{**flags, "mask": mask}
        )
        assert_close(jax.tree.map(lambda leaf, steps=steps: leaf[steps], states), last, 1e-13)
        first, end = walked[0], walked[-1] + 1
        assert_close(cut(ys, first, end), cut(ys_then, first, end), 1e-13)


@some("lstm", "stack", "user_decaying")
def test_trajectory_gradients(spec):
    params, xs = make_params(spec), make_xs(spec, SHORT)

    def loop(cell, params, xs, carry):
        carries = [carry]
        for t in range(SHORT[0]):
            carry, _ = jaxrnn.step(cell, params, carry, jax.tree.map(lambda leaf, t=t: leaf[t], xs))
            carries.append(carry)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries), over_steps(
            cell, params, xs, carries[0]
        )[1]

    arguments = (spec.cell, params, xs, make_carry(spec, params, xs))
    assert_close(
        value_and_grads(jaxrnn.trajectory, *arguments), value_and_grads(loop, *arguments), 1e-11
    )


@some("lstm", "both_pair", "stack_with_both")
def test_trajectory_of_no_steps(spec):
    params, xs = make_params(spec), make_xs(spec, (0, 2))
    carry = make_carry(spec, params, xs)
    states, _ = jaxrnn.trajectory(spec.cell, params, xs, carry)
    assert_equal(states, jax.tree.map(lambda leaf: leaf[None], carry))
