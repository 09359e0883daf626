"""Captions: baselines without a network, scores, and pictures of attention weights."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kit import plots
from kit.digits import STOP, WORDS, Scenes, say

Method = Callable[[np.ndarray], Any]
"""A method writes captions `[pictures, LONGEST]` for pictures."""
TITLE = "Digits that training never showed together. Lit: where the GRU looked as it chose a word"


def most_frequent(known: Scenes, images: np.ndarray) -> np.ndarray:
    """Return the most frequent caption of known scenes for every picture.

    If several are equally frequent, it is the one whose numbers come first in sorted order.
    """
    captions, counts = np.unique(known.captions, axis=0, return_counts=True)
    return np.repeat(captions[np.argmax(counts)][None], len(images), axis=0)


def nearest(known: Scenes, images: np.ndarray) -> np.ndarray:
    """Return for each picture the caption of the known picture with the nearest pixels.

    The distance is Euclidean.
    """
    theirs, ours = (x.reshape(len(x), -1).astype(np.float32) for x in (known.images, images))
    distance = np.sum(theirs**2, axis=1) - 2 * ours @ theirs.T
    return known.captions[np.argmin(distance, axis=1)]


def score(method: Method, scenes: Scenes) -> tuple[float, float]:
    """Return the share of captions that are entirely right, and that of words in their place.

    The words are those of the true captions.
    """
    same = np.asarray(method(scenes.images)) == scenes.captions
    return float(np.mean(same.all(axis=1))), float(np.mean(same[scenes.captions != STOP]))


def compare(methods: Mapping[str, Method], asked: Mapping[str, Scenes]) -> None:
    """Print the scores of all methods on each set of scenes."""
    for name, scenes in asked.items():
        print(f"{len(scenes.images):,} pictures, {name}:")
        for method_name, method in methods.items():
            exact, words = score(method, scenes)
            print(f"  {method_name:<16}{exact:7.1%} of captions right  {words:7.1%} of words")


def draw_looks(path: Path, scenes: Scenes, found: np.ndarray, weights: np.ndarray) -> None:
    """Draw each picture, and beside it once more for each word of its caption, lit by attention.

    Args:
        path: the file to write.
        scenes: the pictures and their true captions.
        found: the captions that were found `[pictures, LONGEST]`.
        weights: the attention weights at each word `[time, pictures, places]`.
    """
    count, longest = found.shape
    size = (0.85 * (longest + 1), 0.5 + 1.15 * count)
    figure, grid = plots.make_grid(count, longest + 1, size=size, share=False)
    for row, image, truth, caption, looks in zip(
        grid, scenes.images, scenes.captions, found, weights.swapaxes(0, 1), strict=True
    ):
        for axes in row:
            axes.axis("off")
        row[0].imshow(image)
        row[0].set_title("picture", fontsize=9, color=plots.GREY)
        if not np.array_equal(caption, truth):
            verdict = {"s": f"wrong: it is {say(truth)}", "color": plots.RED, "fontsize": 8}
            row[0].text(0, image.shape[0] + 1, va="top", in_layout=False, **verdict)
        for axes, word, right, look in zip(row[1:], caption, truth, looks, strict=True):
            axes.imshow(_lit(image, look))
            color = "black" if word == right else plots.RED
            axes.set_title(WORDS[word] if word else "(end)", fontsize=9, color=color)
            if word == STOP:
                break
    figure.suptitle(TITLE, fontsize=11)
    plots.save(figure, path)


def _lit(image: np.ndarray, look: np.ndarray) -> np.ndarray:
    """Return the picture, brighter where the attention weights of its places are larger."""
    side = round(len(look) ** 0.5)
    part = np.ones((image.shape[0] // side, image.shape[1] // side, 1))
    light = np.kron((look / look.max()).reshape(side, side, 1), part)
    return np.clip(70 * light + image * (0.35 + 0.65 * light), 0, 255).astype(np.uint8)
