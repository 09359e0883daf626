"""Phase portraits: trajectories and fixed points in the space of states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.core.cell import Carry, Cell, Params, abstract_carry
from jaxrnn.core.trees import Tree, is_float
from jaxrnn.diagnostics._points import FixedPoints, Points
from jaxrnn.diagnostics._state import flat, step_map
from jaxrnn.diagnostics.pictures._axes import COLORS, LOOKS, axes_or_new, by_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ARROWS, _FINE = 21, 121
"""Grid lines for arrows, and for nullclines."""


def phase_portrait(
    cell: Cell,
    params: Params,
    x: Tree,
    states: Carry,
    found: FixedPoints | None = None,
    *,
    context: Tree = None,
    labels: Sequence[str] = (),
    axes: Axes | None = None,
) -> Axes:
    """Draw trajectories, and the points that `fixed_points` found.

    A state of two numbers is drawn in the plane. Arrows show the displacement `F(h) − h` of a step
    with the input x. Nullclines are the lines on which a step leaves one of the two numbers
    unchanged; they meet in fixed points. For a larger state, the first principal components of the
    trajectories are drawn: two, or three on axes with three dimensions. Lines at a saddle show its
    unstable directions. Slow points are hollow. Outliers are left out.

    Args:
        cell, params: the cell and its parameters.
        x: one step's constant input, without batch axes, as for `fixed_points`.
        states: trajectories `[time, *batch, ...]`, as `jaxrnn.trajectory` returns them.
        found: the result of `fixed_points`.
        context: the context of a `ContextCell`, without batch axes.
        labels: texts beside the fixed points, in their order; an empty one is left out.
        axes: where to draw; axes of `figure.add_subplot(projection="3d")` have three dimensions.

    Raises:
        ValueError: the states have no time axis, or hold fewer than two numbers.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import fixed_points, pictures, sample_states
    >>> cell, x = jaxrnn.LSTM(1), jnp.zeros(1)
    >>> params = cell.init(jax.random.key(0), in_features=1)
    >>> xs = jax.random.normal(jax.random.key(1), (9, 3, 1))
    >>> states, _ = jaxrnn.trajectory(cell, params, xs)
    >>> found = fixed_points(cell, params, x, sample_states(states))
    >>> axes = pictures.phase_portrait(cell, params, x, states, found)
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('h', 'c')
    """
    axes = axes_or_new(axes)
    lines, names = _lines(cell, params, x, states)
    size = 3 if axes.name == "3d" and lines.shape[-1] > 2 else 2
    plane = _Plane(lines, names, size)
    groups = [] if found is None else [(found.fixed, True, labels), (found.slow, False, ())]
    shown = [group for group in groups if len(group[0])]
    seen = [plane.at(lines.reshape(-1, lines.shape[-1]))]
    seen += [plane.at(_vectors(points.orbit, 2)).reshape(-1, size) for points, *_ in shown]
    low, high = _limits(np.concatenate(seen))
    if plane.whole and axes.name != "3d":
        like = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[lines.ndim - 1 :])[0], states)
        _draw_field(axes, step_map(cell, params, like, x, context=context), low, high, names)
    for line in np.moveaxis(plane.at(lines), 0, 1).reshape(-1, len(lines), size):
        axes.plot(*line.T, color="0.45", linewidth=0.7, alpha=0.5, zorder=2)
    for points, filled, texts in shown:
        _draw_points(axes, plane, points, filled, texts)
        if filled:
            _draw_unstable(axes, plane, points, 0.2 * float(np.max(high - low)))
    for k, axis in enumerate("xyz"[:size]):
        axes.set(**{f"{axis}lim": (low[k], high[k]), f"{axis}label": plane.labels[k]})
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", loc="best")
    return axes


class _Plane:
    """What is drawn of a state: two numbers as they are, or two or three principal components."""

    def __init__(self, lines: np.ndarray, names: list[str], size: int) -> None:
        rows = lines.reshape(-1, lines.shape[-1])
        self.whole = rows.shape[-1] == 2
        if self.whole:
            self.centre, self.directions, self.labels = np.zeros(2), np.eye(2), names
            return
        self.centre = rows.mean(axis=0)
        _, spread, directions = np.linalg.svd(rows - self.centre, full_matrices=False)
        share = spread**2 / max(np.sum(spread**2), np.finfo(float).tiny)
        self.directions = directions[:size]
        self.labels = [f"component {k + 1} ({share[k]:.0%} of variance)" for k in range(size)]

    def at(self, vectors: np.ndarray) -> np.ndarray:
        """Return where these states stand in the picture, `[..., 2]` or `[..., 3]`."""
        return (vectors - self.centre) @ self.directions.T


def _lines(cell: Cell, params: Params, x: Tree, states: Carry) -> tuple[np.ndarray, list[str]]:
    """Return the states as vectors `[time, *batch, n]`, and the names of their numbers."""
    features = jax.tree.leaves(x)[0].shape
    one = abstract_carry(cell, params, features)
    first, given = jax.tree.leaves(one)[0], jax.tree.leaves(states)[0]
    rows = np.ndim(given) - first.ndim
    lines = _vectors(states, rows) if rows > 0 else np.zeros((0, 0))
    if lines.shape[-1] < 2 or not len(lines):
        raise ValueError(
            f"phase_portrait: the first array of states has shape {np.shape(given)}, expected "
            f"trajectories [time, *batch, ...] of a carry {first.shape} with two numbers at least; "
            "plot a single number against time"
        )
    return lines, [
        name
        for path, leaf in jax.tree_util.tree_leaves_with_path(one)
        for name in _names(path, leaf)
    ]


def _names(path: tuple[Any, ...], leaf: Any) -> list[str]:
    if not is_float(leaf):
        return []
    name = jax.tree_util.keystr(path).lstrip(".") or "h"
    every = [name] if leaf.size == 1 else [f"{name}[{k}]" for k in range(leaf.size)]
    parts = ("Re ", "Im ") if jnp.iscomplexobj(leaf) else ("",)
    return [part + each for part in parts for each in every]


def _vectors(carry: Carry, rows: int) -> np.ndarray:
    return np.asarray(flat(jax.tree.map(jnp.asarray, carry), rows), np.float64)


def _limits(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = 0.08 * np.maximum(high - low, 1e-3)
    return low - margin, high + margin


def _draw_field(axes: Axes, after: Any, low: np.ndarray, high: np.ndarray, names: Any) -> None:
    """Draw arrows and nullclines."""

    def grid(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        across, up = np.meshgrid(*(np.linspace(low[k], high[k], count) for k in range(2)))
        rows = jnp.asarray(np.stack([across, up], axis=-1).reshape(-1, 2), jnp.float32)
        return across, up, np.asarray(jax.vmap(after)(rows) - rows).reshape(count, count, 2)

    across, up, moves = grid(_ARROWS)
    axes.quiver(across, up, moves[..., 0], moves[..., 1], angles="xy", color="0.75", zorder=1)
    across, up, moves = grid(_FINE)
    for k, (style, color) in enumerate(zip(("solid", "dashed"), COLORS[5:], strict=True)):
        axes.contour(across, up, moves[..., k], [0.0], colors=color, linestyles=style, zorder=1.5)
        axes.plot([], [], color=color, linestyle=style, label=f"{names[k]} stays")


def _draw_points(
    axes: Any, plane: _Plane, points: Points, filled: bool, texts: Sequence[str]
) -> None:
    """Draw markers, the way round a cycle, and texts."""
    from matplotlib.patheffects import withStroke

    where = plane.at(_vectors(points.orbit, 2))  # [found, period, size]
    period, size = where.shape[1:]
    for kind, chosen in by_kind(points.kind):
        marker, color = LOOKS[kind]
        if period > 1:
            for cycle in where[chosen]:
                axes.plot(*np.append(cycle, cycle[:1], axis=0).T, color=color, linewidth=1)
        axes.plot(
            *where[chosen].reshape(-1, size).T,
            marker,
            linestyle="none",
            color=color if filled else "none",
            markeredgecolor="black" if filled else color,
            markeredgewidth=0.6 if filled else 1.5,
            markersize=8,
            zorder=4,
            label=kind if filled else f"slow point, {kind}",
        )
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for place, text in zip(where[:, 0], texts, strict=False):
        if text:
            axes.text(*place, f"  {text}", va="bottom", path_effects=halo, zorder=5)


def _draw_unstable(axes: Axes, plane: _Plane, points: Points, length: float) -> None:
    """Draw a line from each saddle in each direction in which it is left."""
    where = plane.at(_vectors(points.carry, 1))
    for k in np.flatnonzero(points.kind == "saddle"):
        values, vectors = np.linalg.eig(points.jacobian[k])
        for direction in np.real(vectors).T[np.abs(values) > 1]:
            step = length * plane.directions @ direction / np.linalg.norm(direction)
            ends = where[k] + np.outer([-0.5, 0.5], step)
            axes.plot(*ends.T, color=LOOKS["saddle"][1], linewidth=1.2, zorder=3)
