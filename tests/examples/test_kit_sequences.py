"""`examples/kit`: batches of sequences, the training loop, symbols, and what is compared with."""

import itertools

import numpy as np
import pytest

for needed in ("optax", "tqdm"):
    pytest.importorskip(needed)

import jax
import jax.numpy as jnp
import optax

from kit.baselines import fit_back_off
from kit.fitting import fit
from kit.ragged import apply_to_all, training_batches
from kit.symbols import UNKNOWN, Symbols

ROWS = [np.full(length, length) for length in (3, 9, 1, 4, 4, 2, 8, 9, 3)]


def test_an_epoch_holds_every_full_batch_once():
    found = itertools.islice(training_batches(ROWS, (4, 9), 3, seed=0), 3)
    places = [place for part in found for place in part.places]
    assert sorted(places) == list(range(9))


def test_batches_are_padded_to_their_limit():
    for part in itertools.islice(training_batches(ROWS, (4, 9), 2, seed=1), 8):
        assert part.xs.shape in ((4, 2), (9, 2))
        for column, (length, place) in enumerate(zip(part.lengths, part.places, strict=True)):
            assert part.xs[:length, column].tolist() == ROWS[place].tolist()
            assert not part.xs[length:, column].any()


def test_epochs_differ_and_seeds_repeat():
    first, again = (
        [part.places.tolist() for part in itertools.islice(training_batches(ROWS, [9], 3, 5), 6)]
        for _ in range(2)
    )
    assert first == again
    assert first[:3] != first[3:]


def test_too_few_for_a_batch():
    with pytest.raises(ValueError, match="too few sequences of similar length for batches of 7"):
        next(training_batches(ROWS, (4, 9), 7, seed=0))


@pytest.mark.parametrize("batch", [1, 2, 4, 20])
def test_results_come_in_the_order_of_the_sequences(batch):
    def totals(xs, lengths):
        assert xs.shape[1] == len(lengths) == batch
        return {"sum": xs.sum(axis=0), "length": lengths}

    found = apply_to_all(totals, ROWS, (4, 9), batch)
    assert [int(f["length"]) for f in found] == [len(row) for row in ROWS]
    assert [int(f["sum"]) for f in found] == [int(row.sum()) for row in ROWS]


def square(params, batch, key):
    return jnp.sum((params - batch) ** 2)


def test_fit_finds_a_minimum():
    found = fit(square, jnp.zeros(2), itertools.repeat(jnp.array([1.0, -2.0])), optax.sgd(0.1), 60)
    np.testing.assert_allclose(found, [1, -2], atol=1e-4)


def test_fit_keeps_what_scored_highest():
    asked = []

    def score(params):
        asked.append(float(params[0]))
        return -abs(float(params[0]) - 0.5)

    target = itertools.repeat(jnp.ones(1))
    best = fit(square, jnp.zeros(1), target, optax.sgd(0.05), 20, score=score, every=3)
    assert len(asked) == 7
    assert float(best[0]) == min(asked, key=lambda value: abs(value - 0.5)) != asked[-1]


def test_fit_says_that_training_diverged():
    with pytest.raises(FloatingPointError, match="training diverged"):
        fit(square, jnp.ones(1), itertools.repeat(jnp.zeros(1)), optax.sgd(1e6), 60)


def test_every_step_has_a_key_of_its_own():
    seen = []

    def loss(params, batch, key):
        jax.debug.callback(lambda data: seen.append(data.tolist()), jax.random.key_data(key))
        return jnp.sum(params**2)

    fit(loss, jnp.ones(1), itertools.repeat(()), optax.sgd(0.1), 4)
    jax.effects_barrier()
    assert len({tuple(data) for data in seen}) == 4


def test_symbols_are_numbered_by_how_frequent_they_are():
    words = Symbols.of([["b", "a", "b", "c"], ["b", "a"]], least=2)
    assert words.known == ("b", "a")
    assert words.size == 3
    assert words.encode(["a", "b", "z"]).tolist() == [2, 1, UNKNOWN]


def test_the_table_takes_the_first_context_that_it_has_seen():
    texts = [("xay", [0, 1, 0]), ("zaw", [0, 2, 0]), ("zav", [0, 2, 0])]
    tags_of = fit_back_off(texts, (range(-1, 2), range(0, 1)))
    assert tags_of("xay")[1] == 1  # as the word stood between these
    assert tags_of("qaq") == [0, 2, 0]  # as it stood most often; q is new
