"""What is drawn of fixed points is where it should be."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("matplotlib")

import jaxrnn
from jaxrnn.diagnostics import FixedPoints, fixed_points, pictures, sample_states

CELL, ZERO = jaxrnn.Elman(2), np.zeros(1)


def found_in(w: Any, **options: Any) -> tuple[Any, Any, FixedPoints]:
    params = CELL.init(jax.random.key(0), 1)._replace(w_h=jnp.asarray(w, jnp.float32))
    starts = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (20, 2)), jnp.float32)
    states, _ = jaxrnn.trajectory(CELL, params, jnp.zeros((5, 20, 1)), starts)
    return params, states, fixed_points(CELL, params, ZERO, sample_states(states), **options)


def labelled(axes: Any, label: str) -> np.ndarray:
    """What is drawn under this name, `[2, points]`."""
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.array(line.get_data())


def test_two_dimensions() -> None:
    """A unit of two sinks beside one of one sink: nullclines are where they can be worked out."""
    params, states, found = found_in([[2.0, 0.0], [0.0, 0.5]])
    axes = pictures.phase_portrait(CELL, params, ZERO, states, found)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("h[0]", "h[1]")
    sinks = labelled(axes, "sink")
    order = np.argsort(sinks[0])
    np.testing.assert_allclose(sinks[:, order], [[-0.957504, 0.957504], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(labelled(axes, "saddle"), [[0], [0]], atol=1e-6)
    first, second = [c for c in axes.collections if hasattr(c, "levels")]
    across = np.concatenate([path.vertices for path in first.get_paths()])[:, 0]
    assert {*np.round(across, 1)} == {-1.0, 0.0, 1.0}
    up = np.concatenate([path.vertices for path in second.get_paths()])[:, 1]
    np.testing.assert_allclose(up, 0, atol=1e-6)
    (unstable,) = [line for line in axes.get_lines() if line.get_zorder() == 3]
    (left, right), up = np.array(unstable.get_data())
    assert left == pytest.approx(-right) != 0
    np.testing.assert_allclose(up, 0, atol=1e-6)


def test_components_of_many_dimensions() -> None:
    """Distances in the plane of the trajectories are those of the states; axes are kept."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 2)))[0]
    cell = jaxrnn.Elman(6, activation="linear")
    w = basis @ np.diag([0.9, 0.8]) @ basis.T
    params = cell.init(jax.random.key(0), 1)._replace(w_h=jnp.asarray(w, jnp.float32))
    starts = jnp.asarray(rng.normal(size=(4, 2)) @ basis.T, jnp.float32)
    states, _ = jaxrnn.trajectory(cell, params, jnp.zeros((3, 4, 1)), starts)
    found = fixed_points(cell, params, ZERO, sample_states(states))
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    assert pictures.phase_portrait(cell, params, ZERO, states, found, axes=axes) is axes
    assert axes.get_xlabel().startswith("component 1 (")
    lines = [line for line in axes.get_lines() if line.get_zorder() == 2]
    assert len(lines) == 4
    point = labelled(axes, "sink")[:, 0]
    for k, line in enumerate(lines):
        drawn = np.linalg.norm(np.array(line.get_data()).T - point, axis=-1)
        true = np.linalg.norm(np.asarray(states)[:, k], axis=-1)  # the point is 0
        np.testing.assert_allclose(drawn, true, rtol=1e-4)


def test_three_dimensions_and_texts() -> None:
    """Of four numbers, the three that move; distances between points are kept."""
    from matplotlib.figure import Figure

    cell = jaxrnn.Elman(4)
    params = cell.init(jax.random.key(0), 1)
    params = params._replace(w_h=jnp.diag(jnp.array([2.0, 2.0, 2.0, 0.0])))
    starts = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (40, 4)), jnp.float32)
    states, _ = jaxrnn.trajectory(cell, params, jnp.zeros((6, 40, 1)), starts)
    found = fixed_points(cell, params, ZERO, sample_states(states))
    sinks = found.fixed.carry[found.fixed.kind == "sink"]
    axes = Figure().add_subplot(projection="3d")
    after = jax.tree.map(lambda leaf: leaf[1:], states)  # the fourth number is 0 now
    pictures.phase_portrait(cell, params, ZERO, after, found, labels=["a", "", "b"], axes=axes)
    lines: list[Any] = [line for line in axes.get_lines() if line.get_label() == "sink"]
    drawn = np.array(lines[0].get_data_3d()).T

    def distances(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, None] - points, axis=-1)

    assert len(sinks) == 8
    np.testing.assert_allclose(distances(drawn), distances(sinks), atol=1e-5)
    assert [text.get_text().strip() for text in axes.texts] == ["a", "b"]


def test_cycles_and_slow_points() -> None:
    params, states, found = found_in([[-2.0, 0.0], [0.0, 0.5]], period=2)
    axes = pictures.phase_portrait(CELL, params, ZERO, states, found)
    assert labelled(axes, "sink").shape == (2, 2)  # both states of the cycle
    params, states, found = found_in([[1.8, 0.4], [-0.2, 1.5]], slow=0.3)
    axes = pictures.phase_portrait(CELL, params, ZERO, states, found)
    assert len(found.slow) > 0
    assert labelled(axes, "slow point, marginal").shape == (2, len(found.slow))


def test_eigenvalues() -> None:
    _, _, found = found_in([[2.0, 0.0], [0.0, 0.5]])
    axes = pictures.eigenvalues(found.fixed)
    sinks = labelled(axes, "sink (2)")
    values = found.fixed.eigenvalues[found.fixed.kind == "sink"].ravel()
    np.testing.assert_allclose(sinks, [np.real(values), np.imag(values)])
    circle = axes.get_lines()[0].get_data()
    np.testing.assert_allclose(np.hypot(*circle), 1)
    none = found_in([[2.0, 0.0], [0.0, 0.5]])[2].slow
    assert len(none) == 0
    assert pictures.eigenvalues(none).get_legend() is None


def test_a_single_number_has_no_plane() -> None:
    cell = jaxrnn.Elman(1)
    params = cell.init(jax.random.key(0), 1)
    states, _ = jaxrnn.trajectory(cell, params, jnp.zeros((3, 2, 1)))
    with pytest.raises(ValueError, match=r"shape \(4, 2, 1\), expected trajectories"):
        pictures.phase_portrait(cell, params, ZERO, states)
