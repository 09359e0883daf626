"""The comparison on accelerators: sides agree, kernels are counted, a record is written."""

import json

import pytest

pytest.importorskip("tyro")

from benchmarks import accelerator, accelerator_sides
from benchmarks.plan import Shape


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
