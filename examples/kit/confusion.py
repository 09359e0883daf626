"""A picture of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kit import plots


def draw_confusion(
    path: Path,
    truth: Sequence[int],
    found: Sequence[int] | np.ndarray,
    kinds: Sequence[str],
    title: str,
    notes: tuple[str, Sequence[Sequence[str]]] = ("", ()),
) -> None:
    """Draw how many of each kind, a row, are classified as each kind, a column, in per cent.

    Args:
        path: the file to write.
        truth: the true kinds, as indices into `kinds`.
        found: the predicted kinds.
        kinds: the names of the kinds.
        title: the title of the picture.
        notes: a heading, and a few words for each row, which stand to the right of it.
    """
    counts = np.zeros((len(kinds), len(kinds)))
    np.add.at(counts, (np.array(truth), np.array(found)), 1)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    heading, lines = notes
    figure, grid = plots.make_grid(1, 2 if lines else 1, size=(13 if lines else 7.5, 7.5))
    axes = grid[0, 0]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(kinds)), kinds, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_title(title)
    for row, column in np.argwhere(shares >= 2):
        color = "white" if shares[row, column] > 50 else "black"
        style = {"ha": "center", "va": "center", "fontsize": 8, "color": color}
        axes.text(column, row, f"{shares[row, column]:.0f}", **style)
    if lines:
        beside = grid[0, 1]
        beside.set_title(heading, loc="left")
        beside.axis("off")
        for row, line in enumerate(lines):
            beside.text(-0.5, row, ", ".join(line), va="center", fontsize=10)
    plots.save(figure, path)
