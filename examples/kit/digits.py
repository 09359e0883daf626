"""Pictures of handwritten digits in several colours and places, and the caption of each.

The grammar of captions is

    scene = group above group | group left of group
          | group above group and group | group and group above group
    group = a COLOUR DIGIT | two COLOUR DIGITS

Exactly one caption is true of a picture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

SIDE, CELL = 8, 12  # pixels: the side of a digit, and of the cell in which it lies
CANVAS = 2 * CELL  # the side of a picture
COLOURS = {
    "red": (255, 60, 50),
    "green": (50, 220, 80),
    "blue": (80, 130, 255),
    "yellow": (255, 225, 50),
    "white": (255, 255, 255),
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLURALS = tuple(f"{digit}es" if digit == "six" else f"{digit}s" for digit in DIGITS)
WORDS = (".", "a", *COLOURS, *DIGITS, *PLURALS, "above", "left", "of", "and")
STOP = 0  # the number of the full stop, which ends a caption
LONGEST = 12  # the largest number of words in a caption, with the full stop

TOP, BOTTOM, LEFT, RIGHT = (0, 0, 2, 1), (0, 1, 2, 1), (0, 0, 1, 2), (1, 0, 1, 2)
LAYOUTS = (
    (("above",), (TOP, BOTTOM)),
    (("left of",), (LEFT, RIGHT)),
    (("above", "and"), (TOP, (0, 1, 1, 1), (1, 1, 1, 1))),
    (("and", "above"), ((0, 0, 1, 1), (1, 0, 1, 1), BOTTOM)),
)
"""The words between the groups, and the place of each group: x, y, width and height in cells."""

Thing = tuple[str, int]
"""A colour and a digit."""
THINGS = [(colour, digit) for colour in COLOURS for digit in range(10)]
NEW_THINGS = [(colour, digit) for k, colour in enumerate(COLOURS) for digit in (k, k + 5)]
"""Held out of training: two digits of each colour, one colour of each digit."""
NEW_PAIRS = {frozenset({digit, (digit + 3) % 10}) for digit in range(10)}
"""Held out of training: ten of the 45 pairs of digits, two with each digit.

No picture of training has both digits of such a pair.
"""
Things = Sequence[Thing]


def is_known(things: Things) -> bool:
    """Return whether training may show all of these in one picture."""
    pairs = {frozenset({a, b}) for _, a in things for _, b in things}
    return not pairs & NEW_PAIRS and not {*things} & {*NEW_THINGS}


def has_new_pair(things: Things) -> bool:
    """Return whether training shows each of these, but not all of them in one picture."""
    return not {*things} & {*NEW_THINGS} and not is_known(things)


def is_new(things: Things) -> bool:
    """Return whether training shows none of these."""
    return {*things} <= {*NEW_THINGS}


class HandwrittenDigits(NamedTuple):
    """Images of digits, and which digits they are."""

    images: np.ndarray  # [count, SIDE, SIDE], from 0 to 1
    digits: np.ndarray  # [count]


class Scenes(NamedTuple):
    """Pictures and their captions."""

    images: np.ndarray  # [count, CANVAS, CANVAS, 3], bytes
    captions: np.ndarray  # [count, LONGEST], indices into WORDS, filled up with STOP

    def batches(self, size: int, seed: int) -> Iterator["Scenes"]:
        """Yield random batches without end, drawn with replacement."""
        draw = np.random.default_rng(seed)
        while True:
            some = draw.integers(len(self.images), size=size)
            yield Scenes(self.images[some], self.captions[some])


def load() -> tuple[HandwrittenDigits, HandwrittenDigits]:
    """Load the 1,797 digits of scikit-learn: the first 1,300 for training, the others for the test.

    Neighbours in the file look alike, so a random split would make the test easier.
    """
    from sklearn.datasets import load_digits

    pixels, digits = map(np.asarray, load_digits(return_X_y=True))
    images = np.reshape(pixels, (-1, SIDE, SIDE)) / 16
    train = HandwrittenDigits(images[:1300], digits[:1300])
    return train, HandwrittenDigits(images[1300:], digits[1300:])


def say(caption: Iterable[int]) -> str:
    """Return a caption as text, without the full stop."""
    numbers = [*map(int, caption)]
    end = numbers.index(STOP) if STOP in numbers else len(numbers)
    return " ".join(WORDS[number] for number in numbers[:end])


def make_scenes(
    digits: HandwrittenDigits, fits: Callable[[Things], bool], count: int, seed: int
) -> Scenes:
    """Draw random scenes.

    Args:
        digits: the images to take digits from.
        fits: whether a scene may have these things, which are all different.
        count: the number of scenes.
        seed: the seed of the random numbers.
    """
    draw, of = np.random.default_rng(seed), [np.flatnonzero(digits.digits == k) for k in range(10)]
    images = np.zeros((count, CANVAS, CANVAS, 3), np.uint8)
    captions = np.full((count, LONGEST), STOP, np.int32)
    for image, caption in tqdm(zip(images, captions, strict=True), "scenes", count, leave=False):
        between, places = LAYOUTS[draw.integers(len(LAYOUTS))]
        words = []
        things = _draw_things(draw, len(places), fits)
        for link, (colour, digit), place in zip(("", *between), things, places, strict=True):
            number = int(draw.integers(1, max(place[2:]) + 1))
            for x, y in _corners(place, number, draw):
                pixels = digits.images[draw.choice(of[digit]), :, :, None]
                image[y : y + SIDE, x : x + SIDE] = np.round(pixels * COLOURS[colour])
            name = ("a", colour, DIGITS[digit]), ("two", colour, PLURALS[digit])
            words += [*link.split(), *name[number - 1]]
        caption[: len(words)] = [WORDS.index(word) for word in words]
    return Scenes(images, captions)


def _draw_things(
    draw: np.random.Generator, count: int, fits: Callable[[Things], bool]
) -> list[Thing]:
    """Draw different things until they fit."""
    while True:
        things = [THINGS[draw.integers(len(THINGS))] for _ in range(count)]
        if len({*things}) == count and fits(things):
            return things


def _corners(place: tuple[int, ...], number: int, draw: np.random.Generator) -> np.ndarray:
    """Draw the upper left corners `[number, 2]` of the digits of a group.

    The digits are evenly spaced along the longer side of the place, and up to two pixels off.
    """
    corner, size = np.multiply(place[:2], CELL), np.multiply(place[2:], CELL)
    share = (np.arange(number)[:, None] + 0.5) / number
    middle = corner + size * np.where(size == size.max(), share, 0.5)
    return (middle - SIDE / 2).astype(int) + draw.integers(-2, 3, (number, 2))
