"""Lists of sequences into arrays and back, and one output for each sequence."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxrnn
from jaxrnn import sequences as seq
from tests.support.conversions import random_params
from tests.support.helpers import assert_close

CELL = jaxrnn.GRU(4)
PARAMS = random_params(CELL)
TWICE_REVERSED = jaxrnn.Reversed(jaxrnn.Reversed(jaxrnn.Elman(3)))


def ragged(lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 3)).astype(np.float32) for n in lengths]


def alone(sequence: np.ndarray) -> np.ndarray:
    return np.asarray(jaxrnn.scan(CELL, PARAMS, sequence)[1])


def test_padded_packed_and_bucketed_sequences_give_what_each_gives_alone():
    arrays = ragged([3, 7, 1, 4, 2, 6])
    wanted = [alone(array) for array in arrays]
    padded = seq.pad(arrays)
    _, ys = jaxrnn.scan(CELL, PARAMS, padded.xs, lengths=padded.lengths)
    assert_close([ys[:n, k] for k, n in enumerate(padded.lengths)], wanted, 1e-6)
    packed = seq.pack(arrays, time=8)
    assert packed.xs.shape[1] == 3
    _, ys = jaxrnn.scan(CELL, PARAMS, packed.xs, mask=packed.mask, reset=packed.reset)
    assert_close(seq.unpack(ys, packed), wanted, 1e-6)
    for part in seq.bucket(arrays, [4, 8]):
        _, ys = jaxrnn.scan(CELL, PARAMS, part.xs, lengths=part.lengths)
        got = [ys[:n, k] for k, n in enumerate(part.lengths)]
        assert_close(got, [wanted[place] for place in part.places], 1e-6)


def test_sequences_of_several_dtypes_share_one_that_holds_all():
    mixed: list[Any] = [[1, 2], [0.5], []]
    (parts,) = seq.bucket(mixed, [2])
    for xs in (seq.pad(mixed).xs, parts.xs, seq.pack(mixed, time=3).xs):
        assert xs.dtype == np.float64
        np.testing.assert_array_equal(np.sort(xs.ravel())[-3:], [0.5, 1, 2])
    tokens: list[Any] = [[], [3, 4]]  # an empty list says nothing of the dtype
    assert np.issubdtype(seq.pad(tokens).xs.dtype, np.integer)


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_packing_loses_nothing(lengths):
    arrays = [np.arange(n) + 100 * k for k, n in enumerate(lengths)]
    packed = seq.pack(arrays, time=9)
    for got, want in zip(seq.unpack(packed.xs, packed), arrays, strict=True):
        np.testing.assert_array_equal(got, want)
    assert packed.mask.sum() == sum(lengths)
    assert packed.reset.sum() == sum(n > 0 for n in lengths)


@pytest.mark.parametrize(
    "cell",
    [
        jaxrnn.LSTM(4),
        jaxrnn.Stack((jaxrnn.Bidirectional(jaxrnn.GRU(4)), jaxrnn.Bidirectional(jaxrnn.LSTM(3)))),
        jaxrnn.Bidirectional(
            jaxrnn.Bidirectional(jaxrnn.Elman(2)), jaxrnn.Dropout(jaxrnn.GRU(3), 0.1)
        ),
        jaxrnn.Bidirectional(jaxrnn.Elman(2), merge=None),
        jaxrnn.Reversed(jaxrnn.GRU(4)),
        jaxrnn.Stack((jaxrnn.Elman(3), jaxrnn.Dropout(jaxrnn.Reversed(TWICE_REVERSED), 0.1))),
        jaxrnn.Bidirectional(jaxrnn.Reversed(jaxrnn.LSTM(3)), jaxrnn.Elman(2)),
    ],
)
def test_the_last_output_is_that_of_the_final_states(cell):
    """Without padding: forwards the last step, backwards the first."""
    params, lengths = cell.init(jax.random.key(1), 3), np.array([6, 2, 1])
    xs = jax.random.normal(jax.random.key(2), (6, 3, 3))
    carry, ys = jaxrnn.scan(cell, params, xs, lengths=lengths)
    got = jax.tree.leaves(seq.last_output(ys, cell, lengths=lengths))
    top = carry[-1] if isinstance(cell, jaxrnn.Stack) else carry
    states = [
        c.h if isinstance(c, jaxrnn.LSTMCarry) else c
        for c in jax.tree.leaves(top, is_leaf=lambda c: isinstance(c, jaxrnn.LSTMCarry))
    ]
    assert_close(np.concatenate(got, axis=-1), np.concatenate(states, axis=-1), 1e-6)
    masked = seq.last_output(ys, cell, mask=np.arange(6)[:, None] < lengths)
    assert_close(jax.tree.leaves(masked), got, 0)


@pytest.mark.parametrize("around", [jaxrnn.Residual, jaxrnn.Highway])
def test_the_last_output_of_what_stands_around_a_cell_is_at_its_end(around):
    """Read backwards, the end is the first step; `Residual` and `Highway` add something there."""
    lengths, xs = np.array([5, 2]), jax.random.normal(jax.random.key(2), (5, 2, 3))
    cell = around(jaxrnn.Reversed(jaxrnn.Elman(3)))
    _, ys = jaxrnn.scan(cell, cell.init(jax.random.key(1), 3), xs, lengths=lengths)
    assert_close(seq.last_output(ys, cell, lengths=lengths), ys[0], 0)


def test_a_users_cell_says_where_its_end_is():
    class Sandwich(jaxrnn.Stack):
        """Outputs in the middle of the walk."""

        def ends(self, ys, take, backwards=False):
            return take(jax.tree.map(lambda leaf: leaf[:2], ys), backwards)

    ys = jnp.arange(4.0)[:, None]
    assert seq.last_output(ys, Sandwich([CELL])) == 1.0


PAIR = np.arange(6.0).reshape(3, 2, 1) * np.array([1.0, -1.0, 2.0, 0.5])  # [time, batch, features]
LENGTHS = np.array([2, 3])
MASK = np.arange(3)[:, None] < LENGTHS
TO_ONE: tuple[Any, ...] = (partial(seq.last_output, cell=CELL), seq.mean_output, seq.max_output)


def test_outputs_may_have_any_axes_and_be_any_tree():
    """Of a tree what is given of each leaf, and of several feature axes what is given of one."""
    square = PAIR.reshape(3, 2, 2, 2)
    for function in TO_ONE:
        for flags in ({"lengths": LENGTHS}, {"mask": MASK}, {}):
            flat = function(PAIR, **flags)
            assert flat.shape == (2, 4)
            tree = function((square, {"flat": PAIR}), **flags)
            assert_close(tree, (flat.reshape(2, 2, 2), flat), 0)
        one = function(square[:, 0], lengths=2)  # no batch axis
        assert_close(one, function(square, lengths=LENGTHS)[0], 0)
    both = jaxrnn.Bidirectional(CELL, merge=None)
    last = seq.last_output((square, square), both, lengths=LENGTHS)
    assert_close(last, (np.stack([square[1, 0], square[2, 1]]), square[0]), 0)
    packed = seq.pack([np.ones(2), np.ones(3)], time=3)
    first, second = (seq.unpack(tree, packed) for tree in (square, (square, PAIR)))
    assert_close([pair[0] for pair in second], first, 0)


@pytest.mark.parametrize("function", [*TO_ONE, partial(seq.repeat_output, cell=CELL)])
def test_time_may_stand_behind_the_batch(function):
    """On the axis that is named, in the outputs and in the mask."""
    ys, mask = np.moveaxis(PAIR, 0, 1), MASK.T
    wanted = function(PAIR, mask=MASK)
    if wanted.ndim == 3:  # time is still there
        wanted = np.moveaxis(wanted, 0, 1)
    assert_close(function(ys, mask=mask, time_axis=1), wanted, 0)
    assert_close(function(ys, lengths=LENGTHS, time_axis=1), wanted, 0)


def test_outputs_are_repeated_where_a_step_is_masked_out():
    """From the valid step before, in each walk; zero where there is none."""
    ys, mask = np.arange(1.0, 6.0)[:, None, None] * np.ones((1, 2, 2)), np.ones((5, 2), bool)
    mask[[0, 2, 3, 4], [0, 0, 0, 1]] = False
    mask[:, 1] &= np.arange(5) != 1
    forwards = np.array([[0, 2, 2, 2, 5], [1, 1, 3, 4, 4]]).T[..., None]
    backwards = np.array([[2, 2, 5, 5, 5], [1, 3, 3, 4, 0]]).T[..., None]
    given = np.where(mask[..., None], ys, np.nan)
    got = seq.repeat_output(given, jaxrnn.Bidirectional(jaxrnn.GRU(1)), mask=mask)
    assert_close(got, np.concatenate([forwards, backwards], axis=-1), 0)


@pytest.mark.parametrize("function", TO_ONE)
def test_no_steps_give_zero(function):
    for flags in ({}, {"lengths": np.zeros(2, int)}, {"mask": np.zeros((0, 2), bool)}):
        assert_close(function(jnp.ones((0, 2, 3)), **flags), np.zeros((2, 3)), 0)


def test_the_mean_of_many_narrow_numbers():
    """Neither their sum nor their number fits float16."""
    mean = seq.mean_output(jnp.ones((70_000, 1), jnp.float16))
    assert mean.dtype == jnp.float16
    assert mean.tolist() == [1.0]


def test_pooling_ignores_what_is_padding():
    ys = jnp.array([[1.0, 5.0, 9.0], [-3.0, 7.0, 9.0], [jnp.nan, -1.0, 9.0]])[..., None]
    lengths = jnp.array([2, 3, 0])
    assert_close(seq.mean_output(ys, lengths=lengths)[:, 0], np.array([-1.0, 11 / 3, 0.0]), 1e-6)
    assert_close(seq.max_output(ys, lengths=lengths)[:, 0], np.array([1.0, 7.0, 0.0]), 1e-6)
    slopes = jax.grad(
        lambda y: jnp.sum(seq.mean_output(y, lengths=lengths) + seq.max_output(y, lengths=lengths))
    )(ys)
    assert jnp.all(jnp.isfinite(slopes))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seq.pad([]), "pad: the list is empty"),
        (lambda: seq.pad([np.ones((2, 3)), np.ones((2, 4))]), r"shapes \[\(2, 3\), \(2, 4\)\]"),
        (lambda: seq.pack([np.ones(5)], time=4), "5 steps, expected at most time = 4"),
        (lambda: seq.bucket([np.ones(5)], [2, 4]), r"5 steps, expected .* limits \[2, 4\]; add"),
        (
            lambda: seq.last_output(jnp.ones((2, 1, 4)), jaxrnn.Bidirectional(CELL, merge="sum")),
            "has mixed both directions",
        ),
        (
            lambda: seq.last_output(jnp.ones((2, 1, 4)), jaxrnn.Bidirectional(CELL)),
            r"Bidirectional: ys has shape \(2, 1, 4\), expected one array with 8 features",
        ),
        (
            lambda: seq.last_output(jnp.ones((2, 1, 4)), jaxrnn.Bidirectional(CELL, merge=None)),
            r"Bidirectional: ys has shape \(2, 1, 4\), expected a pair of outputs",
        ),
        (
            lambda: seq.mean_output(PAIR, lengths=[1, 2, 3]),
            r"mean_output: ys has shape \(3, 2, 4\), lengths \(3,\) and mask None; expected",
        ),
        (lambda: seq.max_output((PAIR, PAIR[0]), mask=MASK), "max_output: ys has shape"),
        (lambda: seq.mean_output(PAIR, lengths=[1, 2], mask=MASK[:, 0]), r"\(2,\) and mask \(3,\)"),
        (lambda: seq.last_output(jnp.float32(1), CELL), r"last_output: ys has shape \(\), lengths"),
        (
            lambda: seq.mean_output(PAIR, lengths=[1, 4]),
            "mean_output: lengths go from 1 to 4, expe",
        ),
        (lambda: seq.last_output(PAIR, CELL, lengths=[-1, 3]), "last_output: lengths go from -1"),
        (
            lambda: seq.last_output(np.ones((2, 5, 4)), CELL, lengths=[1, 2]),
            r"last_output: ys has shape \(2, 5, 4\), .*; pass time_axis=1 if the batch comes first",
        ),
        (
            lambda: seq.last_output(PAIR, CELL, lengths=[1, 2], time_axis=1),
            r"ys has shape \(2, 3, 4\), .* after axis 1 was moved to the front",
        ),
        (lambda: seq.max_output(PAIR, time_axis=3), "max_output: time_axis is 3, .* below 3"),
        (lambda: seq.mean_output(PAIR, time_axis=-1), "mean_output: time_axis is -1, expected"),
        (lambda: seq.mean_output({}), r"mean_output: ys has shape \{\}"),
        (
            lambda: seq.unpack(PAIR, seq.pack([np.ones(2)], time=2)),
            r"unpack: ys has shape \(3, 2, 4\), expected \[2, 1, \.\.\.\]",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_flags_of_another_dtype_are_refused():
    with pytest.raises(TypeError, match=r"last_output: cell is a ndarray, .*pass them as \(ys,"):
        seq.last_output(CELL, PAIR)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mean_output: lengths has dtype float32, expected int"):
        seq.mean_output(PAIR, lengths=np.ones(2, np.float32))
    with pytest.raises(TypeError, match="last_output: mask has dtype int32, expected bool"):
        seq.last_output(PAIR, CELL, mask=MASK.astype(np.int32))
    with pytest.raises(TypeError, match=r"mean_output: ys\[0\] has dtype int32, expected floating"):
        seq.mean_output([np.ones((3, 2), np.int32)])
