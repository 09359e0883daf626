"""Translations: scored by the length of their sources, and drawn with what a decoder looked at."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from kit import plots

EDGES = (0, 8, 12, 16, 20)  # of the classes of source lengths, in words and punctuation


def classes() -> list[str]:
    return [f"{low + 1}-{high}" for low, high in pairwise(EDGES)]


Score = tuple[float, float, list[float]]
"""BLEU, chrF, and chrF of each class of source lengths."""


def score(translations: Sequence[str], references: Sequence[str], lengths: Sequence[int]) -> Score:
    """Of lower-case text; NaN for a class without sources."""
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
    """A line for each translator."""
    lines = [f"{'':<10}{'BLEU':>6}{'chrF':>7}" + "".join(f"{name:>8}" for name in classes())]
    for name, (bleu, chrf, each) in scores.items():
        lines.append(f"{name:<10}{bleu:>6.1f}{chrf:>7.1f}" + "".join(f"{c:>8.1f}" for c in each))
    return "\n".join(lines)


def choose(
    sources: Sequence[Sequence[str]], translations: Sequence[str], references: Sequence[str]
) -> int:
    """A translation for the picture: right if there is one, of a dozen words, and far from its
    source.
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
    """Left, where the decoder looked `[target words, source words]`; right, chrF by length."""
    figure, ((left, right),) = plots.make_grid(1, 2, size=(12, 5.2), share=False)
    left.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    left.set_xticks(range(len(source)), source, rotation=60, ha="left", rotation_mode="anchor")
    left.set_yticks(range(len(target)), target)
    left.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    left.set_title("Each word of the translation (rows): where the decoder looked", fontsize=10)
    styles = {"copy": (plots.GREY, plots.DASHED)}
    colors = (plots.BLUE, plots.RED)
    for k, (name, (_, _, values)) in enumerate(scores.items()):
        color, line = styles.get(name, (colors[(k - 1) // 2], "-" if k % 2 else plots.DASHED))
        right.plot(range(len(values)), values, color=color, linestyle=line, marker="o", label=name)
        right.annotate(
            name,
            (len(values) - 1, values[-1]),
            xytext=(8, 0),
            color=color,
            textcoords="offset points",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    right.set_xticks(range(len(EDGES) - 1), classes())
    right.set(xlabel="words in the source", ylabel="chrF", ylim=(0, 100))
    right.set_title(
        "Likeness to the modern verse, by length (copy: the source as it is)", fontsize=10
    )
    plots.save(figure, path)
