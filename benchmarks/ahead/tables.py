"""What was counted, as text."""

from collections.abc import Callable
from typing import Any

from benchmarks import report
from benchmarks.ahead import promises
from benchmarks.ahead.promises import least, steps
from benchmarks.ahead.sides import KINDS, OURS, TOLD

Record = dict[str, Any]

ABOUT = (
    "Counted, never timed: programs were compiled for an H100 and for a TPU v5e on a machine that "
    "has neither (`make aot-test`). Counted were the launches by the host, the cycles that the "
    "TPU's compiler estimates, the bytes of temporaries, and collectives. These programs were "
    "never run, and their time was never measured."
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
                TOLD[row["told"]],
                *(str(row["collectives"][place]) for place in ("inside", "outside")),
            ]
            for row in rows
        ],
    )


def devices(result: Record) -> list[str]:
    """That programs were compiled for."""
    return list(dict.fromkeys(row["device"] for row in result["cases"]))


def unit(result: Record, device: str) -> str:
    """Of a device's costs."""
    row = next(row for row in result["cases"] if row["device"] == device)
    return "launches" if row["unit"] == "launches" else "thousands of cycles, as estimated,"


def of_device(result: Record, device: str) -> str:
    """The cases of one device."""
    return cases([row for row in result["cases"] if row["device"] == device])


def of_promises(result: Record) -> str:
    """What was found of each promise."""
    return "\n".join(
        f"- {promise.line(result['cases'])}"
        for promise in promises.PROMISES
        if promise.device in devices(result)
    )


def text(result: Record) -> str:
    """All of it, for a terminal."""
    parts = [ABOUT]
    for device in devices(result):
        parts += [f"{device}, {unit(result, device)} per time step:", of_device(result, device)]
    parts += [time_loops(result["cases"])] if result["cases"] else []
    parts += [splits(result["splits"])] if result["splits"] else []
    return "\n\n".join([*parts, of_promises(result)])


WHY = {
    "product": "by the recurrent weight, for the next step needs this one's; outside loops over "
    "steps there are those of whole blocks",
    "pointwise": "gates, or their derivatives: the compiler fuses nothing into a product by cuBLAS",
    "concatenate": "joins what the gates' derivatives are to the one operand of a product",
    "dynamic_update_slice": "writes what the steps of a turn gave, at once",
    "copy": "slices a block out of all time, or doubles a carry that is read and overwritten",
    "counter": "the loop's own",
    "reduce": "sums over rows, the bias's gradient",
    "command buffer": "several of them in one CUDA graph",
}
"""What each launch is, and why it is there."""


def time_loops(rows: list[Record]) -> str:
    """What one turn of each loop launches on a GPU: LSTM and GRU, at the first size."""
    header = ["one turn of a loop", "turns", "launches", *(role.replace("_", " ") for role in WHY)]
    body = []
    for row in rows:
        if row["unit"] != "launches" or row["shape"] != rows[0]["shape"] or not promises.gated(row):
            continue
        for kind in KINDS:
            for loop in row["loops"][kind]:
                turns = " x ".join(map(str, loop["turns"]))
                counts = [str(loop["parts"].get(role, report.NONE)) for role in WHY]
                body.append([f"{row['cell']} {kind}", turns, str(loop["cost"]), *counts])
    return report.table(header, body)


def section(result: Record, name: str) -> str:
    """For the README; nothing in it is typed by hand but the words around the numbers."""
    del name
    versions = ", ".join(f"{name} {version}" for name, version in result["compilers"].items())
    folded = [
        report.folded(f"{device}, {unit(result, device)} per time step", of_device(result, device))
        for device in devices(result)
    ]
    why = "\n".join(f"- {role.replace('_', ' ')}: {reason}" for role, reason in WHY.items())
    return "\n\n".join(
        [
            f"{ABOUT} {versions}; one training step, or the forward pass alone, beside the best "
            "of plain `lax.scan` and of `lax.scan` whose input is projected before the loop.",
            of_promises(result),
            *folded,
            report.folded(
                "What each turn of the loops launches on the H100, and why",
                f"{time_loops(result['cases'])}\n\n{why}",
            ),
            report.folded("A batch over four devices", splits(result["splits"])),
        ]
    )
