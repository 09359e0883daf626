"""Scores of translations by source length, and a picture of attention weights."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from kit import plots

EDGES = (0, 8, 12, 16, 20)  # of the classes of source lengths, in words and punctuation marks


def classes() -> list[str]:
    """Return the names of the classes of source lengths, such as "1-8"."""
    return [f"{low + 1}-{high}" for low, high in pairwise(EDGES)]


STYLES = {
    "copy": (plots.GREY, plots.DOTTED),  # the source itself, as its translation
    "plain": (plots.BLUE, "-"),
    "reversed": (plots.BLUE, plots.DASHED),
    "attention": (plots.RED, "-"),
    "both": (plots.RED, plots.DASHED),
}
Score = tuple[float, float, list[float]]
"""BLEU, chrF, and chrF of each class of source lengths."""


def score(translations: Sequence[str], references: Sequence[str], lengths: Sequence[int]) -> Score:
    """Score translations in lower case.

    Args:
        translations: the translations.
        references: the true translations.
        lengths: the lengths of the sources.

    Returns:
        BLEU, chrF, and chrF of each class of source lengths, NaN for a class without sources.
    """
    from sacrebleu import corpus_bleu, corpus_chrf

    def chrf(chosen: Sequence[int]) -> float:
        if not len(chosen):
            return float("nan")
        return corpus_chrf(
            [translations[k] for k in chosen], [[references[k] for k in chosen]]
        ).score

    of_class = np.searchsorted(EDGES, lengths) - 1
    each = [chrf(np.flatnonzero(of_class == k).tolist()) for k in range(len(EDGES) - 1)]
    bleu = corpus_bleu(list(translations), [list(references)], force=True).score
    return bleu, chrf(range(len(translations))), each


def table(scores: Mapping[str, Score]) -> str:
    """Return the scores as a table, with a line for each translator."""
    lines = [f"{'':<10}{'BLEU':>6}{'chrF':>7}" + "".join(f"{name:>8}" for name in classes())]
    for name, (bleu, chrf, each) in scores.items():
        lines.append(f"{name:<10}{bleu:>6.1f}{chrf:>7.1f}" + "".join(f"{c:>8.1f}" for c in each))
    return "\n".join(lines)


def choose(
    sources: Sequence[Sequence[str]], translations: Sequence[str], references: Sequence[str]
) -> int:
    """Choose a translation for the picture.

    The choice prefers sources of 8 to 14 words, then translations that equal their reference, then
    those with the most words that their source does not have.
    """

    def merit(k: int) -> tuple[bool, bool, int]:
        words = translations[k].split()
        fresh = len(set(words) - set(sources[k]))
        return 8 <= len(sources[k]) <= 14, translations[k] == references[k], fresh

    return max(range(len(sources)), key=merit)


def draw(
    path: Path,
    scores: Mapping[str, Score],
    weights: np.ndarray,
    source: Sequence[str],
    target: Sequence[str],
) -> None:
    """Draw attention weights `[target words, source words]` at the left, and chrF at the right.

    Args:
        path: the file to write.
        scores: the scores of each translator.
        weights: the attention weights of one translation.
        source: the words of its source.
        target: the words of the translation.
    """
    figure, ((left, right),) = plots.make_grid(1, 2, size=(12, 5.2), share=False)
    left.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    left.set_xticks(range(len(source)), source, rotation=60, ha="left", rotation_mode="anchor")
    left.set_yticks(range(len(target)), target)
    left.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    left.set_title("Where the decoder looked as it wrote each word (rows)", fontsize=10)
    labels = []
    for name, (_, _, values) in scores.items():
        color, line = STYLES[name]
        right.plot(range(len(values)), values, color=color, linestyle=line, marker="o")
        labels.append((values[-1], name, color))
    right.set_xticks(range(len(EDGES) - 1), classes())
    right.set(xlabel="words in the source", ylabel="chrF", ylim=(0, 100))
    right.set_title("Likeness to the modern verse, by length of the source", fontsize=10)
    plots.name_lines(right, sorted(labels))
    plots.save(figure, path)
