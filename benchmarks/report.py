"""Tables, for the terminal and for Markdown alike."""

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import goals
from benchmarks.limit import gigaflops
from benchmarks.peers import OWN, TWO_DEVICES
from benchmarks.summary import (
    METRICS,
    Ratio,
    by_cell,
    cells_of,
    grouped,
    label,
    ratios,
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
    header = [f"cell, {sizes}", "step ms", "fastest peer", "speed", "limit"]
    header += ["2 devices", "speed", "torch ms", "speed"]
    header += ["forward ms", "fastest peer", "speed", "limit", "MiB", "leanest peer", "share"]
    return table(header, [_peer_row(row) for row in rows])


def _peer_row(row: Record) -> list[str]:
    found, sides = ratios(row), row["sides"]
    two, torch = found.get("two_devices"), found.get("torch")
    return [
        label(row),
        milliseconds(sides[OWN]["step_ms"]["min"]),
        *_against(found.get("step"), milliseconds),
        _value(found.get("limit")),
        milliseconds(sides[TWO_DEVICES]["step_ms"]["min"]) if TWO_DEVICES in sides else NONE,
        _value(two),
        milliseconds(torch.other) if torch else NONE,
        _value(torch),
        milliseconds(sides[OWN]["forward_ms"]["min"]),
        *_against(found.get("forward"), milliseconds),
        _value(found.get("limit_forward")),
        mebibytes(sides[OWN]["step"]["temp_bytes"]),
        *_against(found.get("memory"), mebibytes),
    ]


def _value(ratio: Ratio | None) -> str:
    return f"{ratio.value:.2f}" if ratio else NONE


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


def beside_table(rows: list[Record], about: str = "") -> str:
    """Comparisons: milliseconds of each side, and jaxrnn beside the fastest and the leanest."""
    groups = grouped(rows)
    names = list(dict.fromkeys(name for group in groups for name in group.sides))
    has_own, has_bytes = OWN in names, any("temp_bytes" in row for row in rows)
    header = [about, *(f"{name}, ms" for name in names)]
    header += ["speed"] if has_own else []
    header += ["MiB", "share"] if has_own and has_bytes else []
    body = []
    for group in groups:
        cells = [
            milliseconds(group.sides[name]["step_ms"]["min"]) if name in group.sides else NONE
            for name in names
        ]
        cells += [f"{group.speed():.2f}"] if has_own else []
        if has_own and has_bytes:
            share = group.share()
            cells += [mebibytes(group.sides[OWN]["temp_bytes"])]
            cells += [NONE if share is None else f"{share:.2f}"]
        body.append([group.what, *cells])
    return table(header, body)


def rules_tables(rows: list[Record]) -> str:
    """A table for each rule of the plan."""
    names = dict.fromkeys(row["rule"] for row in rows)
    return "\n\n".join(
        beside_table([row for row in rows if row["rule"] == name], name) for name in names
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
        "variants": [beside_table],
        "foreign": [beside_table],
        "attention": [beside_table],
        "acting": [beside_table],
        "populations": [beside_table],
        "first_result": [beside_table],
        "rules": [rules_tables],
        "steps": [steps_table],
    }
    parts = [
        make(result[part])
        for part, functions in makers.items()
        if result.get(part)
        for make in functions
    ]
    return "\n\n".join([device_line(result), *parts, goals_table(result), *skipped_lines(result)])


def goals_table(result: Record) -> str:
    """What is to be reached, and what was."""
    return table(["goal", "measured", "wanted", "reached"], goals.rows(result))


def skipped_lines(result: Record) -> list[str]:
    """Who did not take part."""
    return [f"skipped {name}: {reason}" for name, reason in result.get("skipped", {}).items()]


def device_line(result: Record) -> str:
    """Where and when this was measured."""
    device, versions = result["device"], result["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    known = [device_name(device), products_speed(result), result["date"]]
    return f"{', '.join(filter(None, known))}: {named}"


def products_speed(result: Record) -> str | None:
    """`large products at 195 GFLOP/s`, their median: hosts of one name may differ by two in it."""
    products = [row.get("products", {}).get("step", []) for row in result.get("peers", [])]
    found = [speed for row in products for speed in gigaflops(row)]
    return f"large products at {statistics.median(found):.0f} GFLOP/s" if found else None


def device_name(device: Record) -> str:
    """`AMD EPYC, avx512, L2 1.00 MiB, L3 32.0 MiB, 2 cores`: as far as it is known."""
    known = [device["name"], device.get("model"), device.get("vectors")]
    for cache in ("l2", "l3"):
        if size := device.get(cache):
            known.append(f"{cache.upper()} {mebibytes(size)} MiB")
    return ", ".join([*filter(None, known), f"{device['cores']} cores"])


def milliseconds(value: float) -> str:
    """Three figures."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def mebibytes(value: float) -> str:
    """Three figures, in MiB."""
    return milliseconds(value / 2**20)
