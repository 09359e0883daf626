"""Pictures of maps of the line."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.diagnostics.maps import Cycle, Function, Starts, iterate_map, map_cycles
from jaxrnn.diagnostics.pictures._axes import COLORS, GREY, GUIDE, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FUNCTION, _ORBIT = COLORS[1:3]
_FACES = {"sink": "black", "source": "white", "marginal": "#bbbbbb"}


def map_orbits(function: Function, starts: Starts, steps: int, *, axes: Axes | None = None) -> Axes:
    """Draw the orbits of `iterate_map` over time, a line for each start.

    Args:
        function, starts, steps: as for `iterate_map`.
        axes: where to draw; new ones if left out.

    Raises:
        ValueError, TypeError: as `iterate_map`.

    >>> from jaxrnn.diagnostics.pictures import map_orbits
    >>> axes = map_orbits(lambda x: x / 2, [1.0, -1.0], steps=2)
    >>> [line.get_ydata().tolist() for line in axes.lines]
    [[1.0, 0.5, 0.25], [-1.0, -0.5, -0.25]]
    """
    axes = axes_or_new(axes)
    orbits = np.asarray(iterate_map(function, starts, steps)).reshape(steps + 1, -1)
    shades = np.linspace(1.0, 0.45, orbits.shape[1])
    for orbit, shade in zip(orbits.T, shades, strict=True):
        axes.plot(orbit, color=_ORBIT, alpha=shade, linewidth=0.9, marker="o", markersize=2.5)
    axes.set(xlabel="step t", ylabel=r"$x_t$", xlim=(0, steps))
    return axes


def map_phase(
    function: Function,
    low: float,
    high: float,
    *,
    cycles: Iterable[Cycle] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the graph of a map, the diagonal, and the points where they meet.

    Fixed points are full circles if they are sinks, empty circles if they are sources, and grey
    circles if they are marginal. The points of longer cycles are squares. `axes.legend()` adds the
    legend. Triangles at the lower border show to which side a step goes.

    Args:
        function, low, high: as for `map_cycles`.
        cycles: results of `map_cycles`, of any periods; the fixed points if left out.
        axes: where to draw; new ones if left out.

    Raises:
        ValueError, TypeError: as `map_cycles`.

    >>> from jaxrnn.diagnostics.pictures import map_phase
    >>> axes = map_phase(lambda x: x**2, -0.5, 1.5)
    >>> [text.get_text() for text in axes.legend().get_texts()]
    ['sink', 'source']
    """
    axes = axes_or_new(axes)
    cycles = map_cycles(function, low, high) if cycles is None else tuple(cycles)
    xs = np.linspace(low, high, 801)
    ys = np.asarray(jax.vmap(function)(jnp.asarray(xs)))
    axes.plot([low, high], [low, high], **GUIDE)
    axes.plot(xs, ys, color=_FUNCTION, linewidth=1.6)
    said = set()
    for cycle in cycles:
        period = len(cycle.points)
        name = cycle.kind if period == 1 else f"{cycle.kind} of period {period}"
        axes.plot(
            cycle.points,
            np.roll(cycle.points, -1),
            linestyle="none",
            marker="o" if period == 1 else "s",
            markersize=6 if period == 1 else 5,
            markerfacecolor=_FACES[cycle.kind],
            markeredgecolor="black",
            zorder=4,
            clip_on=False,
            label="" if name in said else name,
        )
        said.add(name)
    _draw_sides(axes, function, low, high, [c.points[0] for c in cycles if len(c.points) == 1])
    axes.set(xlabel=r"$x_t$", ylabel=r"$x_{t+1}$", xlim=(low, high))
    return axes


def _draw_sides(axes: Axes, function: Function, low: float, high: float, fixed: list) -> None:
    """Draw a triangle between neighbouring fixed points, on the lower border: left or right."""
    borders = [low, *sorted(fixed), high]
    for left, right in pairwise(borders):
        if right - left < 0.02 * (high - low):
            continue
        at = (left + right) / 2
        rises = float(function(jnp.asarray(at))) > at
        axes.plot(
            at,
            0.035,
            transform=axes.get_xaxis_transform(),
            marker=">" if rises else "<",
            color=GREY,
            markersize=6,
        )


def cobweb(
    function: Function,
    starts: Starts,
    steps: int,
    low: float,
    high: float,
    *,
    cycles: Iterable[Cycle] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the picture of `map_phase`, and orbits as steps between the graph and the diagonal.

    Args:
        function, starts, steps: as for `iterate_map`.
        low, high: the interval that is drawn, as for `map_cycles`.
        cycles: as for `map_phase`.
        axes: where to draw; new ones if left out.

    Raises:
        ValueError, TypeError: as `iterate_map` and `map_cycles`.

    >>> from jaxrnn.diagnostics.pictures import cobweb
    >>> axes = cobweb(lambda x: x / 2, [1.0], 2, -1.0, 1.5)
    >>> axes.lines[-2].get_xydata().tolist()  # across to the graph, up or down to the diagonal
    [[1.0, 1.0], [1.0, 0.5], [0.5, 0.5], [0.5, 0.25], [0.25, 0.25]]
    """
    axes = map_phase(function, low, high, cycles=cycles, axes=axes)
    orbits = np.asarray(iterate_map(function, starts, steps)).reshape(steps + 1, -1)
    shades = np.linspace(1.0, 0.45, orbits.shape[1])
    for orbit, shade in zip(orbits.T, shades, strict=True):
        doubled = np.repeat(orbit, 2)
        across, up = doubled[:-1], np.concatenate([[orbit[0]], doubled[2:]])
        axes.plot(across, up, color=_ORBIT, alpha=shade, linewidth=0.8, zorder=3)
        axes.plot(orbit[0], orbit[0], color=_ORBIT, marker="|", markersize=8, zorder=3)
    return axes
