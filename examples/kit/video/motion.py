"""Clips of handwritten digits that move on straight lines and bounce off the walls, as those of
Moving MNIST do (Srivastava, Mansimov & Salakhutdinov 2015).
"""

from collections.abc import Iterator

import numpy as np

from kit.digits import SIDE

CANVAS = 32  # pixels
SCALE = 1.75  # pixels of the canvas between two pixels of a digit
ROOM = CANVAS - 1 - (SIDE - 1) * SCALE  # how far the first pixel of a digit can move
SPEED = 1.8  # pixels per frame
DIGITS = 2  # in a clip
GIVEN, AHEAD = 10, 10  # frames that are seen, and frames to predict


def bounce(x: np.ndarray) -> np.ndarray:
    """Where a point is that moved along a line to x, between walls at 0 and `ROOM`."""
    return ROOM - np.abs(x % (2 * ROOM) - ROOM)


def render(images: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Draw digits `[..., digits, SIDE, SIDE]` at `corners [..., digits, 2]`, between pixels by
    bilinear interpolation; where two meet the brighter one is seen. `[..., CANVAS, CANVAS]`.
    """
    pixels = (np.arange(CANVAS) - corners[..., None]) / SCALE  # of the canvas, seen from the digit
    weights = np.maximum(0, 1 - np.abs(pixels[..., None] - np.arange(SIDE)))
    down, across = weights[..., 0, :, :], weights[..., 1, :, :]
    return np.max(down @ images @ np.swapaxes(across, -1, -2), axis=-3)


def draw_clips(images: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """Frames `[GIVEN + AHEAD, count, CANVAS, CANVAS]` from 0 to 1, of some of the digits `images`;
    each begins anywhere and moves anywhere.
    """
    start = draw.uniform(0, ROOM, (count, DIGITS, 2))
    angle = draw.uniform(0, 2 * np.pi, (count, DIGITS))
    velocity = SPEED * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    time = np.arange(GIVEN + AHEAD)[:, None, None, None]
    chosen = images[draw.integers(len(images), size=(count, DIGITS))]
    return render(chosen, bounce(start + velocity * time)).astype(np.float32)


def clips(images: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Clips `[GIVEN + AHEAD, count, CANVAS, CANVAS]` without end, new ones each time."""
    draw = np.random.default_rng(seed)
    while True:
        yield draw_clips(images, count, draw)
