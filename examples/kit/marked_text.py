"""Text in a picture, with what is wrong in it."""

from collections.abc import Sequence
from typing import Any

from kit import plots

COLUMNS = 92  # of text that fills axes 9 inches wide, whose x axis counts characters


def write_words(
    axes: Any,
    top: float,
    heading: str,
    words: Sequence[str],
    truth: Sequence[str],
    plain: Sequence[str],
) -> float:
    """Write a heading and words; give the line after them.

    Those that are as in `truth` are black if they are as in `plain` and blue otherwise; the others
    are red, with the truth below.
    """
    axes.text(0, top, heading, fontweight="bold")
    line, column = top + 1.4, 0
    for word, true, was in zip(words, truth, plain, strict=True):
        if column + max(len(word), len(true)) > COLUMNS:
            line, column = line + 1.7, 0
        color = plots.RED if word != true else "black" if word == was else plots.BLUE
        style = {"family": "monospace", "fontsize": 10.5}
        axes.text(column, line, word, color=color, **style)
        if word != true:
            axes.text(column, line + 0.7, true, color=plots.GREY, **style | {"fontsize": 8.5})
        column += max(len(word), len(true)) + 1
    return line + 2.5
