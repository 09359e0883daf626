"""Lists of sequences into arrays and back, and one output for each sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from hypothesis import given
from hypothesis import strategies as st

import jaxrnn
from jaxrnn import sequences as seq

CELL = jaxrnn.GRU(4)
PARAMS = CELL.init(jax.random.key(0), 3)


def ragged(lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 3)).astype(np.float32) for n in lengths]


def alone(sequence: np.ndarray) -> np.ndarray:
    return np.asarray(jaxrnn.scan(CELL, PARAMS, jnp.asarray(sequence))[1])


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
        jaxrnn.Bidirectional(jaxrnn.Bidirectional(jaxrnn.Elman(2)), jaxrnn.Dropout(jaxrnn.GRU(3), 0.1)),
        jaxrnn.Bidirectional(jaxrnn.Elman(2), merge=None),
    ],
)
def test_the_last_output_is_that_of_the_final_states(cell):
    """Without padding: forwards the last step, backwards the first."""
    params, lengths = cell.init(jax.random.key(1), 3), np.array([6, 2, 1])
    xs = jax.random.normal(jax.random.key(2), (6, 3, 3))
    carry, ys = jaxrnn.scan(cell, params, xs, lengths=lengths)
    got = jax.tree.leaves(seq.last_output(cell, ys, lengths=lengths))
    top = carry[-1] if isinstance(cell, jaxrnn.Stack) else carry
    states = [
        c.h if isinstance(c, jaxrnn.LSTMCarry) else c for c in jax.tree.leaves(top, is_leaf=lambda c: isinstance(c, jaxrnn.LSTMCarry))
    ]
    assert_close(jnp.concatenate(got, axis=-1), jnp.concatenate(states, axis=-1), 1e-6)
    masked = seq.last_output(cell, ys, mask=np.arange(6)[:, None] < lengths)
    assert_close(jax.tree.leaves(masked), got, 0)


def test_pooling_ignores_what_is_padding():
    ys = jnp.array([[1.0, 5.0, 9.0], [-3.0, 7.0, 9.0], [jnp.nan, -1.0, 9.0]])[..., None]
    lengths = jnp.array([2, 3, 0])
    assert_close(seq.mean_output(ys, lengths=lengths)[:, 0], np.array([-1.0, 11 / 3, 0.0]), 1e-6)
    assert_close(seq.max_output(ys, lengths=lengths)[:, 0], np.array([1.0, 7.0, 0.0]), 1e-6)
    slopes = jax.grad(lambda y: jnp.sum(seq.mean_output(y, lengths=lengths) + seq.max_output(y, lengths=lengths)))(ys)
    assert jnp.all(jnp.isfinite(slopes))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seq.pad([]), "there is no sequence"),
        (lambda: seq.pad([np.ones((2, 3)), np.ones((2, 4))]), r"shapes \[\(2, 3\), \(2, 4\)\]"),
        (lambda: seq.pack([np.ones(5)], time=4), "5 steps, expected at most time = 4"),
        (lambda: seq.bucket([np.ones(5)], [2, 4]), r"5 steps, the limits are \[2, 4\]"),
        (lambda: seq.last_output(jaxrnn.Bidirectional(CELL, merge="sum"), jnp.ones((2, 1, 4))), "has mixed both directions"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
