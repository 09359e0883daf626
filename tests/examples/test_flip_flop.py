"""What `flip_flop.py` trains on, and what it says of saddles."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tyro")
pytest.importorskip("tqdm")
pytest.importorskip("matplotlib")

import flip_flop
import jaxrnn
from jaxrnn.diagnostics import fixed_points
from kit.flip_flop import landscape
from kit.flip_flop.task import LINES, in_bits, right, trials


def test_outputs_hold_the_last_sign():
    found = trials(np.random.default_rng(0), 40, 5, 0.2)
    assert found.xs.shape == found.targets.shape == (40, 5, LINES)
    held = np.zeros((5, LINES))
    for x, target in zip(found.xs, found.targets, strict=True):
        held = np.where(x == 0, held, x)
        np.testing.assert_array_equal(target, held)
    assert np.all(found.xs[0] != 0)
    assert 0.1 < np.mean(found.xs[1:] != 0) < 0.3
    assert right(found.targets, found.targets) == 1
    assert right(found.xs, found.targets) == np.mean(np.all(found.xs != 0, axis=-1))
    assert in_bits(np.array([[0.3, -2.0, 0.1]])) == ["101"]


def bistable() -> tuple[jaxrnn.Cell, jaxrnn.cells.ElmanParams]:
    """Three units that know nothing of each other, each with two sinks: all 27 points are known."""
    cell = jaxrnn.Elman(LINES)
    params = cell.init(jax.random.key(0), LINES)
    return cell, params._replace(w_h=2 * jnp.eye(LINES), b=jnp.zeros(LINES))


def test_saddles_stand_between_memories():
    """A cube: sinks at its corners, saddles on edges, faces and in the centre; what is on an edge
    rolls to the two corners of that edge.
    """
    cell, params = bistable()
    starts = np.random.default_rng(0).uniform(-1, 1, (300, LINES)).astype(np.float32)
    fixed = fixed_points(cell, params, flip_flop.SILENCE, starts).fixed
    assert np.bincount(fixed.unstable).tolist() == [8, 12, 6, 1]
    ends = landscape.ends(cell, params, fixed, flip_flop.SILENCE, push=1e-2)
    edges = set()
    for k in np.flatnonzero((fixed.kind == "saddle") & (fixed.unstable == 1)):
        one, other = (in_bits(way[k : k + 1])[0] for way in ends)
        edges.add(frozenset((one, other)))
        assert sum(a != b for a, b in zip(one, other, strict=True)) == 1
    assert len(edges) == 12


def test_one_by_one_finds_what_is_found_at_once():
    cell, params = bistable()
    find = partial(fixed_points, cell, params, flip_flop.SILENCE)
    starts = np.random.default_rng(1).uniform(-1, 1, (6, LINES)).astype(np.float32)
    found = find(starts)
    alone = landscape.timed(
        partial(landscape.one_by_one, find, starts, found.scale), lambda: find(starts[:1])
    )
    points = landscape.vectors(found.fixed.carry)
    assert landscape.hausdorff_distance(alone.points, points) < 1e-12
    assert len(alone.points) == 6
    moved = landscape.hausdorff_distance(points[:1], points[:1] + 0.5)
    assert moved == pytest.approx(np.sqrt(3) / 2)
    assert landscape.vectors([np.zeros((0, 2)), np.zeros((0, 3))]).shape == (0, 5)
