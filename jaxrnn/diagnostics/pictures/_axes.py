"""What all pictures share: axes, and colours that everybody can tell apart."""

from itertools import cycle, product
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe & Ito (2008), which colour-blind readers can tell apart."""


def axes_or_new(axes: "Axes | None", size: tuple[float, float] = (5.0, 4.0)) -> "Axes":
    """The axes that were given, or those of a new figure, which belongs to nobody's state."""
    if axes is not None:
        return axes
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=120, layout="constrained").subplots()


class Look(NamedTuple):
    """Of a line."""

    style: str
    color: str


def looks() -> "Iterator[Look]":
    """One after the other, without end: all colours in one style, then in the next."""
    return cycle(Look(*pair) for pair in product(("-", "--", ":"), COLORS))
