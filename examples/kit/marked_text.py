"""Text in a picture, with its mistakes marked."""

from collections.abc import Sequence
from typing import Any

from kit import plots

COLUMNS = 92  # characters in a line of axes 9 inches wide, whose x axis counts characters


def write_words(
    axes: Any,
    top: float,
    heading: str,
    words: Sequence[str],
    truth: Sequence[str],
    plain: Sequence[str],
) -> float:
    """Write a heading and words into axes whose y axis counts lines, downwards.

    A right word is black if it equals the plain word, and blue otherwise. A wrong word is red, with
    the true one below it.

    Args:
        axes: the axes.
        top: the line of the heading.
        heading: the heading.
        words: the words to write.
        truth: the true words.
        plain: the words before they were changed.

    Returns:
        The line after the words.
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
