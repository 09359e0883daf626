"""Pictures: axes of one style, files that are written whole or not at all, curves with names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

BLUE, RED, GREY = "#3b78b8", "#c8442c", "#666666"
DASHED, DOTTED = (0, (5, 4)), (0, (1, 2))
TICKS = [0.25, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 15, 20]


def make_grid(
    rows: int = 1,
    columns: int = 1,
    size: tuple[float, float] = (8, 4.5),
    share: bool = True,
) -> tuple[Any, Any]:
    """Make a figure and its axes `[rows, columns]`.

    With `share`, the axes of a column share their x axis, and those of a row their y axis.
    """
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=size,
        dpi=120,
        sharex=share,
        sharey="row" if share else False,
        squeeze=False,
        layout="constrained",
    )
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all, and close it."""
    half = path.with_name(path.name + ".tmp")
    figure.savefig(half, format="png")
    plt.close(figure)
    half.replace(path)


def draw_curves(
    path: Path,
    steps: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    levels: Mapping[str, float],
    *,
    title: str,
    ylabel: str,
) -> None:
    """Draw up to two positive curves against training steps, and constant levels to compare with.

    Each line has its name at its right end.
    """
    figure, ((axes,),) = make_grid()
    labels = []
    for (name, values), color in zip(curves.items(), (BLUE, RED), strict=False):
        axes.plot(steps, values, color=color, linewidth=2, marker="o", markersize=3, zorder=3)
        labels.append((values[-1], f"{name} {values[-1]:.2f}", color))
    for name, level in levels.items():
        axes.axhline(level, color=GREY, linewidth=1, linestyle=DASHED, zorder=1)
        labels.append((level, f"{name} {level:.2f}", GREY))
    every = [value for values in curves.values() for value in values] + [*levels.values()]
    axes.set(
        yscale="log",
        xlim=(0, steps[-1]),
        ylim=(min(every) / 1.08, max(every) * 1.08),
        xlabel="training step",
        ylabel=ylabel,
        title=title,
    )
    axes.yaxis.set_major_locator(FixedLocator(TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    name_lines(axes, sorted(labels))
    save(figure, path)


def name_lines(axes: Any, labels: list[tuple[float, str, str]]) -> None:
    """Write the names of lines to the right of the axes, each with a thin leader to its line.

    Names of lines that lie close together are moved apart.

    Args:
        axes: the axes.
        labels: the last value, the name and the colour of each line, in ascending order.
    """
    least, last = 0.055, -1.0  # the least distance, and the last name: shares of the axes' height
    to_axes = axes.transScale + axes.transLimits
    for value, text, color in labels:
        height = float(to_axes.transform((0, value))[1])
        last = max(height, last + least)
        where = {"transform": axes.transAxes, "color": color}
        axes.plot([1, 1.02], [height, last], linewidth=0.8, clip_on=False, **where)
        axes.text(1.025, last, text, va="center", fontsize=9, **where)
