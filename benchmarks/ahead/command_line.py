"""`python -m benchmarks.ahead`: compile for accelerators that are not here, count, check what is
promised, print tables, write JSON.
"""

import dataclasses
import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks import record
from benchmarks.ahead import counts, plan, promises, tables
from benchmarks.ahead.targets import TARGETS

Record = dict[str, Any]

PACKAGES = ("jax", "jaxlib", "jax-cuda12-plugin", "nvidia-cuda-nvcc-cu12", "libtpu")


@dataclasses.dataclass(frozen=True)
class Options:
    """Compile jaxrnn, and lax.scan written by hand, for an NVIDIA H100 and a TPU v5e, and count.

    No device is needed and none is used: nothing is timed. Without further options a
    representative set is compiled and what is promised is checked."""

    platforms: tuple[Literal["gpu", "tpu"], ...] = ("gpu", "tpu")
    """For which device."""
    cells: tuple[str, ...] = ()
    """Only these, at all shapes and dtypes that are named: LSTM, GRU, Elman, "Attention, dot",
    "Attention, additive", Stack, Bidirectional, ConvLSTM."""
    shapes: tuple[str, ...] = ()
    """BATCHxTIMExINxHIDDEN ..., or all of "sweep"."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32",)
    """Of weights and inputs, where cells or shapes are named."""
    blocks: tuple[int, ...] = ()
    """jaxrnn with blocks of so many steps, too."""
    quick: bool = False
    """One small case of each kind: does everything work?"""
    limit: float = 3600.0
    """Seconds after which nothing more is begun; what is left out is said."""
    out: Path = record.RESULTS
    """The folder of the JSON file: ahead.json, or ahead-partial.json for any other set."""

    def __post_init__(self) -> None:
        plan.check(self.cells)
        self.plan()

    @property
    def partial(self) -> bool:
        """Whether this is not the representative set."""
        return dataclasses.replace(self, out=record.RESULTS, limit=3600.0) != Options()

    def plan(self) -> plan.Plan:
        """What to compile."""
        if self.quick:
            return plan.quick()
        if not self.cells and not self.shapes:
            return plan.representative()
        labels = tuple(shape.label for shape in plan.SWEEP)
        shapes = labels if self.shapes == ("sweep",) else self.shapes
        return plan.chosen(
            self.cells or ("LSTM", "GRU"), shapes or (plan.SHAPES[0].label,), self.dtypes
        )


def run(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    config = (tyro.conf.FlagCreatePairsOff,)
    options = tyro.cli(Options, args=argv, prog="python -m benchmarks.ahead", config=config)
    result: Record = {
        **record.describe(),
        "compilers": {name: importlib.metadata.version(name) for name in PACKAGES},
        "seconds": 0.0,
        "cases": [],
        "splits": [],
    }
    skipped = _fill(result, options)
    print(tables.text(result))
    print(f"\nwritten to {options.out}, {result['seconds']:.0f} s")
    for what in skipped:
        print(f"out of time before {what}")
    broken = promises.broken(result["cases"], result["splits"])
    for found in broken:
        print(f"BROKEN: {found}", file=sys.stderr)
    return 1 if broken else 0


def _fill(result: Record, options: Options) -> list[str]:
    """Compile and count; what there was no time for. What is done is always on disk."""
    start, skipped = time.perf_counter(), []
    partial = options.out / "ahead-partial.json"
    for what, job in _jobs(options):
        if time.perf_counter() - start > options.limit:
            skipped.append(what)
            continue
        for key, rows in job().items():
            result[key] += rows
        result["seconds"] = round(time.perf_counter() - start, 1)
        record.write(partial, result)
        print(f"{what} ({result['seconds']:.0f} s)", flush=True)
    if not options.partial and not skipped:
        partial.replace(options.out / "ahead.json")
    return skipped


def _jobs(options: Options) -> Iterator[tuple[str, Callable[[], dict[str, list[Record]]]]]:
    """What to do, by name, and what each adds to the result."""
    wanted = options.plan()
    targets = [TARGETS[platform] for platform in options.platforms]
    for case in wanted.cases:
        for target in targets:
            yield (
                f"{target.name}, {case.label}",
                lambda case=case, target=target: {
                    "cases": [counts.of_case(case, target, options.blocks)]
                },
            )
    for case in wanted.splits:
        for target in targets:
            yield (
                f"{target.name}, {case.label}, batch over four",
                lambda case=case, target=target: {"splits": counts.of_split(case, target)},
            )
