"""The fixed points, slow points and cycles of a recurrence under a constant input."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxrnn.core.call import (
    check_arrays,
    check_carry,
    check_causal,
    check_cell,
    check_inputs,
    check_params,
)
from jaxrnn.core.cell import Carry, Cell, Params, abstract_carry
from jaxrnn.core.check import check_limit, check_positive, check_size, name_of
from jaxrnn.core.trees import Tree, floats, is_float
from jaxrnn.diagnostics._points import FixedPoints, Points, spectra
from jaxrnn.diagnostics._search import (
    Ended,
    Seen,
    System,
    host,
    padded,
    refine,
    search,
    take,
)
from jaxrnn.diagnostics._state import flat

_MINIMUM = 1e-6
"""‖∇q‖ / ‖F(h) − h‖ up to which a point is taken for a minimum of q."""


def fixed_points(
    cell: Cell,
    params: Params,
    x: Tree,
    starts: Carry,
    *,
    context: Tree = None,
    period: int = 1,
    tolerance: float = 1e-12,
    duplicate: float = 1e-3,
    outlier: float = 10.0,
    slow: float = 0.05,
    marginal: float = 1e-4,
    scale: float | None = None,
    steps: int = 200,
    at_once: int | None = None,
) -> FixedPoints:
    """Find the fixed points `F(h) = step(h, x) = h` of a cell under a constant input x, and the
    eigenvalues of the Jacobian at each (Sussillo & Barak 2013).

    The search minimises `q(h) = ½‖F(h) − h‖²` from every start, by the method of Levenberg and
    Marquardt, for all starts at once in one program. Newton's method then refines the minima. The
    search uses a copy of the parameters in float64, whatever their dtype. A minimum of q is a fixed
    point if its residual is within the tolerance. Otherwise it is a slow point: near it the state
    changes slowly, as it does near fixed points that have just vanished. The state is the whole
    carry of all layers, n real numbers. Integers in the carry keep the values of each start.

    A cycle of period p is a fixed point of p steps, and not of fewer. Which points are found
    depends on the starts. Take states of a `trajectory` (see `sample_states`), and look at how many
    starts led to each point. If many lead elsewhere, add states of a trajectory under x itself: q
    has other minima on the way to a sink that is far from all starts. On a line of fixed points,
    each start finds another point.

    The number of points depends on values, so the function does not work inside `jax.jit`. A second
    call with equally many starts compiles nothing.

    Args:
        cell, params: any cell that has a single step.
        x: one step's input, `[features]`, without batch axes.
        starts: where the search starts: a carry with one leading axis, `[starts, ...]`.
        context: the context of a `ContextCell`, without batch axes.
        period: the period of the cycles to search for; 1 for fixed points.
        tolerance: the largest residual `‖F(h) − h‖` of a fixed point; relative to ‖h‖ where that is
            above 1.
        duplicate: points nearer to each other than this times `scale` count as one.
        outlier: points farther than this times `scale` from the mean of the starts are reported
            as outliers.
        slow: the largest residual of a slow point, in units of `scale`. With the default, the state
            takes twenty steps or more to move by `scale`.
        marginal: an |λ| that differs from 1 by less than this counts as 1.
        scale: the size of the region that trajectories visit. The default is the root of the mean
            squared distance of the starts from their mean, or 1 if all starts are the same.
        steps: the largest number of steps of the search from one start.
        at_once: how many starts are searched in parallel, all by default. Each needs memory for
            about n² numbers.

    Raises:
        ValueError, TypeError: a shape, a structure or a dtype does not fit; a start is not finite;
            the cell has no single step; the call is inside `jax.jit`.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import fixed_points
    >>> cell = jaxrnn.Elman(1)  # h' = tanh(2 h)
    >>> params = cell.init(jax.random.key(0), in_features=1)._replace(w_h=jnp.array([[2.0]]))
    >>> found = fixed_points(cell, params, jnp.zeros(1), jnp.linspace(-1, 1, 8)[:, None])
    >>> for kind, h in zip(found.fixed.kind, found.fixed.carry[:, 0]):
    ...     print(kind, round(abs(float(h)), 6))
    sink 0.957504
    sink 0.957504
    source 0.0
    """
    _check_options(tolerance, duplicate, outlier, slow, marginal, scale, period, steps, at_once)
    check_cell(cell, "diagnostics.fixed_points")
    check_causal(cell, "single step, and no fixed points")
    _check_outside_jit(params, x, starts, context)
    with jax.enable_x64(True):
        system = System(cell, *_in_float64((params, x, context)))
        starts = _checked_starts(system, starts)
        first, integers = host(jax.jit(flat, static_argnums=1)(starts, 1)), _integers(starts)
        centre = first.mean(axis=0)
        scale = scale or _size(first - centre) or 1.0
        same, fast = duplicate * scale, max(slow * scale, tolerance)
        ended = search(system, starts, first, tolerance, period, steps, at_once)
        labels, some = _distinct(ended, integers, same, fast)
        rows = take((starts, ended.orbit[:, 0]), padded(some))
        seen = take(host(refine(system, *rows, same, period)), slice(len(some)))
    again, kept = _distinct(seen.ended, integers[some], same, fast)
    seen, labels = take(seen, kept), np.append(again, -1)[labels]  # the label -1 stays
    orbit, residual, slope = seen.ended
    size = np.linalg.norm(orbit[:, 0], axis=-1)
    fixed = residual <= tolerance * np.maximum(1, size)
    known = _minimal(orbit, np.maximum(residual, same)) & (fixed | (slope <= _MINIMUM))
    away = np.linalg.norm(orbit[:, 0] - centre, axis=-1) > outlier * scale
    made = partial(_points, seen, labels, marginal)
    of_fixed, of_slow, of_away = map(
        made, (known & fixed & ~away, known & ~fixed & ~away, known & away)
    )
    led = np.stack([points.led_to for points in (of_fixed, of_slow, of_away)]) >= 0
    elsewhere = np.flatnonzero(~led.any(axis=0))
    return FixedPoints(of_fixed, of_slow, of_away, elsewhere, period, scale)


def _distinct(
    ended: Ended, integers: np.ndarray, same: float, fast: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find distinct points or cycles, each represented by its row with the smallest residual.

    Returns the index of the point for every row, -1 for rows that move too fast, and the row of
    each point.
    """
    labels, rows = np.full(len(ended.residual), -1), []
    for row in np.argsort(ended.residual):
        if labels[row] >= 0 or not ended.residual[row] <= fast:  # NaN is not
            continue
        apart = ended.orbit[:, None, 0] - ended.orbit[row]
        near = np.linalg.norm(apart, axis=-1).min(axis=1) <= same
        alike = near & np.all(integers == integers[row], axis=1) & (ended.residual <= fast)
        labels[alike & (labels < 0)] = len(rows)
        rows.append(row)
    return labels, np.array(rows, int)


def _minimal(orbit: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Return whether no smaller number of steps returns as close to the start."""
    period = orbit.shape[1]
    fewer = [steps for steps in range(1, period) if period % steps == 0]
    back = np.linalg.norm(orbit[:, fewer] - orbit[:, :1], axis=-1) <= same[:, None]
    return ~back.any(axis=1)


def _points(seen: Seen, labels: np.ndarray, marginal: float, which: np.ndarray) -> Points:
    """Return the points that `which` selects, sorted."""
    numbers = np.flatnonzero(which)
    some = take(seen, numbers)
    found = spectra(some.jacobian, some.ended.orbit.shape[1], marginal)
    count = np.array([np.sum(labels == number) for number in numbers], int)
    order = np.lexsort((-count, found["unstable"]))
    new = np.full(len(which) + 1, -1)
    new[numbers[order]] = np.arange(len(numbers))
    some = take(some, order)
    return Points(
        carry=jax.tree.map(lambda leaf: leaf[:, 0], some.carry),
        orbit=some.carry,
        residual=some.ended.residual,
        jacobian=some.jacobian,
        input_sensitivity=some.input_sensitivity,
        led_to=new[labels],
        **take(found, order),
    )


def _size(vectors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=-1))))


def _integers(starts: Carry) -> np.ndarray:
    """Return the integers that the starts hold, `[starts, ...]`."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(starts) if not is_float(leaf)]
    count = len(jax.tree.leaves(starts)[0])
    return np.concatenate([np.zeros((count, 0), int), *(a.reshape(count, -1) for a in leaves)], 1)


def _in_float64(tree: Tree) -> Any:
    """Return a copy on the host in float64 and complex128."""

    def leaf(array: Any) -> np.ndarray:
        array = np.asarray(array)
        if not is_float(array):
            return array
        return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)

    return jax.tree.map(leaf, tree)


def _checked_starts(system: System, starts: Carry) -> Carry:
    """Return the starts in float64. Refuse them, or the input, if they do not fit the cell."""
    cell, params, x, _ = system
    name = name_of(cell)
    check_arrays(cell, "x", x)
    check_inputs(cell, x, timed=False)
    features = jax.tree.leaves(x)[0].shape
    if len(features) != cell.feature_axes:
        raise ValueError(
            f"{name}: x has shape {features}, expected one step's constant input without batch "
            f"axes, {cell.feature_axes} in all; call fixed_points once for each input"
        )
    check_params(cell, params, features[-1])
    starts = _in_float64(starts)
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(starts)]
    if not floats(starts) or not all(shapes) or not shapes[0][0]:
        raise ValueError(
            f"{name}: starts have the shapes {shapes}, expected a carry of floating numbers with "
            "one leading axis, [starts, ...]; sample_states makes them of a trajectory"
        )
    shape = (shapes[0][0], *features)
    carried = abstract_carry(cell, params, shape)
    if narrow := {leaf.dtype.name for leaf in floats(carried)} - {"float64", "complex128"}:
        raise TypeError(
            f"{name}: initial_carry has dtype {', '.join(narrow)} with parameters in float64, in "
            "which fixed points are found; let it follow the parameters' dtype"
        )
    starts = host(check_carry(cell, params, starts, shape))
    if not all(np.isfinite(leaf).all() for leaf in floats(starts)):
        raise ValueError(f"{name}: starts hold numbers that are not finite; leave them out")
    return starts


def _check_options(
    tolerance: float,
    duplicate: float,
    outlier: float,
    slow: float,
    marginal: float,
    scale: float | None,
    period: int,
    steps: int,
    at_once: int | None,
) -> None:
    owner = "fixed_points"
    limits = {"tolerance": tolerance, "duplicate": duplicate, "outlier": outlier, "slow": slow}
    for name, value in {**limits, "marginal": marginal}.items():
        check_positive(owner, name, value)
    check_limit(owner, "scale", scale)
    check_size(owner, "period", period)
    check_size(owner, "steps", steps)
    if at_once is not None:
        check_size(owner, "at_once", at_once)


def _check_outside_jit(*trees: Tree) -> None:
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees)):
        raise TypeError(
            "fixed_points is called while JAX traces, but the number of points depends on values: "
            "call it outside of jax.jit, jax.vmap and jax.grad"
        )
