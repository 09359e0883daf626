"""Maps of the line, x_{t+1} = f(x_t): orbits, fixed points and cycles, sinks and sources.

For a cell with one unit and a constant input, f is one step.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxrnn.core.check import check_number, check_size, described, takes

Function = Callable[[Array], Array]
"""From one real number to another, by operations of JAX."""

Starts = ArrayLike | Sequence[float]

Kind = Literal["sink", "source", "marginal"]


class Cycle(NamedTuple):
    """The points of a cycle; a fixed point is a cycle of one point.

    >>> from jaxrnn.diagnostics import map_cycles
    >>> [cycle] = map_cycles(lambda x: 1 - x / 2, 0.0, 1.0)
    >>> cycle.kind, round(float(cycle.points[0]), 3), cycle.slope
    ('sink', 0.667, -0.5)
    """

    points: np.ndarray
    """`[period]`, in the order in which they follow each other, the smallest first."""

    slope: float
    """The product of f' over the points: what a small distance from the cycle is multiplied by in
    one turn."""

    kind: Kind
    """Whether what is near comes nearer (|slope| < 1), goes away, or the slope cannot tell."""


def iterate_map(function: Function, starts: Starts, steps: int) -> Array:
    """Compute the orbits x, f(x), f(f(x)), ... from these starts, `[steps + 1, *starts.shape]`.

    Args:
        function: f, from one real number to another, by operations of JAX.
        starts: the first points, of any shape.
        steps: how often f is applied.

    Raises:
        ValueError, TypeError: `steps` is not positive, or f is not a real function of one number.

    >>> from jaxrnn.diagnostics import iterate_map
    >>> iterate_map(lambda x: 2 * x * (1 - x), [0.0, 0.25], steps=2).tolist()
    [[0.0, 0.25], [0.0, 0.375], [0.0, 0.46875]]
    """
    steps = check_size(iterate_map, "steps", steps)
    first = jnp.asarray(starts)
    if not jnp.issubdtype(first.dtype, jnp.floating):
        first = first.astype(float)
    _check_map(iterate_map, function, first.dtype)
    move = jax.vmap(function)

    def step(x: Array, _: None) -> tuple[Array, Array]:
        after = move(x).astype(x.dtype)
        return after, after

    @jax.jit
    def orbits(first: Array) -> Array:
        _, later = lax.scan(step, first.ravel(), length=steps)
        return jnp.concatenate([first[None], later.reshape(steps, *first.shape)])

    return orbits(first)


def map_cycles(
    function: Function, low: float, high: float, period: int = 1, *, grid: int = 2001
) -> tuple[Cycle, ...]:
    """Find the cycles of a map of the line that begin within an interval, by their smallest points.

    With `period=1` these are its fixed points, f(x) = x. With period p they are the fixed points of
    f^p that are not fixed points of f^d for a divisor d of p. A grid and the extrema between its
    points divide the interval into pieces. Bisection finds the roots of f^p(x) - x in each piece,
    also a root that only touches zero. Two roots can be missed if they lie within one step of the
    grid with no extremum between them. As f^p varies faster than f, take a finer grid for a long
    period.

    A cycle is called marginal if its slope is within eps^(1/3) of 1 or -1: higher derivatives then
    decide. The number of cycles depends on values, so the function does not work inside `jax.jit`.
    See Strogatz, Nonlinear dynamics and chaos (1994), chapter 10.

    Args:
        function: f, from one real number to another, by operations of JAX.
        low, high: the interval in which cycles begin.
        period: the number of points of a cycle; 1 for fixed points.
        grid: into how many pieces of equal length the interval is divided.

    Raises:
        ValueError, TypeError: the interval is empty, `period` or `grid` is not positive, f is not a
            real function of one number, or f^p(x) = x on a whole interval.

    >>> import jax, jax.numpy as jnp
    >>> from jaxrnn.diagnostics import map_cycles
    >>> for cycle in map_cycles(lambda h: jnp.tanh(2 * h), -2.0, 2.0):
    ...     print(cycle.kind, round(abs(float(cycle.points[0])), 3), round(cycle.slope, 3))
    sink 0.958 0.166
    source 0.0 2.0
    sink 0.958 0.166
    >>> [two] = map_cycles(lambda x: 3.2 * x * (1 - x), 0.0, 1.0, period=2)
    >>> two.kind, [f"{x:.3f}" for x in two.points], f"{two.slope:.2f}"
    ('sink', ['0.513', '0.799'], '0.16')
    """
    low, high = (check_number(map_cycles, name, x) for name, x in (("low", low), ("high", high)))
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"map_cycles: the interval goes from {low} to {high}, expected low < high")
    period, grid = (check_size(map_cycles, n, k) for n, k in (("period", period), ("grid", grid)))
    dtype = jax.dtypes.canonicalize_dtype(float)
    _check_map(map_cycles, function, dtype)
    nodes = np.linspace(low, high, grid + 1, dtype=dtype)
    gap = partial(_gap, function, period)
    roots = _roots(gap, nodes)
    if not len(roots):
        return ()
    orbits = np.asarray(iterate_map(function, roots, period))[:-1].T
    slopes = _values(jax.grad(gap), roots) + 1
    same = float(jnp.finfo(nodes.dtype).eps) ** 0.5 * (high - low)
    shorter = [d for d in range(1, period) if period % d == 0]
    found: list[Cycle] = []
    for orbit, slope in zip(orbits, slopes, strict=True):
        if any(abs(orbit[d] - orbit[0]) <= same for d in shorter):
            continue
        if any(np.min(np.abs(cycle.points - orbit[0])) <= same for cycle in found):
            continue
        turned = np.roll(orbit, -int(np.argmin(orbit)))
        found.append(Cycle(turned, float(slope), _kind(slope, nodes.dtype)))
    return tuple(sorted(found, key=lambda cycle: cycle.points[0]))


def _gap(function: Function, period: int, x: Array) -> Array:
    """Return f^p(x) - x."""
    return lax.fori_loop(0, period, lambda _, y: function(y).astype(y.dtype), x) - x


def _values(function: Function, xs: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(function))(xs))


def _kind(slope: float, dtype: Any) -> Kind:
    if abs(abs(slope) - 1) <= float(jnp.finfo(dtype).eps) ** (1 / 3):
        return "marginal"
    return "sink" if abs(slope) < 1 else "source"


def _roots(gap: Function, nodes: np.ndarray) -> np.ndarray:
    """Find where a function is zero."""
    eps = float(jnp.finfo(nodes.dtype).eps)
    nodes = np.sort(np.concatenate([nodes, _crossings(jax.grad(gap), nodes)]))
    values = _values(gap, nodes)
    zero = np.abs(values) <= 1e2 * eps * np.maximum(1, np.abs(nodes))
    if np.any(zero[2:] & zero[1:-1] & zero[:-2]):
        at = float(nodes[1:-1][zero[2:] & zero[1:-1] & zero[:-2]][0])
        raise ValueError(
            f"map_cycles: all points near {at:.6g} are fixed, expected isolated fixed points; an "
            "interval of them cannot be listed"
        )
    return np.concatenate([nodes[zero], _crossings(gap, nodes, zero)])


def _bisected(function: Function, left: Array, right: Array) -> tuple[Array, Array]:
    """Bisect intervals to where a function changes its sign; also return its values there."""
    each = jax.vmap(function)
    sign = jnp.sign(each(left))

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = ends
        middle = (left + right) / 2
        before = jnp.sign(each(middle)) == sign
        return jnp.where(before, middle, left), jnp.where(before, right, middle)

    left, right = lax.fori_loop(0, jnp.finfo(left.dtype).nmant + 12, halve, (left, right))
    middle = (left + right) / 2
    return middle, each(middle)


def _crossings(function: Function, nodes: np.ndarray, skip: Any = False) -> np.ndarray:
    """Find where a function changes its sign between neighbours, and does not jump."""
    values = np.where(skip, 0, _values(function, nodes))
    (at,) = np.nonzero(values[:-1] * values[1:] < 0)
    if not len(at):
        return nodes[:0]
    ends = jax.jit(partial(_bisected, function))(nodes[at], nodes[at + 1])
    roots, rest = map(np.asarray, ends)
    before = np.maximum(np.abs(values[at]), np.abs(values[at + 1]))
    smooth = np.abs(rest) <= float(jnp.finfo(nodes.dtype).eps) ** (1 / 3) * before
    return roots[smooth]


def _check_map(owner: Callable, function: object, dtype: Any) -> None:
    """Refuse what is not a real function of one number."""
    name = owner.__name__
    if not takes(function, 1):
        raise TypeError(f"{name}: function is {described(function)}, expected function(x)")
    found = jax.eval_shape(function, jax.ShapeDtypeStruct((), dtype))  # type: ignore[arg-type]
    if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(
            f"{name}: function(x) gives {found} for one number x, expected one real number; of a "
            "cell's step take the one unit, h[0]"
        )
