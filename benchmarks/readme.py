"""`python -m benchmarks.readme [--check]`: write the figures of the site's page on performance, and
the README's, from the results.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import record, report
from benchmarks.summary import LEANER, METRICS, by_cell, summarise

Record = dict[str, Any]
ROOT = Path(__file__).parent.parent
PAGE, README = ROOT / "docs" / "performance.md", ROOT / "README.md"
START, END = "<!-- performance -->", "<!-- /performance -->"
Markers = tuple[str, str]
PICTURES = {
    "sweeps": "time and memory of a training step against time steps, batch and hidden size",
    "unrolled": "run time, compile time and program size of scan and of the unrolled loop",
    "growth": "time per step, memory and compile time of long sequences",
}


def section(result: Record, name: str = "cpu", folder: str = "../benchmarks/results") -> str:
    """The page's text; nothing in it is typed by hand but the words around the numbers."""
    rows = result["peers"]
    texts = [
        f"Measured on {report.device_line(result)}.",
        "One training step (outputs, and the gradients of parameters and inputs of one layer, "
        "float32), all sides in one process, taking turns, with the same weights, after they were "
        "seen to agree; the fastest round counts. The geometric mean over "
        f"{len({str(row['shape']) for row in rows})} shapes, the worst shape in brackets:",
        _summary(rows),
        "“Fastest JAX peer” is, for each shape anew, the fastest of Flax linen, Flax nnx, Haiku, "
        "Equinox, Keras and plain `lax.scan`, on one device, which may use all cores; so is "
        "jaxrnn, unless its batch is said to be split over two CPU devices "
        "(`--xla_force_host_platform_device_count=2`). PyTorch uses all cores, and there jaxrnn "
        "may split its batch. Haiku's GRU resets before the product.",
        report.folded("Every shape", report.peers_table(rows)),
    ]
    if result.get("convolutional"):
        about = "Cells of pictures, likewise; “together”: inputs and state in one convolution"
        texts += [report.folded(about, _pictures(result["convolutional"]))]
    if result.get("variants"):
        about = (
            "Options and combinators, draws included, one training step on one device, beside "
            "JAX's own derivative of the same"
        )
        texts += [report.folded(about, report.variants_table(result["variants"]))]
    if result.get("foreign"):
        about = (
            "Cells of Flax, run by jaxrnn (<code>as_cell</code>) and by Flax's own RNN, one "
            "training step on one device"
        )
        texts += [report.folded(about, report.foreign_table(result["foreign"]))]
    if result.get("steps"):
        texts += [
            "Streaming, one step at a time, batch one; “awaited”: each output is waited for "
            "before the next step, as PyTorch does:",
            report.steps_table(result["steps"]),
        ]
    if result.get("long"):
        texts += ["A long sequence:", report.long_table(result["long"])]
    texts += [
        f"![{about}]({folder}/{name}-{part}.png)"
        for part, about in PICTURES.items()
        if result.get(part)
    ]
    texts += ["`make bench` measures this on your machine."]
    return "\n\n".join(texts)


def summary(result: Record, name: str = "cpu") -> str:
    """The README's text: the table of geometric means."""
    del name
    rows = result["peers"]
    return (
        f"On {report.device_line(result)}. One training step of one layer, float32, all sides in "
        f"turns; the geometric mean over {len({str(row['shape']) for row in rows})} shapes, the "
        f"worst in brackets:\n\n{_summary(rows)}"
    )


def _pictures(rows: list[Record]) -> str:
    return f"{_summary(rows)}\n\n{report.peers_table(rows)}"


def _summary(rows: list[Record]) -> str:
    groups = by_cell(rows)
    body = []
    for metric, meaning in METRICS.items():
        summaries = [summarise(group, metric) for group in groups.values()]
        unit = "" if metric in LEANER else "×"
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
    results: Path = record.RESULTS / "cpu.json",
    section: Callable[[Record, str], str] = section,
    markers: Markers = (START, END),
    module: str = "benchmarks.readme",
) -> int:
    """Write a section, or with `--check` fail if it is not what the results say."""
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
