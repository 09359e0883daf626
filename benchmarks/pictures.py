"""Pictures of the records."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from benchmarks.summary import cells_of

Record = dict[str, Any]
COLOURS = [plt.get_cmap("tab10")(k) for k in range(10)] + [
    plt.get_cmap("Dark2")(k) for k in range(8)
]
DASHES = ("-", "--", ":")


def draw(result: Record, folder: Path, name: str) -> list[Path]:
    """Draw every part that was measured; the files."""
    makers = {"sweeps": draw_sweeps, "unrolled": draw_unrolled, "growth": draw_growth}
    paths = []
    for part, make in makers.items():
        if result.get(part):
            figure = make(result[part])
            paths.append(folder / f"{name}-{part}.png")
            figure.savefig(paths[-1], dpi=90, pil_kwargs={"optimize": True})
            plt.close(figure)
    return paths


def draw_sweeps(rows: list[Record]) -> Any:
    """Time and memory of a training step against T, batch and hidden."""
    titles = {"time": "time steps", "batch": "batch", "hidden": "hidden = in"}
    axes_names = [axis for axis in titles if any(row["axis"] == axis for row in rows)]
    figure, grid = _grid(2, len(axes_names))
    for column, axis in enumerate(axes_names):
        chosen = [row for row in rows if row["axis"] == axis]
        fixed = chosen[0]["shape"]
        rest = ", ".join(
            f"{_SHORT[name]} {fixed[name]}" for name in ("batch", "time", "hidden") if name != axis
        )
        _lines(grid[0][column], chosen, "method", ("bptt", "autodiff"), axis, _step_ms)
        _lines(grid[1][column], chosen, "method", ("bptt", "autodiff"), axis, _mebibytes)
        grid[0][column].set_title(f"against {titles[axis]} ({rest})")
        grid[1][column].set_xlabel(titles[axis])
    grid[0][0].set_ylabel("training step, ms")
    grid[1][0].set_ylabel("temporaries, MiB")
    _legend(figure, cells_of(rows), {"jaxrnn": "-", "lax.scan, JAX's derivative": "--"})
    return figure


def draw_unrolled(rows: list[Record]) -> Any:
    """`scan` and the unrolled loop: run time, compile time and size of the program against T."""
    size = rows[0]["shape"]
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    figure, grid = _grid(len(kinds), 3)
    for line, what in zip(grid, kinds, strict=True):
        chosen = [row for row in rows if row["what"] == what]
        measures: list[tuple[str, Callable[[Record], float]]] = [
            (f"{what}: run time, ms", _step_ms),
            (f"{what}: compile time, s", lambda row: row["compile_s"]),
            (
                f"{what}: compiled program, MiB",
                lambda row: (row["program_bytes"] or float("nan")) / 2**20,
            ),
        ]
        for axes, (title, value) in zip(line, measures, strict=True):
            _lines(axes, chosen, "driver", ("scan", "unroll"), "time", value)
            axes.set_title(title)
    for axes in grid[-1]:
        axes.set_xlabel(f"time steps (batch {size['batch']}, hidden {size['hidden']})")
    _legend(
        figure,
        cells_of(rows),
        {"scan": "-", "unrolled loop (until compiling takes too long)": "--"},
    )
    return figure


def draw_growth(rows: list[Record]) -> Any:
    """Long sequences: time per step, memory and compile time against T."""
    size = rows[0]["shape"]
    figure, grid = _grid(1, 3)
    measures: list[tuple[str, Callable[[Record], float]]] = [
        ("training, µs per time step", lambda row: 1e3 * _step_ms(row) / row["shape"]["time"]),
        ("temporaries, MiB", _mebibytes),
        ("compile time, s", lambda row: row["compile_s"]),
    ]
    gradients = ("bptt", "checkpointed", "autodiff")
    for axes, (title, value) in zip(grid[0], measures, strict=True):
        for k, method in enumerate(gradients):
            chosen = [row for row in rows if row["method"] == method]
            axes.plot(
                [row["shape"]["time"] for row in chosen],
                [value(row) for row in chosen],
                "o-",
                color=COLOURS[k],
                ms=4,
            )
        axes.set_title(title)
        axes.set_xlabel(
            f"time steps ({rows[0]['cell']}, batch {size['batch']}, hidden {size['hidden']})"
        )
        _scales(axes, [row["shape"]["time"] for row in rows])
        if title != "temporaries, MiB":
            axes.set_yscale("linear")
            axes.yaxis.set_major_locator(MaxNLocator(6))
            axes.set_ylim(bottom=0)
    handles = [
        Line2D([], [], color=COLOURS[k], marker="o", ms=4, label=_GRADIENT_NAMES[name])
        for k, name in enumerate(gradients)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


_SHORT = {"batch": "batch", "time": "T", "hidden": "hidden"}
_GRADIENT_NAMES = {
    "bptt": 'method="bptt"',
    "checkpointed": 'method="checkpointed"',
    "autodiff": 'method="autodiff"',
}


def _step_ms(row: Record) -> float:
    return row["step_ms"]["min"]


def _mebibytes(row: Record) -> float:
    return row["temp_bytes"] / 2**20


def _grid(rows: int, columns: int) -> tuple[Any, Any]:
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(3.9 * columns, 0.5 + 2.9 * rows),
        squeeze=False,
        layout="constrained",
    )
    for axes in grid.flat:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(9.5)
    return figure, grid


def _lines(
    axes: Any,
    rows: list[Record],
    side: str,
    names: tuple[str, ...],
    x: str,
    value: Callable[[Record], float],
) -> None:
    """A colour for each cell, a dash for each side."""
    for k, cell in enumerate(cells_of(rows)):
        for name, dash in zip(names, DASHES, strict=False):
            chosen = [row for row in rows if row["cell"] == cell and row[side] == name]
            xs, ys = [row["shape"][x] for row in chosen], [value(row) for row in chosen]
            axes.plot(xs, ys, dash, color=COLOURS[k % len(COLOURS)], marker="o", ms=3.5, lw=1.4)
    _scales(axes, [row["shape"][x] for row in rows])


def _scales(axes: Any, sizes: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sorted(set(sizes)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend(figure: Any, cells: list[str], dashes: dict[str, str]) -> None:
    handles = [
        Line2D([], [], color=COLOURS[k % len(COLOURS)], label=cell) for k, cell in enumerate(cells)
    ]
    handles += [Line2D([], [], color="0.3", ls=dash, label=name) for name, dash in dashes.items()]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(8, len(handles)), frameon=False
    )
