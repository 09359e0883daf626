"""Where states move to from around saddles, and the time that finding fixed points takes."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn.diagnostics import FixedPoints, Points

Find = Callable[..., FixedPoints]
"""`find(starts, scale=..., at_once=...)`: `fixed_points` of a cell, its parameters and an input."""


def vectors(carry: Any) -> np.ndarray:
    """Return carries, pytrees of arrays `[rows, ...]`, as vectors `[rows, n]`."""
    rows = [np.asarray(leaf) for leaf in jax.tree.leaves(carry)]
    return np.concatenate([row.reshape(len(row), math.prod(row.shape[1:])) for row in rows], 1)


def outputs(cell: jaxrnn.Cell, params: Any, carry: Any, x: Any, steps: int = 1) -> np.ndarray:
    """Return the outputs `[rows, outputs]` that are `steps` steps after these carries.

    The input x is the same at all steps.
    """
    carry = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), carry)
    count = len(jax.tree.leaves(carry)[0])
    xs = jnp.broadcast_to(jnp.asarray(x, jnp.float32), (steps, count, *np.shape(x)))
    return np.asarray(jaxrnn.scan(cell, params, xs, carry)[1][-1])


def ends(cell: jaxrnn.Cell, params: Any, saddles: Points, x: Any, push: float) -> np.ndarray:
    """Return the outputs `[2, saddles, outputs]` 1,000 steps after a push away from each saddle.

    The pushes have the length `push` and both signs. Their direction is the eigenvector of the
    eigenvalue with the largest magnitude, or its real part.
    """
    directions = []
    for jacobian in saddles.jacobian:
        values, columns = np.linalg.eig(jacobian)
        directions.append(np.real(columns[:, np.argmax(np.abs(values))]))
    leaves, form = jax.tree.flatten(saddles.carry)
    sizes = np.cumsum([leaf[0].size for leaf in leaves])[:-1]
    pieces = np.split(np.array(directions), sizes, axis=1)
    pushed = [
        [
            leaf + sign * push * piece.reshape(leaf.shape)
            for leaf, piece in zip(leaves, pieces, strict=True)
        ]
        for sign in (1, -1)
    ]
    return np.stack([outputs(cell, params, form.unflatten(way), x, 1000) for way in pushed])


class Timed(NamedTuple):
    """Points, and how long it took to find them."""

    points: np.ndarray  # [points, n]
    wall: float  # seconds
    cpu: float  # seconds of processor time

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.cpu:.2f} s of processor time)"


def timed(work: Callable[[], np.ndarray], warm_up: Callable[[], object]) -> Timed:
    """Time `work`, which finds points, after `warm_up` has compiled its programs."""
    warm_up()
    wall, cpu = time.perf_counter(), time.process_time()
    return Timed(work(), time.perf_counter() - wall, time.process_time() - cpu)


def one_by_one(find: Find, starts: Any, scale: float, count: int | None = None) -> np.ndarray:
    """Return the points `[points, n]` that a call for each start finds.

    A point that is found from several starts is there several times.

    Args:
        find: finds points from starts.
        starts: carries `[starts, ...]`.
        scale: as for `fixed_points`.
        count: how many of the starts to use; by default all.
    """
    found = []
    for row in range(count or len(jax.tree.leaves(starts)[0])):
        start = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], starts)
        found.append(vectors(find(start, scale=scale).fixed.carry))
    return np.concatenate(found)


def hausdorff_distance(some: np.ndarray, others: np.ndarray) -> float:
    """Return the largest distance of a point of either set to the nearest point of the other."""
    distances = np.linalg.norm(some[:, None] - others, axis=-1)
    return float(max(distances.min(axis=0).max(), distances.min(axis=1).max()))
