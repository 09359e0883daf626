"""Pictures of Lyapunov spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxrnn.diagnostics.lyapunov import Lyapunov
from jaxrnn.diagnostics.pictures._axes import COLORS, GUIDE, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOR = COLORS[1]
_UNIT = "per step, natural logarithm"


def lyapunov_spectrum(found: Lyapunov, *, axes: Axes | None = None) -> Axes:
    """Draw exponents by their rank, with two standard errors on both sides.

    A batch has a line for each sequence. Exponents -inf are triangles at the lower border.

    Args:
        found: what `lyapunov` returns, for one sequence or a batch.
        axes: where to draw; new ones if left out.

    >>> import numpy as np
    >>> from jaxrnn.diagnostics import Lyapunov
    >>> from jaxrnn.diagnostics.pictures import lyapunov_spectrum
    >>> history = np.array([[0.2, -0.4], [0.1, -0.5]])
    >>> found = Lyapunov(history[-1], np.array([0.01, 0.02]), history, np.array([50, 100]))
    >>> lyapunov_spectrum(found).get_xlabel()
    'rank i'
    """
    from matplotlib.ticker import MaxNLocator

    axes = axes_or_new(axes)
    k = found.exponents.shape[-1]
    rank = np.arange(1, k + 1)
    rows = np.asarray(found.exponents).reshape(-1, k)
    errors = np.asarray(found.error).reshape(-1, k)
    many = len(rows) > 1
    axes.axhline(0, **GUIDE)
    for row, error in zip(rows, errors, strict=True):
        alive = np.isfinite(row)
        axes.errorbar(
            rank[alive],
            row[alive],
            yerr=2 * np.where(np.isfinite(error), error, 0)[alive],
            color=_COLOR,
            alpha=0.4 if many else 1,
            linewidth=0.8,
            elinewidth=1,
            capsize=0 if many else 2,
            marker="o",
            markersize=3,
        )
    dead = np.any(np.isneginf(rows), axis=0)
    if np.any(dead):
        axes.plot(
            rank[dead],
            np.full(dead.sum(), 0.03),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker="v",
            color=_COLOR,
            label="−∞",
        )
        axes.legend(frameon=False)
    axes.set(xlabel="rank i", ylabel=rf"Lyapunov exponent $\lambda_i$, {_UNIT}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


def lyapunov_history(found: Lyapunov, *, axes: Axes | None = None) -> Axes:
    """Draw the running estimate of each exponent, to see whether there were enough steps.

    For a batch, this is the mean over sequences, with one standard deviation on both sides.

    Args:
        found: what `lyapunov` returns, for one sequence or a batch.
        axes: where to draw; new ones if left out.

    >>> import numpy as np
    >>> from jaxrnn.diagnostics import Lyapunov
    >>> from jaxrnn.diagnostics.pictures import lyapunov_history
    >>> history = np.array([[0.2, -0.4], [0.1, -0.5]])
    >>> found = Lyapunov(history[-1], np.array([0.01, 0.02]), history, np.array([50, 100]))
    >>> [line.get_label() for line in lyapunov_history(found).lines[1:]]
    ['1', '2']
    """
    from matplotlib import colormaps

    axes = axes_or_new(axes)
    blocks, *_, k = found.history.shape
    history = np.asarray(found.history).reshape(blocks, -1, k)
    steps = np.asarray(found.steps)
    colors = colormaps["viridis"](np.linspace(0, 0.85, k))
    axes.axhline(0, **GUIDE)
    for i, color in enumerate(colors):
        alive = np.all(np.isfinite(history[:, :, i]), axis=1)
        mean, spread = (f(history[alive, :, i], axis=1) for f in (np.mean, np.std))
        axes.plot(steps[alive], mean, color=color, linewidth=1.2, label=f"{i + 1}")
        if history.shape[1] > 1:
            axes.fill_between(
                steps[alive], mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0
            )
    axes.set(xscale="log", xlabel="steps", ylabel=rf"running estimate of $\lambda_i$, {_UNIT}")
    if k <= 8:
        axes.legend(title="rank", frameon=False, fontsize=8)
    return axes
