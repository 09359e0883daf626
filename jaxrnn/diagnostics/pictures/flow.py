"""How far back a gradient reaches, and what the Jacobians do to a small change of the state."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxrnn.diagnostics.jacobian_flow import JacobianFlow
from jaxrnn.diagnostics.pictures._axes import GREY, axes_or_new, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECADES = 8
"""How far below the largest value a picture shows what there is."""


def flow_curves(
    norms: Mapping[str, ArrayLike] | ArrayLike, *, axes: "Axes | None" = None
) -> "Axes":
    """Draw the norm of the gradient by the distance from the end, on a logarithmic scale.

    Args:
        norms: the norms `[time + 1]` of each curve, by name, such as `by_distance(flow.total())`.
        axes: where to draw; new ones if left out.

    Returns:
        The axes; of new ones, `axes.figure.savefig(...)` writes the picture.

    Raises:
        ValueError: norms have other axes than distance.

    >>> from jaxrnn.diagnostics.pictures import flow_curves
    >>> flow_curves({"half": [1.0, 0.5, 0.25]}).get_xlabel()
    'steps back'
    """
    named = norms if isinstance(norms, Mapping) else {"": norms}
    axes = axes_or_new(axes, (6, 4))
    largest = 0.0
    for (name, values), look in zip(named.items(), looks(), strict=False):
        curve = _checked("flow_curves", "norms", values, 1)
        largest = max(largest, float(np.max(curve, where=np.isfinite(curve), initial=0)))
        shown = np.where(curve > 0, curve, np.nan)  # zero has no logarithm
        axes.plot(shown, label=name, linewidth=1.6, color=look.color, linestyle=look.style)
    axes.set(yscale="log", xlabel="steps back", ylabel="‖∂L/∂carry‖")
    if largest > 0:
        axes.set_ylim(largest * 10.0**-DECADES, largest * 3)
    if any(named):
        axes.legend(frameon=False, fontsize=8)
    return axes


def flow_map(norms: ArrayLike, steps: Sequence[int], *, axes: "Axes | None" = None) -> "Axes":
    """Draw the norm of the gradient by distance and training step, as a heat map.

    Args:
        norms: `Recorder.norms()`, `[looks, time + 1]`.
        steps: `Recorder.steps`.
        axes: where to draw; new ones if left out.

    Raises:
        ValueError: the norms have other axes, are empty, or are not as many as the steps.

    >>> from jaxrnn.diagnostics.pictures import flow_map
    >>> flow_map([[1.0, 0.5], [1.0, 0.9], [1.0, 1.0]], steps=[0, 100, 200]).get_xlabel()
    'training step'
    """
    values = _checked("flow_map", "norms", norms, 2)
    if len(values) != len(steps):
        raise ValueError(f"flow_map: norms has {len(values)} looks, but steps has {len(steps)}")
    if not len(values):
        raise ValueError("flow_map: norms is empty, expected at least one look")
    from matplotlib.colors import LogNorm

    axes = axes_or_new(axes, (6, 4))
    positive = values[np.isfinite(values) & (values > 0)]
    largest = float(np.max(positive, initial=0)) or 1.0
    least = max(float(np.min(positive, initial=largest)), largest * 10.0**-DECADES)
    least = min(least, largest / 10)  # a scale needs two ends
    shown = np.where(np.isfinite(values), np.maximum(values, least), np.nan)  # NaN stays white
    borders = _borders(np.asarray(steps, float)), np.arange(values.shape[1] + 1) - 0.5
    mesh = axes.pcolormesh(*borders, shown.T, norm=LogNorm(least, largest), cmap="cividis")
    mesh.set_rasterized(True)
    axes.set(xlabel="training step", ylabel="steps back")
    axes.figure.colorbar(mesh, ax=axes, label="‖∂L/∂carry‖")
    return axes


def singular_values(flow: JacobianFlow, *, axes: "Axes | None" = None) -> "Axes":
    """Draw the singular values of `∂carry_T/∂carry_t` by the distance T - t.

    Each line is a geometric mean over sequences: of the largest singular value, of the second
    largest, and so on. Values below the dtype's precision times the largest are rounding errors,
    and left out.

    Args:
        flow: `jacobian_flow(..., singular_values=True)`.
        axes: where to draw; new ones if left out.

    Raises:
        ValueError: the flow has no singular values.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import jacobian_flow
    >>> from jaxrnn.diagnostics.pictures import singular_values
    >>> cell, xs = jaxrnn.Elman(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> flow = jacobian_flow(cell, params, xs, singular_values=True)
    >>> singular_values(flow).get_xlabel()
    'steps back'
    """
    if flow.log_singular_values is None:
        raise ValueError(
            "singular_values: the flow has none; ask for them, jacobian_flow(..., "
            "singular_values=True)"
        )
    import matplotlib

    logs = np.asarray(jax.device_get(flow.log_singular_values))
    precision = np.log(np.finfo(logs.dtype).eps)
    logs = logs.reshape(logs.shape[0], -1, logs.shape[-1]).mean(axis=1)[::-1] / np.log(10)
    logs = np.where(logs > logs[:, :1] + precision / np.log(10), logs, np.nan)
    axes = axes_or_new(axes, (6, 4))
    count = logs.shape[1]
    shades = matplotlib.colormaps["cividis"](np.linspace(0, 0.9, count))
    for k in range(count):
        axes.plot(logs[:, k], color=shades[k], linewidth=1.6 if k == 0 else 0.9)
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    axes.set(xlabel="steps back", ylabel="log₁₀ singular values of ∂carry_T/∂carry_t")
    return axes


def _checked(owner: str, argument: str, values: ArrayLike, axes: int) -> np.ndarray:
    array = np.asarray(values, float)
    if array.ndim != axes:
        expected = "[time + 1]" if axes == 1 else "[looks, time + 1]"
        raise ValueError(
            f"{owner}: {argument} has shape {array.shape}, expected {expected}; by_distance "
            "averages over sequences"
        )
    return array


def _borders(centres: np.ndarray) -> np.ndarray:
    """Return the middles between neighbours, and ends as far beyond the first and the last."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    between = (centres[1:] + centres[:-1]) / 2
    ends = 2 * centres[0] - between[0], 2 * centres[-1] - between[-1]
    return np.concatenate([ends[:1], between, ends[1:]])
