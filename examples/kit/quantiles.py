"""Forecasts as quantiles: their loss, their calibration, and fan charts."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kit import plots

LEVELS = np.array([0.025, 0.1, 0.5, 0.9, 0.975])
"""The levels of the quantiles: the median, and the ends of the 80 % and 95 % intervals."""
INTERVALS = {"80 %": (1, 3), "95 %": (0, 4)}
"""Each interval, and the indices of its ends in `LEVELS`."""


def in_order(outputs: jax.Array) -> jax.Array:
    """Return quantiles in ascending order from outputs `[..., levels]` of a network.

    The middle output is the median. The softplus of each other one is the step to the next
    quantile away from the median.
    """
    median, steps = outputs[..., 2:3], jax.nn.softplus(outputs)
    below = median - jnp.cumsum(steps[..., 1::-1], axis=-1)
    above = median + jnp.cumsum(steps[..., 3:], axis=-1)
    return jnp.concatenate([below[..., ::-1], median, above], axis=-1)


def pinball(quantiles: jax.Array, truth: jax.Array) -> jax.Array:
    """Return the pinball loss `[..., levels]` of quantiles `[..., levels]` for truths `[...]`.

    Its expectation is least for the true quantiles.
    """
    errors = truth[..., None] - quantiles
    return jnp.maximum(LEVELS * errors, (LEVELS - 1) * errors)


def coverage(quantiles: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the share of truths that lie within each interval."""
    return {
        name: float(np.mean((truth >= quantiles[..., low]) & (truth <= quantiles[..., high])))
        for name, (low, high) in INTERVALS.items()
    }


def stretch(quantiles: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Multiply the distances of quantiles from the median, those of each interval by its factor.

    The results are sorted, so that they stay in order.
    """
    median, moved = quantiles[..., 2:3], np.ones(len(LEVELS))
    for factor, ends in zip(factors, INTERVALS.values(), strict=True):
        moved[list(ends)] = factor
    return np.sort(median + (quantiles - median) * moved)


def fit_factors(quantiles: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Find the factors for `stretch` with which each interval holds its share of the truths.

    This is split conformal prediction. The truths must not have been used in training.
    """
    away, factors = truth - quantiles[..., 2], []
    for low, high in INTERVALS.values():
        end = np.where(away > 0, quantiles[..., high], quantiles[..., low])
        share = LEVELS[high] - LEVELS[low]
        factors.append(np.quantile(away / (end - quantiles[..., 2]), share))
    return np.array(factors, np.float32)


class Fan(NamedTuple):
    """The contents of a fan chart."""

    title: str
    past: np.ndarray  # [months]
    future: np.ndarray  # [horizon]
    quantiles: np.ndarray  # [horizon, levels]
    other: np.ndarray  # [horizon], a forecast to compare with


def draw_fans(path: Path, fans: list[Fan], *, title: str, other: str, years: int = 4) -> None:
    """Draw a panel for each series: its last years, its future, and its forecasts.

    Args:
        path: the file to write.
        fans: the contents of the panels.
        title: the title of the picture.
        other: the name of the forecasts to compare with.
        years: how many years of the past to draw.
    """
    figure, grid = plots.make_grid(2, -(-len(fans) // 2), size=(12, 6.2), share=False)
    for axes, fan in zip(grid.flat, fans, strict=False):
        past = fan.past[-12 * years :]
        before, ahead = np.arange(1 - len(past), 1), np.arange(1, 1 + len(fan.future))
        for (low, high), shade in zip(INTERVALS.values(), (0.35, 0.18), strict=True):
            band = fan.quantiles[:, low], fan.quantiles[:, high]
            axes.fill_between(ahead, *band, color=plots.BLUE, alpha=shade, linewidth=0)
        axes.plot(before, past, color=plots.GREY, linewidth=1.2)
        axes.plot(ahead, fan.other, color=plots.RED, linewidth=1, linestyle=plots.DASHED)
        axes.plot(ahead, fan.quantiles[:, 2], color=plots.BLUE, linewidth=2)
        axes.plot(ahead, fan.future, "o", color="black", markersize=3)
        axes.axvline(0.5, color=plots.GREY, linewidth=0.8, linestyle=plots.DOTTED)
        axes.set_title(fan.title, fontsize=9, loc="left")
        high = max(past.max(), fan.future.max(), fan.quantiles[:, 3].max())
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.4 * high))  # cuts off a very wide band
    _explain(figure, grid, other)
    figure.suptitle(title)
    plots.save(figure, path)


def _explain(figure: Any, grid: Any, other: str) -> None:
    """Draw one legend below all panels, and the labels of the x axes."""
    first = grid.flat[0]
    bands, lines = first.collections[: len(INTERVALS)], first.lines
    names = [f"{name} interval" for name in INTERVALS]
    handles = [lines[0], lines[3], lines[2], *bands, lines[1]]
    said = ["what was known", "what came", "forecast (median)", *names, other]
    figure.legend(handles, said, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("months from the last known one")
