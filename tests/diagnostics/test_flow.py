"""Gradients and Jacobians through time against differences of the papers' equations."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.diagnostics import gradient_flow, jacobian_flow
from jaxrnn.diagnostics._state import norm
from tests.support import reference
from tests.support.helpers import (
    assert_close,
    concatenate,
    cut,
    is_floating,
    make_carry,
    make_params,
    make_xs,
)
from tests.support.specs import BY_ID, Spec, every_causal, some
from tests.support.user_cells import Plain, draw

BORDER, TIME = 1, 3
"""The state after so many steps is looked at. There are no batch axes, so that Jacobians are few
numbers."""


jacobians_of = jax.jit(jacobian_flow, static_argnames="singular_values")
"""As one program: eagerly, every operation is compiled by itself."""


@jax.jit
def of_the_sum(cell: jaxrnn.Cell, params: Any, xs: Any) -> Any:
    """The flow of the gradient of the last carry's sum, and its total."""
    flow = gradient_flow(lambda carry, ys: jnp.sum(carry), cell, params, xs)
    return flow, flow.total()


def traced(function: Any, *args: Any, **options: Any) -> Any:
    """What a function returns in shapes, or its error: nothing is compiled."""
    return jax.eval_shape(partial(function, *args, **options))


def loss(carry: Any, ys: Any, xp: Any = jnp) -> Any:
    """Of a weight of its own for every number, but for what is put out before the border; `xp` is
    the library of the arrays.
    """
    total = xp.float64(0)
    late = jax.tree.map(lambda leaf: leaf[BORDER:], ys)
    for k, leaf in enumerate(jax.tree.leaves((carry, late))):
        if is_floating(leaf):
            weights = np.random.default_rng(k).normal(size=leaf.shape)
            total += xp.sum(xp.sin(leaf) * weights)
    return total


@partial(jax.jit, static_argnums=0)
def found(cell: jaxrnn.Cell, params: Any, xs: Any, carry: Any) -> Any:
    """What the functions say."""
    return (
        gradient_flow(loss, cell, params, xs, carry),
        jacobian_flow(cell, params, xs, carry, singular_values=True),
    )


def expected(
    spec: Spec, params: Any, xs: Any, carry: Any, border: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """The gradient of the loss in each leaf of the carry at the border, and the Jacobian of the
    last carry: central differences of the paper's equations.
    """
    run = partial(reference.run, spec.reference, params, batch_axes=0)
    there, ys = run(cut(xs, None, border), carry)
    leaves, form = jax.tree.flatten(there)
    moving = [k for k, leaf in enumerate(leaves) if is_floating(leaf)]

    def end(k: int, place: tuple[int, ...], change: float) -> np.ndarray:
        """The loss and the last carry, as one vector."""
        moved = [np.array(leaf) for leaf in leaves]
        moved[k][place] += change
        last, later = run(cut(xs, border, None), form.unflatten(moved))
        of_all = loss(last, concatenate(ys, later), np)
        floats = [np.ravel(leaf) for leaf in jax.tree.leaves(last) if is_floating(leaf)]
        return np.concatenate([[of_all], *floats])

    def slope(k: int, place: tuple[int, ...], width: float = 1e-4) -> np.ndarray:
        """Of fourth order, for those of second order keep fewer digits than is asked for."""
        near, far = (end(k, place, w) - end(k, place, -w) for w in (width, 2 * width))
        return (8 * near - far) / (12 * width)

    slopes = [np.stack([slope(k, i) for i in np.ndindex(leaves[k].shape)]) for k in moving]
    return [of_leaf[:, 0] for of_leaf in slopes], np.concatenate(slopes)[:, 1:].T


@every_causal
def test_flow_agrees_with_differences_of_the_equations(spec: Spec, x64: None) -> None:
    """One walk back gives the gradient and the Jacobian from the border on. Where layers stand on
    each other, a layer's gradient has a path that its carry has not: through the output of the same
    step.
    """
    params, xs = make_params(spec), make_xs(spec, (TIME,))
    carry = make_carry(spec, params, xs)
    flow, jacobians = jax.tree.map(np.asarray, found(spec.cell, params, xs, carry))
    gradient, jacobian = expected(spec, params, xs, carry, BORDER)
    if not spec.cell.is_composite:
        norms = [norm[BORDER] for norm in jax.tree.leaves(flow.parts)]
        assert_close(norms, [np.linalg.norm(leaf) for leaf in gradient], 1e-9)
    values = np.linalg.svd(jacobian, compute_uv=False)
    assert_close(np.exp(jacobians.log_singular_values[BORDER]), values, 1e-9, floor=1e-2)
    assert_close(np.exp(jacobians.log_norm[BORDER]), np.linalg.norm(values), 1e-9)
    assert jacobians.log_norm[TIME] == pytest.approx(np.log(len(values)) / 2)


def test_a_layer_is_reached_through_the_one_above(x64: None) -> None:
    """In a stack, a layer's gradient is that of the layer alone, whose loss runs the one above."""
    spec = BY_ID["stack"]
    lower, upper = spec.cell.cells  # type: ignore[attr-defined]

    @jax.jit
    def flows(params: Any, xs: Any) -> Any:
        def above(carry: Any, ys: Any) -> Any:
            carry_above, ys = jaxrnn.scan(upper, params[1], ys)
            return loss((carry, carry_above), ys)

        last, ys = jaxrnn.scan(lower, params[0], xs)
        each = (
            gradient_flow(loss, spec.cell, params, xs),
            gradient_flow(above, lower, params[0], xs),
            gradient_flow(lambda carry, ys: loss((last, carry), ys), upper, params[1], ys),
        )
        return [(flow.parts, flow.total()) for flow in each]

    (whole, total), (alone, of_alone), (top, of_top) = flows(make_params(spec), make_xs(spec))
    assert_close(whole[0], alone, 1e-10)
    assert_close(whole[1], top, 1e-10)
    assert_close(total, np.hypot(of_alone, of_top), 1e-10)


def test_an_output_that_is_the_carry_moves_with_it(x64: None) -> None:
    """The loss of one output reaches the state after its step, and no later one."""
    spec = BY_ID["elman_tanh"]
    params, xs = make_params(spec), make_xs(spec, (TIME,))
    after = 1 + TIME // 2

    @jax.jit
    def found(params: Any, xs: Any) -> Any:
        flow = gradient_flow(lambda _, ys: jnp.sum(ys[after - 1] ** 2), spec.cell, params, xs)
        return flow.parts, jaxrnn.scan(spec.cell, params, xs)[1]

    norms, ys = map(np.asarray, found(params, xs))
    assert norms[after] == pytest.approx(2 * np.linalg.norm(ys[after - 1]), rel=1e-10)
    assert np.all(norms[:after] > 0)
    assert np.all(norms[after + 1 :] == 0)


def test_both_directions(x64: None) -> None:
    """The cell that reads backwards is reached from its own last step on, which is the first."""
    spec = BY_ID["both_concat"]
    cell: Any = spec.cell

    @jax.jit
    def flows(params: Any, xs: Any) -> Any:
        return (
            gradient_flow(
                lambda carry, ys: jnp.sum(carry.forward + carry.backward), cell, params, xs
            ),
            gradient_flow(
                lambda carry, ys: jnp.sum(carry), cell.forward, params.backward, jnp.flip(xs, 0)
            ),
        )

    flow, flipped = flows(make_params(spec), make_xs(spec))
    backward, wanted = np.asarray(flow.parts.backward), np.asarray(flipped.parts)
    assert_close(backward[0], wanted[0], 1e-10)
    assert_close(backward[1:], wanted[:0:-1], 1e-10)


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_masks_and_resets(reverse: bool, x64: None) -> None:
    """Nothing arrives at a step that is masked out, nor from beyond a boundary. A Jacobian passes
    the one and stops at the other.
    """
    spec = BY_ID["lstm"]
    params, xs = make_params(spec), np.array(make_xs(spec, (6, 2)))
    xs[5, 0] = np.nan
    mask = np.ones((6, 2), bool)
    mask[3, 0] = False
    reset = np.zeros((6, 2), bool)
    reset[3, 1] = True
    flags = {"lengths": np.array([5, 6]), "mask": mask, "reset": reset, "reverse": reverse}

    @jax.jit
    def flows(params: Any, xs: Any) -> Any:
        flow = gradient_flow(lambda carry, ys: jnp.sum(carry.h), spec.cell, params, xs, **flags)
        return flow.total(), jacobian_flow(spec.cell, params, xs, **flags).log_norm

    norms, log_norms = flows(params, xs)
    assert np.all(np.isfinite(norms))
    reached = np.ones((7, 2), bool)
    reached[[4, 6], 0] = False  # masked out, and padding
    reached[4:, 1] = not reverse
    reached[:4, 1] = reverse
    reached[0, 1] = False  # the carry before the first step, in either direction
    np.testing.assert_array_equal(np.asarray(norms) > 0, reached)
    sizes = np.exp(np.asarray(log_norms))
    held = 2 if reverse else 3  # the masked step begins there, in the order of the walk
    assert sizes[held, 0] == pytest.approx(sizes[held + 1, 0], rel=1e-12)
    np.testing.assert_array_equal(sizes[:, 1] == 0, np.arange(7) < 4)


def test_random_vectors_are_unbiased(x64: None) -> None:
    """Over many draws their mean is the square of the norm, and their error is what they say."""
    spec = BY_ID["gru_after"]

    @jax.jit
    def flows(params: Any, xs: Any, keys: Any) -> Any:
        drawn = jax.vmap(lambda key: jacobian_flow(spec.cell, params, xs, vectors=6, key=key))(keys)
        return jacobian_flow(spec.cell, params, xs).log_norm, drawn

    keys = jax.random.split(jax.random.key(2), 400)
    exact, drawn = flows(make_params(spec), make_xs(spec, (5,)), keys)
    exact = np.asarray(exact)
    squares = np.exp(2 * np.asarray(drawn.log_norm))
    spread = squares.std(0) / np.sqrt(len(keys))
    assert np.all(np.abs(squares.mean(0) - np.exp(2 * exact)) <= 4 * spread + 1e-12)
    said = np.asarray(drawn.error).mean(0)
    found = np.asarray(drawn.log_norm).std(0)
    np.testing.assert_allclose(said[:-1], found[:-1], rtol=0.3)


def scaled(factor: float) -> tuple[jaxrnn.Elman, Any]:
    """The cell `h_t = factor h_{t-1} + x_t W`."""
    cell = jaxrnn.Elman(3, activation="linear", bias=False)
    w_x, w_h = np.ones((2, 3), np.float32), factor * np.eye(3, dtype=np.float32)
    return cell, jaxrnn.cells.ElmanParams(w_x, w_h, None)  # type: ignore[arg-type]


def test_nothing_underflows() -> None:
    """In float32, after more steps than its exponents reach."""
    cell, params = scaled(0.5)
    flow = jacobians_of(cell, params, np.zeros((400, 2), np.float32), singular_values=True)
    back = -np.log(2) * np.arange(400, -1, -1)
    values = np.asarray(flow.log_singular_values)
    np.testing.assert_allclose(values, np.stack([back] * 3, axis=1), rtol=1e-4)
    xs, reset = np.zeros((4, 2), np.float32), np.arange(4) == 2
    restarted = jacobians_of(cell, params, xs, reset=reset)
    np.testing.assert_array_equal(np.isneginf(restarted.log_norm), [True, True, True, False, False])


@pytest.mark.parametrize("factor", [0.5, 2.0], ids=["vanishing", "exploding"])
def test_norms_whose_squares_float32_does_not_hold(factor: float) -> None:
    flow, total = of_the_sum(*scaled(factor), np.zeros((110, 2), np.float32))
    expected = np.sqrt(3) * factor ** np.arange(110.0, -1, -1)
    np.testing.assert_allclose(np.asarray(flow.parts), expected, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(total), expected, rtol=1e-5)


def test_a_norm_of_any_size() -> None:
    """Inf for inf, NaN for NaN, and zeros have a derivative."""
    rows = np.array([[3, 4], [3e-30, 4e-30], [3e30, -4e30], [np.inf, 1], [0, 0], [np.nan, np.inf]])
    rows = rows.astype(np.float32)
    sizes, slopes = jax.jit(jax.vmap(jax.value_and_grad(lambda row: norm(row, [0]))))(rows)
    np.testing.assert_allclose(sizes, [5, 5e-30, 5e30, np.inf, 0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(
        np.asarray(slopes)[[0, 1, 2, 4]], [[0.6, 0.8], [0.6, 0.8], [0.6, -0.8], [0, 0]]
    )


class Doubled(Plain):
    """Hands the same array on as both parts of its carry."""

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        return draw(key, dtype, w_x=(in_features, self.hidden), w_h=(self.hidden, self.hidden))

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        h = super().initial_carry(params, input_shape)
        return h, h

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (z,) = affine((u,), carry[0], params["w_h"])
        h = jnp.tanh(z)
        return (h, h), h


def test_parts_that_are_one_array_have_gradients_of_their_own() -> None:
    cell = Doubled(4)

    @jax.jit
    def parts(key: Any) -> Any:
        params, xs = cell.init(key, 3), jnp.ones((5, 3))
        loss = lambda carry, ys: jnp.sum(carry[0] + 2 * carry[1])  # noqa: E731
        return gradient_flow(loss, cell, params, xs).parts

    first, second = map(np.asarray, parts(jax.random.key(0)))
    assert (first[-1], second[-1]) == (pytest.approx(2.0), pytest.approx(4.0))
    assert not np.any(second[:-1])  # no step reads it


@pytest.mark.filterwarnings("error:_NudgedStep", "ignore:FastWeights.step")
def test_a_warning_names_the_cell() -> None:
    spec = BY_ID["user_fast_weights"]
    params, xs = make_params(spec, np.float32), make_xs(spec, dtype=np.float32)
    traced(gradient_flow, lambda carry, ys: jnp.sum(ys), spec.cell, params, xs)


def test_what_is_refused() -> None:
    cell, xs = jaxrnn.GRU(4), np.ones((5, 2, 3), np.float32)

    def flow_of(loss: Any, cell: Any = cell, params: Any = None) -> Any:
        drawn = getattr(cell, "init", jaxrnn.GRU(4).init)(jax.random.key(0), 3)
        return gradient_flow(loss, cell, drawn if params is None else params, xs)

    def jacobians_of(cell: Any = cell, **options: Any) -> Any:
        return jacobian_flow(cell, cell.init(jax.random.key(0), 3), xs, **options)

    with pytest.raises(ValueError, match=r"loss returned shape \(5, 2, 4\), float32"):
        traced(flow_of, lambda carry, ys: ys)
    with pytest.raises(TypeError, match="loss returned a tuple, expected one real number"):
        traced(flow_of, lambda carry, ys: (jnp.sum(ys), ys))
    with pytest.raises(TypeError, match=r"loss is a GRU, expected function\(carry, ys\)"):
        gradient_flow(cell, {}, xs, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Dense: its carry holds no real or complex numbers"):
        traced(jacobians_of, jaxrnn.Dense(4))
    with pytest.raises(ValueError, match="total: there is no norm"):
        traced(lambda: flow_of(lambda carry, ys: jnp.sum(ys), jaxrnn.Dense(4)).total())
    with pytest.raises(ValueError, match="params has the structure"):
        traced(flow_of, lambda carry, ys: jnp.sum(ys), params={})
    with pytest.raises(TypeError, match=r"jaxrnn.diagnostics.gradient_flow: cell must"):
        traced(flow_of, lambda carry, ys: jnp.sum(ys), "GRU")
    with pytest.raises(TypeError, match="so it has no single step, and no Jacobian of one"):
        traced(jacobians_of, jaxrnn.Bidirectional(cell))
    with pytest.raises(ValueError, match="vectors and key belong together"):
        traced(jacobians_of, vectors=3)
    with pytest.raises(ValueError, match="random vectors give no singular values"):
        traced(jacobians_of, vectors=3, key=jax.random.key(0), singular_values=True)


@some("gru_before", "lstm_peepholes", "stack_connected", "user_clockwork")
def test_the_first_state_has_its_jacobian_too(spec: Spec, x64: None) -> None:
    params, xs = make_params(spec), make_xs(spec, (TIME,))
    carry = make_carry(spec, params, xs)
    _, jacobian = expected(spec, params, xs, carry, 0)
    flow = found(spec.cell, params, xs, carry)[1]
    assert_close(np.exp(flow.log_norm)[0], np.linalg.norm(jacobian), 1e-9)
