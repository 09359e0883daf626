"""Errors of predicted frames, and baselines without a network."""

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import uniform_filter

from kit.video.motion import GIVEN

WINDOW = 7  # pixels, the side of a window of SSIM
C_1, C_2 = 0.01**2, 0.03**2  # the constants of SSIM for values from 0 to 1


def frame_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the squared error `[time]` of frames `[time, clips, height, width]`.

    It is the sum over the pixels of a frame and the mean over clips, as in OpenSTL.
    """
    return np.mean(np.sum(np.square(predicted - truth), axis=(-2, -1)), axis=1)


def ssim(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the structural similarity (SSIM, Wang et al. 2004) `[time]`, which is 1 if equal.

    It is the mean over clips and all 7 x 7 windows that lie within a frame. Every pixel of a window
    has the same weight, and variances are divided by n - 1. These are the defaults of scikit-image.

    Args:
        predicted: the predicted frames `[time, clips, height, width]`.
        truth: the true frames.
    """
    x, y = (np.asarray(frames, np.float64) for frames in (predicted, truth))
    mean_x, mean_y, square_x, square_y, product = map(_means, (x, y, x * x, y * y, x * y))
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    variances = unbiased * (square_x - mean_x**2 + square_y - mean_y**2)
    covariance = unbiased * (product - mean_x * mean_y)
    alike = (2 * mean_x * mean_y + C_1) * (2 * covariance + C_2)
    scale = (mean_x**2 + mean_y**2 + C_1) * (variances + C_2)
    return np.mean(alike / scale, axis=(1, 2, 3))


def _means(frames: np.ndarray) -> np.ndarray:
    """Return the mean of each window that lies within a frame."""
    edge = slice(WINDOW // 2, -(WINDOW // 2))
    return uniform_filter(frames, WINDOW, axes=(-2, -1))[..., edge, edge]


def baselines(frames: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """Predict the frames after the first `GIVEN` without a network.

    Args:
        frames: the clips `[GIVEN + AHEAD, clips, height, width]`.
        known: other clips, from which the mean frame is computed.

    Returns:
        The predictions `[AHEAD, clips, height, width]` of each method: the mean frame, or a copy of
        the last frame that was given.
    """
    ahead = frames[GIVEN:]
    guesses = {
        "the mean frame": np.mean(known, axis=(0, 1)),
        "copy the last frame": frames[GIVEN - 1],
    }
    return {name: np.broadcast_to(guess, ahead.shape) for name, guess in guesses.items()}


def compare(frames: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
    """Print the errors of the predictions of each method for the frames after `GIVEN`."""
    truth = frames[GIVEN:]
    print(f"{frames.shape[1]:,} clips:{'error':>18}{'SSIM':>8}   error of each frame")
    for name, predicted in found.items():
        errors, alike = frame_errors(predicted, truth), np.mean(ssim(predicted, truth))
        each = "".join(f"{error:7.1f}" for error in errors)
        print(f"{name:<20}{np.mean(errors):8.2f}{alike:8.3f}{each}")
