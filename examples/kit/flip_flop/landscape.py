"""Where states roll to from around a saddle, and finding points one start at a time."""

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
"""`find(starts, scale=None, at_once=None)`."""


def vectors(carry: Any) -> np.ndarray:
    """Carries `[rows, ...]` as rows `[rows, n]`."""
    rows = [np.asarray(leaf) for leaf in jax.tree.leaves(carry)]
    return np.concatenate([row.reshape(len(row), math.prod(row.shape[1:])) for row in rows], 1)


def outputs(cell: jaxrnn.Cell, params: Any, carry: Any, x: Any, steps: int = 1) -> np.ndarray:
    """What is put out `steps` steps after these carries, `[rows, outputs]`, the input constant."""
    carry = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), carry)
    count = len(jax.tree.leaves(carry)[0])
    xs = jnp.broadcast_to(jnp.asarray(x, jnp.float32), (steps, count, *np.shape(x)))
    return np.asarray(jaxrnn.scan(cell, params, xs, carry)[1][-1])


def ends(cell: jaxrnn.Cell, params: Any, saddles: Points, x: Any, push: float) -> np.ndarray:
    """Where a push one way and the other, in the direction that grows fastest, ends:
    `[2, saddles, outputs]`.
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
    """What was found, `[points, n]`, and how long that took."""

    points: np.ndarray
    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.cpu:.2f} s of processor time)"


def timed(work: Callable[[], np.ndarray], warm_up: Callable[[], object]) -> Timed:
    """What comes of it, and in what time, once the programs are compiled."""
    warm_up()
    wall, cpu = time.perf_counter(), time.process_time()
    return Timed(work(), time.perf_counter() - wall, time.process_time() - cpu)


def one_by_one(find: Find, starts: Any, scale: float, count: int | None = None) -> np.ndarray:
    """All points that are found by a call for each start, `[points, n]`, some of them often."""
    found = []
    for row in range(count or len(jax.tree.leaves(starts)[0])):
        start = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], starts)
        found.append(vectors(find(start, scale=scale).fixed.carry))
    return np.concatenate(found)


def apart(some: np.ndarray, others: np.ndarray) -> float:
    """How far the points of one set are from the nearest ones of the other, at most."""
    distances = np.linalg.norm(some[:, None] - others, axis=-1)
    return float(max(distances.min(axis=0).max(), distances.min(axis=1).max()))
