"""The search for fixed points: least squares from all starts, then Newton's method from the minima.

Each stage is one program for many points in parallel. It runs in float64.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree, float_positions, pick, put, sparse
from jaxrnn.diagnostics._state import Map, step_map, unflat

_STATIONARY = 1e-9
"""‖∇q‖ / ‖F(h) − h‖ where the search stops: a number without a unit, as J − I is."""

_HOPELESS = 1e12
"""The damping at which no step is small enough to make q smaller: rounding is all that is left."""

_SINGULAR = 1e-12
"""Singular values of J − I below this part of the largest are taken for 0."""

_NEWTON_STEPS = 20

_FEW, _EARLY = 64, 30
"""Of more starts than these, the slow ones go on by themselves after so many steps."""


class System(NamedTuple):
    """A cell under a constant input."""

    cell: Cell
    params: Params
    x: Tree
    context: Tree

    def map(self, like: Carry, period: int) -> Map:
        """Return the map of so many steps, from vectors to vectors, with the integers of `like`."""
        after = step_map(self.cell, self.params, like, self.x, context=self.context)
        return lambda h: lax.fori_loop(0, period, lambda _, h: after(h), h)

    def orbit(self, like: Carry, h: Array, period: int) -> Array:
        """Return the states `[period, n]` from h on."""
        after = self.map(like, 1)
        return lax.scan(lambda h, _: (after(h), h), h, length=period)[1]


class Ended(NamedTuple):
    """The points where searches ended, with a leading axis."""

    orbit: Any  # [period, n]
    residual: Any
    slope: Any


class Seen(NamedTuple):
    """A refined point and its derivatives, with a leading axis."""

    ended: Ended
    carry: Carry  # [period, ...]
    jacobian: Any
    input_sensitivity: Tree


def search(
    system: System,
    starts: Carry,
    vectors: np.ndarray,
    tolerance: float,
    period: int,
    steps: int,
    at_once: int | None,
) -> Ended:
    """Find the minimum of q near each start, which is also given as a vector, on the host.

    In parallel, the slowest search decides how long all take. So after some steps, the searches
    that have not ended continue without the others.
    """
    none = np.zeros(len(vectors))
    at = _At(vectors, none, none + 2, none.astype(np.int32))
    first = steps if len(vectors) <= _FEW else min(steps, _EARLY)
    at, ended, going = host(_descend_all(system, starts, at, tolerance, first, period, at_once))
    if first < steps and going.any():
        rows = padded(np.flatnonzero(going))[: len(vectors)]
        some = take((starts, at), rows)
        _, later, _ = host(_descend_all(system, *some, tolerance, steps, period, at_once))
        for whole, part in zip(ended, later, strict=True):
            whole[rows] = part
    return ended


@partial(jax.jit, static_argnames=("period", "at_once"))
def _descend_all(
    system: System,
    starts: Carry,
    at: "_At",
    tolerance: float,
    steps: int,
    period: int,
    at_once: int | None,
) -> tuple["_At", Ended, Array]:
    """Take further steps of all searches, and return which of them have not ended."""

    def one(given: tuple[Carry, _At]) -> tuple[_At, Ended, Array]:
        like, at = given
        # a tenth, so that rounding takes no point beyond the limit
        at, found, going = _descend(system.map(like, period), at, tolerance / 10, steps)
        return at, _ended(system, like, found, period), going

    if at_once is None:
        return jax.vmap(one)((starts, at))
    return lax.map(one, (starts, at), batch_size=at_once)


@partial(jax.jit, static_argnames="period")
def refine(system: System, starts: Carry, points: Array, reach: float, period: int) -> Seen:
    """Refine points by Newton's method, and compute their Jacobians and input sensitivities."""

    def one(like: Carry, h: Array) -> Seen:
        found, jacobian = _polish(system.map(like, period), h, reach)
        at = float_positions(system.x)

        def driven(xs: list[Array]) -> Array:
            return system._replace(x=put(system.x, at, xs)).map(like, period)(found.vector)

        by_input = jax.jacfwd(driven)(pick(system.x, at))
        ended = _ended(system, like, found, period)
        carry = jax.vmap(lambda h: unflat(h, like))(ended.orbit)
        return Seen(ended, carry, jacobian, sparse(system.x, at, by_input))

    return jax.vmap(one)(starts, points)


class _Found(NamedTuple):
    """The point where one search ended."""

    vector: Array  # [n]
    residual: Array  # ‖F(h) − h‖
    slope: Array  # ‖∇q‖ / ‖F(h) − h‖: near 0 at a minimum of q, whether or not q is 0 there


class _Point(NamedTuple):
    """A state h, g = F(h) − h, and A = ∂g/∂h."""

    h: Array
    g: Array
    a: Array


class _At(NamedTuple):
    """The state of one search."""

    h: Any
    damping: Any  # 0 before the first step
    growth: Any  # of the damping, when the next step fails
    count: Any  # of steps


class _Descent(NamedTuple):
    point: _Point
    damping: Array
    growth: Array
    count: Array


class _Polish(NamedTuple):
    point: _Point
    improved: Array
    count: Array


def _looking(move: Map) -> Callable[[Array], _Point]:
    """Return a function that computes the displacement of the map and its derivative.

    It takes one `jvp` for each number of the state.
    """

    def twice(h: Array) -> tuple[Array, Array]:
        g = move(h) - h
        return g, g

    def look(h: Array) -> _Point:
        a, g = jax.jacfwd(twice, has_aux=True)(h)
        return _Point(h, g, a)

    return look


def _descend(move: Map, at: _At, tolerance: float, steps: int) -> tuple[_At, _Found, Array]:
    """Descend towards a minimum of q(h) = ½‖F(h) − h‖² by the method of Levenberg and Marquardt,
    with the damping of Nielsen (1999); also return whether the search has not ended.

    The damping of the first steps is proportional to J − I, so they lead to a minimum nearby.
    """
    look = _looking(move)

    def going_on(s: _Descent) -> Array:
        found = _found(s.point)
        near = found.residual <= tolerance * jnp.maximum(1, jnp.linalg.norm(found.vector))
        return ~near & (found.slope > _STATIONARY) & (s.damping < _HOPELESS)

    def go(s: _Descent) -> _Descent:
        (h, g, a), unit = s.point, jnp.eye(len(at.h))
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

    first = look(at.h)
    damping = jnp.where(at.damping > 0, at.damping, jnp.max(jnp.sum(first.a**2, axis=0)))
    start = _Descent(first, damping, at.growth, at.count)
    ended = lax.while_loop(lambda s: going_on(s) & (s.count < steps), go, start)
    return _At(ended.point.h, *ended[1:]), _found(ended.point), going_on(ended)


def _polish(move: Map, start: Array, reach: float) -> tuple[_Found, Array]:
    """Take steps of Newton's method, `(J − I) δ = −(F(h) − h)`; return the end and its Jacobian J.

    The steps end when the residual does not shrink, or when they lead further than `reach`. If
    J − I is singular, δ is the smallest least-squares solution, so the point does not move along a
    line of fixed points.
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


def _found(point: _Point) -> _Found:
    residual = jnp.linalg.norm(point.g)
    slope = jnp.linalg.norm(point.a.T @ point.g) / jnp.where(residual > 0, residual, 1)
    return _Found(point.h, residual, slope)


def _ended(system: System, like: Carry, found: _Found, period: int) -> Ended:
    return Ended(system.orbit(like, found.vector, period), found.residual, found.slope)


def host(tree: Tree) -> Any:
    """Return the same tree with writable arrays of NumPy."""
    return jax.tree.map(np.array, tree)


def take(tree: Tree, rows: Any) -> Any:
    """Return these rows of every array."""
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def padded(rows: np.ndarray) -> np.ndarray:
    """Repeat rows up to a power of two, so that programs for few sizes are compiled."""
    return np.resize(rows, 1 << (len(rows) - 1).bit_length()) if len(rows) else np.zeros(1, int)
