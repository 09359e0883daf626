"""`python -m benchmarks.accelerator`: jaxrnn's methods on a GPU or TPU, beside `lax.scan` written
by hand and cuDNN: are they right, how fast, how lean, how many kernels.
"""

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

from benchmarks import record
from benchmarks.accelerator_sides import REFERENCE, Torch, jax_sides, problem_of
from benchmarks.agreement import COMPARED, distance
from benchmarks.measure import Traced, take_turns
from benchmarks.plan import PEER_CELLS, Shape
from benchmarks.programs import kernels
from benchmarks.sides import JaxSide, Missing, Problem, Results

SHAPES = (
    Shape(64, 128, 256, 256),
    Shape(16, 1024, 768, 768),
    Shape(256, 64, 512, 512),
    Shape(1, 512, 256, 256),
    Shape(32, 2048, 128, 128),
    Shape(64, 512, 64, 64),  # whose weights fit on the chip
)
DTYPES = ("float32", "bfloat16")
CHECKED = Shape(16, 70, 96, 64)
"""Whether sides agree is asked here: every block leaves a rest."""
TOLERANCE = 3e-5
"""Allowed distance relative to the norm, where float32 is multiplied in full: cuDNN's activations
are 1e-5 away.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare jaxrnn's methods with `lax.scan` and cuDNN on the device that JAX uses.

    Each cell is checked in float32 with products in full precision. Products of timed float32 have
    JAX's default precision, TF32 on an NVIDIA GPU, as cuDNN's and PyTorch's do."""

    cells: tuple[str, ...] = PEER_CELLS
    """LSTM, GRU, Elman."""
    shapes: tuple[str, ...] = tuple(shape.label for shape in SHAPES)
    """BATCHxTIMExINxHIDDEN ..."""
    dtypes: tuple[str, ...] = DTYPES
    """Of weights and inputs."""
    check: bool = True
    """Compare values and gradients first, and leave out who differs."""
    limit: float = 3600.0
    """Seconds after which no further comparison is begun."""
    seconds: float = 1.0
    """Seconds of taking turns, for each comparison and kind of program."""
    out: Path = record.RESULTS
    """The folder of the JSON file, which is named after the device and written as results come."""
    programs: Path | None = None
    """A zip file for the text of all compiled training steps."""

    def __post_init__(self) -> None:
        for word, given, known in (
            ("cell", self.cells, PEER_CELLS),
            ("dtype", self.dtypes, DTYPES),
        ):
            for name in given:
                if name not in known:
                    raise ValueError(f"no {word} is called {name!r}; there are {', '.join(known)}")
        for shape in self.shapes:
            Shape.parse(shape)

    def comparisons(self) -> Iterator[tuple[str, str, Shape]]:
        """Cell, dtype and shape, those that matter most first."""
        for dtype in self.dtypes:
            for shape in map(Shape.parse, self.shapes):
                for cell in self.cells:
                    yield cell, dtype, shape


class Ready(NamedTuple):
    """A program that is ready to run."""

    call: Callable[[], Any]
    temp_bytes: int | None = None
    kernels: int | None = None
    text: str = ""


class Side(NamedTuple):
    """The programs of a side, and how what its training step gives is read."""

    step: Ready
    forward: Ready
    results: Callable[[Any], Results]


def run(options: Options) -> dict[str, Any]:
    """Check, then compare until the time is over; what was measured so far is always on disk."""
    start = time.perf_counter()
    result = {**record.describe(), "driver": _driver(), "tolerance": TOLERANCE}
    result |= {"checked": [], "comparisons": []}
    name = re.sub(r"\W+", "-", result["device"]["name"]).strip("-").lower()
    wrong: set[tuple[str, str]] = set()
    if options.check:
        for kind in options.cells:
            errors, missing = check(kind)
            result["checked"].append({"cell": kind, "errors": errors, "missing": missing})
            wrong |= {(kind, side) for side, error in errors.items() if not error <= TOLERANCE}
            say(f"{kind}, full precision, distance from {REFERENCE}: {_spread(errors)}")
            record.write(options.out / f"{name}.json", result)
    for side in sorted(wrong):
        say(f"WRONG, and left out: {side}")
    for kind, dtype, shape in options.comparisons():
        if time.perf_counter() - start > options.limit:
            say(f"out of time before {kind} {dtype} {shape.label}")
            break
        leave_out = {side for cell, side in wrong if cell == kind}
        row = compare(problem_of(kind, shape, dtype), leave_out, options)
        result["comparisons"].append(row)
        result["seconds"] = round(time.perf_counter() - start, 1)
        record.write(options.out / f"{name}.json", result)
        say(f"{table(row)}\n({result['seconds']:.0f} s)")
    return result


def check(kind: str) -> tuple[dict[str, float], dict[str, str]]:
    """How far each side's values and gradients are from `lax.scan`'s, in float32 with products in
    full precision; and who could not be asked.
    """
    problem = problem_of(kind, CHECKED, "float32")
    with _torch_in_full_precision():
        sides, missing = build(problem, set(), "highest")
        return differences(sides), missing


def compare(problem: Problem, leave_out: set[str], options: Options) -> dict[str, Any]:
    """One training step and the forward pass of each side."""
    sides, missing = build(problem, leave_out)
    errors = differences(sides)
    steps, forwards = (
        take_turns(
            {name: getattr(side, what).call for name, side in sides.items()}, options.seconds
        )
        for what in ("step", "forward")
    )
    if options.programs:
        _store(options.programs, problem, sides)
    return {
        "cell": problem.kind,
        "dtype": str(problem.xs.dtype),
        "shape": problem.shape._asdict(),
        "missing": missing,
        "sides": {
            name: {
                "step_ms": steps[name],
                "forward_ms": forwards[name],
                "temp_bytes": side.step.temp_bytes,
                "kernels": side.step.kernels,
                "forward_kernels": side.forward.kernels,
                "error": float(f"{errors[name]:.2g}"),
            }
            for name, side in sides.items()
        },
    }


def build(
    problem: Problem, leave_out: set[str], precision: str | None = None
) -> tuple[dict[str, Side], dict[str, str]]:
    """Compile all sides, on all cores; and say why others are missing."""
    found = {name: side for name, side in jax_sides(problem).items() if name not in leave_out}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ready = list(pool.map(partial(_programs, problem, precision), found.values()))
    sides, missing = {}, {}
    for (name, side), programs in zip(found.items(), ready, strict=True):
        if isinstance(programs, str):
            missing[name] = programs
        else:
            sides[name] = Side(*programs, partial(side.results, problem))
    if "PyTorch" not in leave_out:
        try:
            torch = Torch.make(problem)
            torch.step()
            sides["PyTorch"] = Side(Ready(torch.step), Ready(torch.forward), torch.results)
        except (Missing, RuntimeError) as reason:
            missing["PyTorch"] = str(reason)
    for name, reason in missing.items():
        say(f"  {name} is missing: {reason[:300]}")
    return sides, missing


def _programs(problem: Problem, precision: str | None, side: JaxSide) -> tuple[Ready, Ready] | str:
    """The training step and the forward pass, or why the device does not take them: that is no
    reason to stop for the others.
    """
    try:
        with jax.default_matmul_precision(precision):
            step, forward = map(_compile, side.programs(problem))
        step.call()
        forward.call()
    except (AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return step, forward


def _compile(program: Traced) -> Ready:
    executable = program.lowered.compile()
    text = executable.as_text() or ""
    return Ready(
        call=lambda: jax.block_until_ready(executable(*program.args)),
        temp_bytes=getattr(executable.memory_analysis(), "temp_size_in_bytes", None),
        kernels=kernels(text),
        text=text,
    )


def differences(sides: dict[str, Side]) -> dict[str, float]:
    """The largest distance of outputs and gradients from those of `REFERENCE`, for each side."""

    def arrays(side: Side) -> list[Any]:
        ys, dparams, dxs = side.results(side.step.call())
        return [ys, dxs, *(getattr(dparams, name) for name in COMPARED)]

    expected = [np.asarray(array, np.float64) for array in arrays(sides[REFERENCE])]
    return {
        name: max(distance(*pair) for pair in zip(arrays(side), expected, strict=True))
        for name, side in sides.items()
    }


def table(row: dict[str, Any]) -> str:
    """One comparison as text; times are the least and the middle of the rounds."""
    shape = Shape(**row["shape"])
    reference = row["sides"][REFERENCE]["step_ms"]["min"]
    lines = [
        f"\n{row['cell']} {row['dtype']} {shape.label}",
        f"{'':28}{'step ms':>18}{'speed':>7}{'forward ms':>19}{'MiB':>9}"
        f"{'kernels/step':>16}{'error':>9}",
    ]
    for name, side in sorted(row["sides"].items(), key=lambda item: item[1]["step_ms"]["min"]):
        step, forward = side["step_ms"], side["forward_ms"]
        counts = [side[what] for what in ("kernels", "forward_kernels")]
        lines.append(
            f"{name:28}{step['min']:9.3f}{step['median']:9.3f}{reference / step['min']:7.2f}"
            f"{forward['min']:10.3f}{forward['median']:9.3f}{_mebibytes(side['temp_bytes']):>9}"
            + "".join(f"{'–' if n is None else f'{n / shape.time:.1f}':>8}" for n in counts)
            + f"{side['error']:9.0e}"
        )
    return "\n".join(lines)


def say(line: str) -> None:
    """Progress, at once."""
    print(line, flush=True)


def _mebibytes(count: int | None) -> str:
    return "–" if count is None else f"{count / 2**20:.1f}"


def _spread(errors: dict[str, float]) -> str:
    return ", ".join(f"{name} {error:.1e}" for name, error in errors.items())


@contextlib.contextmanager
def _torch_in_full_precision() -> Iterator[None]:
    """Float32 without TF32, where PyTorch is there."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def _store(path: Path, problem: Problem, sides: dict[str, Side]) -> None:
    where = f"{problem.kind}-{problem.xs.dtype}-{problem.shape.label}"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as archive:
        for name, side in sides.items():
            for what in ("step", "forward"):
                if text := getattr(side, what).text:
                    archive.writestr(f"{where}/{name}-{what}.hlo", text)


def _driver() -> str | None:
    """Of an NVIDIA GPU; None elsewhere."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    result = run(tyro.cli(Options, args=argv, prog="python -m benchmarks.accelerator"))
    return (
        1
        if any(
            not error <= TOLERANCE
            for checked in result["checked"]
            for error in checked["errors"].values()
        )
        else 0
    )


if __name__ == "__main__":
    sys.exit(main())
