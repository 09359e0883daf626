"""Fixed points against what can be written down: tanh, linear maps, stored patterns, the logistic
map; and every cell's points against its own step.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxrnn
from jaxrnn.diagnostics import FixedPoints, Points, _search, fixed_points, sample_states
from jaxrnn.diagnostics._state import flat, step_map
from jaxrnn.foreign import FunctionCell
from tests.support.conversions import random_params
from tests.support.helpers import at_step, make_params, make_xs
from tests.support.specs import Spec, some
from tests.support.user_cells import Attending, Clockwork, ClockworkCarry


def of_map(function: Any, size: int = 1, complex_state: bool = False) -> FunctionCell:
    """The cell h' = function(params, h) + x."""

    def step(params: Any, h: Any, x: Any) -> Any:
        h = function(params, h) + x
        return h, h

    def make_carry(params: Any, shape: tuple[int, ...]) -> Any:
        dtype = params.dtype if not complex_state else jnp.result_type(params.dtype, 1j)
        return jnp.zeros((*shape[:-1], size), dtype)

    def make_params(key: Any, in_features: int, dtype: Any) -> Any:
        return jnp.ones((), dtype)

    return FunctionCell(step, make_params, make_carry, size)


TANH = of_map(lambda w, h: jnp.tanh(w * h))
BENT = of_map(lambda a, h: h + a + h**2)
LOGISTIC = of_map(lambda r, h: r * h * (1 - h))
LINEAR = jaxrnn.Elman(2, activation="linear")
ZERO, HALF, LINE = np.zeros(1), np.full(1, 0.5), np.linspace(-1, 1, 16)[:, None]
GRID = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 4)]), -1).reshape(-1, 2)


def of_rows(points: Points) -> list[float]:
    return points.carry[:, 0].tolist()


def parts(found: FixedPoints) -> tuple[Points, ...]:
    return found.fixed, found.slow, found.outliers


@given(st.floats(1.2, 6))
def test_tanh(w: float) -> None:
    """0 is a source, and h* = tanh(w h*) and −h* are sinks."""
    found = fixed_points(TANH, np.float64(w), ZERO, LINE)
    assert [*found.fixed.kind] == ["sink", "sink", "source"]
    high = 1.0
    for _ in range(500):
        high = np.tanh(w * high)
    at = sorted(of_rows(found.fixed))
    np.testing.assert_allclose(at, [-high, 0, high], atol=1e-9)
    slope = w * (1 - high**2)
    values = found.fixed.eigenvalues[:, 0]
    np.testing.assert_allclose(values, [slope, slope, w], atol=1e-9)
    np.testing.assert_allclose(found.fixed.time_constants[:, 0], -1 / np.log(np.real(values)))
    assert [*found.fixed.unstable] == [0, 0, 1]
    np.testing.assert_allclose(found.fixed.input_sensitivity[:, 0, 0], 1)
    assert not len(found.slow)
    assert not len(found.elsewhere)
    assert not len(found.outliers)


def linear(w: Any, b: Any) -> tuple[FixedPoints, Any]:
    w, b = np.asarray(w, np.float32), np.asarray(b, np.float32)
    params = random_params(LINEAR, in_features=1)._replace(w_h=w, b=b)
    return fixed_points(LINEAR, params, ZERO, GRID), np.asarray(w, np.float64)


def turn(angle: float, size: float) -> np.ndarray:
    return size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize(
    ("w", "kind", "unstable", "spiral"),
    [
        (np.diag([0.5, -0.8]), "sink", 0, False),
        (np.diag([1.5, -1.8]), "source", 2, False),
        (np.diag([0.5, -1.8]), "saddle", 1, False),
        (turn(0.7, 0.9), "sink", 0, True),
        (turn(2.0, 1.1), "source", 2, True),
        (turn(0.7, 1.0), "marginal", 0, True),
    ],
)
def test_a_linear_cell_has_one(w: Any, kind: str, unstable: int, spiral: bool) -> None:
    """At b (I − W)^-1, with the eigenvalues of W."""
    b = np.array([0.25, -0.5])
    found, w = linear(w, b)
    assert [*found.fixed.kind] == [kind]
    assert (found.fixed.unstable[0], found.fixed.spiral[0]) == (unstable, spiral)
    expected = np.linalg.solve((np.eye(2) - w).T, b)
    np.testing.assert_allclose(found.fixed.carry[0], expected, rtol=1e-11)
    np.testing.assert_allclose(
        np.sort_complex(found.fixed.eigenvalues[0]), np.sort_complex(np.linalg.eigvals(w)), 1e-11
    )
    np.testing.assert_array_equal(found.fixed.led_to, 0)


def test_a_line_attractor() -> None:
    """Every start finds the point of the line that is nearest to it, and no derivative tells more
    than that it is marginal.
    """
    found, _ = linear([[1.0, 0.0], [0.0, 0.5]], [0.0, 0.25])
    assert {*found.fixed.kind} == {"marginal"}
    assert not found.fixed.unstable.any()
    np.testing.assert_allclose(found.fixed.carry[:, 1], 0.5)
    np.testing.assert_allclose(np.sort(found.fixed.carry[:, 0]), np.linspace(-1, 1, 4), atol=1e-9)
    np.testing.assert_allclose(found.fixed.carry[found.fixed.led_to, 0], GRID[:, 0], atol=1e-9)
    assert np.all(np.abs(found.fixed.time_constants[:, 0]) > 1e9)


def test_stored_patterns_are_sinks() -> None:
    """A Hopfield network of two orthogonal patterns ξ: sinks at ±m ξ, m = tanh(β m), saddles at
    their mixtures, and 0, which is unstable in as many directions as there are patterns.
    """
    beta, patterns = 2.0, np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]])
    cell = jaxrnn.Elman(8, bias=False)
    w = np.asarray(beta * patterns.T @ patterns / 8, np.float32)
    params = random_params(cell, in_features=1)._replace(w_h=w)
    starts = np.random.default_rng(0).uniform(-1, 1, (256, 2)) @ patterns
    found = fixed_points(cell, params, ZERO, starts).fixed
    assert [*found.names] == 4 * ["sink"] + 4 * ["saddle, 1 unstable"] + ["saddle, 2 unstable"]
    m = 1.0
    for _ in range(200):
        m = np.tanh(beta * m)
    stored = np.concatenate([m * patterns, -m * patterns])
    apart = np.abs(found.carry[:4, None] - stored).max(axis=-1)
    np.testing.assert_allclose(apart.min(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(found.carry[8], 0, atol=1e-12)


def test_a_cycle_of_two() -> None:
    """h' = tanh(−2 h) goes from h* to −h* and back; its only fixed point is 0, not a cycle."""
    at_rest, cycles = (fixed_points(TANH, np.float64(-2), ZERO, LINE, period=p) for p in (1, 2))
    assert of_rows(at_rest.fixed) == [0]
    assert [*at_rest.fixed.kind] == ["source"]
    high = 0.9575040240772687
    assert len(cycles.fixed) == 1
    np.testing.assert_allclose(np.sort(cycles.fixed.orbit[0, :, 0]), [-high, high], atol=1e-12)
    multiplier = (2 * (1 - high**2)) ** 2
    np.testing.assert_allclose(cycles.fixed.eigenvalues, [[multiplier]])
    np.testing.assert_allclose(cycles.fixed.time_constants, [[-2 / np.log(multiplier)]])
    np.testing.assert_allclose(cycles.fixed.input_sensitivity, [[[1 - 2 * (1 - high**2)]]])
    assert set(cycles.elsewhere) == {*np.flatnonzero(cycles.fixed.led_to < 0)}


@pytest.mark.parametrize(("period", "count"), [(1, 2), (2, 1), (3, 2), (4, 3), (5, 6)])
def test_all_cycles_of_the_logistic_map(period: int, count: int) -> None:
    """h' = 4 h (1 − h) doubles an angle, h = sin²(π θ): its points of period p are where
    2^p θ = ±θ, and their multipliers ±2^p, or 4^p at 0.
    """
    starts = np.linspace(0.001, 0.999, 400)[:, None]
    found = fixed_points(LOGISTIC, np.float64(4), ZERO, starts, period=period)
    assert len(found.fixed) == count
    assert {*found.fixed.kind} == {"source"}
    angle = np.arcsin(np.sqrt(found.fixed.orbit[..., 0].clip(0, 1))) / np.pi
    turns = np.stack([(2**period + sign) * angle for sign in (-1, 1)])
    away = np.abs(turns - np.round(turns)).min(axis=0)
    np.testing.assert_allclose(away, 0, atol=1e-6)  # arcsin loses half of the digits at 0
    sizes = {round(abs(value), 6) for value in found.fixed.eigenvalues[:, 0]}
    assert sizes == ({2.0**period, 4.0} if period == 1 else {2.0**period})


def test_slow_is_not_fixed() -> None:
    """h' = h + a + h²: two fixed points for a < 0, which meet for a = 0; their ghost is left."""
    starts = np.linspace(-0.6, 0.6, 16)[:, None]
    ghost, meeting, two = (
        fixed_points(BENT, np.float64(a), ZERO, starts) for a in (0.01, 0.0, -0.01)
    )
    assert len(ghost.fixed) == 0
    assert of_rows(ghost.slow) == pytest.approx([0], abs=1e-6)
    assert ghost.slow.residual == pytest.approx([0.01])
    assert ghost.slow.q == pytest.approx([0.00005])
    np.testing.assert_array_equal(ghost.slow.led_to, 0)
    assert [*meeting.fixed.kind] == ["marginal"]
    assert [*two.fixed.kind] == ["sink", "source"]
    assert of_rows(two.fixed) == pytest.approx([-0.1, 0.1])
    assert len(fixed_points(BENT, np.float64(0.01), ZERO, starts, period=2).slow) == 0
    fast = fixed_points(BENT, np.float64(0.5), ZERO, starts)
    assert [len(points) for points in parts(fast)] == [0, 0, 0]
    np.testing.assert_array_equal(fast.elsewhere, np.arange(16))
    assert str(fast) == "no fixed points\n\n16 starts led elsewhere"


def test_duplicates_and_outliers() -> None:
    """By distances relative to the starts: each start counts once, wherever it led."""
    find = partial(fixed_points, TANH, np.float64(2), ZERO)
    usual, one, near = find(LINE), find(LINE, duplicate=10.0), find(LINE, outlier=0.5)
    assert usual.scale == pytest.approx(np.sqrt(np.mean(LINE**2)))
    assert [len(points) for points in parts(usual)] == [3, 0, 0]
    assert [len(points) for points in parts(one)] == [1, 0, 0]
    assert [len(points) for points in parts(near)] == [1, 0, 2]
    assert [*near.outliers.kind] == ["sink", "sink"]
    assert [len(points) for points in parts(find(LINE, outlier=0.5, scale=10.0))] == [3, 0, 0]
    for found in (usual, one, near):
        led = np.stack([points.led_to >= 0 for points in parts(found)])
        np.testing.assert_array_equal(led.sum(axis=0), 1)
        for points in parts(found):
            assert {*points.led_to} <= {-1, *range(len(points))}
    # of tanh(2 h), a start leads to the point on its own side
    at = np.array(of_rows(usual.fixed))[usual.fixed.led_to]
    assert np.all(np.sign(at)[np.abs(LINE[:, 0]) > 0.5] == np.sign(LINE[np.abs(LINE) > 0.5]))


FOUND_IN = some(
    *("jordan_decay", "jordan_taught", "lstm_all", "conv_lstm_options", "stack_connected"),
    *("user_decaying", "user_clockwork", "user_linear"),
)
"""Carries of one array and of several, of several layers and none; inputs that are pytrees, clipped
states, integers, axes of space."""


def ravelled(tree: Any, rows: int) -> np.ndarray:
    """The last axes of all leaves in one."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([a.reshape(*a.shape[:rows], -1) for a in leaves], axis=-1)


@partial(jax.jit, static_argnums=0)
def told_by_steps(cell: jaxrnn.Cell, params: Any, carries: Any, x: Any) -> Any:
    """How far each carry moves in a step, as a part of its size or of 1, and the derivatives of
    that step.
    """

    def one(carry: Any) -> Any:
        after, _ = jaxrnn.step(cell, params, carry, x)
        size = jnp.maximum(1, jnp.linalg.norm(flat(carry)))
        jacobian = jax.jacfwd(step_map(cell, params, carry, x))(flat(carry))
        by_input = jax.jacrev(lambda x: flat(jaxrnn.step(cell, params, carry, x)[0]))(x)
        return jnp.linalg.norm(flat(after) - flat(carry)) / size, jacobian, by_input

    return jax.vmap(one)(carries)


@FOUND_IN
def test_points_of_any_cell(spec: Spec, x64: None) -> None:
    """What is said of a point, its own step says."""
    params, xs = make_params(spec), make_xs(spec, (5, 2))
    states, _ = jaxrnn.trajectory(spec.cell, params, xs)
    starts, x = sample_states(jax.tree.map(np.asarray, states)), at_step(xs, (0, 0))
    found = fixed_points(spec.cell, params, x, starts, outlier=1e6).fixed
    assert len(found) > 0
    told = told_by_steps(spec.cell, params, found.carry, x)
    moved, jacobian, by_input = jax.tree.map(np.asarray, told)
    assert np.all(moved <= 1e-12)
    np.testing.assert_allclose(found.jacobian, jacobian, atol=1e-10)
    for said, true in zip(found.eigenvalues, np.linalg.eigvals(jacobian), strict=True):
        np.testing.assert_allclose(np.poly(said), np.poly(true), atol=1e-9)  # in any order
    said, true = (ravelled(tree, 2) for tree in (found.input_sensitivity, by_input))
    np.testing.assert_allclose(said, true, atol=1e-10)


def test_integers_stay_as_each_start_has_them(x64: None) -> None:
    """A clockwork of one period 2: after an odd number of steps its unit stays wherever it is, and
    the same state after an even number is no duplicate of that.
    """
    cell = Clockwork(1)
    params = {
        "w_x": np.ones((1, 1)),
        "w_h": np.full((1, 1), 0.5),
        "periods": np.array([2], np.int32),
    }
    rest = 0.0  # = tanh(0.5 · 0)
    starts: Any = ClockworkCarry(np.full((4, 1), rest), np.arange(4, dtype=np.int32))  # type: ignore[arg-type]
    found = fixed_points(cell, params, ZERO, starts).fixed
    assert len(found) == 4
    of_start = found.kind[found.led_to]
    assert [*of_start] == ["sink", "marginal", "sink", "marginal"]
    np.testing.assert_array_equal(found.carry.t[found.led_to], np.arange(4))


def test_complex_states_count_twice() -> None:
    """h' = λ h + x: eigenvalues λ and its conjugate."""
    rate = 0.9 * np.exp(0.5j)
    cell = of_map(lambda one, h: one * rate * h, complex_state=True)
    found = fixed_points(cell, np.float32(1), HALF, (GRID[:, :1] + 1j).astype(np.complex64))
    np.testing.assert_allclose(found.fixed.carry, [[0.5 / (1 - rate)]])
    np.testing.assert_allclose(
        np.sort_complex(found.fixed.eigenvalues[0]), [np.conj(rate), rate], atol=1e-9
    )
    assert found.fixed.names == ["sink, spiral"]


def test_a_context_and_few_at_once(x64: None) -> None:
    cell, rng = Attending(4), np.random.default_rng(0)
    params = random_params(cell, np.float64, 3)
    context = rng.normal(size=(5, 3)), np.arange(5) < 4
    x, starts = rng.normal(size=3), rng.normal(size=(6, 4))
    found = fixed_points(cell, params, x, starts, context=context)
    h = found.fixed.carry[0]
    after, _ = jaxrnn.step(cell, params, h, x, context=context)
    np.testing.assert_allclose(after, h, atol=1e-12)
    again = fixed_points(cell, params, x, starts, context=context, at_once=2)
    np.testing.assert_allclose(again.fixed.carry, found.fixed.carry, atol=1e-9)
    np.testing.assert_array_equal(again.fixed.led_to, found.fixed.led_to)


def test_slow_searches_go_on_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many starts, those that have not ended after some steps do so by themselves: with the same
    end.
    """
    find = partial(fixed_points, TANH, np.float64(2), ZERO, np.linspace(-1.5, 1.5, 100)[:, None])
    usual = find()
    monkeypatch.setattr(_search, "_EARLY", 4)
    early = find()
    np.testing.assert_array_equal(early.fixed.led_to, usual.fixed.led_to)
    np.testing.assert_allclose(early.fixed.carry, usual.fixed.carry, atol=1e-12)
    assert len(find(steps=4).elsewhere) > 0  # for some, four steps are too few
    assert not len(early.elsewhere)


def test_parameters_of_any_dtype_are_those_of_float64() -> None:
    """And JAX's own setting comes back, after an error, too."""
    cell = jaxrnn.LSTM(3)
    half = random_params(cell, jnp.bfloat16, 2)
    tenth = np.full((1, 3), 0.1, jnp.bfloat16)
    starts = jaxrnn.cells.LSTMCarry(tenth, tenth)  # type: ignore[arg-type]
    double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), half)
    a, b = (fixed_points(cell, params, np.ones(2), starts) for params in (half, double))
    np.testing.assert_array_equal(a.fixed.carry.c, b.fixed.carry.c)
    assert a.fixed.carry.c.dtype == np.float64
    assert a.fixed.residual[0] < 1e-12
    with pytest.raises(ValueError, match="not finite"):
        fixed_points(cell, half, np.ones(2), jax.tree.map(lambda leaf: leaf * np.nan, starts))
    assert jnp.ones(1).dtype == jnp.float32
    assert not jax.config.jax_enable_x64  # type: ignore[attr-defined]


def test_what_is_wrong_is_said() -> None:
    cell = jaxrnn.LSTM(3)
    params, x = random_params(cell, in_features=2), np.zeros(2)
    starts: Any = jaxrnn.cells.LSTMCarry(*2 * [np.zeros((5, 3), np.float32)])  # type: ignore[arg-type]
    find = partial(fixed_points, cell, params)
    with pytest.raises(ValueError, match=r"x has shape \(5, 2\), expected one step's constant"):
        find(np.zeros((5, 2)), starts)
    with pytest.raises(ValueError, match=r"LSTM: starts have the shapes \[\(\), \(\)\], expected"):
        find(x, jax.tree.map(lambda leaf: leaf[0, 0], starts))
    with pytest.raises(ValueError, match=r"carry\.h has shape \(5, 2\), expected \(5, 3\)"):
        find(x, jax.tree.map(lambda leaf: leaf[:, :2], starts))
    with pytest.raises(ValueError, match="LSTM: carry has the structure"):
        find(x, starts.h)
    with pytest.raises(ValueError, match="period is 0, expected a positive integer"):
        find(x, starts, period=0)
    with pytest.raises(ValueError, match="tolerance is -1, expected a positive number"):
        find(x, starts, tolerance=-1)
    with pytest.raises(TypeError, match="call it outside of"):
        jax.jit(lambda x: find(x, starts).fixed.residual)(x)
    with pytest.raises(TypeError, match="Bidirectional needs the whole sequence, so it has no"):
        fixed_points(jaxrnn.Bidirectional(cell), params, x, starts)
    stuck = FunctionCell(TANH.function, TANH.make_params, lambda p, s: jnp.zeros(1, "float32"), 1)
    with pytest.raises(TypeError, match="let it follow the parameters' dtype"):
        fixed_points(stuck, np.float32(1), ZERO, LINE)


def test_sampled_states() -> None:
    """Rows of the trajectory, each at most once; noise has the size that is asked for."""
    states = {
        "h": np.arange(24, dtype=np.float32).reshape(4, 3, 2),
        "t": np.arange(12).reshape(4, 3),
    }
    every = sample_states(states)
    np.testing.assert_array_equal(every["h"][:, 0], 2 * every["t"])
    few = sample_states(states, 7, key=jax.random.key(0))
    assert len({*few["t"].tolist()}) == 7
    np.testing.assert_array_equal(few["h"][:, 0], 2 * few["t"])
    many = jax.tree.map(np.asarray, sample_states(states, 5000, key=jax.random.key(0), noise=0.5))
    noise = many["h"] - 2 * many["t"][:, None] - np.array([0, 1])
    assert np.std(noise) == pytest.approx(0.5, rel=0.05)
    with pytest.raises(ValueError, match="need a key"):
        sample_states(states, 3)
    with pytest.raises(ValueError, match=r"leading axes \[\(4, 3\), \(4, 3, 2\)\], expected"):
        sample_states(states, axes=3)
