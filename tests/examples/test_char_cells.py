"""What `char_cells.py` measures: repeats, accuracy by their distance, networks of one size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro")
pytest.importorskip("tqdm")

import char_cells
from kit import forgetting
from kit.training import count_parameters


def test_repeats_are_new_contexts_that_go_on_as_before():
    """`abcdefX ... abcdefX` repeats; `ghijklY ... ghijklZ` does not, nor does what training has."""
    train = np.array([9, 9, 9, 9, 9, 9, 9, 9])
    again, other, known = [1, 2, 3, 4, 5, 6, 7], [6, 5, 4, 3, 2, 1], [9] * 7
    stream = np.array([*again, 8, *again, *other, 8, *other, 7, *known, *known])
    found = forgetting.find_repeats(train, stream[:, None], symbols=10)
    (kept,) = np.flatnonzero(found.time == 14)
    assert (found.distance[kept], found.stream[kept]) == (8, 0)
    assert stream[found.time[kept]] == 7
    for time, distance in zip(found.time, found.distance, strict=True):
        here, before = (stream[t - forgetting.CONTEXT : t + 1] for t in (time, time - distance))
        assert np.array_equal(here, before)
        assert not np.all(here[:-1] == 9)


def test_accuracy_by_distance():
    edges = forgetting.EDGES
    distances = np.array([1, 2, edges[1], edges[-1] + 1])
    repeats = forgetting.Repeats(np.arange(4), np.zeros(4, int), distances)
    right = np.array([[True], [False], [True], [False]])
    shares = forgetting.accuracy_by_distance(right, repeats)
    assert (shares[0], shares[1], shares[-1]) == (0.5, 1.0, 0.0)
    assert len(shares) == len(forgetting.RANGES) == len(edges)


def test_networks_of_one_size():
    cells = char_cells.models(32, "abcdef")
    drawn = [jax.eval_shape(cell.init, jax.random.key(0)) for cell in cells.values()]
    sizes = [*map(count_parameters, drawn)]
    assert max(sizes) < 1.05 * min(sizes)
    assert cells["LSTM"].rnn.out_features == 32


def test_guesses_are_of_the_character_that_comes():
    model = char_cells.models(8, "ab")["GRU"]
    params = model.init(jax.random.key(0))
    streams = np.random.default_rng(0).integers(0, 3, (9, 2))
    right = forgetting.correct_guesses(model, params, streams)
    carry = model.initial_carry(params, (2,))
    _, logits = model.scan(params, carry, jnp.asarray(streams[:-1]))
    np.testing.assert_array_equal(right[1:], np.argmax(logits, axis=-1) == streams[1:])
    assert not right[0].any()


def test_who_writes_is_checked():
    with pytest.raises(ValueError, match="--write must be one of Elman, GRU, LSTM, not RNN"):
        char_cells.Options(write="RNN")
