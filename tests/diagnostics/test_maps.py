"""Orbits, fixed points and cycles of maps whose truth is known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from jaxrnn.diagnostics import iterate_map, map_cycles, pictures


def logistic(r: float) -> Any:
    return lambda x: r * x * (1 - x)


def points(cycles: Any) -> list[float]:
    return [float(x) for cycle in cycles for x in cycle.points]


def test_an_orbit_is_what_a_loop_makes(x64: None) -> None:
    starts = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    orbit = iterate_map(logistic(3.7), starts, 9)
    expected = [starts]
    for _ in range(9):
        expected.append(3.7 * expected[-1] * (1 - expected[-1]))
    np.testing.assert_allclose(orbit, expected, rtol=1e-12)
    assert iterate_map(jnp.cos, 1, 2).tolist() == [1, np.cos(1), np.cos(np.cos(1))]


@pytest.mark.parametrize(
    ("r", "kinds"), [(0.8, ["sink"]), (2.9, ["source", "sink"]), (3.3, ["source", "source"])]
)
def test_fixed_points_of_the_logistic_map(r: float, kinds: list[str], x64: None) -> None:
    """0 with the slope r, and 1 - 1 / r with 2 - r."""
    found = map_cycles(logistic(r), 0, 1)
    assert [cycle.kind for cycle in found] == kinds
    expected = [0, 1 - 1 / r][: len(kinds)]
    np.testing.assert_allclose(points(found), expected, atol=1e-12)
    np.testing.assert_allclose([c.slope for c in found], [r, 2 - r][: len(kinds)], rtol=1e-9)


def test_the_unit_that_holds_a_sign(x64: None) -> None:
    """h' = tanh(w h), w > 1: 0 with eigenvalue w and ±h*, h* = tanh(w h*), with w (1 - h*²)."""
    w = 1.7
    h = float(brentq(lambda h: np.tanh(w * h) - h, 0.1, 1, xtol=1e-15))  # type: ignore[arg-type]
    below, zero, above = map_cycles(lambda h: jnp.tanh(w * h), -1.3, 1.4)
    np.testing.assert_allclose(points([below, zero, above]), [-h, 0, h], atol=1e-12)
    np.testing.assert_allclose(below.slope, w * (1 - h**2), rtol=1e-10)
    np.testing.assert_allclose(zero.slope, w, rtol=1e-10)
    assert (below.kind, zero.kind, above.kind) == ("sink", "source", "sink")


def test_the_number_of_cycles_of_the_full_logistic_map(x64: None) -> None:
    """f^p has 2^p fixed points, in 2, 1, 2, 3, 6, 9 cycles of period 1 to 6, all of them sources
    with the slope ±2^p, but for that of 0, which is 4^p.
    """
    for period, count in ((1, 2), (2, 1), (4, 3), (6, 9)):
        found = map_cycles(logistic(4.0), 0, 1, period)
        assert len(found) == count
        for cycle in found:
            assert cycle.kind == "source"
            assert len(set(cycle.points.round(9))) == period
            assert cycle.points[0] == min(cycle.points)
            after = 4 * cycle.points * (1 - cycle.points)
            np.testing.assert_allclose(after, np.roll(cycle.points, -1), atol=1e-9)
            expected = 4.0 if cycle.points[0] < 1e-9 else 2.0**period
            np.testing.assert_allclose(abs(cycle.slope), expected, rtol=1e-6)


def test_a_sink_of_period_two(x64: None) -> None:
    r = 3.3
    (cycle,) = map_cycles(logistic(r), 0, 1, period=2)
    root = np.sqrt((r - 3) * (r + 1))
    np.testing.assert_allclose(cycle.points, [(r + 1 - root) / 2 / r, (r + 1 + root) / 2 / r])
    np.testing.assert_allclose(cycle.slope, 4 + 2 * r - r**2)
    assert cycle.kind == "sink"
    assert map_cycles(logistic(2.9), 0, 1, period=2) == ()


def test_roots_that_touch_or_lie_close(x64: None) -> None:
    """x² + c at c = 1/4, and just above and below."""
    (touching,) = map_cycles(lambda x: x**2 + 0.25, -1, 1.003)
    assert touching.kind == "marginal"
    np.testing.assert_allclose(points([touching]), [0.5], atol=1e-9)
    np.testing.assert_allclose(touching.slope, 1, atol=1e-9)
    assert map_cycles(lambda x: x**2 + 0.25 + 1e-8, -1, 1.003) == ()
    close = map_cycles(lambda x: x**2 + 0.25 - 1e-8, -1, 1.003, grid=40)
    np.testing.assert_allclose(points(close), [0.5 - 1e-4, 0.5 + 1e-4], atol=1e-9)
    assert [cycle.kind for cycle in close] == ["sink", "source"]


def test_a_jump_is_no_root(x64: None) -> None:
    """The doubling map has 0, and one cycle of period 2; 1 / 2x jumps over infinity."""
    doubling = lambda x: jnp.mod(2 * x, 1)  # noqa: E731
    np.testing.assert_allclose(points(map_cycles(doubling, 0, 0.999)), [0], atol=1e-12)
    (two,) = map_cycles(doubling, 0, 0.999, period=2)
    np.testing.assert_allclose(two.points, [1 / 3, 2 / 3])
    assert two.slope == 4
    np.testing.assert_allclose(
        points(map_cycles(lambda x: 1 / (2 * x), -0.91, 1)), [-np.sqrt(0.5), np.sqrt(0.5)]
    )


def test_float32_finds_the_same() -> None:
    found = map_cycles(lambda h: jnp.tanh(1.7 * h), -1.3, 1.4)
    assert [cycle.kind for cycle in found] == ["sink", "source", "sink"]
    assert len(map_cycles(logistic(4.0), 0.0, 1.0, 4)) == 3


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"from 1\.0 to 0\.0, expected low < high"):
        map_cycles(jnp.cos, 1.0, 0.0)
    with pytest.raises(ValueError, match="high is an array of shape"):
        map_cycles(jnp.cos, 0.0, jnp.ones(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="period is 0, expected a positive integer"):
        map_cycles(jnp.cos, 0.0, 1.0, 0)
    with pytest.raises(ValueError, match="expected isolated fixed points"):
        map_cycles(lambda x: -x, -1.0, 1.0, period=2)
    with pytest.raises(TypeError, match="function is a float, expected function"):
        iterate_map(1.0, 0.0, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one real number"):
        iterate_map(lambda x: jnp.stack([x, x]), 0.0, 3)
    with pytest.raises(ValueError, match="steps is 0"):
        iterate_map(jnp.cos, 0.0, 0)
    assert jax.config.jax_enable_x64 is False  # type: ignore[attr-defined]


def test_pictures_of_a_map(x64: None) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure

    f, axes = logistic(3.3), Figure().add_subplot()
    cycles = (*map_cycles(f, 0, 1), *map_cycles(f, 0, 1, period=2))
    assert pictures.cobweb(f, [0.1, 0.3], 12, 0, 1, cycles=cycles, axes=axes) is axes
    marked = {
        line.get_label(): to_hex(line.get_markerfacecolor())
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }
    assert marked == {"source": "#ffffff", "sink of period 2": "#000000"}
    stairs = [line for line in axes.lines if np.shape(line.get_xydata())[0] == 2 * 12 + 1]
    for start, line in zip([0.1, 0.3], stairs, strict=True):
        across, up = np.asarray(line.get_xydata()).T
        assert across[0] == up[0] == start
        np.testing.assert_allclose(up[1::2], f(across[1::2]))  # up to the graph
        np.testing.assert_allclose(up[::2], across[::2])  # and across to the diagonal
    sides = [line.get_marker() for line in axes.lines if line.get_marker() in ("<", ">")]
    assert sides == [">", "<"]


def test_a_picture_of_orbits_on_new_axes(x64: None) -> None:
    pytest.importorskip("matplotlib")
    axes = pictures.map_orbits(logistic(3.9), [0.1, 0.2], 20)
    first, second = (line.get_ydata() for line in axes.lines)
    np.testing.assert_array_equal(
        np.stack([first, second], 1), iterate_map(logistic(3.9), [0.1, 0.2], 20)
    )
    assert "step" in axes.get_xlabel()
