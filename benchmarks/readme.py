"""`python -m benchmarks.readme [--check]`: write the figures of the site's page on performance, and
the README's, from the results.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import record, report
from benchmarks.summary import METRICS, SHARES, by_cell, summarise

Record = dict[str, Any]
Machines = dict[str, Record]
"""Complete records, by the names of their files."""
ROOT = Path(__file__).parent.parent
PAGE, README = ROOT / "docs" / "performance.md", ROOT / "README.md"
FOLDER = "../benchmarks/results"
"""Of the pictures, from the page."""

START, END = "<!-- performance -->", "<!-- /performance -->"
Markers = tuple[str, str]
PICTURES = {
    "sweeps": "time and memory of a training step against time steps, batch and hidden size",
    "unrolled": "run time, compile time and program size of scan and of the unrolled loop",
    "growth": "time per step, memory and compile time of long sequences",
}


def section(machines: Machines, name: str = "") -> str:
    """The page's text; nothing in it is typed by hand but the words around the numbers."""
    del name
    texts = [
        "One training step (outputs, and the gradients of parameters and inputs of one layer, "
        "float32), all sides in one process, taking turns, with the same weights, after they were "
        "seen to agree; the fastest round counts. The tables have the geometric mean over shapes, "
        "the worst shape in brackets. “Fastest JAX peer” is, for each shape anew, the fastest of "
        "Flax linen, Flax nnx, Haiku, Equinox, Keras and plain `lax.scan`, on one device, which "
        "may use all cores; so is jaxrnn, and PyTorch uses all cores, too. “Two devices”: the "
        "batch is split over two CPU devices (`--xla_force_host_platform_device_count=2`). "
        "“Limit”: the time that the same matrix products take alone, each in a loop of its own, as "
        "a share of the time of the step. Haiku's GRU resets before the product.",
        *(_machine(result, stem) for stem, result in machines.items()),
        "`make bench` measures this on your machine.",
    ]
    return "\n\n".join(texts)


def summary(machines: Machines, name: str = "") -> str:
    """The README's text: the tables of geometric means."""
    del name
    texts = [
        "One training step of one layer, float32, all sides in turns; the geometric mean over "
        "shapes, the worst in brackets."
    ]
    for result in machines.values():
        texts += [_measured_on(result), _summary(result["peers"])]
    return "\n\n".join(texts)


def _machine(result: Record, name: str) -> str:
    """What was measured on one machine: the summary, and the rest to unfold."""
    texts = [f"## {report.device_name(result['device'])}", _measured_on(result)]
    texts += [_summary(result["peers"])]
    texts += [report.folded("Goals, reached or not", report.goals_table(result))]
    texts += [report.folded("Every shape", report.peers_table(result["peers"]))]
    for part, (about, make) in PARTS.items():
        if result.get(part):
            texts += [report.folded(about, make(result[part]))]
    pictures = [
        f"![{about}]({FOLDER}/{name}-{part}.png)"
        for part, about in PICTURES.items()
        if result.get(part)
    ]
    if pictures:
        texts += [report.folded("Against one size", "\n\n".join(pictures))]
    return "\n\n".join(texts)


def _measured_on(result: Record) -> str:
    shapes = {str(row["shape"]) for row in result["peers"]}
    return f"On {report.device_line(result)}; {len(shapes)} shapes:"


def _pictures(rows: list[Record]) -> str:
    return f"{_summary(rows)}\n\n{report.peers_table(rows)}"


PARTS: dict[str, tuple[str, Callable[[list[Record]], str]]] = {
    "convolutional": (
        "Cells of pictures, likewise; “together”: inputs and state in one convolution",
        _pictures,
    ),
    "variants": (
        "Options and combinators, draws included, one training step on one device, beside JAX's "
        "own derivative of the same",
        report.beside_table,
    ),
    "foreign": (
        "Cells of Flax, run by jaxrnn (<code>as_cell</code>) and by Flax's own RNN, one training "
        "step on one device",
        report.beside_table,
    ),
    "attention": ("Decoders that attend, one training step", report.beside_table),
    "acting": (
        "Acting: <code>step</code> inside a user's <code>lax.scan</code>, forward alone",
        report.beside_table,
    ),
    "populations": (
        "Under <code>jax.vmap</code>: many models, or the rows of one",
        report.beside_table,
    ),
    "first_result": (
        "The first result: imports, tracing and compiling two layers, calls without "
        "<code>jit</code>",
        report.beside_table,
    ),
    "rules": ("Where the engine's plan changes sides", report.rules_tables),
    "steps": (
        "Streaming, one step at a time, batch one; “awaited”: each output is waited for before "
        "the next step, as PyTorch does",
        report.steps_table,
    ),
    "long": ("A long sequence", report.long_table),
}
"""What is unfolded, by part: what it says, and its table."""


def _summary(rows: list[Record]) -> str:
    groups = by_cell(rows)
    body = []
    for metric, meaning in METRICS.items():
        summaries = [summarise(group, metric) for group in groups.values()]
        unit = "" if metric in SHARES else "×"
        if any(summaries):
            cells = [
                f"{found.mean:.2f}{unit} ({found.worst:.2f})" if found else report.NONE
                for found in summaries
            ]
            body.append([meaning, *cells])
    return report.table(["", *groups], body)


def updated(text: str, new: str, markers: Markers = (START, END)) -> str:
    """A page with the section between two markers replaced.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    before, start, rest = text.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not start or not end or start in rest or end in after:
        raise ValueError(f"the page needs {' and then '.join(markers)}, once each")
    return f"{before}{start}\n\n{new}\n\n{end}{after}"


def main(
    argv: list[str],
    page: Path = PAGE,
    results: Path = record.RESULTS,
    section: Callable[[Any, str], str] = section,
    markers: Markers = (START, END),
    module: str = "benchmarks.readme",
) -> int:
    """Write a section from a record, or from all complete ones of a folder, or with `--check` fail
    if it is not what they say.
    """
    if argv not in ([], ["--check"]):
        print(f"usage: python -m {module} [--check]", file=sys.stderr)
        return 2
    try:
        old = page.read_text(encoding="utf-8")
        new = updated(old, section(record.read(results), results.stem), markers)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if argv and new != old:
        print(
            f"{page.name}: what is after {markers[0]} is not what {results.name} says; "
            f"run python -m {module}"
        )
        return 1
    if not argv:
        page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(max(main(sys.argv[1:]), main(sys.argv[1:], README, section=summary)))
