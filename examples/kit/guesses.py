"""A picture of the predictions of a model of words, and of its perplexity by context length."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.patches import Rectangle

from kit import plots
from kit.scores import Score
from kit.words import SPEECH, Guess

CELL = 0.94  # the width of a cell, as a share of its column
LETTERS = 8  # how many letters fit into a cell
TICKS = [50, 100, 150, 200, 300, 400, 600]  # of perplexity


def draw_guesses(
    path: Path,
    sentences: Sequence[Sequence[Guess]],
    perplexities: Mapping[int, float],
    scores: Mapping[str, Score],
) -> None:
    """Draw sentences with the guesses at each word, above perplexities by context length.

    Args:
        path: the file to write.
        sentences: the predictions at each word of each sentence.
        perplexities: the perplexity for each number of words read before a prediction.
        scores: the scores of models on the whole text. The last model is the one that guesses.
    """
    heights = [*[2.4] * len(sentences), 2.8]
    figure, axes = plots.plt.subplots(
        len(heights),
        figsize=(11, sum(heights) + 0.5),
        height_ratios=heights,
        dpi=100,
        squeeze=False,
        layout="constrained",
    )
    *above, below = axes[:, 0]
    figure.suptitle(
        "Five guesses before each word of a play that the model never read (red frame: right)"
    )
    for one, sentence in zip(above, sentences, strict=True):
        _draw_sentence(one, sentence, columns=max(map(len, sentences)))
    _draw_perplexities(below, perplexities, scores)
    plots.save(figure, path)


def _draw_sentence(axes: Any, sentence: Sequence[Guess], columns: int) -> None:
    """Draw a column for each word: the word, its probability, and the guesses below."""
    count = len(sentence[0].likeliest)
    axes.set(xlim=(-1.25, columns), ylim=(count, -1.5))
    axes.axis("off")
    at_left = {"ha": "right", "va": "center", "fontsize": 9, "color": plots.GREY}
    for row, name in [(-1.1, "what came"), (-0.4, "its probability"), (0.5, "guesses")]:
        axes.text(-0.1, row, name, **at_left)
    for column, (came, probability, likeliest) in enumerate(sentence):
        middle = {"x": column + CELL / 2, "ha": "center", "va": "center"}
        axes.text(y=-1.1, s=came, fontsize=13, weight="bold", **middle)
        axes.text(y=-0.4, s=_percent(probability), fontsize=9, **middle)
        for row, (word, share) in enumerate(likeliest):
            _draw_guess(axes, column, row + 0.05, word, share, word == came)


def _percent(share: float) -> str:
    """Return a share in per cent: a whole number, or one digit of it below 1 %."""
    return f"{share:.0%}" if share >= 0.01 or not share else f"{100 * share:.1g}%"


def _draw_guess(axes: Any, x: float, y: float, word: str, share: float, right: bool) -> None:
    """Draw the cell of a guess, darker if it is likelier, and with a frame if it is right."""
    shade = {"facecolor": plots.BLUE, "alpha": 0.08 + 0.9 * share, "linewidth": 0}
    axes.add_patch(Rectangle((x, y), CELL, 0.9, **shade))
    if right:
        frame = {"fill": False, "edgecolor": plots.RED, "linewidth": 2}
        axes.add_patch(Rectangle((x, y), CELL, 0.9, **frame))
    how = {"va": "center", "color": "white" if share > 0.5 else "black"}
    short = word if len(word) <= LETTERS else f"{word[: LETTERS - 1]}…"
    axes.text(x + 0.05, y + 0.45, "(end)" if word == SPEECH else short, fontsize=8.5, **how)
    axes.text(x + CELL - 0.05, y + 0.45, f"{share:.0%}", fontsize=7, ha="right", **how)


def _draw_perplexities(
    axes: Any, perplexities: Mapping[int, float], scores: Mapping[str, Score]
) -> None:
    """Draw perplexities by context length, and those of all models as levels."""
    axes.spines[["top", "right"]].set_visible(False)
    read, values = list(perplexities), list(perplexities.values())
    axes.plot(read, values, color=plots.BLUE, linewidth=2, marker="o", zorder=3)
    for n, value in perplexities.items():
        place = {"xytext": (0, -15), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{value:.0f}", (n, value), color=plots.BLUE, **place)
    levels, names = [score.perplexity for score in scores.values()], []
    for name, level in zip(scores, levels, strict=True):
        color = plots.BLUE if level == levels[-1] else plots.GREY
        axes.axhline(level, color=color, linewidth=1, linestyle=plots.DASHED)
        names.append((level, f"{name} {level:.0f}", color))
    every = [*values, *levels]
    axes.set(xscale="log", yscale="log", ylabel="perplexity")
    axes.set_xticks(read, map(str, read))
    axes.set_yticks(TICKS, map(str, TICKS))
    axes.minorticks_off()
    axes.set_ylim(min(every) / 1.2, max(every) * 1.1)
    axes.set_xlabel("words that the LSTM has read before it guesses")
    said = "Perplexity on held-out plays, lower is better, by how much the model has read"
    axes.set_title(said, loc="left", fontsize=11)
    plots.name_lines(axes, sorted(names))
