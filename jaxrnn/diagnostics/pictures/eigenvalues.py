"""The eigenvalues of fixed points beside the unit circle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxrnn.diagnostics._points import Points
from jaxrnn.diagnostics.pictures._axes import LOOKS, axes_or_new, by_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def eigenvalues(points: Points, *, axes: Axes | None = None) -> Axes:
    """Draw the eigenvalues of points, such as `fixed_points(...).fixed`, and the unit circle.

    Disturbances in a direction with an eigenvalue inside the circle decay; outside they grow.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import fixed_points, pictures
    >>> cell = jaxrnn.Elman(4, activation="linear")
    >>> params = cell.init(jax.random.key(0), in_features=1)
    >>> found = fixed_points(cell, params, jnp.ones(1), jnp.eye(4))
    >>> pictures.eigenvalues(found.fixed).get_xlabel()
    'Re λ'
    """
    axes = axes_or_new(axes)
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 361))
    axes.plot(np.real(circle), np.imag(circle), color="0.6", linewidth=1, zorder=1)
    axes.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    axes.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    for kind, where in by_kind(points.kind):
        values, (marker, color) = points.eigenvalues[where].ravel(), LOOKS[kind]
        axes.plot(
            *(np.real(values), np.imag(values)),
            marker,
            color=color,
            markersize=4,
            alpha=0.6,
            markeredgewidth=0,
            label=f"{kind} ({where.sum()})",
        )
    axes.set(xlabel="Re λ", ylabel="Im λ", aspect="equal")
    if len(points):
        axes.legend(fontsize="small", frameon=False)
    return axes
