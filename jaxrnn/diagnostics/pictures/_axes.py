"""Axes to draw on, and how the kinds of fixed points look: colours that the colour-blind tell apart
(Okabe & Ito 2008), and shapes for print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOOKS = {
    "sink": ("o", "#0072B2"),
    "saddle": ("X", "#D55E00"),
    "source": ("^", "#009E73"),
    "marginal": ("s", "#CC79A7"),
}
"""The marker and the colour of each kind."""


def axes_or_new(axes: Axes | None) -> Axes:
    """The axes that are given, or those of a new figure, of which pyplot knows nothing."""
    if axes is not None:
        return axes
    from matplotlib.figure import Figure

    return Figure(layout="constrained").add_subplot()


def by_kind(kinds: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The kinds that there are, each with where they stand."""
    return [(kind, kinds == kind) for kind in LOOKS if np.any(kinds == kind)]
