"""The results of networks on the counter, as a table and as a picture."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kit import plots
from kit.elman_jordan.counter import (
    ALWAYS,
    COUNTS,
    DISPLAYS,
    NOTHING,
    QUESTIONS,
    Sequences,
    second_half,
    share_right,
)

COLORS = (plots.GREY, plots.BLUE, "#3f8f4f", plots.RED)  # of the networks
COUNT_COLORS = ("#3b78b8", "#e0a030", "#3f8f4f", "#8a5fb0")
EXAMPLE, STEPS = 2, 16  # the sequence that is drawn, and how many of its steps
BLANK = "·"
SYMBOLS = [*map(str, range(COUNTS)), BLANK]  # of the outputs


class Found(NamedTuple):
    """The results on one display. A run is a network, either as trained or on its own outputs."""

    data: Sequences  # held out
    said: dict[str, np.ndarray]  # the outputs of each run [seeds, time, batch, OUTPUTS]
    limits: dict[str, float]  # the best accuracy that a run can have, where one is known
    errors: dict[str, Any]  # the training errors of each network [seeds, updates]
    spent: dict[str, float]  # milliseconds of processor time for an update of each network


def shares(found: Found) -> dict[str, np.ndarray]:
    """Return the accuracy of each run where the count is shown, in % `[seeds]`."""
    return {name: 100 * share_right(y, found.data.right)[0] for name, y in found.said.items()}


def most_frequent(data: Sequences) -> float:
    """Return the accuracy in % of the most frequent count as the only answer."""
    right = second_half(np.asarray(data.right))
    return 100 * np.bincount(right[right < NOTHING]).max() / np.sum(right < NOTHING)


def table(every: list[Found]) -> str:
    """Return the table: accuracies, lowest to highest of the seeds, limits, and processor time."""
    scored, first = [shares(found) for found in every], every[0]
    width = max(map(len, first.said)) + 2

    def line(name: str, cells: Iterable[str]) -> str:
        return f"{name:<{width}}" + "".join(f"{cell:>18}" for cell in cells)

    lines = [line("right where the count is shown, %", DISPLAYS)]
    lines.append(line("always the same count", (f"{most_frequent(f.data):.1f}" for f in every)))
    for name in first.said:
        ranges = [(share[name].min(), share[name].max()) for share in scored]
        lines.append(line(name, (f"{low:.1f} to {high:.1f}" for low, high in ranges)))
        if name in first.limits:
            limits = (f"{100 * found.limits[name]:.1f}" for found in every)
            lines.append(line("    the most it can", limits))
    blanks = [share_right(y, f.data.right)[1] for f in every[1:] for y in f.said.values()]
    lines.append(f"right where nothing is to be shown: at least {np.min(blanks):.2%}")
    spent = ", ".join(f"{name} {ms:.2f}" for name, ms in first.spent.items())
    return "\n".join([*lines, f"milliseconds of processor time for an update: {spent}"])


def draw(path: Path, every: list[Found], leaky: str) -> None:
    """Draw a column for each display, and one about training.

    The column of a display has the steps of an example above the accuracies of all seeds. The last
    column has the learning curves above the outputs of the run `leaky` where nothing is shown.
    """
    size = (15, 6.8)
    figure, (above, below) = plots.make_grid(2, len(every) + 1, size=size, share=False)
    for k, found in enumerate(every):
        draw_steps(above[k], found, names=k == 0)
        above[k].set_title(f"the count is shown {DISPLAYS[k]}")
        draw_shares(below[k], found, names=k == 0)
    draw_learning(above[-1], every[ALWAYS])
    draw_leak(below[-1], every[QUESTIONS], leaky)
    plots.save(figure, path)


def draw_steps(axes: Any, found: Found, names: bool) -> None:
    """Draw the inputs, targets and outputs of a held-out sequence, wrong outputs on red."""
    xs, right, count = (second_half(array)[:STEPS, EXAMPLE] for array in found.data)
    rows = {
        "a one comes in": ["1" if x else BLANK for x in xs[:, 0]],
        "it is asked for": ["?" if x else BLANK for x in xs[:, 1]],
        "count": [SYMBOLS[k] for k in count],
        "to be shown": [SYMBOLS[k] for k in right],
    }
    wrong = {}
    for name in found.errors:
        said = np.argmax(second_half(found.said[name][0])[:STEPS, EXAMPLE], axis=-1)
        rows[name], wrong[name] = [SYMBOLS[k] for k in said], said != right
    for row, (name, symbols) in enumerate(rows.items()):
        heavy = "bold" if name == "to be shown" else "normal"
        dark = plots.GREY if name == "count" else "black"
        for step, symbol in enumerate(symbols):
            bad = name in wrong and wrong[name][step]
            axes.text(
                step, row, symbol, ha="center", va="center", fontsize=9, fontweight=heavy,
                color="white" if bad else dark,
                bbox={"boxstyle": "square,pad=0.25", "fc": plots.RED, "lw": 0} if bad else None,
            )  # fmt: skip
    axes.axhline(3.5, color=plots.GREY, linewidth=0.8)
    axes.set(xlim=(-0.7, STEPS - 0.3), ylim=(len(rows) - 0.4, -0.6), xticks=[])
    trained = len(found.data.right) // 2
    axes.set_xlabel(f"steps {trained + 1} to {trained + len(right)}; training had {trained}")
    axes.set_yticks(range(len(rows)), [*rows] if names else [])
    axes.tick_params(left=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def draw_shares(axes: Any, found: Found, names: bool) -> None:
    """Draw the accuracy of each seed as a point, and the limit of each run as a line."""
    scored = shares(found)
    colors = dict(zip(found.errors, COLORS, strict=True))
    for row, (name, share) in enumerate(scored.items()):
        (color,) = (c for network, c in colors.items() if name.startswith(network))
        spread = np.linspace(-0.2, 0.2, len(share))
        hollow = name not in found.errors
        axes.scatter(share, row + spread, s=22, color="white" if hollow else color, ec=color)
        if name in found.limits:
            limit = 100 * found.limits[name]
            axes.plot([limit] * 2, [row - 0.42, row + 0.42], color="black", linewidth=1.5)
            axes.text(limit, row - 0.43, "limit", fontsize=7, ha="center", va="bottom")
    axes.axvline(100 / COUNTS, color=plots.GREY, linestyle=plots.DOTTED, zorder=0)
    axes.text(100 / COUNTS - 1, 0, "guess", fontsize=7, rotation=90, ha="right", va="center")
    if names:
        said = "Taught, they are told\nthe right outputs.\nHollow: on their own\noutputs, rounded."
        axes.text(60, (len(scored) - 1) / 2, said, fontsize=8, ha="center", va="center")
    axes.set(xlim=(15, 104), ylim=(len(scored) - 0.4, -0.6))
    short = [name if name in found.errors else name.rsplit(", ")[-1] for name in scored]
    axes.set_yticks(range(len(scored)), short if names else [])
    axes.set_xlabel("right where the count is shown, %")


def draw_learning(axes: Any, found: Found, window: int = 50) -> None:
    """Draw the squared errors of all seeds, means over `window` updates, by processor time."""
    for (name, errors), color in zip(found.errors.items(), COLORS, strict=True):
        updates = max(1, errors.shape[1] // window)
        parts = np.array_split(np.asarray(errors), updates, axis=1)
        means = np.stack([part.mean(axis=1) for part in parts])
        seconds = found.spent[name] / 1000 * np.cumsum([part.shape[1] for part in parts])
        axes.semilogy(seconds, means, color=color, linewidth=0.8)
        axes.plot([], [], color=color, label=name)
    axes.set(title=f"training, the count shown {DISPLAYS[ALWAYS]}", ylabel="squared error")
    axes.set_xlabel("processor time of one network, s")
    axes.legend(frameon=False, fontsize=8)


def draw_leak(axes: Any, found: Found, name: str) -> None:
    """Draw the deviations of outputs from the target where nothing is shown, coloured by count.

    The two axes are the principal components of the deviations of the most accurate seed. If the
    colours separate, the network writes the count into outputs that should be constant.
    """
    best = int(np.argmax(shares(found)[name]))
    right, count = map(second_half, (np.asarray(found.data.right), np.asarray(found.data.count)))
    blank = right == NOTHING
    missed = second_half(found.said[name][best])[blank]
    missed = (missed - np.eye(missed.shape[-1])[NOTHING])[:2000]
    centred = missed - missed.mean(axis=0)
    places = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    for k in range(COUNTS):
        some = places[count[blank][:2000] == k]
        axes.scatter(*some.T, s=4, color=COUNT_COLORS[k], label=str(k))
    axes.legend(title="count", frameon=False, fontsize=8, markerscale=3)
    axes.set_title(f"{name},\nwhere it should say nothing ({DISPLAYS[QUESTIONS]})", fontsize=10)
    axes.set(xlabel="deviation, first principal component", ylabel="second principal component")
