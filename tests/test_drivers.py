"""All drivers compute the same: values, and gradients with random cotangents on the outputs and on the carry."""

import jax
import jax.numpy as jnp
import pytest
from helpers import (
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
    over_steps,
    value_and_grads,
)
from specs import every, every_causal, some

import jaxrnn

pytestmark = pytest.mark.usefixtures("x64")

STEPS = (3, 2)  # unrolled programs are slow to compile


@every
def test_scan_equals_unroll(spec):
    params, xs, flags = make_params(spec), make_xs(spec, STEPS), make_flags(STEPS)
    carry = make_carry(spec, params, xs)
    scanned = value_and_grads(jaxrnn.scan, spec.cell, params, xs, carry, reverse=True, **flags)
    unrolled = value_and_grads(jaxrnn.unroll, spec.cell, params, xs, carry, reverse=True, **flags)
    assert_close(scanned, unrolled, 1e-11)


@every_causal
@each_driver
def test_driver_equals_a_loop_over_step(spec, driver):
    params, xs = make_params(spec), make_xs(spec, STEPS)
    carry = make_carry(spec, params, xs)
    assert_close(
        value_and_grads(driver, spec.cell, params, xs, carry), value_and_grads(over_steps, spec.cell, params, xs, carry), 1e-11
    )


@every_causal
def test_no_carry_is_the_initial_carry(spec):
    params, xs = make_params(spec), make_xs(spec)
    carry = spec.cell.initial_carry(params, jax.tree.leaves(xs)[0].shape[1:])
    assert_equal(jaxrnn.scan(spec.cell, params, xs), jaxrnn.scan(spec.cell, params, xs, carry))


@every
@both_directions
def test_no_steps(spec, reverse):
    params, some_xs = make_params(spec), make_xs(spec, (1, 2))
    carry, xs = make_carry(spec, params, some_xs), cut(some_xs, 0, 0)
    for driver in (jaxrnn.scan, jaxrnn.unroll):
        last, ys = driver(spec.cell, params, xs, carry, reverse=reverse)
        assert_equal(last, carry)
        one = driver(spec.cell, params, some_xs, carry)[1]
        assert_equal(ys, cut(one, 0, 0))


@some("lstm", "gru_before", "stack_with_both", "user_decaying", "user_clockwork")
@each_driver
def test_no_steps_have_gradients(spec, driver):
    params, xs = make_params(spec), make_xs(spec, (0, 2))
    (last, _), (of_params, _, of_carry) = value_and_grads(driver, spec.cell, params, xs, make_carry(spec, params, xs))
    assert all(not jnp.any(leaf) for leaf in jax.tree.leaves(of_params))
    assert forms(of_carry) == jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype) if is_floating(a) else None, last)
    assert all(jnp.all(leaf != 0) for leaf in jax.tree.leaves(of_carry))


@every_causal
def test_one_step(spec):
    params, xs = make_params(spec), make_xs(spec, (1, 2))
    carry = make_carry(spec, params, xs)
    last, y = jaxrnn.step(spec.cell, params, carry, jax.tree.map(lambda leaf: leaf[0], xs))
    for reverse in (False, True):
        assert_close(jaxrnn.scan(spec.cell, params, xs, carry, reverse=reverse), (last, y[None]), 1e-14)


@every_causal
@both_directions
def test_two_runs_in_a_row_equal_one(spec, reverse):
    """Reversed, the pieces are taken backwards; a boundary between them belongs to the later one, and is crossed on leaving it."""
    params, xs, carry0 = make_params(spec), make_xs(spec, (6, 3)), None
    carry0 = make_carry(spec, params, xs)
    masks = {name: flag for name, flag in make_flags((6, 3)).items() if name != "lengths"}
    masks["reset"][3] = False
    whole = jaxrnn.scan(spec.cell, params, xs, carry0, reverse=reverse, **masks)
    carry, ys = carry0, [None, None]
    for k in (1, 0) if reverse else (0, 1):
        piece = slice(3 * k, 3 * k + 3)
        flags = {name: flag[piece] for name, flag in masks.items()}
        carry, ys[k] = jaxrnn.scan(spec.cell, params, cut(xs, piece.start, piece.stop), carry, reverse=reverse, **flags)
    assert_close((carry, concatenate(*ys)), whole, 1e-13)


@every_causal
@both_directions
def test_trajectory(spec, reverse):
    """Each state is the carry of a run that stops there."""
    params, xs, flags = make_params(spec), make_xs(spec, (4, 3)), make_flags((4, 3))
    carry0 = make_carry(spec, params, xs)
    states, ys = jaxrnn.trajectory(spec.cell, params, xs, carry0, reverse=reverse, **flags)
    last, scanned = jaxrnn.scan(spec.cell, params, xs, carry0, reverse=reverse, **flags)
    assert_close(ys, scanned, 1e-13)
    assert_equal(jax.tree.map(lambda leaf: leaf[0], states), carry0)
    assert_close(jax.tree.map(lambda leaf: leaf[-1], states), last, 1e-13)
    keep = flags["mask"].copy()
    keep[:2] = keep[:2] & (not reverse)
    keep[2:] = keep[2:] & reverse
    after_two, _ = jaxrnn.scan(spec.cell, params, xs, carry0, reverse=reverse, **{**flags, "mask": keep})
    assert_close(jax.tree.map(lambda leaf: leaf[2], states), after_two, 1e-13)


@some("lstm", "stack", "user_decaying")
def test_trajectory_gradients(spec):
    params, xs = make_params(spec), make_xs(spec, STEPS)

    def loop(cell, params, xs, carry):
        carries = [carry]
        for t in range(STEPS[0]):
            carry, _ = jaxrnn.step(cell, params, carry, jax.tree.map(lambda leaf, t=t: leaf[t], xs))
            carries.append(carry)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries), over_steps(cell, params, xs, carries[0])[1]

    carry = make_carry(spec, params, xs)
    assert_close(
        value_and_grads(jaxrnn.trajectory, spec.cell, params, xs, carry),
        value_and_grads(loop, spec.cell, params, xs, carry),
        1e-11,
    )


@some("lstm", "both_pair", "stack_with_both")
def test_trajectory_of_no_steps(spec):
    params, xs = make_params(spec), make_xs(spec, (0, 2))
    carry = make_carry(spec, params, xs)
    states, _ = jaxrnn.trajectory(spec.cell, params, xs, carry)
    assert_equal(states, jax.tree.map(lambda leaf: leaf[None], carry))
