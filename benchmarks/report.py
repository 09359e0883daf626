"""Tables, for the terminal and for Markdown alike."""

from collections.abc import Callable
from typing import Any

from benchmarks.peers import OWN, TWO_DEVICES
from benchmarks.summary import (
    METRICS,
    Ratio,
    by_cell,
    cells_of,
    label,
    ratios,
    size_label,
    summarise,
)

Record = dict[str, Any]
NONE = "–"


def table(header: list[str], rows: list[list[str]]) -> str:
    """An aligned Markdown table: the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return f"| {' | '.join(padded)} |"

    rules = [":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), f"|{'|'.join(rules)}|", *map(line, rows)])


def folded(about: str, text: str) -> str:
    """What a reader opens by a click."""
    return f"<details><summary>{about}</summary>\n\n{text}\n\n</details>"


def peers_table(rows: list[Record]) -> str:
    """A row for each cell and shape: milliseconds and ratios."""
    sizes = " x ".join(rows[0]["shape"]).replace("in_features", "in")
    header = [f"cell, {sizes}", "step ms", "2 devices", "fastest peer", "speed"]
    header += ["forward ms", "fastest peer", "speed", "torch ms", "speed"]
    header += ["MiB", "leanest peer", "share"]
    return table(header, [_peer_row(row) for row in rows])


def _peer_row(row: Record) -> list[str]:
    found, sides = ratios(row), row["sides"]
    step, forward, torch, memory = (
        found.get(metric) for metric in ("step", "forward", "torch", "memory")
    )
    return [
        label(row),
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


def _against(ratio: Ratio | None, form: Callable[[float], str]) -> list[str]:
    if ratio is None:
        return [NONE, NONE]
    return [f"{form(ratio.other)} {ratio.opponent}", f"{ratio.value:.2f}"]


def summary_table(rows: list[Record]) -> str:
    """For each target the geometric mean over shapes and the worst shape, by cell and over all."""
    body = []
    for metric, meaning in METRICS.items():
        for name, group in by_cell(rows).items():
            if summary := summarise(group, metric):
                numbers = [f"{summary.mean:.2f}", f"{summary.worst:.2f}"]
                body.append([f"{meaning}, {name}", *numbers, summary.where])
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
        body.append([label(row), *cells])
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
    return table([label(plain), "step ms", "of lax.scan", "MiB", "of lax.scan"], body)


def variants_table(rows: list[Record]) -> str:
    """Every option and combinator, beside its own autodiff."""
    body = []
    for name in cells_of(rows):
        own, other = (
            next(row for row in rows if row["cell"] == name and row["method"] == kind)
            for kind in ("bptt", "autodiff")
        )
        body.append([name, milliseconds(own["step_ms"]["min"]), *_compared(own, other)])
    size = size_label(rows[0]["shape"])
    return table([size, "step ms", "times as fast as autodiff", "MiB", "share of autodiff's"], body)


def _compared(own: Record, other: Record) -> list[str]:
    """How many times as fast, the temporaries, and their share of the other's."""
    speed = other["step_ms"]["min"] / own["step_ms"]["min"]
    share = own["temp_bytes"] / other["temp_bytes"]
    return [f"{speed:.2f}", mebibytes(own["temp_bytes"]), f"{share:.2f}"]


def foreign_table(rows: list[Record]) -> str:
    """Flax's own cells in jaxrnn's engine, beside Flax's RNN."""
    body = []
    for own, other in zip(rows[::2], rows[1::2], strict=True):
        times = [milliseconds(row["step_ms"]["min"]) for row in (own, other)]
        body.append([label(own), *times, *_compared(own, other)])
    return table(
        ["Flax's cells", "jaxrnn ms", "Flax's RNN ms", "speed", "MiB", "share of Flax's"], body
    )


def steps_table(rows: list[Record]) -> str:
    """One step at a time: microseconds per step of each side."""
    cells, sides = cells_of(rows), list(dict.fromkeys(row["side"] for row in rows))
    body = []
    for side in sides:
        found = {row["cell"]: row for row in rows if row["side"] == side}
        times = [1e3 * found[cell]["step_ms"]["min"] / found[cell]["steps"] for cell in cells]
        body.append([side, *(f"{time:.0f}" for time in times)])
    return table(["µs per step", *(f"{cell}-{rows[0]['hidden']}" for cell in cells)], body)


def growth_table(rows: list[Record]) -> str:
    """Microseconds per time step, temporaries and compile time against T."""
    body = [
        [
            f"{label(row)} {row['method']}",
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
        "convolutional": [peers_table, sides_table, summary_table],
        "long": [long_table],
        "growth": [growth_table],
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
