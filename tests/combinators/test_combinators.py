"""Combinators around one cell: what they do to its step, whatever its carry looks like."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
import jaxrnn.linen
from jaxrnn import (
    GRU,
    LSTM,
    MGU,
    Constrained,
    Dale,
    LearnedCarry,
    RecurrentDropout,
    StateNoise,
    Zoneout,
)
from jaxrnn.core.affine import matmul
from jaxrnn.core.noise import Draws, number
from jaxrnn.foreign import FunctionCell
from tests.support import user_cells as user
from tests.support.helpers import assert_close

KEY = jax.random.key(7)
H = 4


@dataclasses.dataclass(frozen=True)
class Unnamed(user.Plain):
    """A carry whose parts have no names, or others than h and c; the output is a part of it."""

    named: bool = False

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        return user.draw(key, dtype, w_x=(in_features, self.hidden), w_h=(self.hidden, self.hidden))

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        zero = super().initial_carry(params, input_shape)
        return {"c": zero, "last": zero} if self.named else (zero, zero)

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        old = carry["c"] if self.named else carry[0]
        (z,) = affine((u,), old, params["w_h"])
        c = jnp.tanh(z)
        return ({"c": c, "last": old} if self.named else (c, old)), c


def setup(cell: jaxrnn.Cell, *shape: int) -> tuple[Any, jax.Array]:
    return cell.init(jax.random.key(0), 3), jax.random.normal(jax.random.key(1), (*shape, 3))


def test_an_output_that_is_a_part_of_the_carry_changes_with_it():
    """Whichever part, and whatever holds it."""
    memory = Zoneout(Unnamed(H, named=True), c=0.5)
    for cell, part in ((memory, "c"), (StateNoise(GRU(H), 0.1), "")):
        params, xs = setup(cell, 5, 2)
        carry, ys = jaxrnn.unroll(cell, params, xs, key=KEY)
        np.testing.assert_array_equal(ys[-1], carry[part] if part else carry)
        assert not np.allclose(ys, jaxrnn.unroll(cell, params, xs)[1])


@pytest.mark.parametrize("cell", [Unnamed(H), Unnamed(H, named=True)], ids=["tuple", "dict"])
def test_zoneout_of_nothing_is_the_cell(cell):
    params, xs = setup(cell, 5, 2)
    assert_close(jaxrnn.unroll(Zoneout(cell), params, xs), jaxrnn.unroll(cell, params, xs), 1e-6)
    with pytest.raises(ValueError, match=r"h is 0\.1, but the carry of Unnamed has no h"):
        Zoneout(cell, h=0.1)


def test_numpy_arrays_without_jit():
    cell = Zoneout(RecurrentDropout(StateNoise(GRU(H), 0.1), 0.5), h=0.3)
    params, xs = setup(cell, 2, 2)
    carry: Any = np.ones((2, H), np.float32)
    wanted = jaxrnn.unroll(cell, params, xs, carry, key=KEY)
    with jax.disable_jit():
        got = jaxrnn.unroll(cell, params, np.asarray(xs), carry, key=KEY)
    assert_close(got, wanted, 1e-5)


def test_several_feature_axes():
    """Each position has draws of its own; the learned start is the same for all of them."""
    inner = LearnedCarry(StateNoise(Zoneout(user.Ring(H), h=0.3), 0.1))
    cell = RecurrentDropout(inner, 0.4)
    params = cell.init(jax.random.key(0), 3)
    assert params.start.shape == (1, H)
    params = params._replace(start=params.start + jnp.arange(H))
    carry = cell.initial_carry(params, (2, 5, 3))
    np.testing.assert_array_equal(carry, np.broadcast_to(np.arange(H), (2, 5, H)))
    xs = jax.random.normal(jax.random.key(1), (6, 2, 5, 3))

    @jax.jit
    def masks(params: Any, xs: Any) -> Any:
        return cell.project(params, xs, Draws(KEY, number((6, 2), None))(cell.draw))[1]

    ((mask,),) = masks(params, xs)
    assert mask.shape == (6, 2, 5, H)
    assert len(np.unique(np.asarray(mask)[0].reshape(-1, H), axis=0)) > 1

    @jax.jit
    @jax.grad
    def gradient(params: Any) -> Any:
        return jnp.sum(jnp.sin(jaxrnn.scan(cell, params, xs, key=KEY)[1]))

    assert np.all(np.abs(gradient(params).start) > 0)


def test_a_learned_carry_is_a_copy_of_the_parameter():
    """One without a batch, too: a program that it is donated to leaves the parameter."""
    cell = LearnedCarry(jaxrnn.GRU(H))
    params = cell.init(KEY, 3)
    cell.initial_carry(params, (3,)).delete()
    assert not params.start.is_deleted()


def test_integers_in_a_carry_are_not_learned():
    cell = LearnedCarry(user.Clockwork(H))
    params, xs = setup(cell, 5, 2)
    assert params.start.t is None
    assert jaxrnn.labels(cell, params).start == user.ClockworkCarry("carry", None)
    params = params._replace(start=params.start._replace(h=jnp.ones(H)))
    given = user.ClockworkCarry(jnp.ones((2, H)), jnp.zeros(2, jnp.int32))
    wanted = jaxrnn.scan(cell.cell, params.inner, xs, given)
    assert_close(jaxrnn.scan(cell, params, xs), wanted, 1e-6)
    slope = jax.grad(lambda p: jnp.sum(jaxrnn.scan(cell, p, xs)[1]), allow_int=True)(params)
    assert np.all(np.abs(slope.start.h) > 0)


def _rate(params: Any, carry: Any, x: Any) -> Any:
    """The state is what enters tanh; its product is not a term of a sum with the input alone."""
    z = 0.5 * carry + x @ params["w_x"] * (jnp.tanh(carry) @ params["w_h"])
    return z, jnp.tanh(z)


def _unnamed_params(key: Any, in_features: int, dtype: Any) -> Any:
    return Unnamed(H).init(key, in_features, dtype)


def _zeros(params: Any, input_shape: tuple[int, ...]) -> Any:
    return jnp.zeros((*input_shape[:-1], H))


RECURRENT = {
    "lstm": (LSTM(H, projection=H, layer_norm="gates_and_cell", peepholes=True), [True, False]),
    "gru_after": (GRU(H), [True]),
    "gru_before": (GRU(H, reset_gate="before"), [True, True]),
    "mgu": (MGU(H), [True, True]),
    "flax": (jaxrnn.linen.as_cell(nn.LSTMCell(H)), [True]),
    "function": (FunctionCell(_rate, _unnamed_params, _zeros, H), [True]),
    "product_alone": (user.Clockwork(H), [True]),
    "deep_transition": (user.DeepTransition(H), [True, False]),
    "nested": (RecurrentDropout(LSTM(H, projection=H), 0.5), [True, False]),
}


@pytest.mark.parametrize(("inner", "dropped"), list(RECURRENT.values()), ids=list(RECURRENT))
def test_recurrent_dropout_is_of_what_comes_of_the_carry(inner, dropped):
    """With every unit dropped, what a recurrent product multiplies is zero, and all else is not."""
    cell = RecurrentDropout(inner, 0.5)
    params, xs = setup(cell, 1, 2)
    carry = jax.tree.map(lambda leaf: leaf + 1, inner.initial_carry(params, (2, 3)))
    u, drawn = cell.project(params, xs[0], Draws(KEY, number((2,), None))(cell.draw))
    assert [masks is not None for masks in drawn] == dropped
    operands = []

    def affine(u: Any, h: Any, w: Any, linear: Any = matmul) -> Any:
        operands.append(h)
        return jaxrnn.affine(u, h, w, linear)

    for none_survives in (False, True):
        masks = jax.tree.map(lambda leaf, zero=none_survives: jnp.full_like(leaf, not zero), drawn)
        operands.clear()
        cell.step(params, carry, (u, masks), affine)
        zero = [not np.any(h) for h in operands]
        assert zero == [none_survives and is_drawn for is_drawn in dropped]


def _no_product(params: Any, carry: Any, x: Any) -> Any:
    h = jnp.tanh(0.5 * carry + x @ params["w_x"])
    return h, h


@jax.custom_jvp
def _own_product(h: Any, w: Any) -> Any:
    return h @ w


_own_product.defjvps(None, None)


def _product_of_a_product(params: Any, carry: Any, x: Any) -> Any:
    """The factor of the product that `affine` sees is new, because it is a product itself."""
    h = jnp.tanh(_own_product(carry, params["w_h"]) @ params["w_h"] + x @ params["w_x"])
    return h, h


@pytest.mark.parametrize("step", [_no_product, _product_of_a_product])
def test_recurrent_dropout_of_nothing_is_refused(step):
    cell = RecurrentDropout(FunctionCell(step, _unnamed_params, _zeros, H), 0.5)
    params, xs = setup(cell, 5, 2)
    message = "RecurrentDropout: FunctionCell multiplies nothing of its carry through affine"
    with pytest.raises(ValueError, match=message):
        jaxrnn.scan(cell, params, xs, key=KEY)


def test_a_combinator_of_a_step_belongs_inside_one_of_a_run():
    message = "cell is a Constrained, which changes whole runs .* put StateNoise inside"
    with pytest.raises(ValueError, match=message):
        StateNoise(Constrained(GRU(H), Dale()), 0.1)


@pytest.mark.parametrize("slots", [False, True])
def test_a_composite_is_what_its_cells_are(slots):
    """Noisy if one is, and causal if all are, also as a dataclass with slots."""

    @dataclasses.dataclass(frozen=True, slots=slots)
    class Both(jaxrnn.Composite):
        a: jaxrnn.Cell
        b: jaxrnn.Cell

        def init(self, key, in_features, dtype=jnp.float32):
            raise NotImplementedError

        def initial_carry(self, params, input_shape):
            raise NotImplementedError

        def run(self, params, xs, carry, runner):
            raise NotImplementedError

        @property
        def out_features(self):
            return self.a.out_features

    def told(*cells: jaxrnn.Cell) -> tuple[bool, bool, int]:
        both = Both(*cells)
        return both.causal, both.noisy, both.feature_axes

    assert told(GRU(4), GRU(4)) == (True, False, 1)
    assert told(GRU(4), jaxrnn.Dropout(GRU(4), 0.1)) == (True, True, 1)
    assert told(jaxrnn.ConvGRU(4, 3), jaxrnn.Bidirectional(GRU(4))) == (False, False, 3)


def test_complex_numbers_in_a_carry_are_not_learned():
    class Wave(Unnamed):
        def initial_carry(self, params, input_shape):
            return jnp.zeros((*input_shape[:-1], self.hidden), jnp.complex64)

    with pytest.raises(ValueError, match="the carry of Wave is complex, expected a real one"):
        LearnedCarry(Wave(4)).init(KEY, 3)
