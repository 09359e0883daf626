"""The parts of the benchmarks and their sizes; `every_part.py`, beside this, runs them all."""

import dataclasses
import math

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tyro")

import jaxrnn
from benchmarks import attention, command_line, experiments, goals, limit, record, report
from benchmarks.agreement import Disagreement
from benchmarks.plan import SHAPES, VARIANTS, Attended, Shape


def test_every_goal_is_told_of():
    """Of a complete record; `make examples` makes a tiny one."""
    kept = record.read(record.RESULTS).values()
    complete = next(result for result in kept if set(result) >= {*experiments.PARTS})
    text, told = report.full_report(complete), {what for what, *_ in goals.rows(complete)}
    assert len(told) == len(goals.GOALS)
    assert all(what in text for what in told)
    assert command_line.Options().parts == tuple(experiments.PARTS)


def test_variants_hold_every_combinator():
    cells = [
        name
        for name in jaxrnn.combinators.__all__
        if isinstance(found := getattr(jaxrnn.combinators, name), type)
        and issubclass(found, jaxrnn.Cell)
    ]
    words = {word for name in VARIANTS for word in name.replace(",", "").split()}
    assert [name for name in cells if name not in words] == ["Attention"]  # a part of its own


def test_shapes_are_those_of_the_grid():
    assert len(set(SHAPES)) == len(SHAPES) == 24
    for shape in SHAPES:
        batch, time, features, hidden = shape
        assert 1 <= batch <= 256
        assert 16 <= time <= 2048
        assert all(16 <= size <= 768 for size in (features, hidden))
        flop = 3 * 2 * batch * time * 4 * hidden * (features + hidden)
        assert 0.07e9 < flop < 40e9


def test_sides_that_are_off_are_named():
    comparison = attention.attention("dot", Attended(2, 3, 4, 5))
    assert [*comparison.programs()] == ["jaxrnn", "by hand"]
    function, given = comparison.sides["by hand"]

    def wrong(*given):
        ys, gradients = function(*given)
        return 1.01 * ys, gradients

    off = dataclasses.replace(
        comparison, sides={"jaxrnn": comparison.sides["jaxrnn"], "planted": (wrong, given)}
    )
    with pytest.raises(Disagreement, match=r"dot, batch 2.*: jaxrnn is off by 9\.9e-03"):
        off.programs()


def test_products_are_those_of_a_step():
    shape = Shape(batch=2, time=2048, in_features=3, hidden=5)
    orders = limit.step_products("GRU", shape)
    flop = [2 * p.rows * p.inner * p.columns * p.times for p, *_ in orders]
    macs = 2 * 2048 * 15  # of a product, for each number of a row
    assert sum(flop) == 2 * macs * (3 * 3 + 3 * 5)
    assert {(p.rows, p.inner, p.columns, p.times) for p, *_ in orders[:2]} == {
        (1024, 3, 15, 4.0),
        (2, 5, 15, 2048),
    }
    times = {p.label: {"min": 1e-3 * limit.turns(p)} for either in orders for p in either}
    turned = orders[1][1]
    assert (turned.rows, turned.inner, turned.columns) == (15, 5, 2)
    times[turned.label] = {"min": 0.5e-3 * limit.turns(turned)}
    found = limit.records(orders, times)
    assert [row["ms"] for row in found] == pytest.approx([1e-3, 0.5e-3, *[1e-3] * 4])
    assert found[1]["rows"] == 15
    count = sum(p.times for p, *_ in orders)
    assert math.isclose(limit.milliseconds(found), 1e-3 * (count - 1024))
