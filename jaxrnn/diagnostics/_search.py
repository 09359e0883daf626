"""The search for fixed points of a map: least squares from a start, then Newton's method.

Both are written for one point and meant for `jax.vmap`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.diagnostics._state import Map

_STATIONARY = 1e-9
"""‖∇q‖ / ‖F(h) − h‖ where the search stops: a number without a unit, as J − I is."""

_HOPELESS = 1e12
"""The damping at which no step is small enough to make q smaller: rounding is all that is left."""

_SINGULAR = 1e-12
"""Singular values of J − I below this part of the largest are taken for 0."""

_NEWTON_STEPS = 20


class Found(NamedTuple):
    """Where a search ended."""

    vector: Array  # [n]
    residual: Array  # ‖F(h) − h‖
    slope: Array  # ‖∇q‖ / ‖F(h) − h‖: near 0 at a minimum of q, whether or not q is 0 there


class _Point(NamedTuple):
    """A state h, g = F(h) − h, and A = ∂g/∂h."""

    h: Array
    g: Array
    a: Array


class _Descent(NamedTuple):
    point: _Point
    damping: Array
    growth: Array  # of the damping, when the next step fails
    count: Array


class _Polish(NamedTuple):
    point: _Point
    improved: Array
    count: Array


def _looking(move: Map) -> Callable[[Array], _Point]:
    """The map's displacement with its derivative, by one forward derivative for each number."""

    def twice(h: Array) -> tuple[Array, Array]:
        g = move(h) - h
        return g, g

    def look(h: Array) -> _Point:
        a, g = jax.jacfwd(twice, has_aux=True)(h)
        return _Point(h, g, a)

    return look


def descend(move: Map, start: Array, tolerance: float, steps: int) -> Found:
    """A minimum of q(h) = ½‖F(h) − h‖² near the start, by Levenberg's and Marquardt's method, the
    damping as Nielsen (1999) sets it.

    The first steps are damped as much as J − I is large, so that they go down to what is near.
    """
    look = _looking(move)

    def going_on(s: _Descent) -> Array:
        found = _found(s.point)
        near = found.residual <= tolerance * jnp.maximum(1, jnp.linalg.norm(found.vector))
        return ~near & (found.slope > _STATIONARY) & (s.damping < _HOPELESS) & (s.count < steps)

    def go(s: _Descent) -> _Descent:
        (h, g, a), unit = s.point, jnp.eye(len(start))
        gradient = a.T @ g
        step = -jax.scipy.linalg.solve(a.T @ a + s.damping * unit, gradient, assume_a="pos")
        there = look(h + step)
        lower = g @ g - there.g @ there.g  # NaN where there is none
        ratio = lower / (step @ (s.damping * step - gradient))
        less = jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)
        better = lower > 0
        point = jax.tree.map(lambda new, old: jnp.where(better, new, old), there, s.point)
        damping = s.damping * jnp.where(better, less, s.growth)
        return _Descent(point, damping, jnp.where(better, 2.0, 2 * s.growth), s.count + 1)

    first = look(start)
    damping = jnp.max(jnp.sum(first.a**2, axis=0))
    ended = lax.while_loop(going_on, go, _Descent(first, damping, jnp.full((), 2.0), jnp.int32(0)))
    return _found(ended.point)


def polish(move: Map, start: Array, reach: float) -> tuple[Found, Array]:
    """Newton's method, `(J − I) δ = −(F(h) − h)`, while it makes the residual smaller and leads no
    further than `reach`; and the Jacobian J where it ends.

    Where J − I is singular, δ is the smallest of the least-squares solutions: on a line of fixed
    points it stays where it is.
    """
    look = _looking(move)

    def go(s: _Polish) -> _Polish:
        step = jnp.linalg.lstsq(s.point.a, -s.point.g, rcond=_SINGULAR)[0]
        there = look(s.point.h + step)
        within = jnp.linalg.norm(there.h - start) <= reach
        better = within & (jnp.linalg.norm(there.g) < jnp.linalg.norm(s.point.g))
        point = jax.tree.map(lambda new, old: jnp.where(better, new, old), there, s.point)
        return _Polish(point, better, s.count + 1)

    ended = lax.while_loop(
        lambda s: s.improved & (s.count < _NEWTON_STEPS),
        go,
        _Polish(look(start), jnp.bool_(True), jnp.int32(0)),
    )
    return _found(ended.point), ended.point.a + jnp.eye(len(start))


def _found(point: _Point) -> Found:
    residual = jnp.linalg.norm(point.g)
    slope = jnp.linalg.norm(point.a.T @ point.g) / jnp.where(residual > 0, residual, 1)
    return Found(point.h, residual, slope)
