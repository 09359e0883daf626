"""Tables, for the terminal and for Markdown alike."""

from typing import Any

from benchmarks.peers import OWN, TWO_DEVICES
from benchmarks.summary import METRICS, Ratio, cells_of, ratios, size_label, summarise

Record = dict[str, Any]
NONE = "–"


def table(header: list[str], rows: list[list[str]]) -> str:
    """An aligned Markdown table: the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return (
            "| "
            + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])
            + " |"
        )

    rule = (
        "|"
        + "|".join(
            [":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]
        )
        + "|"
    )
    return "\n".join([line(header), rule, *map(line, rows)])


def peers_table(rows: list[Record]) -> str:
    """A row for each cell and shape: milliseconds and ratios."""
    header = [
        "cell, batch x time x in x hidden",
        "step ms",
        "2 devices",
        "fastest peer",
        "speed",
        "forward ms",
        "fastest peer",
    ]
    header += ["speed", "torch ms", "speed", "MiB", "leanest peer", "share"]
    return table(header, [_peer_row(row) for row in rows])


def _peer_row(row: Record) -> list[str]:
    found, sides = ratios(row), row["sides"]
    step, forward, torch, memory = (
        found.get(metric) for metric in ("step", "forward", "torch", "memory")
    )
    return [
        f"{row['cell']} {size_label(row['shape'])}",
        milliseconds(sides[OWN]["step_ms"]["min"]),
        milliseconds(sides[TWO_DEVICES]["step_ms"]["min"]) if TWO_DEVICES in sides else NONE,
        *_against(step, milliseconds),
        milliseconds(sides[OWN]["forward_ms"]["min"]),
        *_against(forward, milliseconds),
        milliseconds(torch.other) if torch else NONE,
        f"{torch.value:.2f}" if torch else NONE,
        mebibytes(sides[OWN]["step"]["temp_bytes"]),
        *_against(memory, mebibytes),
    ]


def _against(ratio: Ratio | None, form: Any) -> list[str]:
    return (
        [f"{form(ratio.other)} {ratio.opponent}", f"{ratio.value:.2f}"] if ratio else [NONE, NONE]
    )


def summary_table(rows: list[Record]) -> str:
    """For each target the geometric mean over shapes and the worst shape, by cell and over all."""
    groups = {cell: [row for row in rows if row["cell"] == cell] for cell in cells_of(rows)} | {
        "all": rows
    }
    body = []
    for metric, meaning in METRICS.items():
        for name, group in groups.items():
            if summary := summarise(group, metric):
                body.append(
                    [
                        f"{meaning}, {name}",
                        f"{summary.mean:.2f}",
                        f"{summary.worst:.2f}",
                        summary.where,
                    ]
                )
    return table(["geometric mean over shapes", "mean", "worst", "worst shape"], body)


def sides_table(rows: list[Record]) -> str:
    """Every side's training step, in milliseconds: the minimum, and the median over rounds in
    brackets.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["sides"]))
    header = ["training step, ms: minimum (median)", *names]
    body = []
    for row in rows:
        times = [row["sides"].get(name, {}).get("step_ms") for name in names]
        cells = [
            f"{milliseconds(t['min'])} ({milliseconds(t['median'])})" if t else NONE for t in times
        ]
        body.append([f"{row['cell']} {size_label(row['shape'])}", *cells])
    return table(header, body)


def long_table(rows: list[Record]) -> str:
    """Time and temporaries of a long sequence beside plain `lax.scan`."""
    plain = next(row for row in rows if row["method"] == "lax.scan")
    body = [
        [
            row["method"],
            milliseconds(row["step_ms"]["min"]),
            f"{row['step_ms']['min'] / plain['step_ms']['min']:.2f}",
            mebibytes(row["temp_bytes"]),
            f"{row['temp_bytes'] / plain['temp_bytes']:.3f}",
        ]
        for row in rows
    ]
    return table(
        [
            f"{plain['cell']} {size_label(plain['shape'])}",
            "step ms",
            "of lax.scan",
            "MiB",
            "of lax.scan",
        ],
        body,
    )


def variants_table(rows: list[Record]) -> str:
    """Every option and combinator, beside its own autodiff."""
    body = []
    for name in cells_of(rows):
        own, other = (
            next(row for row in rows if row["cell"] == name and row["method"] == kind)
            for kind in ("bptt", "autodiff")
        )
        speed, share = (
            other["step_ms"]["min"] / own["step_ms"]["min"],
            own["temp_bytes"] / other["temp_bytes"],
        )
        body.append(
            [
                name,
                milliseconds(own["step_ms"]["min"]),
                f"{speed:.2f}",
                mebibytes(own["temp_bytes"]),
                f"{share:.2f}",
            ]
        )
    return table(
        [
            size_label(rows[0]["shape"]),
            "step ms",
            "times as fast as autodiff",
            "MiB",
            "share of autodiff's",
        ],
        body,
    )


def foreign_table(rows: list[Record]) -> str:
    """Flax's own cells in jaxrnn's engine, beside Flax's RNN."""
    body = []
    for own, other in zip(rows[::2], rows[1::2], strict=True):
        speed, share = (
            other["step_ms"]["min"] / own["step_ms"]["min"],
            own["temp_bytes"] / other["temp_bytes"],
        )
        times = [milliseconds(row["step_ms"]["min"]) for row in (own, other)]
        body.append(
            [
                f"{own['cell']} {size_label(own['shape'])}",
                *times,
                f"{speed:.2f}",
                mebibytes(own["temp_bytes"]),
                f"{share:.2f}",
            ]
        )
    return table(
        ["Flax's cells", "jaxrnn ms", "Flax's RNN ms", "speed", "MiB", "share of Flax's"], body
    )


def steps_table(rows: list[Record]) -> str:
    """One step at a time: microseconds per step of each side."""
    cells, sides = cells_of(rows), list(dict.fromkeys(row["side"] for row in rows))
    body = []
    for side in sides:
        found = {row["cell"]: row for row in rows if row["side"] == side}
        body.append(
            [
                side,
                *(
                    f"{1e3 * found[cell]['step_ms']['min'] / found[cell]['steps']:.0f}"
                    for cell in cells
                ),
            ]
        )
    return table(["µs per step", *(f"{cell}-{rows[0]['hidden']}" for cell in cells)], body)


def growth_table(rows: list[Record]) -> str:
    """Microseconds per time step, temporaries and compile time against T."""
    body = [
        [
            f"{row['cell']} {size_label(row['shape'])} {row['gradient']}",
            f"{1e3 * row['step_ms']['min'] / row['shape']['time']:.2f}",
            f"{row['temp_bytes'] / row['shape']['time']:.0f}",
            mebibytes(row["temp_bytes"]),
            f"{row['compile_s']:.2f}",
        ]
        for row in rows
    ]
    return table(
        ["long sequences", "µs per time step", "bytes per time step", "MiB", "compile s"], body
    )


def unrolled_table(rows: list[Record]) -> str:
    """`scan` and the unrolled loop, against T."""
    body = [
        [
            f"{row['cell']} {row['what']}, T={row['shape']['time']}, {row['driver']}",
            milliseconds(row["step_ms"]["min"]),
            f"{row['compile_s']:.2f}",
            f"{row['program_bytes'] / 1024:.0f}" if row["program_bytes"] else NONE,
        ]
        for row in rows
    ]
    return table(["scan and the unrolled loop", "ms", "compile s", "program KiB"], body)


def full_report(result: Record) -> str:
    """Everything that was measured, for the terminal."""
    makers = {
        "peers": [peers_table, sides_table, summary_table],
        "long": [long_table],
        "growth": [growth_table],
    }
    makers |= {
        "unrolled": [unrolled_table],
        "variants": [variants_table],
        "foreign": [foreign_table],
        "steps": [steps_table],
    }
    parts = [
        make(result[part])
        for part, functions in makers.items()
        if result.get(part)
        for make in functions
    ]
    return "\n\n".join([device_line(result), *parts, *skipped_lines(result)])


def skipped_lines(result: Record) -> list[str]:
    """Who did not take part."""
    return [f"skipped {name}: {reason}" for name, reason in result.get("skipped", {}).items()]


def device_line(result: Record) -> str:
    """Where and when this was measured."""
    device, versions = result["device"], result["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{device['name']}, {device['cores']} cores, {result['date']}: {named}"


def milliseconds(value: float) -> str:
    """Three figures."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def mebibytes(value: float) -> str:
    """Three figures, in MiB."""
    return milliseconds(value / 2**20)
