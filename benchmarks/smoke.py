"""`python -m benchmarks.smoke FOLDER`: every part of the benchmarks runs at sizes at which its
numbers mean nothing, and the report tells of them.
"""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import command_line, experiments, goals, record, rules

ARGUMENTS = ("--tiny", "--cells", "Elman", "ConvLSTM", "--against", "lax.scan", "linen")
LEAST_GOALS = 12  # that such a run tells of


def faults(result: dict[str, Any], text: str) -> list[str]:
    """What is wrong with a record of every part, and with the report on it."""
    found = [f"{part} gave no record" for part in experiments.PARTS if not result.get(part)]
    for part in experiments.PARTS:
        for row in result.get(part, []):
            times = [side["step_ms"] for side in row.get("sides", {}).values()]
            times = times or [row["step_ms"]]
            if not all(0 < spent["min"] <= spent["max"] for spent in times):
                found.append(f"{part}: these are no times: {times}")
    measured, known = {row["rule"] for row in result["rules"]}, {rule.name for rule in rules.RULES}
    found += [f"no rule is measured as {name!r}, or it is none" for name in measured ^ known]
    told = {what for what, *_ in goals.rows(result)}
    found += [f"the report does not tell of {what!r}" for what in told if what not in text]
    if len(told) < LEAST_GOALS:
        found.append(f"the record tells of {len(told)} goals, expected {LEAST_GOALS} or more")
    return found


def main(folder: Path) -> int:
    """Run every part, say what is wrong, and return the exit status."""
    # XLA, which takes most of the time, compiles several times as fast when it does not optimise.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=2",
    )
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = command_line.run([*ARGUMENTS, "--out", str(folder)])
    if status:
        return status
    (written,) = folder.glob("*.json")
    wrong = faults(record.read(written), said.getvalue())
    print(*wrong, sep="\n", file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
