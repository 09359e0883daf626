"""Sequences turned round and delayed, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jaxrnn.sequences import reverse, shift

LENGTHS = np.array([4, 0, 3])
XS = np.arange(24.0).reshape(4, 3, 2)


def test_each_sequence_is_turned_round_within_its_length():
    wanted = XS.copy()
    for row, length in enumerate(LENGTHS):
        wanted[:length, row] = XS[:length, row][::-1]
    np.testing.assert_array_equal(reverse(XS, LENGTHS), wanted)
    np.testing.assert_array_equal(reverse(reverse(XS, LENGTHS), LENGTHS), XS)
    batch_major = reverse(XS.swapaxes(0, 1), LENGTHS, time_axis=1)
    np.testing.assert_array_equal(batch_major, wanted.swapaxes(0, 1))
    theirs = linen.recurrent.flip_sequences(jnp.asarray(XS), LENGTHS, 1, True)
    np.testing.assert_array_equal(reverse(XS, LENGTHS)[:, LENGTHS > 0], theirs[:, LENGTHS > 0])


def test_without_lengths_under_jit_and_in_trees():
    np.testing.assert_array_equal(reverse(XS), XS[::-1])
    traced = jax.jit(reverse)({"xs": XS, "ids": XS[..., 0].astype(int)}, LENGTHS)
    np.testing.assert_array_equal(traced["xs"], reverse(XS, LENGTHS))
    np.testing.assert_array_equal(traced["ids"], reverse(XS, LENGTHS)[..., 0])


def test_what_a_decoder_reads():
    ids = np.array([[3, 4], [5, 6], [7, 8]])
    np.testing.assert_array_equal(shift(ids, 1), [[1, 1], [3, 4], [5, 6]])
    np.testing.assert_array_equal(shift(ids.T, 1, time_axis=1), [[1, 3, 5], [1, 4, 6]])
    assert shift(ids[:0], 1).shape == (0, 2)
    np.testing.assert_array_equal(shift(XS, np.ones(2))[:2], [np.ones((3, 2)), XS[0]])


@pytest.mark.parametrize(
    ("use", "kind", "message"),
    [
        (lambda: reverse(XS, [5, 1, 1]), ValueError, "lengths go from 1 to 5, expected 0 to 4"),
        (
            lambda: reverse(XS, np.ones(3, "float32")),
            TypeError,
            "lengths has dtype float32, expected int",
        ),
        (lambda: reverse(XS, [1, 1]), ValueError, r"xs has shape \(4, 3, 2\), lengths \(2,\)"),
        (lambda: shift(XS, np.ones(3)), ValueError, r"start has shape \(3,\), .* step .*\(3, 2\)"),
    ],
    ids=["too long", "floats", "batch", "start"],
)
def test_what_does_not_fit_is_said(use, kind, message):
    with pytest.raises(kind, match=message):
        use()
