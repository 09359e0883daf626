"""Pictures of predicted frames beside the true ones: strips with errors, and an animation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kit import plots
from kit.video.metrics import frame_errors
from kit.video.motion import AHEAD, CANVAS, GIVEN

Predictions = Mapping[str, np.ndarray]
"""The predicted frames `[AHEAD, clips, CANVAS, CANVAS]` of each method."""
COLORS = {"ConvLSTM": plots.BLUE, "ConvGRU": "#3f8f4f", "PredRNN": plots.RED}
SHOWN = [*range(0, GIVEN, 3), *range(GIVEN, GIVEN + AHEAD)]
"""The indices of the frames that a strip shows: some of those given, and all of those predicted."""
PITCH = CANVAS + 2  # pixels from one frame to the next
SHADES, PAUSE = 128, 200
"""The number of colours of the GIF, and its milliseconds per frame."""


def tile(frames: np.ndarray) -> np.ndarray:
    """Join frames `[rows, columns, CANVAS, CANVAS]` into one picture, with NaN between them."""
    rows, columns, *_ = frames.shape
    apart = np.pad(frames, [(0, 0), (0, 0), (0, 2), (0, 2)], constant_values=np.nan)
    return np.swapaxes(apart, 1, 2).reshape(rows * PITCH, columns * PITCH)


def draw_strips(path: Path, frames: np.ndarray, found: Predictions, clips: int = 2) -> None:
    """Draw strips of the first clips, beside the errors of each method on all clips.

    Args:
        path: the file to write.
        frames: the true frames `[GIVEN + AHEAD, clips, CANVAS, CANVAS]`.
        found: the predictions of networks and baselines.
        clips: how many clips to draw.
    """
    figure, ((strips, errors),) = plots.make_grid(1, 2, size=(12, 4.2), share=False)
    strips.get_gridspec().set_width_ratios([2, 1])
    _draw_strips(strips, frames, found, min(clips, frames.shape[1]))
    coming = np.arange(GIVEN + 1, GIVEN + AHEAD + 1)
    for name, predicted in found.items():
        style = "-" if name in COLORS else plots.DASHED if "mean" in name else plots.DOTTED
        look = {"color": COLORS.get(name, plots.GREY), "linestyle": style, "label": name}
        errors.plot(coming, frame_errors(predicted, frames[GIVEN:]), **look)
    errors.set(xlabel="frame", ylim=(0, None))
    errors.set_title("squared error, summed over a frame", fontsize=10)
    errors.legend(frameon=False, fontsize=8)
    plots.save(figure, path)


def _draw_strips(axes: Any, frames: np.ndarray, found: Predictions, clips: int) -> None:
    """Draw, for each clip, a row of true frames and a row of the predictions of each network."""
    unseen = np.full((len(SHOWN) - AHEAD, CANVAS, CANVAS), np.nan)
    rows = []
    for clip in range(clips):
        guesses = [np.concatenate([unseen, found[name][:, clip]]) for name in COLORS]
        rows += [frames[SHOWN, clip], *guesses]
    axes.imshow(tile(np.stack(rows)), cmap="gray", vmin=0, vmax=1)
    middle, begin = CANVAS / 2, PITCH * len(unseen) - 6
    for row, name in enumerate(["", *COLORS] * clips):
        look = {"color": COLORS.get(name), "ha": "right", "va": "center"}
        axes.text(begin, PITCH * row + middle, name, **look)
    columns = PITCH * np.arange(len(SHOWN)) + middle
    axes.set_xticks(columns, [str(frame + 1) for frame in SHOWN])
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{GIVEN} frames are seen, some are shown; {AHEAD} are predicted", fontsize=10)


def animate(path: Path, frames: np.ndarray, found: Predictions, clips: int = 3) -> None:
    """Write the first clips as a GIF: the truth, and beside it the predictions of each network.

    The first `GIVEN` frames are the same on all sides.
    """
    sides = {"truth": frames} | {
        name: np.concatenate([frames[:GIVEN], found[name]]) for name in COLORS
    }
    size = min(clips, frames.shape[1])
    figure, (row,) = plots.make_grid(1, len(sides), size=(3.8, 0.5 + 0.85 * size), share=False)
    images, pages = [], []
    for axes, (name, shown) in zip(row, sides.items(), strict=True):
        first = tile(shown[0, :size, None])
        images.append(axes.imshow(first, cmap="gray", vmin=0, vmax=1, interpolation="nearest"))
        axes.set_title(name, fontsize=10, color=COLORS.get(name, "black"))
        axes.axis("off")
    for time in range(GIVEN + AHEAD):
        for image, shown in zip(images, sides.values(), strict=True):
            image.set_data(tile(shown[time, :size, None]))
        said, color = ("seen", plots.GREY) if time < GIVEN else ("predicted", plots.RED)
        figure.supxlabel(f"frame {time + 1}, {said}", fontsize=10, color=color)
        figure.canvas.draw()
        page = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
        pages.append(page.quantize(SHADES, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))
    plots.plt.close(figure)
    half = path.with_name(path.name + ".tmp")
    pages[0].save(half, "GIF", save_all=True, append_images=pages[1:], duration=PAUSE, loop=0)
    half.replace(path)
