"""What `elman_jordan.py` says of Jordan's network: where its limits lie, and that they hold."""

import dataclasses
from collections import Counter, defaultdict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro")
pytest.importorskip("matplotlib")

import elman_jordan as study
import jaxrnn
from kit.elman_jordan import counter
from kit.elman_jordan.counter import ALWAYS, CHANGES, COUNTS, NOTHING, QUESTIONS, Sequences

SHOWN = range(len(counter.DISPLAYS))
CELLS = study.networks(study.Options(hidden=8))
draw = jax.jit(counter.draw, static_argnums=(2, 3))
run = jax.jit(study.run, static_argnums=0)


def held_out(display: int, batch: int = 300) -> Sequences:
    return jax.tree.map(np.asarray, draw(display, jax.random.key(1), 40, batch))


@partial(jax.jit, static_argnums=0)
def wild(cell, seed):
    """Parameters of any size."""
    params = cell.init(jax.random.key(seed), 2)
    return jax.tree.map(
        lambda leaf: leaf + jax.random.normal(jax.random.key(7), leaf.shape), params
    )


@pytest.mark.parametrize("display", SHOWN)
def test_the_counter_counts(display):
    data = held_out(display, batch=20)
    for ones, questions, right in zip(*data.xs.transpose(2, 1, 0), data.right.T, strict=True):
        count = 0
        for one, question, shown in zip(ones, questions, right, strict=True):
            count = (count + int(one)) % COUNTS
            showing = display == ALWAYS or (one if display == CHANGES else question)
            assert shown == (count if showing else NOTHING)


@pytest.mark.parametrize(
    ("display", "last", "every"), [(ALWAYS, 1, 1), (CHANGES, 5 / 8, 1), (QUESTIONS, 7 / 16, None)]
)
def test_limits(display, last, every):
    """Half of the ones follow a one, a quarter of the questions a question; else it is a guess."""
    data = held_out(display, batch=3000)
    assert counter.limit_of_last_output(data) == pytest.approx(last, abs=0.01)
    found = counter.limit_of_all_outputs(display, data)
    if every is not None:
        assert found == every
    else:  # by how long ago it was last shown, counted
        steps = defaultdict(Counter)
        for t in range(20, 40):
            past, now = data.right[:t][::-1], data.right[t]
            ago = np.argmax(past < NOTHING, axis=0)
            moved = (data.count[t - 1] - np.take_along_axis(past, ago[None], 0)[0]) % COUNTS
            for a, m in zip(ago[now < NOTHING], moved[now < NOTHING], strict=True):
                steps[int(a)][int(m)] += 1
        most = sum(max(row.values()) for row in steps.values())
        assert found == pytest.approx(most / sum(row.total() for row in steps.values()), abs=0.01)


@pytest.mark.parametrize("display", [CHANGES, QUESTIONS])
def test_the_limit_is_reached_and_not_passed(display):
    """By functions of the last right output and of the input; a taught network is one of them."""
    data, cell = held_out(display), CELLS[study.TAUGHT]
    limit = counter.limit_of_last_output(data)
    pairs = np.roll(data.right, 1, axis=0), *np.moveaxis(data.xs.astype(int), -1, 0)
    answers = defaultdict(Counter)
    for place in zip(*np.nonzero(counter.second_half(data.right) < NOTHING), strict=True):
        key, right = (
            [int(counter.second_half(a)[place]) for a in b] for b in (pairs, [data.right])
        )
        answers[tuple(key)][right[0]] += 1
    table = np.random.default_rng(0).integers(0, COUNTS, (counter.OUTPUTS, 2, 2))

    def share(table):
        return counter.share_right(np.eye(counter.OUTPUTS)[table[pairs]], data.right)[0]

    assert share(table) < limit
    for key, count in answers.items():
        table[key] = count.most_common(1)[0][0]
    assert share(table) == pytest.approx(limit, abs=1e-12)
    for seed in range(5):
        said = run(cell, wild(cell, seed), data)
        assert counter.share_right(said, data.right)[0] <= limit


def outputs_by_pair(said, last, xs):
    """What is said after each last output and input."""
    found = defaultdict(list)
    for place in np.ndindex(last.shape):
        found[int(last[place]), *map(int, xs[place])].append(said[place])
    return [np.array(rows) for rows in found.values()]


@pytest.mark.parametrize("name", [study.TAUGHT, study.ALONE])
def test_pasts_that_end_alike_are_one_to_jordan(name):
    """Told the right outputs; or on its own ones, rounded. Elman's network tells them apart."""
    data, cell = held_out(QUESTIONS, batch=30), CELLS[name]
    if name == study.ALONE:
        (cell,) = (c for row, (_, c) in study.runs(CELLS).items() if row == f"{name}, rounded")
    said = np.asarray(run(cell, wild(cell, 0), data))
    own = np.argmax(said, axis=-1) if name == study.ALONE else data.right
    pairs = outputs_by_pair(said[1:], own[:-1], data.xs[1:])
    assert len(pairs) > 3
    assert max(np.ptp(rows, axis=0).max() for rows in pairs) < 1e-5
    elman = CELLS[study.ELMAN]
    said = np.asarray(run(elman, wild(elman, 0), data))
    pairs = outputs_by_pair(said[1:], data.right[:-1], data.xs[1:])
    assert min(np.ptp(rows, axis=0).max() for rows in pairs) > 0.1


def test_a_taught_network_goes_on_alone_with_the_same_weights():
    rows = study.runs(CELLS)
    trained, alone = rows[f"{study.CONTEXT}, then alone"]
    assert trained == study.CONTEXT
    assert isinstance(alone, jaxrnn.Jordan)
    assert not alone.teacher
    assert alone.decay == CELLS[study.CONTEXT].decay
    assert next(iter(rows)) == study.ELMAN
    y = jnp.array([[0.2, 0.9, -1.0, 0.0, 0.3]])
    assert study.rounded(y).tolist() == [[0, 1, 0, 0, 0]]


def test_training_comes_up_to_the_limit():
    options = study.Options(hidden=16, updates=400, seeds=1)
    displays, cell = jnp.array([ALWAYS, CHANGES]), CELLS[study.TAUGHT]
    cell = dataclasses.replace(cell, hidden=16)
    params, errors = study.train(cell, options, displays, jnp.arange(1))
    assert errors.shape == (2, 1, 400)
    for k, display in enumerate((ALWAYS, CHANGES)):
        data, own = held_out(display), jax.tree.map(lambda leaf, k=k: leaf[k, 0], params)
        share = counter.share_right(run(cell, own, data), data.right)[0]
        limit = counter.limit_of_last_output(data)
        assert limit - 0.04 < share <= limit


def test_shares_are_of_the_second_half():
    right = np.array([[0], [NOTHING], [2], [NOTHING], [1], [3]])
    said = np.eye(counter.OUTPUTS)[[[3], [0], [0], [NOTHING], [1], [2]]]
    shown, hidden = counter.share_right(np.stack([said, np.eye(counter.OUTPUTS)[right]]), right)
    assert shown.tolist() == [0.5, 1.0]
    assert hidden.tolist() == [1.0, 1.0]


def test_the_study_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "HELD_OUT", 20)
    flags = ["--hidden", "4", "--length", "8", "--updates", "3", "--batch", "2", "--seeds", "1"]
    study.main([*flags, "--out", str(tmp_path)])
    lines = (tmp_path / "table.txt").read_text().splitlines()
    assert sum("the most it can" in line for line in lines) == 2
    assert all(any(line.startswith(row) for line in lines) for row in study.runs(CELLS))
    assert (tmp_path / "elman_jordan.png").read_bytes().startswith(b"\x89PNG")
    assert lines[1].startswith("always the same count")
    assert lines[1] in capsys.readouterr().out


def test_options_are_checked():
    with pytest.raises(ValueError, match="--seeds must be at least 1, not 0"):
        dataclasses.replace(study.Options(), seeds=0)
