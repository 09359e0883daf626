"""How far predicted frames are from the true ones, and predictions that need no network."""

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import uniform_filter

from kit.video.motion import GIVEN

WINDOW = 7  # pixels, across and down
C_1, C_2 = 0.01**2, 0.03**2  # for values from 0 to 1


def frame_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Squared error of frames `[time, clips, height, width]` at each time, as OpenSTL defines it:
    the sum over the pixels of a frame, the mean over clips.
    """
    return np.mean(np.sum(np.square(predicted - truth), axis=(-2, -1)), axis=1)


def ssim(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of frames `[time, clips, height, width]` at each
    time: 1 where they are the same. The mean over clips and all 7 x 7 windows that lie within a
    frame, every pixel of a window alike, variances with n - 1; scikit-image's default.
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
    """Of all windows that lie within a frame."""
    edge = slice(WINDOW // 2, -(WINDOW // 2))
    return uniform_filter(frames, WINDOW, axes=(-2, -1))[..., edge, edge]


def baselines(frames: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """What no network is needed for, in place of the frames after the first `GIVEN`: the mean of
    all frames of known clips, and the last frame that was seen.
    """
    ahead = frames[GIVEN:]
    guesses = {
        "the mean frame": np.mean(known, axis=(0, 1)),
        "copy the last frame": frames[GIVEN - 1],
    }
    return {name: np.broadcast_to(guess, ahead.shape) for name, guess in guesses.items()}


def compare(frames: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
    """Print how well each method predicts what comes after the first `GIVEN` frames."""
    truth = frames[GIVEN:]
    print(f"{frames.shape[1]:,} clips:{'error':>18}{'SSIM':>8}   error of each frame")
    for name, predicted in found.items():
        errors, alike = frame_errors(predicted, truth), np.mean(ssim(predicted, truth))
        each = "".join(f"{error:7.1f}" for error in errors)
        print(f"{name:<20}{np.mean(errors):8.2f}{alike:8.3f}{each}")
