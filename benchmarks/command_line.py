"""`python -m benchmarks`: check that all sides agree, time them, print a table, write JSON and
pictures.
"""

import contextlib
import dataclasses
import io
import sys
import time
from pathlib import Path
from typing import Any

import tyro

from benchmarks import agreement, experiments, pictures, record, report
from benchmarks.machine import processor
from benchmarks.peers import OPPONENTS
from benchmarks.plan import CELLS, CONVOLUTIONAL, SHAPES, Plan, Shape, quick, tiny

ALL_PARTS = tuple(experiments.PARTS)


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure jaxrnn beside the other libraries that are installed, on this machine.

    All sides get the same weights and must agree before they are timed. A complete run, about half
    an hour on two cores, writes RESULTS/PROCESSOR.json and its pictures; one that is restricted to
    some parts PROCESSOR-PART.json; one that is restricted in any other way PROCESSOR-partial.json.
    """

    cells: tuple[str, ...] = (*CELLS, *CONVOLUTIONAL)
    """Which cells."""
    shapes: tuple[str, ...] = tuple(shape.label for shape in SHAPES)
    """Sizes of the comparison with peers: BATCHxTIMExINxHIDDEN ..."""
    against: tuple[str, ...] = OPPONENTS
    """Which opponents; those that are not installed are skipped."""
    parts: tuple[str, ...] = ALL_PARTS
    """peers: the comparison, and the share of the limit; convolutional: the same for cells of
    pictures; variants: options and combinators; foreign: cells of Flax; attention: decoders that
    attend; acting: `step` in a user's loop; populations: `vmap` over models and rows; first_result:
    imports, compilations, calls without `jit`; rules: where the plan changes sides; steps: one step
    at a time; long, growth: long sequences; unrolled: scan and the Python loop; sweeps: time and
    memory against each size.
    """
    quick: bool = False
    """Real but small sizes, three peers, a point of every part but rules: two minutes."""
    tiny: bool = False
    """Tiny sizes: does everything work? Its numbers mean nothing."""
    out: Path = record.RESULTS
    """The folder for JSON and pictures."""

    def __post_init__(self) -> None:
        for word, given, known in (
            ("cell", self.cells, (*CELLS, *CONVOLUTIONAL)),
            ("opponent", self.against, OPPONENTS),
            ("part", self.parts, ALL_PARTS),
        ):
            for name in given:
                if name not in known:
                    raise ValueError(f"no {word} is called {name!r}; there are {', '.join(known)}")
        for shape in self.shapes:
            Shape.parse(shape)

    @property
    def left_in(self) -> str:
        """What a record's name says of it: nothing if it is complete."""
        if dataclasses.replace(self, out=record.RESULTS, parts=ALL_PARTS) != Options():
            return "-partial"
        return "" if self.parts == ALL_PARTS else "-" + "-".join(self.parts)

    def plan(self) -> Plan:
        """What to measure."""
        shapes = tuple(Shape.parse(shape) for shape in self.shapes)
        against = None if self.against == OPPONENTS else self.against
        plan = Plan(cells=self.cells, shapes=shapes, against=against, parts=self.parts)
        return tiny(plan) if self.tiny else quick(plan) if self.quick else plan


def run(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parse(argv)
    if isinstance(options, int):
        return options
    name = processor().slug + options.left_in
    path = options.out / f"{name}.json"
    try:
        result = _fill(options, path)
    except agreement.Disagreement as disagreement:
        print(f"error: {disagreement}", file=sys.stderr)
        return 1
    drawn = pictures.draw(result, options.out, name)
    print(report.full_report(result))
    print("\nwritten in", f"{result['seconds']:.0f} s:", *[path, *drawn])
    return 0


def _fill(options: Options, path: Path) -> dict[str, Any]:
    """Measure. What is done is always on disk, but complete only at the end."""
    start, plan = time.perf_counter(), options.plan()
    result: dict[str, Any] = {**record.describe(), "complete": False, "seconds": 0.0}
    result["skipped"] = experiments.skipped(plan)
    for part, records in experiments.run(plan):
        result[part] = records
        result["seconds"] = round(time.perf_counter() - start, 1)
        record.write(path, result)
    result["complete"] = not options.left_in
    record.write(path, result)
    return result


def _parse(argv: list[str] | None) -> Options | int:
    """The options, or an exit status; what is wrong is said in one line."""
    console = io.StringIO()
    try:
        with contextlib.redirect_stderr(console):
            return tyro.cli(
                Options,
                args=argv,
                prog="python -m benchmarks",
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stopped:
        if stopped.code in (0, None):
            return 0
        words = [line.strip("│╭╮╰╯─ ") for line in console.getvalue().splitlines()]
        print("error:", " ".join(word for word in words if word), file=sys.stderr)
        return 2
