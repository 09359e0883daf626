"""Every part of the benchmarks runs, at sizes at which its numbers mean nothing. It compiles for
half a minute, and so it is not one of the tests, but a step of `make examples`.
"""

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tyro")

from benchmarks import command_line, experiments, goals, record, rules


def test_every_part_runs_and_is_told_of(tmp_path, capsys):
    tiny = ["--tiny", "--cells", "Elman", "ConvLSTM", "--against", "lax.scan", "linen"]
    assert command_line.run([*tiny, "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*.json")
    result, text = record.read(path), capsys.readouterr().out
    for part in experiments.PARTS:
        assert result[part], part
        for row in result[part]:
            times = [side["step_ms"] for side in row.get("sides", {}).values()]
            times = times or [row["step_ms"]]
            assert all(0 < spent["min"] <= spent["max"] for spent in times), part
    assert {row["rule"] for row in result["rules"]} == {rule.name for rule in rules.RULES}
    told = {what for what, *_ in goals.rows(result)}
    assert all(what in text for what in told)
    assert len(told) >= 12
