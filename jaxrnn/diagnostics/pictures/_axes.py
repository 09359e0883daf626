"""Code that all pictures share: axes, styles of lines and points, and colours that colour-blind
people can tell apart.
"""

from itertools import cycle, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The colours of Okabe & Ito (2008), which colour-blind readers can tell apart."""

GREY = "#666666"
"""The colour of what is there for orientation."""

GUIDE: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "linestyle": (0, (5, 4))}
"""The look of a line for orientation, such as a diagonal."""

LOOKS = {
    "sink": ("o", COLORS[1]),
    "saddle": ("X", COLORS[2]),
    "source": ("^", COLORS[3]),
    "marginal": ("s", COLORS[4]),
}
"""The marker and the colour of each kind of fixed point."""


def axes_or_new(axes: "Axes | None", size: tuple[float, float] = (5.0, 4.0)) -> "Axes":
    """Return the given axes, or those of a new figure that pyplot does not manage."""
    if axes is not None:
        return axes
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=120, layout="constrained").subplots()


class Look(NamedTuple):
    """The style and colour of a line."""

    style: str
    color: str


def looks() -> "Iterator[Look]":
    """Return an endless sequence of looks: all colours in one style, then in the next."""
    return cycle(Look(*pair) for pair in product(("-", "--", ":"), COLORS))


def by_kind(kinds: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the kinds that occur, each with a mask of its points."""
    return [(kind, kinds == kind) for kind in LOOKS if np.any(kinds == kind)]
