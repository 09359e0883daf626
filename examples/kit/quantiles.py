"""Forecasts as quantiles: the loss that trains them, how wide they must be, and fan charts."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kit import plots

LEVELS = np.array([0.025, 0.1, 0.5, 0.9, 0.975])
"""The median, and the ends of the intervals for 80 % and 95 %."""
INTERVALS = {"80 %": (1, 3), "95 %": (0, 4)}


def in_order(outputs: jax.Array) -> jax.Array:
    """Quantiles from outputs `[..., levels]` of a network: the median, and steps away from it, each
    of which is positive.
    """
    median, steps = outputs[..., 2:3], jax.nn.softplus(outputs)
    below = median - jnp.cumsum(steps[..., 1::-1], axis=-1)
    above = median + jnp.cumsum(steps[..., 3:], axis=-1)
    return jnp.concatenate([below[..., ::-1], median, above], axis=-1)


def pinball(quantiles: jax.Array, truth: jax.Array) -> jax.Array:
    """The loss of quantiles `[..., levels]`, which is least where they are those of the truth."""
    errors = truth[..., None] - quantiles
    return jnp.maximum(LEVELS * errors, (LEVELS - 1) * errors)


def coverage(quantiles: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How much of the truth lies within each interval."""
    return {
        name: float(np.mean((truth >= quantiles[..., low]) & (truth <= quantiles[..., high])))
        for name, (low, high) in INTERVALS.items()
    }


def stretch(quantiles: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Move quantiles away from the median, those of each interval by its factor."""
    median, moved = quantiles[..., 2:3], np.ones(len(LEVELS))
    for factor, ends in zip(factors, INTERVALS.values(), strict=True):
        moved[list(ends)] = factor
    return np.sort(median + (quantiles - median) * moved)


def fit_factors(quantiles: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The factors with which each interval holds its share of the truth: split conformal
    prediction, from data that no training saw.
    """
    away, factors = truth - quantiles[..., 2], []
    for low, high in INTERVALS.values():
        end = np.where(away > 0, quantiles[..., high], quantiles[..., low])
        share = LEVELS[high] - LEVELS[low]
        factors.append(np.quantile(away / (end - quantiles[..., 2]), share))
    return np.array(factors, np.float32)


class Fan(NamedTuple):
    """What a panel shows."""

    title: str
    past: np.ndarray  # [months]
    future: np.ndarray  # [horizon]
    quantiles: np.ndarray  # [horizon, levels]
    other: np.ndarray  # [horizon]: a forecast to compare with


def draw_fans(path: Path, fans: list[Fan], *, title: str, other: str, years: int = 4) -> None:
    """Draw the last years of each series, the intervals of what comes, and what came."""
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
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.4 * high))  # a wide band goes on above
    _explain(figure, grid, other)
    figure.suptitle(title)
    plots.save(figure, path)


def _explain(figure: Any, grid: Any, other: str) -> None:
    """Names of what is drawn, below all panels."""
    last = grid.flat[0]
    bands, lines = last.collections[: len(INTERVALS)], last.lines
    names = [f"{name} interval" for name in INTERVALS]
    handles = [lines[0], lines[3], lines[2], *bands, lines[1]]
    said = ["what was known", "what came", "forecast (median)", *names, other]
    figure.legend(handles, said, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("months from the last known one")
