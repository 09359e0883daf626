"""Lengths, masks, resets and direction mean what they say, for values and for gradients.

`test_reference.py` holds every combination of them to an independent loop; here each is stated as
the property that users rely on."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxrnn
from tests.support import reference
from tests.support.helpers import (
    STEPS,
    all_flags,
    assert_close,
    assert_equal,
    at_step,
    both_directions,
    cut,
    each_driver,
    each_walk,
    initial_carry,
    is_floating,
    make_carry,
    make_flags,
    make_params,
    make_xs,
    one_step_shape,
    over_walks,
    value_and_grads,
)
from tests.support.specs import every_causal, every_program, some

pytestmark = pytest.mark.usefixtures("x64", "strict")

FEW = ("lstm", "gru_before", "stack_with_both", "user_decaying")


def scan(spec, params, xs, carry, reverse=False, **flags):
    """With all flags given, so that most tests here run one compiled program per direction."""
    return jaxrnn.scan(spec.cell, params, xs, carry, reverse=reverse, **all_flags(**flags))


def of_row(tree, index):
    """One row of a batch of carries."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index : index + 1], tree)


def row(tree, index, stop=None):
    """One sequence of a batch `[time, batch, ...]`, as a batch of one, up to `stop`."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:stop, index : index + 1], tree)


def spoil(xs, valid):
    """NaN wherever a step is not valid."""
    return jax.tree.map(
        lambda a: np.where(valid.reshape(valid.shape + (1,) * (a.ndim - valid.ndim)), a, np.nan),
        xs,
    )


def valid_steps(flags):
    return flags["mask"] & (np.arange(STEPS[0])[:, None] < flags["lengths"])


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@every_program
@both_directions
def test_lengths_equal_truncation(spec, reverse):
    params, xs = make_params(spec), make_xs(spec)
    carry = make_carry(spec, params, xs)
    for lengths in (np.array([6, 3, 0, 2]), np.array([1, 4, 2, 5])):
        last, ys = scan(spec, params, xs, carry, reverse, lengths=lengths)
        for index, length in enumerate(lengths):
            assert all(np.all(leaf[length:, index] == 0) for leaf in leaves(ys))
            if length == 0:
                assert_equal(of_row(last, index), of_row(carry, index))
                continue
            start, pieces = of_row(carry, index), row(xs, index, length)
            alone = reference.run(spec.reference, params, pieces, start, reverse=reverse)
            assert_close((of_row(last, index), row(ys, index, length)), alone, 1e-12)


@some(*FEW)
def test_lengths_equal_truncation_by_scan(spec):
    """As above, by jaxrnn itself, and reversed: a sequence is walked from its own end."""
    params, xs = make_params(spec), make_xs(spec)
    carry = make_carry(spec, params, xs)
    last, ys = jaxrnn.scan(
        spec.cell, params, xs, carry, lengths=np.array([3, 5, 3, 1]), reverse=True
    )
    alone = jaxrnn.scan(spec.cell, params, row(xs, 0, 3), of_row(carry, 0), reverse=True)
    assert_close((of_row(last, 0), row(ys, 0, 3)), alone, 1e-12)


@some("lstm", "gru_before", "both_concat", "stack_with_both")
def test_traced_lengths_beyond_the_end_are_the_end(spec):
    """Those that are known are refused (`test_errors.py`)."""
    params, xs = make_params(spec), make_xs(spec)
    carry = make_carry(spec, params, xs)
    traced = jax.jit(lambda lengths: scan(spec, params, xs, carry, lengths=lengths))
    assert_equal(traced(np.array([9, 6, 7, 4])), traced(np.array([6, 6, 6, 4])))


@every_program
@both_directions
def test_mask_equals_deletion(spec, reverse):
    params, xs, keep = make_params(spec), make_xs(spec), np.array([0, 2, 3])
    carry = make_carry(spec, params, xs)
    mask = np.zeros(STEPS, bool)
    mask[keep] = True
    last, ys = scan(spec, params, xs, carry, reverse, mask=mask)
    short = reference.run(spec.reference, params, at_step(xs, keep), carry, reverse=reverse)
    assert_close((last, at_step(ys, keep)), short, 1e-12)


@every_program
@both_directions
def test_masked_outputs_are_zero_and_the_carry_is_held(spec, reverse):
    """Exactly, not to rounding."""
    params, xs, flags = make_params(spec), make_xs(spec), make_flags()
    carry = make_carry(spec, params, xs)
    _, ys = scan(spec, params, xs, carry, reverse, **flags)
    valid = valid_steps(flags)
    for leaf in leaves(ys):
        assert np.all(leaf[~valid] == 0)
        assert np.any(leaf[valid] != 0)
    last, ys = scan(spec, params, xs, carry, reverse, **{**flags, "mask": np.zeros(STEPS, bool)})
    assert_equal(last, carry)
    assert all(np.all(leaf == 0) for leaf in leaves(ys))


@every_program
@each_walk
def test_nan_in_padding_leaks_nothing(spec, driver, reverse):
    params, xs, flags = make_params(spec), make_xs(spec), make_flags()
    carry, valid = make_carry(spec, params, xs), valid_steps(flags)
    clean = value_and_grads(driver, spec.cell, params, xs, carry, reverse=reverse, **flags)
    spoilt = value_and_grads(
        driver, spec.cell, params, spoil(xs, valid), carry, reverse=reverse, **flags
    )
    assert_equal(spoilt, clean)
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves(spoilt))
    _, (_, of_xs, _) = spoilt
    assert all(np.all(leaf[~valid] == 0) for leaf in leaves(of_xs))


def nan_like(carry):
    return jax.tree.map(lambda a: np.full_like(a, np.nan) if is_floating(a) else a, carry)


@every_causal
@each_walk
def test_a_nan_carry_does_not_survive_a_reset(spec, driver, reverse):
    """Neither in values nor in gradients: restarting is a choice, not a product with zero.
    Backwards the first boundary lies behind a step, which is masked.
    """
    params, xs = make_params(spec), make_xs(spec)
    carry, flags = make_carry(spec, params, xs), all_flags()
    flags["reset"][-1 if reverse else 0] = True
    flags["mask"][-1] = not reverse
    run = partial(value_and_grads, driver, spec.cell, params, xs, reverse=reverse, **flags)
    spoilt = run(nan_like(carry))
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves(spoilt))
    assert_equal(spoilt, run(carry))
    _, (_, _, of_carry) = spoilt
    assert all(np.all(leaf == 0) for leaf in leaves(of_carry))


@every_program
@both_directions
def test_a_nan_carry_does_not_survive_a_pending_reset(spec, reverse):
    """Steps are masked before the first valid one, whichever way time is walked, and a boundary
    lies between.
    """
    params, xs = make_params(spec), make_xs(spec)
    carry, flags = make_carry(spec, params, xs), all_flags()
    flags["mask"][[0, -1]] = False
    flags["reset"][[0, -1]] = True
    assert_equal(
        scan(spec, params, xs, nan_like(carry), reverse, **flags),
        scan(spec, params, xs, carry, reverse, **flags),
    )


@some("lstm", "gru_before")
@each_driver
def test_a_nan_carry_held_over_masked_steps_does_not_reach_gradients(spec, driver):
    params, xs = make_params(spec), make_xs(spec)
    carry, flags = make_carry(spec, params, xs), all_flags()
    flags["mask"][0] = False
    flags["reset"][0] = True
    spoilt = value_and_grads(driver, spec.cell, params, xs, nan_like(carry), **flags)
    assert_equal(spoilt, value_and_grads(driver, spec.cell, params, xs, carry, **flags))


@every_causal
@both_directions
def test_a_nan_input_does_not_survive_a_reset(spec, reverse):
    """What went wrong in one sequence stays in it."""
    params, xs = make_params(spec), make_xs(spec)
    carry, reset = make_carry(spec, params, xs), np.zeros(STEPS, bool)
    reset[3] = True
    before = np.broadcast_to(
        (np.arange(STEPS[0]) >= 3 if reverse else np.arange(STEPS[0]) < 3)[:, None], STEPS
    )
    clean = scan(spec, params, xs, carry, reverse, reset=reset)
    last, ys = scan(spec, params, spoil(xs, ~before), carry, reverse, reset=reset)
    assert_equal(
        (last, at_step(ys, ~before)),
        (clean[0], at_step(clean[1], ~before)),
    )


def add(*trees):
    return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *trees)


@every_causal
@over_walks("carries_in_blocks", "preactivations_in_blocks")
def test_reset_equals_separate_sequences(spec, driver, reverse):
    """Whichever way time is walked, for values and for gradients: those of two walks over a part of
    time each, of which the second begins where `initial_carry` says.
    """
    params, xs = make_params(spec), make_xs(spec)
    carry, late = make_carry(spec, params, xs), np.arange(STEPS[0]) >= 3
    start, pull_back = initial_carry(spec, params, xs)
    run = partial(value_and_grads, driver, spec.cell, params, xs, reverse=reverse)

    def part(steps, carry, is_last):
        mask = np.broadcast_to(steps[:, None], STEPS)
        return run(carry, of_ys=steps, of_carry=is_last, **all_flags(mask=mask))

    (_, ys), first = part(late == reverse, carry, False)
    (last, rest), second = part(late != reverse, start, True)
    apart = (
        (last, add(ys, rest)),
        (add(first[0], second[0], pull_back(second[2])), add(first[1], second[1]), first[2]),
    )
    reset = np.broadcast_to((np.arange(STEPS[0]) == 3)[:, None], STEPS)
    assert_close(run(carry, **all_flags(reset=reset)), apart, 1e-11)


@every_causal
def test_reset_everywhere_leaves_single_steps(spec):
    params, xs = make_params(spec), make_xs(spec)
    _, ys = scan(spec, params, xs, make_carry(spec, params, xs), reset=np.ones(STEPS, bool))
    start = spec.cell.initial_carry(params, one_step_shape(xs))
    _, y = jaxrnn.step(spec.cell, params, start, at_step(xs, 2))
    assert_close(at_step(ys, 2), y, 1e-12)


@some("elman_tanh", "lstm", "user_decaying")
def test_a_boundary_on_a_masked_step_is_pending(spec):
    """The next valid step starts afresh, and only that one; without one the carry is held."""
    params, xs = make_params(spec), make_xs(spec, (6,))
    carry, times = make_carry(spec, params, xs), np.arange(6)

    def run(masked, border, reverse):
        flags: dict[str, Any] = {"mask": ~np.isin(times, masked), "reset": np.isin(times, border)}
        return jaxrnn.scan(spec.cell, params, xs, carry, reverse=reverse, **flags)

    def piece(start, stop, carry, reverse):
        return jaxrnn.scan(spec.cell, params, cut(xs, start, stop), carry, reverse=reverse)

    _, ys = run([2, 3], [2], reverse=False)
    assert_close(cut(ys, 0, 2), piece(0, 2, carry, False)[1], 1e-13)
    assert_close(cut(ys, 4, 6), piece(4, 6, None, False)[1], 1e-13)
    _, ys = run([2, 3], [4], reverse=True)
    assert_close(cut(ys, 0, 2), piece(0, 2, None, True)[1], 1e-13)
    assert_close(cut(ys, 4, 6), piece(4, 6, carry, True)[1], 1e-13)
    last, _ = run([4, 5], [4, 5], reverse=False)
    assert_close(last, piece(0, 4, carry, False)[0], 1e-13)
    last, _ = run([0, 1], [1, 2], reverse=True)
    assert_close(last, piece(2, 6, carry, True)[0], 1e-13)


@some("lstm", "stack_with_both", "user_decaying", "user_ring")
@pytest.mark.parametrize("batch", [(), (2, 2)], ids=["no batch axis", "two batch axes"])
@given(reverse=st.booleans(), seed=st.integers(0, 1000))
def test_all_together_for_any_number_of_batch_axes(spec, batch, reverse, seed):
    params, xs, flags = make_params(spec), make_xs(spec, (4, *batch)), make_flags((4, *batch), seed)
    carry = make_carry(spec, params, xs)
    got = jaxrnn.scan(spec.cell, params, xs, carry, reverse=reverse, **flags)
    expected = reference.run(
        spec.reference, params, xs, carry, reverse=reverse, batch_axes=len(batch), **flags
    )
    assert_close(got, expected, 1e-12)


@some("lstm", "both_concat")
@pytest.mark.parametrize(
    "names", [(), ("lengths",), ("mask",), ("reset",), ("lengths", "reset"), ("mask", "reset")]
)
def test_a_flag_left_out_changes_nothing(spec, names):
    params, xs = make_params(spec), make_xs(spec)
    carry, flags = (
        make_carry(spec, params, xs),
        {name: flag for name, flag in make_flags().items() if name in names},
    )
    got = jaxrnn.scan(spec.cell, params, xs, carry, reverse=True, **flags)
    assert_close(got, scan(spec, params, xs, carry, True, **flags), 1e-13)


INTEGERS = ("int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64")


def test_lengths_of_any_integer_dtype():
    """Strictly, and whether they count less far than time goes or further than int32 does."""
    ys = jnp.arange(200.0)[:, None, None]
    traced = jax.jit(partial(jaxrnn.sequences.last_output, ys, jaxrnn.GRU(1)))  # beyond T, too
    with jax.numpy_dtype_promotion("strict"):
        for dtype in INTEGERS:
            most = min(np.iinfo(dtype).max, 200)
            for length, end in ((0, 0), (100, 99), (np.iinfo(dtype).max, most - 1)):
                assert traced(lengths=np.array([length], dtype)) == end


@some("gru_before")
def test_a_scan_takes_lengths_of_any_integer_dtype(spec):
    params, xs = make_params(spec), make_xs(spec)
    carry, lengths = make_carry(spec, params, xs), np.array([5, 3, 0, 2])
    wanted = jaxrnn.scan(spec.cell, params, xs, carry, lengths=lengths)
    with jax.numpy_dtype_promotion("strict"):
        for dtype in ("uint8", "int16", "uint32"):
            given = lengths.astype(dtype)
            assert_equal(jaxrnn.scan(spec.cell, params, xs, carry, lengths=given), wanted)


@some(*FEW)
def test_flags_may_be_lists(spec):
    params, xs = make_params(spec), make_xs(spec)
    carry, flags = make_carry(spec, params, xs), all_flags(**make_flags())
    lists = {name: flag.tolist() for name, flag in flags.items()}
    assert_equal(
        jaxrnn.scan(spec.cell, params, xs, carry, **lists),
        jaxrnn.scan(spec.cell, params, xs, carry, **flags),
    )
