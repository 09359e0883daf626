"""Layers without a state, outputs of all layers, and cells within a step."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Dense, Elman, Pointwise, Readout, Reversed, Stack
from jaxrnn.methods import BPTT
from tests.support.helpers import assert_close, assert_equal

T, B, IN = 5, 3, 2
KEY = jax.random.key(0)
XS = np.random.default_rng(0).normal(size=(T, B, IN)).astype(np.float32)


def last_steps(ys: Any, backwards: bool) -> Any:
    """A `take` for `Cell.ends`, of sequences without padding."""
    return ys[0 if backwards else -1]


def test_layers_without_a_state_stand_outside_the_loop() -> None:
    """Each multiplies once, in a product of all steps."""
    cell = Readout(Stack([Dense(4), jnp.tanh, Dense(3, "relu")]), 6)
    params = cell.init(KEY, IN)
    run = lambda params, xs: jaxrnn.scan(cell, params, xs)  # noqa: E731
    text = str(jax.make_jaxpr(run)(params, XS))
    assert "scan[" not in text
    assert text.count("dot_general[") == 3
    carry, ys = run(params, XS)
    assert carry == ((), (), ())
    one, two = params.inner[0], params.inner[2]
    h = np.maximum(np.tanh(XS @ one.w_x + one.b) @ two.w_x + two.b, 0)
    assert_close(ys, h @ params.w_o + params.b_o, 1e-5)


def test_where_layers_end() -> None:
    """A layer above ends where the walk below does."""
    ys = jnp.arange(T * 8.0).reshape(T, 8)
    both = Bidirectional(LSTM(4))
    halves = jnp.concatenate([ys[-1, :4], ys[0, 4:]])
    assert_equal(Stack([both, "relu"]).ends(ys, last_steps), halves)
    assert_equal(Stack([Reversed(LSTM(4)), Dense(8)]).ends(ys, last_steps), ys[0])
    assert_equal(Readout(Reversed(LSTM(4)), 8).ends(ys, last_steps), ys[0])
    assert_equal(Stack([Dense(8)]).ends(ys, last_steps), ys[-1])
    joined = Stack([LSTM(2), Reversed(LSTM(4)), "tanh"], outputs="all")
    assert joined.out_features == 10
    wide = jnp.arange(T * 10.0).reshape(T, 10)
    expected = jnp.concatenate([wide[-1, :2], wide[0, 2:]])
    assert_equal(joined.ends(wide, last_steps), expected)
    for mixed in (Stack([both, Dense(8)]), Readout(both, 8)):
        with pytest.raises(ValueError, match=r"two directions.*ends cannot be separated"):
            mixed.ends(ys, last_steps)


def test_all_outputs_are_those_of_each_layer() -> None:
    cell = Stack.repeat(GRU(4), 2, bidirectional=True, outputs="all")
    params = cell.init(KEY, IN)
    assert cell.out_features == 16
    _, ys = jaxrnn.scan(cell, params, XS)
    _, below = jaxrnn.scan(cell.cells[0], params[0], XS)
    _, top = jaxrnn.scan(dataclasses.replace(cell, outputs="top"), params, XS)
    assert_close(ys, jnp.concatenate([below, top], axis=-1), 1e-6)
    with pytest.raises(ValueError, match=r"outputs='all', expected 'top'"):
        jaxrnn.convert.to_torch(cell, params)


def test_layers_are_saved_by_name(tmp_path: Path) -> None:
    cell = Readout(Stack([LSTM(4), "relu", Dense(3, "tanh", bias=False)]), np.int64(2))  # type: ignore[arg-type]
    params = cell.init(KEY, IN)
    jaxrnn.save(tmp_path / "cell", cell, params)
    assert jaxrnn.load(tmp_path / "cell")[0] == cell
    roles = jaxrnn.labels(cell, params)
    assert (roles.w_o, roles.inner[2].w_x, roles.inner[2].b) == ("output", "input", None)
    assert cell.in_features(params) == IN
    named = Stack([LSTM(4), jax.nn.gelu])
    with pytest.raises(ValueError, match=r"cells\[1\].function is .*use a name"):
        jaxrnn.save(tmp_path / "cell", named, named.init(KEY, IN))


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"begins with the function 'relu'.*Pointwise"):
        Stack(["relu", LSTM(4)])
    with pytest.raises(TypeError, match=r"Stack: cells holds a Dense, .* jaxrnn.Dense\(features\)"):
        Stack([GRU(4), nn.Dense(4)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="Stack: cells holds an int, expected"):
        Stack([LSTM(4), 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="Stack: cells holds the class LSTM"):
        Stack([LSTM(4), LSTM])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="Pointwise: function 'rely' is unknown"):
        Stack([LSTM(4), "rely"])
    with pytest.raises(ValueError, match="Pointwise: in_features is 3, expected 4"):
        Stack([LSTM(3), Pointwise("relu", 4)])
    with pytest.raises(ValueError, match="Stack: outputs is 'both', expected one of"):
        Stack([LSTM(4)], outputs="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Dense: features is 0"):
        Readout(LSTM(4), 0)
    halves = Stack([LSTM(4), lambda x: x[..., :2]])
    with pytest.raises(ValueError, match=r"Pointwise: .* for \(5, 3, 4\), expected the same shape"):
        jaxrnn.scan(halves, halves.init(KEY, IN), XS)


@dataclasses.dataclass(frozen=True)
class Deep(jaxrnn.Cell):
    """A GRU whose state others continue within the step (Pascanu et al. 2014), through a stack and
    an output layer.
    """

    first: jaxrnn.Cell
    second: jaxrnn.Cell

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        keys = jax.random.split(key)
        return self.first.init(keys[0], in_features, dtype), self.second.init(keys[1], 4, dtype)

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        carry = self.first.initial_carry(params[0], input_shape)
        return carry, self.second.initial_carry(params[1], carry.shape)

    def project(self, params: Any, xs: Any) -> Any:
        return self.first.project(params[0], xs)

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        h, _ = self.first.step(params[0], carry[0], u, affine)
        below, y = jaxrnn.substep(self.second, params[1], carry[1], h, affine)
        return (h, below), y

    @property
    def out_features(self) -> int:
        return 4


def test_a_cell_within_a_step() -> None:
    """Values and gradients; every product of the inner cells goes through `affine`."""
    cell = Deep(GRU(4), Readout(Stack([Elman(4, bias=False), Dense(3, "tanh"), GRU(4)]), 4))
    params = cell.init(KEY, IN)
    reset = np.arange(T * B).reshape(T, B) % 5 == 2

    def loss(driver: Any, params: Any, xs: Any, **how: Any) -> Any:
        carry, ys = driver(cell, params, xs, reset=reset, **how)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((carry, ys)))

    run = jax.jit(jax.value_and_grad(loss, (1, 2)), static_argnums=0, static_argnames="method")
    expected = run(jaxrnn.unroll, params, XS)
    assert_close(run(jaxrnn.scan, params, XS, method=BPTT(2)), expected, 1e-5)

    shapes: list[tuple[int, ...]] = []

    def affine(u: Any, h: Any, w: Any, *linear: Any) -> Any:
        shapes.append(w.shape)
        return jaxrnn.affine(u, h, w, *linear)

    carry = cell.initial_carry(params, (B, IN))
    cell.step(params, carry, cell.project(params, XS[0]), affine)
    weights = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert sorted(shapes) == sorted(weights[1:])  # the first is that of the projection
    both = Bidirectional(GRU(4))
    params = both.init(KEY, IN)
    with pytest.raises(TypeError, match="reads backwards needs the whole sequence"):
        jaxrnn.substep(both, params, both.initial_carry(params, (B, IN)), XS[0])


@dataclasses.dataclass(frozen=True)
class Inside(jaxrnn.ContextCell):
    """An attention within a step."""

    inner: jaxrnn.Cell

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        return self.inner.init(key, in_features, dtype)

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return self.inner.initial_carry(params, input_shape)

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        return jaxrnn.substep(self.inner, params, carry, u, affine)

    @property
    def out_features(self) -> int:
        return self.inner.out_features


def test_a_context_within_a_step() -> None:
    attention = jaxrnn.Attention(GRU(4), memory=IN)
    cell, memory = Inside(attention), jaxrnn.Memory(jnp.ones((B, 6, IN)))
    params = cell.init(KEY, IN)
    got, expected = (jaxrnn.scan(c, params, XS, context=memory) for c in (cell, attention))
    assert_close(got, expected, 1e-6)
