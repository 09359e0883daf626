"""Clips of handwritten digits that move on straight lines and bounce off the walls.

They follow Moving MNIST (Srivastava, Mansimov & Salakhutdinov 2015), with smaller pictures.
"""

from collections.abc import Iterator

import numpy as np

from kit.digits import SIDE

CANVAS = 32  # pixels, the side of a frame
SCALE = 1.75  # pixels of the frame between two pixels of a digit
ROOM = CANVAS - 1 - (SIDE - 1) * SCALE  # the largest coordinate of a digit's corner
SPEED = 1.8  # pixels per frame
DIGITS = 2  # in a clip
GIVEN, AHEAD = 10, 10  # frames that are given, and frames to predict


def bounce(x: np.ndarray) -> np.ndarray:
    """Reflect the coordinate x of a straight motion at walls at 0 and `ROOM`."""
    return ROOM - np.abs(x % (2 * ROOM) - ROOM)


def render(images: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Render frames `[..., CANVAS, CANVAS]` by bilinear interpolation.

    Where digits overlap, the brighter one is seen.

    Args:
        images: the digits `[..., digits, SIDE, SIDE]`.
        corners: the positions of their upper left pixels `[..., digits, 2]`, down and across.
    """
    pixels = (np.arange(CANVAS) - corners[..., None]) / SCALE  # in coordinates of the digit
    weights = np.maximum(0, 1 - np.abs(pixels[..., None] - np.arange(SIDE)))
    down, across = weights[..., 0, :, :], weights[..., 1, :, :]
    return np.max(down @ images @ np.swapaxes(across, -1, -2), axis=-3)


def draw_clips(images: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """Draw random clips `[GIVEN + AHEAD, count, CANVAS, CANVAS]`, with values from 0 to 1.

    Args:
        images: the digits to choose from `[images, SIDE, SIDE]`, from 0 to 1.
        count: the number of clips.
        draw: the generator of digits, positions and directions.
    """
    start = draw.uniform(0, ROOM, (count, DIGITS, 2))
    angle = draw.uniform(0, 2 * np.pi, (count, DIGITS))
    velocity = SPEED * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    time = np.arange(GIVEN + AHEAD)[:, None, None, None]
    chosen = images[draw.integers(len(images), size=(count, DIGITS))]
    return render(chosen, bounce(start + velocity * time)).astype(np.float32)


def clips(images: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield batches of new clips `[GIVEN + AHEAD, count, CANVAS, CANVAS]` without end."""
    draw = np.random.default_rng(seed)
    while True:
        yield draw_clips(images, count, draw)
