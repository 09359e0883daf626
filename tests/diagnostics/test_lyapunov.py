"""Lyapunov spectra against eigenvalues, determinants, random matrices and maps of textbooks."""

import dataclasses
import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy.special import expit, polygamma, psi

import jaxrnn
from jaxrnn.diagnostics import Lyapunov, lyapunov, pictures
from jaxrnn.diagnostics._state import flat
from jaxrnn.diagnostics.lyapunov import orthonormal
from tests.support.conversions import random_params
from tests.support.helpers import (
    assert_close,
    at_step,
    is_floating,
    make_carry,
    make_params,
    make_xs,
)
from tests.support.specs import Spec, some
from tests.support.user_cells import Leaky, Plain

KEY = jax.random.key(0)
TIME = 3


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def spectrum(*args: Any, **options: Any) -> Lyapunov:
    """`lyapunov` with arrays of NumPy, which compile nothing."""
    return jax.tree.map(np.asarray, lyapunov(*args, key=KEY, **options))


def linear(w: Any) -> tuple[jaxrnn.Elman, Any]:
    """The cell `h_t = h_{t-1} W`."""
    cell = jaxrnn.Elman(len(w), activation="linear", bias=False)
    return cell, jaxrnn.cells.ElmanParams(np.zeros((1, len(w))), np.asarray(w), None)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Flow(Plain):
    """`h_t = F(h_{t-1}, x_t)`, with the map F as its only field."""

    hidden: int
    move: Any

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        return {"w_h": jnp.zeros(0, dtype)}

    def project(self, params: Any, xs: Any) -> Any:
        return xs

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        h = self.move(carry, u)
        return h, h

    def spectrum(self, steps: int, start: np.ndarray, **options: Any) -> Any:
        """The spectrum without inputs, from starts `[*batch, hidden]`."""
        xs = np.zeros((steps, *start.shape[:-1], 1))
        params = {"w_h": np.zeros(0)}
        return spectrum(self, params, xs, carry=start, **options)


def lorenz(h: Array, _: Any, dt: float = 0.02) -> Array:
    """A step of Runge and Kutta's method through Lorenz' equations (10, 28, 8/3)."""

    def speed(h: Array) -> Array:
        x, y, z = jnp.moveaxis(h, -1, 0)
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=-1)

    a = speed(h)
    b = speed(h + dt / 2 * a)
    c = speed(h + dt / 2 * b)
    d = speed(h + dt * c)
    return h + dt / 6 * (a + 2 * b + 2 * c + d)


def henon(h: Array, _: Any) -> Array:
    x, y = jnp.moveaxis(h, -1, 0)
    return jnp.stack([1 - 1.4 * x**2 + y, 0.3 * x], axis=-1)


def given_matrix(h: Array, w: Array) -> Array:
    return jnp.einsum("...n,...nm->...m", h, w)


@dataclasses.dataclass(frozen=True)
class Given(Flow):
    """`h_t = h_{t-1} W_t`, with the matrix as the input."""

    move: Any = given_matrix

    feature_axes = 2

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return jnp.zeros((*input_shape[:-2], self.hidden))


@partial(jax.jit, static_argnums=0)
def one_step(cell: jaxrnn.Cell, params: Any, carry: Any, x: Any) -> tuple[Any, Any]:
    """The next carry, and the singular values of its Jacobian."""
    leaves, form = jax.tree.flatten(carry)
    at = [k for k, leaf in enumerate(leaves) if is_floating(leaf)]

    def after(moved: list[Any]) -> Any:
        whole = list(leaves)
        for k, leaf in zip(at, moved, strict=True):
            whole[k] = leaf
        return flat(jaxrnn.step(cell, params, form.unflatten(whole), x)[0])

    blocks = jax.jacfwd(after)([leaves[k] for k in at])
    jacobian = jnp.concatenate([block.reshape(len(block), -1) for block in blocks], axis=1)
    values = jnp.linalg.svd(jacobian, compute_uv=False)
    return jaxrnn.step(cell, params, carry, x)[0], values


@some(
    "elman_relu",
    "elman_layer_norm",
    "jordan_decay",
    "jordan_taught",
    "lstm_all",
    "conv_lstm_options",
    "stack_connected",
    "dropped",
    "user_decaying",
    "user_clockwork",
    "user_ring",
    "user_linear",
    "user_fast_weights",
)
def test_the_sum_is_the_mean_logarithm_of_determinants(spec: Spec, x64: None) -> None:
    """Of all exponents, for any cell and any inputs; where a Jacobian is singular, nothing is left
    but rounding.
    """
    params, xs = make_params(spec), make_xs(spec, (TIME,))
    carry = make_carry(spec, params, xs)
    found = spectrum(spec.cell, params, xs, carry=carry)
    each = []
    for t in range(TIME):
        carry, values = one_step(spec.cell, params, carry, at_step(xs, t))
        each.append(np.asarray(values))
    assert not np.any(np.isnan(found.exponents))
    assert np.all(found.exponents[1:] <= found.exponents[:-1])
    if any(values[-1] <= 1e-11 * values[0] for values in each):
        assert found.exponents[-1] < np.log(1e-11) / TIME
        return
    expected = np.log(each).sum(axis=1)
    assert_close(found.exponents.sum(), expected.mean(), 1e-9)
    assert_close(found.history[0].sum(), expected[0], 1e-9)


def test_of_a_linear_cell_they_are_its_eigenvalues(x64: None) -> None:
    values = np.array([1.3, -0.9, 0.5, 0.2])
    w = (basis := normal(0, 4, 4)) @ np.diag(values) @ np.linalg.inv(basis)
    found = spectrum(*linear(w), np.zeros((130, 1)), warm_up=100, every=2)
    assert_close(found.exponents, np.log(np.abs(values)), 1e-6)
    assert np.all(found.error < 1e-7)
    two = spectrum(*linear(w), np.zeros((130, 1)), k=2, warm_up=100)
    assert_close(two.exponents, np.log(np.abs(values[:2])), 1e-6)


def test_pairs_of_complex_eigenvalues(x64: None) -> None:
    """Their two exponents turn about each other, so they are as near as 1 / T; their sum is not."""
    w = normal(1, 5, 5)
    found = spectrum(*linear(w), np.zeros((1500, 1)), warm_up=500, every=3)
    values = np.sort(np.log(np.abs(np.linalg.eigvals(w))))[::-1]
    assert len(set(np.round(values, 9))) < 5
    np.testing.assert_allclose(found.exponents, values, atol=2e-3)
    assert_close(np.sum(found.exponents), np.log(abs(np.linalg.det(w))), 1e-10)


def test_an_orthogonal_weight_has_none(x64: None) -> None:
    w = np.linalg.qr(normal(2, 6, 6))[0]
    found = spectrum(*linear(w), np.zeros((50, 3, 1)))
    assert found.exponents.shape == (3, 6)
    assert np.all(np.abs(found.exponents) < 1e-12)


def test_of_a_diagonal_cell_they_are_the_mean_logarithms(x64: None) -> None:
    """In every sequence its own. Tangents are in order when the first states are forgotten."""
    cell = Leaky(3, out=2)
    w_a = np.array([[0.3, 0.2, 0.1], [0.1, 0.3, 0.2], [0.0, -0.2, 0.1]])
    params = {**random_params(cell, np.float64, 3), "w_a": w_a}
    xs = normal(3, 900, 2, 3) + np.array([4.0, -6.0, 1.0])
    found = spectrum(cell, params, xs, warm_up=500)
    a = expit(xs[500:] @ w_a)
    expected = -np.sort(-np.mean(np.log(a), axis=0), axis=-1)
    assert np.min(-np.diff(expected)) > 0.05
    assert_close(found.exponents, expected, 1e-6)
    rest = spectrum(cell, params, xs, warm_up=500, every=7)
    assert_close(rest.exponents, found.exponents, 1e-9)
    assert rest.steps[-2:].tolist() == [399, 400]
    assert_close(rest.history[:-1], found.history[6::7], 1e-6)


@dataclasses.dataclass(frozen=True)
class Turning(jaxrnn.LinearCell):
    """Complex states that turn as they shrink."""

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        return jnp.ones(in_features, dtype)

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return jnp.zeros(input_shape, complex)

    def coefficients(self, params: Any, u: Any) -> Any:
        return params * jnp.exp(0.7j), u

    @property
    def out_features(self) -> int:
        raise NotImplementedError


def test_a_complex_number_has_two_exponents(x64: None) -> None:
    params = np.array([0.9, 0.5])
    found = spectrum(Turning(), params, np.zeros((150, 2)), warm_up=100)
    assert_close(found.exponents, np.log([0.9, 0.9, 0.5, 0.5]), 1e-6)


def test_products_of_random_matrices(x64: None) -> None:
    """Newman (1986): log σ + (log 2 + ψ((n - i + 1) / 2)) / 2. Each step is independent of the
    others, so that the standard error is known as well: √ψ'(...) / 2 / √T.
    """
    n, time, sigma = 5, 4000, 0.7
    found = spectrum(Given(n), {"w_h": np.zeros(0)}, sigma * normal(4, time, n, n))
    half = (n - np.arange(n)) / 2
    expected = np.log(sigma) + (np.log(2) + psi(half)) / 2
    error = np.sqrt(polygamma(1, half) / 4 / time)
    assert np.all(np.abs(found.exponents - expected) < 4 * error)
    assert np.all(np.abs(found.error / error - 1) < 0.6)  # of 20 means: known to 16 %


def test_lorenz(x64: None) -> None:
    start = np.array([1.0, 1.0, 25.0]) + normal(5, 24, 3)
    found = Flow(3, lorenz).spectrum(8000, start, warm_up=1000, every=10)
    each, error = found.exponents / 0.02, found.error / 0.02
    np.testing.assert_allclose(each.mean(0), [0.906, 0, -14.57], atol=1e-2)
    assert np.all(error.mean(0) > 0.8 * each.std(0, ddof=1))  # what sways about its mean errs less


def test_henon(x64: None) -> None:
    found = Flow(2, henon).spectrum(4000, 0.1 * normal(6, 8, 2), warm_up=500)
    np.testing.assert_allclose(found.exponents.mean(0), [0.419, -1.623], atol=1e-2)
    assert_close(found.exponents.sum(-1), np.full(8, np.log(0.3)), 1e-12)


def positive(dead: bool) -> tuple[jaxrnn.Elman, Any]:
    """Three units that are always on, or two, and the second always off."""
    cell = jaxrnn.Elman(3, activation="relu")
    w = np.array([[0.5, 0.3, 0.2], [0.1, 0.4, 0.3], [0.2, 0.1, 0.3]])
    b = np.array([1.0, -1e3 if dead else 1.0, 1.0])
    return cell, jaxrnn.cells.ElmanParams(np.zeros((1, 3)), w, b)  # type: ignore[arg-type]


def test_a_dead_unit(x64: None) -> None:
    """It has -inf, and the others what they have without it."""
    cell, params = positive(dead=True)
    found = spectrum(cell, params, np.zeros((200, 1)), warm_up=100)
    alive = np.asarray(params.w_h)[np.ix_([0, 2], [0, 2])]
    expected = np.log(np.sort(np.abs(np.linalg.eigvals(alive)))[::-1])
    assert_close(found.exponents[:2], expected, 1e-6)
    assert np.isneginf(found.exponents[2])
    assert np.all(np.isneginf(found.history[:, 2]))
    assert found.error[2] == 0
    assert not np.any(np.isnan(found.history))
    blocks = spectrum(cell, params, np.zeros((200, 1)), warm_up=100, every=9)
    assert_close(blocks.exponents[:2], expected, 1e-6)
    assert np.isneginf(blocks.exponents[2])


def test_their_derivative(x64: None) -> None:
    """In the weights, that of finite differences, where a unit is dead."""
    cell, params = positive(dead=True)
    xs, direction = np.zeros((30, 1)), normal(11, 3, 3)

    @jax.jit
    @jax.value_and_grad
    def two(shift: Any) -> Array:
        moved = params._replace(w_h=params.w_h + shift * direction)
        return jnp.sum(lyapunov(cell, moved, xs, key=KEY, every=2).exponents[:2])

    (behind, _), (_, slope), (ahead, _) = jax.tree.map(np.asarray, [*map(two, (-1e-5, 0.0, 1e-5))])
    assert_close(slope, (ahead - behind) / 2e-5, 1e-6)


def test_a_direction_that_no_unit_shows(x64: None) -> None:
    """Layer normalisation takes the mean out: n - 1 directions are left, and no unit is off."""
    cell = jaxrnn.Elman(4, layer_norm=True)
    params = random_params(cell, np.float64, 2)
    found = spectrum(cell, params, normal(10, 300, 2), warm_up=50)
    assert np.all(np.isfinite(found.exponents[:2]))
    assert np.isneginf(found.exponents[3])


def test_what_dies_once_is_dead(x64: None) -> None:
    """In the middle of the spectrum, without harm to those behind it; if it is in the warm-up, it
    is forgotten.
    """
    rates = np.tile([0.9, 0.7, 0.5], (300, 1))
    rates[150, 1] = 0
    given = Given(3), {"w_h": np.zeros(0)}, rates[:, :, None] * np.eye(3)
    found = spectrum(*given, warm_up=100)
    lost = 100 * np.log(0.7 / 0.5) / 200  # the second tangent leaned so little to the third axis
    assert_close(found.exponents[:2], np.log([0.9, 0.5]) - [0, lost], 1e-2)
    assert np.isneginf(found.exponents[2])
    later = spectrum(*given, warm_up=250)
    assert_close(later.exponents, np.log([0.9, 0.7, 0.5]), 1e-6)


@pytest.mark.parametrize("every", [60, 999])
def test_no_block_is_too_long(every: int, x64: None) -> None:
    """Where one would lose digits, or overflow, it is done step by step."""
    cell, params = linear([[9.0, 1.0, 0.3], [0.0, 1.0, 2.0], [0.0, 0.0, 0.1]])
    found = spectrum(cell, params, np.zeros((1100, 1)), every=every, warm_up=100)
    assert_close(found.exponents, np.log([9, 1, 0.1]), 1e-6)
    assert np.all(np.isfinite(found.history))


def test_orthonormal_is_a_qr_decomposition(x64: None) -> None:
    vectors = normal(7, 6, 2, 9)  # k = 6 of n = 9, two sequences
    run = jax.jit(orthonormal)
    unit, log_sizes = map(np.asarray, run(vectors))
    for row in range(2):
        q, r = np.linalg.qr(vectors[:, row].T)
        assert_close(np.abs(unit[:, row] @ q), np.eye(6), 1e-12)
        assert_close(np.exp(log_sizes[:, row]), np.abs(np.diag(r)), 1e-12)
    vectors[2] = vectors[0] - 3 * vectors[1]
    unit, log_sizes = map(np.asarray, run(vectors))
    others, of_others = run(np.delete(vectors, 2, axis=0))
    assert np.all(unit[2] == 0)
    assert np.all(np.isneginf(log_sizes[2]))
    assert_close(np.delete(unit, 2, axis=0), others, 1e-12)
    assert_close(np.delete(log_sizes, 2, axis=0), of_others, 1e-12)


def test_float32_warns_and_float64_does_not(x64: None) -> None:
    cell = jaxrnn.Elman(3)
    for dtype in (jnp.float32, jnp.float64):
        params = random_params(cell, dtype, 2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = lyapunov(cell, params, normal(8, 30, 2).astype(dtype), key=KEY)
        assert found.exponents.dtype == dtype
        said = ["lyapunov: the state is float32" in str(w.message) for w in caught]
        assert sum(said) == (dtype == jnp.float32)


def test_one_program_under_jit_and_vmap(x64: None, strict: None) -> None:
    """A batch is as its sequences, each by itself, but for the tangents that are drawn."""
    cell = jaxrnn.LSTM(2)
    params, xs = random_params(cell, np.float64, 3), normal(9, 300, 2, 3)
    run = partial(lyapunov, cell, params, key=KEY, warm_up=100, every=4)
    batch = run(xs)
    one_by_one = jax.jit(jax.vmap(run, in_axes=1))(xs)
    assert batch.exponents.shape == (2, 4)
    np.testing.assert_allclose(batch.exponents, one_by_one.exponents, atol=2e-3)


def test_what_is_refused(x64: None) -> None:
    cell, params = linear(np.diag([1.0, 0.5]))
    run: Any = partial(lyapunov, cell, params, np.zeros((200, 1)), key=KEY)
    for wrong, message in (
        ({"k": 3}, r"k is 3, expected at most 2, .* carry of Elman"),
        ({"warm_up": 200}, "warm_up is 200, expected less than 200"),
        ({"warm_up": -1}, "warm_up is -1, expected an integer from 0"),
        ({"every": 0}, "every is 0, expected a positive integer"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**wrong)
    with pytest.raises(TypeError, match="needs the whole sequence"):
        lyapunov(jaxrnn.Reversed(cell), params, np.zeros((5, 1)), key=KEY)


def test_pictures_of_a_spectrum(x64: None) -> None:
    pytest.importorskip("matplotlib")
    cell, params = positive(dead=True)
    found = spectrum(cell, params, np.zeros((60, 2, 1)), every=3)
    axes = pictures.lyapunov_spectrum(found)
    drawn = [bars[0].get_xydata() for bars in axes.containers]
    for row, points in enumerate(drawn):
        np.testing.assert_array_equal(points.T, [[1, 2], found.exponents[row, :2]])
    assert len(drawn) == 2
    (dead,) = [line for line in axes.lines if line.get_marker() == "v"]
    assert np.asarray(dead.get_xdata()).tolist() == [3]
    axes = pictures.lyapunov_history(found)
    lines = {line.get_label(): np.asarray(line.get_xydata()) for line in axes.lines}
    np.testing.assert_array_equal(lines["1"][:, 0], found.steps)
    np.testing.assert_allclose(lines["2"][:, 1], found.history[:, :, 1].mean(1))
    assert len(lines["3"]) == 0
