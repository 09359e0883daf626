"""Lengths, masks, resets and direction mean what they say, for values and for gradients.

`test_reference.py` holds every combination of them to an independent loop; here each is stated as the property that users rely on.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from helpers import (
    assert_close,
    assert_equal,
    both_directions,
    concatenate,
    cut,
    each_driver,
    make_carry,
    make_flags,
    make_params,
    make_xs,
    value_and_grads,
)
from hypothesis import given
from hypothesis import strategies as st
from specs import every, every_causal, some

import jaxrnn

pytestmark = pytest.mark.usefixtures("x64")

STEPS = (6, 3)
FEW = ("lstm", "gru_before", "stack_with_both", "user_decaying")


def row(tree, index):
    """One sequence of a batch `[time, batch, ...]`, as a batch of one."""
    return jax.tree.map(lambda leaf: leaf[:, index : index + 1], tree)


def row_of_carry(tree, index):
    return jax.tree.map(lambda leaf: leaf[index : index + 1], tree)


def spoil(xs, valid):
    """NaN wherever a step is not valid."""

    def leaf(a):
        return jnp.where(valid.reshape(valid.shape + (1,) * (a.ndim - valid.ndim)), a, jnp.nan)

    return jax.tree.map(leaf, xs)


def valid_steps(lengths, mask):
    return mask & (np.arange(mask.shape[0]).reshape(-1, *[1] * lengths.ndim) < lengths)


@every
@both_directions
def test_lengths_equal_truncation(spec, reverse):
    params, xs = make_params(spec), make_xs(spec, STEPS)
    carry, lengths = make_carry(spec, params, xs), np.array([6, 3, 0])
    last, ys = jaxrnn.scan(spec.cell, params, xs, carry, lengths=lengths, reverse=reverse)
    for index, length in enumerate(lengths):
        if length == 0:
            assert_equal(row_of_carry(last, index), row_of_carry(carry, index))
        elif length == 6 or not reverse:  # one program less to compile
            start = row_of_carry(carry, index)
            alone = jaxrnn.scan(spec.cell, params, cut(row(xs, index), 0, length), start, reverse=reverse)
            assert_close((row_of_carry(last, index), cut(row(ys, index), 0, length)), alone, 1e-12)
        assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(cut(row(ys, index), length, None)))


@some(*FEW)
def test_lengths_beyond_the_end_are_the_end(spec):
    params, xs = make_params(spec), make_xs(spec, STEPS)
    long = jaxrnn.scan(spec.cell, params, xs, lengths=np.array([9, 6, 7]))
    assert_close(long, jaxrnn.scan(spec.cell, params, xs), 1e-14)


@every
@both_directions
def test_mask_equals_deletion(spec, reverse):
    params, xs = make_params(spec), make_xs(spec, STEPS)
    carry, keep = make_carry(spec, params, xs), np.array([0, 2, 3, 5])
    mask = np.zeros(STEPS, bool)
    mask[keep] = True
    last, ys = jaxrnn.scan(spec.cell, params, xs, carry, mask=mask, reverse=reverse)
    short = jaxrnn.scan(spec.cell, params, jax.tree.map(lambda leaf: leaf[keep], xs), carry, reverse=reverse)
    assert_close((last, jax.tree.map(lambda leaf: leaf[keep], ys)), short, 1e-12)


@every
@both_directions
def test_masked_outputs_are_zero_and_the_carry_is_held(spec, reverse):
    """Exactly, not to rounding."""
    params, xs, flags = make_params(spec), make_xs(spec, STEPS), make_flags(STEPS)
    carry = make_carry(spec, params, xs)
    _, ys = jaxrnn.scan(spec.cell, params, xs, carry, reverse=reverse, **flags)
    valid = valid_steps(flags["lengths"], flags["mask"])
    for leaf in jax.tree.leaves(ys):
        assert jnp.all(leaf[~valid] == 0)
        assert jnp.all(jnp.any(leaf[valid] != 0, axis=-1)) or "relu" in spec.id or "irnn" in spec.id
    nothing = {"lengths": flags["lengths"], "mask": np.zeros(STEPS, bool), "reset": flags["reset"]}
    last, _ = jaxrnn.scan(spec.cell, params, xs, carry, reverse=reverse, **nothing)
    assert_equal(last, carry)


@every
@both_directions
@each_driver
def test_nan_in_padding_leaks_nothing(spec, reverse, driver):
    params, xs, flags = make_params(spec), make_xs(spec, STEPS), make_flags(STEPS)
    valid = valid_steps(flags["lengths"], flags["mask"])
    carry = make_carry(spec, params, xs)
    clean = value_and_grads(driver, spec.cell, params, xs, carry, reverse=reverse, **flags)
    spoilt = value_and_grads(driver, spec.cell, params, spoil(xs, valid), carry, reverse=reverse, **flags)
    assert_equal(spoilt, clean)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(spoilt))
    assert all(np.all(leaf[~valid] == 0) for leaf in jax.tree.leaves(spoilt[1][1]))


@every_causal
@both_directions
@each_driver
def test_reset_equals_separate_sequences(spec, reverse, driver):
    """Two sequences laid end to end, the later one starting afresh whichever way time is walked: values and gradients."""
    params, xs = make_params(spec), make_xs(spec, STEPS)
    carry = make_carry(spec, params, xs)
    reset = np.zeros(STEPS, bool)
    reset[3] = True

    def separately(cell, params, xs, carry, reverse=False, reset=None):
        del reset
        pieces = [cut(xs, 0, 3), cut(xs, 3, None)]
        walked_second = 0 if reverse else 1
        starts = [carry, carry]
        starts[walked_second] = None
        (last_0, ys_0), (last_1, ys_1) = (
            jaxrnn.scan(cell, params, piece, start, reverse=reverse, gradient="autodiff")
            for piece, start in zip(pieces, starts, strict=True)
        )
        return (last_0 if reverse else last_1), concatenate(ys_0, ys_1)

    together = value_and_grads(driver, spec.cell, params, xs, carry, reverse=reverse, reset=reset)
    assert_close(together, value_and_grads(separately, spec.cell, params, xs, carry, reverse=reverse, reset=reset), 1e-11)


@every
def test_reset_everywhere_forgets_everything(spec):
    params, xs = make_params(spec), make_xs(spec, STEPS)
    reset = np.ones(STEPS, bool)
    _, ys = jaxrnn.scan(spec.cell, params, xs, make_carry(spec, params, xs), reset=reset)
    each = [jaxrnn.scan(spec.cell, params, cut(xs, t, t + 1))[1] for t in range(STEPS[0])]
    if spec.causal:
        assert_close(ys, concatenate(*each), 1e-12)
    else:  # read from the right, the last step is entered across no boundary: it has the carry that was passed
        assert_close(cut(ys, 0, -1), concatenate(*each[:-1]), 1e-12)


@some("elman_tanh", "lstm")
def test_boundary_on_a_masked_step_is_pending(spec):
    """The next valid step starts afresh, and only that one; without a next one the carry is held."""
    params, xs = make_params(spec), make_xs(spec, (6,))
    carry = make_carry(spec, params, xs)
    true = np.arange(6)

    def run(xs, carry, *, masked, at, reverse):
        return jaxrnn.scan(spec.cell, params, xs, carry, mask=~np.isin(true, masked), reset=np.isin(true, at), reverse=reverse)

    _, ys = run(xs, carry, masked=[2, 3], at=[2], reverse=False)
    assert_close(cut(ys, 4, 6), jaxrnn.scan(spec.cell, params, cut(xs, 4, 6))[1], 1e-13)
    assert_close(cut(ys, 0, 2), jaxrnn.scan(spec.cell, params, cut(xs, 0, 2), carry)[1], 1e-13)
    _, ys = run(xs, carry, masked=[2, 3], at=[4], reverse=True)
    assert_close(cut(ys, 0, 2), jaxrnn.scan(spec.cell, params, cut(xs, 0, 2), reverse=True)[1], 1e-13)
    assert_close(cut(ys, 4, 6), jaxrnn.scan(spec.cell, params, cut(xs, 4, 6), carry, reverse=True)[1], 1e-13)
    last, ys = run(xs, carry, masked=[4, 5], at=[4, 5], reverse=False)
    held, _ = jaxrnn.scan(spec.cell, params, cut(xs, 0, 4), carry)
    assert_close(last, held, 1e-13)


@every
@both_directions
@each_driver
def test_nan_in_a_carry_does_not_survive_a_reset(spec, reverse, driver):
    """Neither in values nor in gradients: restarting is a choice, not a product with zero."""
    params, xs = make_params(spec), make_xs(spec, STEPS)
    fine = make_carry(spec, params, xs)
    nan = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan) if jnp.issubdtype(a.dtype, jnp.floating) else a, fine)
    flags = {name: np.asarray(flag) for name, flag in make_flags(STEPS).items()}
    flags["lengths"], flags["mask"] = np.full(STEPS[1], 6), np.ones(STEPS, bool)
    flags["mask"][[0, 5]] = False  # so that a boundary is crossed before the first valid step, walked either way
    flags["reset"] = np.zeros(STEPS, bool)
    flags["reset"][[0, 5]] = True
    spoilt = value_and_grads(driver, spec.cell, params, xs, nan, reverse=reverse, **flags)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(spoilt))
    assert_equal(spoilt, value_and_grads(driver, spec.cell, params, xs, fine, reverse=reverse, **flags))
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(spoilt[1][2]))


@some(*FEW, "user_clockwork", "nested")
@given(st.data())
def test_all_together_for_any_number_of_batch_axes(spec, data):
    time = data.draw(st.sampled_from([1, 5]))
    batch = data.draw(st.sampled_from([(), (2,), (2, 2)]))
    reverse = data.draw(st.booleans())
    steps = (time, *batch)
    flags = make_flags(steps, seed=data.draw(st.integers(0, 1000)))
    flags = {name: flag for name, flag in flags.items() if name != data.draw(st.sampled_from(["lengths", "mask", "", ""]))}
    params, xs = make_params(spec), make_xs(spec, steps)
    carry = make_carry(spec, params, xs)
    got = jaxrnn.scan(spec.cell, params, xs, carry, reverse=reverse, **flags)
    expected = reference.run(spec.reference, params, xs, carry, reverse=reverse, batch_axes=len(batch), **flags)
    assert_close(got, expected, 1e-12)


@some(*FEW)
def test_flags_may_be_lists(spec):
    params, xs = make_params(spec), make_xs(spec, (2, 2))
    lists = jaxrnn.scan(spec.cell, params, xs, lengths=[2, 1], mask=[[True, True], [False, True]])
    arrays = jaxrnn.scan(spec.cell, params, xs, lengths=jnp.array([2, 1]), mask=jnp.array([[True, True], [False, True]]))
    assert_equal(lists, arrays)
