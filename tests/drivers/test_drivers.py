"""All drivers compute the same: values, and gradients with random cotangents on the outputs and on
the carry.
"""

from functools import partial

import jax
import numpy as np
import pytest

import jaxrnn
from jaxrnn.methods import BPTT, Checkpointed, Unrolled
from tests.support import reference
from tests.support.helpers import (
    DRIVERS,
    SHORT,
    STEPS,
    all_flags,
    assert_close,
    assert_equal,
    at_step,
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
    value_and_grads,
)
from tests.support.specs import every_causal, every_program, some

pytestmark = pytest.mark.usefixtures("x64", "strict")


@every_program
def test_unroll(spec):
    params, xs, flags = make_params(spec), make_xs(spec, SHORT), make_flags(SHORT)
    at = (params, xs, make_carry(spec, params, xs))
    expected = reference.run(spec.reference, *at, reverse=True, **flags)
    assert_close(jaxrnn.unroll(spec.cell, *at, reverse=True, **flags), expected, 1e-12)


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


IN_UNEQUAL_BLOCKS = {
    "carries": partial(jaxrnn.scan, method=BPTT(4, keep="carries")),
    "preactivations": partial(jaxrnn.scan, method=BPTT(4, keep="preactivations")),
    "checkpointed": partial(jaxrnn.scan, method=Checkpointed(4)),
}


@some("lstm", "gru_before", "both_concat", "user_decaying", "user_clockwork")
@both_directions
@pytest.mark.parametrize("driver", IN_UNEQUAL_BLOCKS.values(), ids=IN_UNEQUAL_BLOCKS)
def test_gradients_with_a_shorter_block_at_the_end(spec, driver, reverse):
    params, xs, flags = make_params(spec), make_xs(spec), make_flags()
    at = (spec.cell, params, xs, make_carry(spec, params, xs))
    wanted = value_and_grads(DRIVERS["autodiff"], *at, reverse=reverse, **flags)
    assert_close(value_and_grads(driver, *at, reverse=reverse, **flags), wanted, 1e-11)


@some("gru_after", "user_decaying", "user_clockwork", "user_fast_weights")
@each_driver
def test_all_gradients_agree(spec, driver):
    params, xs = make_params(spec), make_xs(spec)
    arguments = (spec.cell, params, xs, make_carry(spec, params, xs))
    assert_close(
        value_and_grads(driver, *arguments), value_and_grads(DRIVERS["autodiff"], *arguments), 1e-11
    )


@every_program
def test_no_carry_is_the_initial_carry(spec):
    params, xs = make_params(spec), make_xs(spec)
    carry = spec.cell.initial_carry(params, one_step_shape(xs))
    assert_close(
        jaxrnn.scan(spec.cell, params, xs),
        jaxrnn.scan(spec.cell, params, xs, carry, **all_flags()),
        1e-13,
    )


@every_program
def test_no_steps(spec):
    params, some_steps = make_params(spec), make_xs(spec)
    carry, xs = make_carry(spec, params, some_steps), cut(some_steps, 0, 0)
    _, form = jax.eval_shape(partial(jaxrnn.scan, spec.cell), params, some_steps)
    empty = jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape[1:]), leaf.dtype), form)
    assert_equal(jaxrnn.scan(spec.cell, params, xs, carry), (carry, empty))
    assert_equal(jaxrnn.unroll(spec.cell, params, xs, carry, reverse=True), (carry, empty))


@some("lstm", "gru_before", "stack_with_both", "user_decaying", "user_clockwork")
@each_driver
def test_gradients_of_no_steps(spec, driver):
    params, xs = make_params(spec), make_xs(spec, (0, 2))
    (last, _), (of_params, _, of_carry) = value_and_grads(
        driver, spec.cell, params, xs, make_carry(spec, params, xs)
    )
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(of_params))
    assert forms(of_carry) == jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype) if is_floating(a) else None, last
    )
    assert all(np.all(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(of_carry))


@every_causal
def test_one_step(spec):
    """Alone, and as the one that is valid, whichever way time is walked."""
    params, xs = make_params(spec), make_xs(spec)
    carry, mask = make_carry(spec, params, xs), np.zeros(STEPS, bool)
    last, y = jaxrnn.step(spec.cell, params, carry, at_step(xs, 2))
    mask[2] = True
    runs = [jaxrnn.scan(spec.cell, params, cut(xs, 2, 3), carry)]
    for reverse in (False, True):
        after, ys = jaxrnn.scan(
            spec.cell, params, xs, carry, reverse=reverse, **all_flags(mask=mask)
        )
        runs.append((after, cut(ys, 2, 3)))
    for got in runs:
        assert_close((got[0], at_step(got[1], 0)), (last, y), 1e-14)


def by_step(cell, params, xs, carry):
    """`jaxrnn.step` as a driver of one step."""
    carry, y = jaxrnn.step(cell, params, carry, jax.tree.map(lambda leaf: leaf[0], xs))
    return carry, y[None]


@every_causal
def test_gradients_of_one_step(spec):
    """Those of the one valid step of a scan: the first, whose cotangents are the same."""
    params, xs = make_params(spec), make_xs(spec)
    carry, mask = make_carry(spec, params, xs), np.zeros(STEPS, bool)
    mask[0] = True
    (last, ys), (of_params, of_xs, of_carry) = value_and_grads(
        DRIVERS["carries_in_blocks"], spec.cell, params, xs, carry, **all_flags(mask=mask)
    )
    wanted = (last, cut(ys, 0, 1)), (of_params, cut(of_xs, 0, 1), of_carry)
    got = value_and_grads(by_step, spec.cell, params, cut(xs, 0, 1), carry)
    assert_close(got, wanted, 1e-11)


@every_causal
@both_directions
def test_two_runs_in_a_row_equal_one(spec, reverse):
    """Reversed, the pieces are taken backwards. Between them lies no boundary; in them are masked
    steps and resets.
    """
    time, batch = STEPS
    whole = (2 * time, batch)
    params, xs, flags = make_params(spec), make_xs(spec, whole), make_flags(whole)
    carry = start = make_carry(spec, params, xs)
    flags["lengths"][:] = 2 * time
    flags["reset"][time] = False
    ys = {}
    for border in (time, 0) if reverse else (0, time):
        piece = slice(border, border + time)
        parts = {name: flags[name][piece] for name in ("mask", "reset")}
        carry, ys[border] = jaxrnn.scan(
            spec.cell, params, at_step(xs, piece), carry, reverse=reverse, **all_flags(**parts)
        )
    at_once = reference.run(spec.reference, params, xs, start, reverse=reverse, **flags)
    assert_close((carry, concatenate(ys[0], ys[time])), at_once, 1e-12)


@every_causal
def test_trajectory(spec):
    check_trajectory(spec, reverse=False)


@some("lstm", "stack", "zoneout", "user_decaying", "user_clockwork")
def test_trajectory_in_reverse(spec):
    check_trajectory(spec, reverse=True)


def check_trajectory(spec, reverse):
    """Each state is the carry of a run that stops there."""
    params, xs, flags = make_params(spec), make_xs(spec), make_flags()
    start = make_carry(spec, params, xs)
    states, ys = jaxrnn.trajectory(spec.cell, params, xs, start, reverse=reverse, **flags)
    assert_equal(at_step(states, 0), jax.tree.map(np.asarray, start))
    for steps in (1, 2, STEPS[0]):
        walked = range(STEPS[0] - steps, STEPS[0]) if reverse else range(steps)
        mask = flags["mask"].copy()
        mask[[t for t in range(STEPS[0]) if t not in walked]] = False
        last, ys_then = jaxrnn.scan(
            spec.cell, params, xs, start, reverse=reverse, **{**flags, "mask": mask}
        )
        assert_close(at_step(states, steps), last, 1e-13)
        first, end = walked[0], walked[-1] + 1
        assert_close(cut(ys, first, end), cut(ys_then, first, end), 1e-13)


TRAJECTORIES = {
    "bptt": jaxrnn.trajectory,
    "carries_in_blocks": partial(jaxrnn.trajectory, method=BPTT(4, keep="carries")),
    "preactivations_in_blocks": partial(jaxrnn.trajectory, method=BPTT(3, keep="preactivations")),
    "checkpointed": partial(jaxrnn.trajectory, method="checkpointed"),
    "unrolled": partial(jaxrnn.trajectory, method=Unrolled()),
}
BY_AUTODIFF = partial(jaxrnn.trajectory, method="autodiff")


@some("lstm", "stack_with_both", "learned_carry", "user_clockwork")
@pytest.mark.parametrize("driver", TRAJECTORIES.values(), ids=TRAJECTORIES)
def test_trajectory_gradients(spec, driver):
    """By every method, with cotangents on all states, those of JAX's derivative."""
    reverse = spec.id == "lstm"
    steps = SHORT if driver is TRAJECTORIES["unrolled"] else STEPS
    params, xs, flags = make_params(spec), make_xs(spec, steps), make_flags(steps)
    at = (spec.cell, params, xs, make_carry(spec, params, xs))
    wanted = value_and_grads(BY_AUTODIFF, *at, reverse=reverse, **flags)
    assert_close(value_and_grads(driver, *at, reverse=reverse, **flags), wanted, 1e-11)


@some("lstm", "both_pair", "stack_with_both")
def test_trajectory_of_no_steps(spec):
    params, xs = make_params(spec), make_xs(spec, (0, 2))
    carry = make_carry(spec, params, xs)
    states, _ = jaxrnn.trajectory(spec.cell, params, xs, carry)
    assert_equal(states, jax.tree.map(lambda leaf: leaf[None], carry))
