"""What was counted, as text."""

from collections.abc import Callable
from typing import Any

from benchmarks import report
from benchmarks.ahead import promises
from benchmarks.ahead.promises import least, steps
from benchmarks.ahead.sides import KINDS, OURS

Record = dict[str, Any]

ABOUT = (
    "Counted in programs that were compiled for an H100 and for a TPU v5e on a machine that has "
    "neither (`make aot-test`): the launches by the host and the cycles that the TPU's compiler "
    "estimates, not time. No such program was ever run or timed."
)


def report_of_promises(rows: list[Record]) -> str:
    devices = {row["device"] for row in rows}
    return "\n".join(
        f"- {promise.line(rows)}" for promise in promises.PROMISES if promise.device in devices
    )


def line(row: Record) -> str:
    """Progress: each side of one case."""
    parts = []
    for side, figures in row["sides"].items():
        counted = ", ".join(
            f"{kind} {figures[kind]['cost'] / steps(row):.2f} "
            f"({figures[kind]['temp_bytes'] / 2**20:.1f} MiB)"
            for kind in KINDS
        )
        parts.append(f"  {side:<20} {counted}")
    return "\n".join([f"{promises.label(row)}: {row['unit']} per step", *parts])


def cases(rows: list[Record]) -> str:
    """A row for each case: what a step costs, what its best peer's costs, and temporaries."""
    header = ["cell, batch x time x in x hidden"]
    for kind in KINDS:
        header += [kind, "best peer", "ratio"]
    header += ["MiB", "leanest peer", "ratio"]
    return report.table(header, [_case(row) for row in rows])


def _case(row: Record) -> list[str]:
    # a TPU's cycles in thousands
    unit, number = (1, ".2f") if row["unit"] == "launches" else (1000, ".2f")
    cells = [f"{row['cell']} {row['shape']} {row['dtype']}"]
    for kind in KINDS:
        cells += _beside(row, kind, "cost", lambda n: format(n / steps(row) / unit, number))
    return cells + _beside(row, "training", "temp_bytes", lambda n: f"{n / 2**20:.1f}")


def _beside(row: Record, kind: str, figure: str, show: Callable[[int], str]) -> list[str]:
    own, best = row["sides"][OURS][kind][figure], least(row, kind, figure)
    ratio = promises.beside(kind, figure)(row)
    return [
        show(own),
        report.NONE if best is None else show(best),
        report.NONE if ratio is None else f"{ratio:.2f}",
    ]


def splits(rows: list[Record]) -> str:
    """A row for each program over four devices."""
    header = ["training step over four devices", "told by", "collectives in loops", "outside"]
    return report.table(
        header,
        [
            [
                f"{row['device']}, {row['cell']}",
                {"arrays": "placed arrays", "in_shardings": "`jit(in_shardings=)`"}[row["told"]],
                *(str(row["collectives"][place]) for place in ("inside", "outside")),
            ]
            for row in rows
        ],
    )


def report_of(result: Record, device: str) -> str:
    """The table of one device, under what its numbers are."""
    rows = [row for row in result["cases"] if row["device"] == device]
    unit = "launches" if rows[0]["unit"] == "launches" else "thousand cycles, as estimated,"
    return f"{device}, {unit} per time step:\n\n{cases(rows)}"


def report_lines(result: Record) -> list[str]:
    devices = list(dict.fromkeys(row["device"] for row in result["cases"]))
    lines = [ABOUT, *(report_of(result, device) for device in devices)]
    lines += [report_of_promises(result["cases"])]
    if result["splits"]:
        lines += [splits(result["splits"])]
    return lines


def report_text(result: Record) -> str:
    return "\n\n".join(report_lines(result))
