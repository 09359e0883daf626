"""The benchmarks' own arithmetic: ratios, the check that sides agree, skipped peers, the README's
section.
"""

import dataclasses
import json
import time

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tyro")

from benchmarks import (
    agreement,
    command_line,
    convolutional,
    experiments,
    measure,
    peers,
    pictures,
    readme,
    record,
    report,
    summary,
)
from benchmarks.measure import spread, take_turns
from benchmarks.plan import Picture, Shape
from benchmarks.sides import Missing, make_convolutional, make_problem

SMALL = Shape(batch=16, time=3, in_features=4, hidden=5)
LABEL = "16x3x4x5"


def side(step, forward, temp):
    times = {"median": 1.1 * step, "max": 2 * step, "rounds": 3}
    return {
        "step_ms": {"min": step, **times},
        "forward_ms": {"min": forward, **times},
        "step": {"temp_bytes": temp, "compile_s": None, "program_bytes": 1},
        "forward": {"temp_bytes": temp, "compile_s": None, "program_bytes": 1},
    }


def row(cell, sides):
    sizes = {"rows": 1000, "columns": 1000}
    step = [
        {**sizes, "inner": 100, "times": 3.0, "ms": 1.0},
        {**sizes, "inner": 99, "times": 0.5, "ms": 4.0},
    ]
    return {
        "cell": cell,
        "shape": SMALL._asdict(),
        "missing": {},
        "sides": sides,
        "products": {"step": step, "forward": step[:1]},
    }


@pytest.fixture
def rows():
    own = {"jaxrnn": side(10.0, 4.0, 2**20), "jaxrnn on 2 devices": side(8.0, 3.0, 2**19)}
    lstm = {
        **own,
        "linen": side(12.0, 2.0, 4 * 2**20),
        "lax.scan": side(20.0, 5.0, 2 * 2**20),
        "torch": side(16.0, 9.0, None),
    }
    gru = {**own, "linen": side(40.0, 8.0, 2**20)}
    return [row("LSTM", lstm), row("GRU", gru)]


@pytest.fixture
def result(rows):
    device = {"name": "a machine", "vectors": "avx2", "l2": 2**20, "l3": None, "cores": 2}
    return {
        "date": "2026-01-31",
        "complete": True,
        "device": device,
        "versions": {"jax": "1.2.3"},
        "skipped": {"keras": "not installed"},
        "peers": rows,
    }


def test_ratios_meet_the_best_opponent_of_each_shape(rows):
    found = summary.ratios(rows[0])
    assert found["step"] == summary.Ratio(1.2, 10.0, 12.0, "linen")  # on one device, as the peer
    assert found["forward"] == summary.Ratio(0.5, 4.0, 2.0, "linen")
    assert found["torch"] == summary.Ratio(1.6, 10.0, 16.0, "torch")
    assert found["two_devices"] == summary.Ratio(1.25, 8.0, 10.0, "jaxrnn")
    assert found["limit"] == summary.Ratio(0.5, 10.0, 5.0, "products")
    assert found["limit_forward"] == summary.Ratio(0.75, 4.0, 3.0, "products")
    assert found["memory"] == summary.Ratio(0.5, 2**20, 2 * 2**20, "lax.scan")
    assert "torch" not in summary.ratios(rows[1])
    rows[0]["shape"]["batch"] = 15
    assert "two_devices" not in summary.ratios(rows[0])


def test_summary_is_a_geometric_mean_and_the_worst_shape(rows):
    step, memory = summary.summarise(rows, "step"), summary.summarise(rows, "memory")
    assert step is not None
    assert memory is not None
    assert step.mean == pytest.approx((1.2 * 4.0) ** 0.5)
    assert (step.worst, step.where) == (1.2, f"LSTM {LABEL}")
    assert (memory.worst, memory.where) == (1.0, f"GRU {LABEL}")  # of memory, more is worse
    assert summary.summarise([], "step") is None


def test_spread_and_turns():
    assert spread([0.002, 0.001, 0.004]) == {"min": 1.0, "median": 2.0, "max": 4.0, "rounds": 3}
    calls = []
    times = take_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, seconds=0.0
    )
    assert times["a"]["rounds"] == 3
    assert set(calls) == {"a", "b"}


def test_a_long_call_has_one_turn(monkeypatch):
    monkeypatch.setattr(measure, "LONG", 0.0)
    monkeypatch.setattr(measure, "VERY_LONG", 0.0)
    calls = []
    times = take_turns(
        {"long": lambda: calls.append(time.sleep(0.02)), "short": lambda: None}, seconds=0.01
    )
    assert (times["long"]["rounds"], len(calls)) == (1, 1)
    assert times["short"]["rounds"] >= 3


def test_a_side_that_is_much_slower_has_one_turn(monkeypatch):
    """Than the fastest, that is; here a call says itself how many seconds it took."""
    monkeypatch.setattr(measure, "_timed", lambda call: call())
    times = take_turns(
        {"slow": lambda: 0.4, "slower than most": lambda: 0.2, "fast": lambda: 0.1}, seconds=1.0
    )
    assert times["slow"]["rounds"] == 1
    assert min(times[side]["rounds"] for side in ("slower than most", "fast")) >= 3


def test_table_has_a_row_for_each_cell_and_shape(result):
    text = report.full_report(result)
    assert f"| LSTM {LABEL}" in text
    assert "12.0 linen |  1.20" in text
    assert "skipped keras: not installed" in text
    assert all(len(line) < 200 for line in report.peers_table(result["peers"]).splitlines())


def test_table_names_the_machine(result):
    assert report.device_line(result).startswith(
        "a machine, avx2, L2 1.00 MiB, 2 cores, large products at 200 GFLOP/s, 2026-"
    )
    result["peers"] = []
    assert "GFLOP" not in report.device_line(result)


def test_readme_section_is_made_from_the_complete_records(result, tmp_path):
    page, results = tmp_path / "README.md", tmp_path / "results"
    record.write(results / "a-machine.json", result)
    record.write(results / "a-machine-partial.json", {**result, "complete": False})
    record.write(results / "ahead.json", {"cases": []})
    assert record.read(results) == {"a-machine": json.loads(json.dumps(result))}
    page.write_text(f"# Title\n\n{readme.START}\n{readme.END}\n\nafter\n", encoding="utf-8")
    assert readme.main(["--check"], page, results) == 1
    assert readme.main([], page, results) == 0
    assert readme.main(["--check"], page, results) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Title\n")
    assert text.endswith("\n\nafter\n")
    assert "1.20× (1.20)" in text
    assert "2.19× (1.20)" in text
    assert "0.50 (0.50)" in text
    assert text.count("## a machine") == 1
    other = {**result, "device": {**result["device"], "name": "another"}}
    record.write(results / "another.json", other)
    assert readme.main(["--check"], page, results) == 1
    assert readme.main([], page, results) == 0
    assert "## another" in page.read_text(encoding="utf-8")
    result["peers"][0]["sides"]["jaxrnn"]["step_ms"]["min"] = 11.0
    record.write(results / "a-machine.json", result)
    assert readme.main(["--check"], page, results) == 1


def test_readme_without_markers_is_an_error(result, tmp_path, capsys):
    page = tmp_path / "README.md"
    record.write(tmp_path / "a-machine.json", result)
    page.write_text("# Title\n", encoding="utf-8")
    assert readme.main([], page, tmp_path) == 2
    assert readme.START in capsys.readouterr().err


def test_absent_peers_are_skipped_by_name(monkeypatch):
    monkeypatch.setattr(
        peers.importlib.util,
        "find_spec",
        lambda module: None if module in ("haiku", "torch") else object(),
    )
    names, skipped = experiments.chosen_sides(None)
    of_pictures, _ = experiments.chosen_sides(None, convolutional.SIDES)
    assert skipped == {
        "haiku": "not installed: pip install dm-haiku",
        "torch": "not installed: pip install torch",
    }
    assert "linen" in names
    assert not {"haiku", "torch"} & set(names)
    assert not {"torch", "torch-together"} & set(of_pictures)
    assert [*experiments.chosen_sides(["linen"])[0]] == ["jaxrnn", "jaxrnn on 2 devices", "linen"]


@pytest.mark.parametrize(
    ("kind", "present"),
    [
        ("ConvLSTM", {"lax.scan", "lax.scan-together", "linen"}),
        ("ConvGRU", {"lax.scan", "lax.scan-together"}),
    ],
)
def test_sides_of_pictures_agree(kind, present):
    problem = make_convolutional(kind, Picture(2, 3, 4, 5, 3, 2, 3))
    sides, results = {}, {}
    for name, make in experiments.chosen_sides(None, convolutional.SIDES)[0].items():
        try:
            side = make(problem)
        except Missing:
            continue
        step = side.programs(problem)[0]
        output = (step.compile() if isinstance(step, measure.Traced) else step).call()
        sides[name], results[name] = side, side.results(problem, output)
    assert present <= {*sides}
    agreement.check(problem, sides, results)
    wrong = results["lax.scan"]
    results["lax.scan"] = wrong._replace(dxs=1.001 * np.asarray(wrong.dxs))
    with pytest.raises(agreement.Disagreement, match=rf"{kind} 2x3x4x5x3x2x3.*lax.scan in"):
        agreement.check(problem, sides, results)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "Elman"])
def test_a_side_that_computes_something_else_is_named(kind):
    problem = make_problem(kind, SMALL)
    good = peers.SIDES["lax.scan"](problem)
    assert not isinstance(good, peers.TorchSide)
    wrong = dataclasses.replace(
        good, convert=lambda params: params._replace(w_h=1.001 * params.w_h)
    )
    sides = {"good": good, "planted": wrong}
    results = {
        name: side.results(problem, side.programs(problem)[0].compile().call())
        for name, side in sides.items()
    }
    agreement.check(problem, {"good": good}, results)
    with pytest.raises(agreement.Disagreement, match="planted in") as raised:
        agreement.check(problem, sides, results)
    assert "good in" not in str(raised.value)


def test_results_that_are_not_numbers_disagree():
    assert not agreement.distance([float("nan")], [1.0]) <= 1e-4
    assert agreement.distance([1.0], [1.0, 1.0]) == float("inf")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--cells", "LSTN"], "LSTN"),
        (["--shapes", "3x4"], "BATCHxTIMExINxHIDDEN"),
        (["--against", "tf"], "no opponent is called"),
        (["--parts", "peer"], "no part is called"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2(argv, said, capsys):
    assert command_line.run(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_a_restricted_run_does_not_pass_for_a_complete_one():
    assert not command_line.Options().left_in
    assert command_line.Options(quick=True).left_in == "-partial"
    assert command_line.Options(tiny=True).left_in == "-partial"
    assert command_line.Options(cells=("LSTM",), parts=("long",)).left_in == "-partial"
    assert command_line.Options(parts=("long", "steps")).left_in == "-long-steps"
    assert Shape.parse("32x128x64x16") == Shape(32, 128, 64, 16)


def test_pictures_of_every_part(tmp_path):
    def point(**where):
        return {
            **where,
            "step_ms": {"min": 1.0},
            "temp_bytes": 2**20,
            "compile_s": 1.0,
            "program_bytes": 2**10,
        }

    def shape(time):
        return SMALL._replace(time=time)._asdict()

    times = (8, 16)
    drawn = {
        "sweeps": [
            point(cell="GRU", axis="time", shape=shape(t), method=g)
            for t in times
            for g in ("bptt", "autodiff")
        ],
        "unrolled": [
            point(cell="GRU", what="forward", shape=shape(t), driver=d)
            for t in times
            for d in ("scan", "unroll")
        ],
        "growth": [
            point(cell="LSTM", shape=shape(t), method=g)
            for t in times
            for g in ("bptt", "checkpointed", "autodiff")
        ],
    }
    paths = pictures.draw(drawn, tmp_path, "cpu")
    assert [path.name for path in paths] == ["cpu-sweeps.png", "cpu-unrolled.png", "cpu-growth.png"]
    assert all(path.stat().st_size > 1000 for path in paths)
