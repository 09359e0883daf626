"""The picture of a run of `char_lm.py`: training and validation curves beside what the baselines
need for the same text.
"""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

CURVES = {"training": "#3b78b8", "validation": "#c8442c"}
TICKS = [0.25, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 15, 20]
GREY = "#666666"


def plot(path: Path, rows: list[dict[str, Any]], baselines: dict[str, float], title: str) -> None:
    """Draw bits per character against training steps; every line is named at its right end."""
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120, layout="constrained")
    steps = [row["step"] for row in rows]
    labels = []
    for name, color in CURVES.items():
        bits = [row[name] for row in rows]
        axes.plot(steps, bits, color=color, linewidth=2, marker="o", markersize=3, zorder=3)
        labels.append((bits[-1], f"{name} {bits[-1]:.2f}", color))
    for name, bits in baselines.items():
        axes.axhline(bits, color=GREY, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
        labels.append((bits, f"{name} {bits:.2f}", GREY))
    axes.set_yscale("log")
    values = [row[name] for row in rows for name in CURVES] + list(baselines.values())
    low, high = min(values) / 1.08, max(values) * 1.08
    axes.set(
        xlim=(0, steps[-1]),
        ylim=(low, high),
        xlabel="training step",
        ylabel="bits per character",
        title=title,
    )
    axes.yaxis.set_major_locator(FixedLocator(TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.spines[["top", "right"]].set_visible(False)
    _name_lines(axes, labels)
    half = path.with_name(path.name + ".tmp")
    figure.savefig(half, format="png")
    plt.close(figure)
    half.replace(path)


def _name_lines(axes: Any, labels: list[tuple[float, str, str]]) -> None:
    """Names to the right of the axes, moved apart where lines lie close together, with a thin
    leader to the line.
    """
    least = 0.055  # of the height of the axes
    to_axes = axes.transScale + axes.transLimits
    labels = sorted(labels)
    heights = [float(to_axes.transform((0, bits))[1]) for bits, _, _ in labels]
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + least) if placed else max(height, 0.0))
    for height, place, (_, text, color) in zip(heights, placed, labels, strict=True):
        axes.plot(
            [1, 1.02],
            [height, place],
            color=color,
            linewidth=0.8,
            transform=axes.transAxes,
            clip_on=False,
        )
        axes.text(
            1.025, place, text, color=color, va="center", fontsize=9, transform=axes.transAxes
        )
