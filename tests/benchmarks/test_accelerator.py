"""The comparison on accelerators: sides agree, kernels are counted, a record is written."""

import json

import pytest

pytest.importorskip("tyro")

from benchmarks import accelerator, accelerator_sides
from benchmarks.launches import kernels
from benchmarks.plan import Shape

PROGRAM = """HloModule jit_step

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %e = f32[4]{0} exponential(%p)
}

%body (state: (s32[], f32[4])) -> (s32[], f32[4]) {
  %state = (s32[], f32[4]{0}) parameter(0)
  %h = f32[4]{0} get-tuple-element(%state), index=1
  %z = f32[4]{0} fusion(%h), kind=kLoop, calls=%fused
  %start = ((f32[4]{0}), f32[4]{0}) fusion-start(%z), calls=%fused
  ROOT %done = f32[4]{0} fusion-done(%start)
}

%condition (state: (s32[], f32[4])) -> pred[] {
  %state = (s32[], f32[4]{0}) parameter(0)
  ROOT %less = pred[] compare(%state, %state), direction=LT
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %c = f32[4]{0} copy(%x)
  %loop = (s32[], f32[4]{0}) while(%c), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"10"}}
  ROOT %y = f32[4]{0} get-tuple-element(%loop), index=1
}
"""


def test_kernels_of_a_loop_count_once_a_turn():
    assert kernels(PROGRAM) == 1 + 10 * 2


def test_an_unknown_number_of_turns_counts_as_one():
    assert kernels(PROGRAM.replace("known_trip_count", "unknown")) == 1 + 2


@pytest.fixture
def few(monkeypatch):
    """One method of jaxrnn, small sizes."""
    monkeypatch.setattr(accelerator_sides, "METHODS", {"bptt": "bptt"})
    monkeypatch.setattr(accelerator_sides, "UNROLL", 2)
    monkeypatch.setattr(accelerator, "CHECKED", Shape(2, 5, 3, 4))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "Elman"])
def test_all_sides_agree(few, kind):
    errors, _ = accelerator.check(kind)
    assert {"bptt", "lax.scan", accelerator_sides.REFERENCE} <= {*errors}
    assert max(errors.values()) < 1e-6


def test_a_record_is_written(few, tmp_path):
    options = ["--cells", "GRU", "--shapes", "2x5x3x4", "--dtypes", "bfloat16", "--no-check"]
    where = ["--seconds", "0.01", "--out", str(tmp_path), "--programs", str(tmp_path / "all.zip")]
    assert accelerator.main([*options, *where]) == 0
    (path,) = tmp_path.glob("*.json")
    (row,) = json.loads(path.read_text(encoding="utf-8"))["comparisons"]
    assert (row["cell"], row["dtype"]) == ("GRU", "bfloat16")
    assert all(side["error"] < 3e-2 for side in row["sides"].values())
    assert (tmp_path / "all.zip").stat().st_size > 0


def test_a_wrong_side_is_named_and_left_out(few, tmp_path, monkeypatch, capsys):
    wrong = accelerator_sides.by_hand("LSTM", hoisted=True)
    sides = accelerator.jax_sides
    monkeypatch.setattr(
        accelerator,
        "jax_sides",
        lambda problem: (
            sides(problem)
            | {"wrong": accelerator_sides.JaxSide(lambda params, xs: 2 * wrong(params, xs))}
        ),
    )
    options = ["--cells", "LSTM", "--shapes", "2x5x3x4", "--dtypes", "float32", "--seconds", "0.01"]
    assert accelerator.main([*options, "--out", str(tmp_path)]) == 1
    assert "left out: ('LSTM', 'wrong')" in capsys.readouterr().out
    (path,) = tmp_path.glob("*.json")
    (row,) = json.loads(path.read_text(encoding="utf-8"))["comparisons"]
    assert "wrong" not in row["sides"]


def test_what_a_device_refuses_is_missing(few, monkeypatch):
    def refused(params, xs):
        raise NotImplementedError("not here")

    monkeypatch.setattr(
        accelerator, "jax_sides", lambda problem: {"refused": accelerator_sides.JaxSide(refused)}
    )
    problem = accelerator_sides.problem_of("GRU", Shape(2, 5, 3, 4), "float32")
    sides, missing = accelerator.build(problem, {"PyTorch"})
    assert not sides
    assert "not here" in missing["refused"]
