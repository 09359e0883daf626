"""Gates against the equations of the papers, in NumPy."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
import jaxrnn.linen
from jaxrnn.diagnostics import gate_values, saturation
from jaxrnn.foreign import FunctionCell
from tests.support.helpers import STEPS, assert_close, cut, make_carry, make_params, make_xs
from tests.support.papers import sigmoid
from tests.support.specs import BY_ID, Spec, some

TIME, BATCH = STEPS

jitted = jax.jit(gate_values, static_argnames="reverse")


def given(spec: Spec) -> tuple[Any, Any, Any]:
    params, xs = make_params(spec), make_xs(spec)
    return params, xs, make_carry(spec, params, xs)


def entering(params: Any, xs: Any, h: Any, gates: int) -> list[Any]:
    z = xs @ params.w_x + h @ params.w_h
    z = z if params.b is None else z + params.b
    return np.split(np.asarray(z), gates, axis=-1)


@pytest.mark.parametrize("id", ["lstm", "lstm_no_bias", "lstm_peepholes", "lstm_coupled"])
def test_an_lstm(id: str, x64: None) -> None:
    spec = BY_ID[id]
    cell: Any = spec.cell
    params, xs, carry = given(spec)
    states, _ = jaxrnn.trajectory(cell, params, xs, carry)
    h, c, new = (np.asarray(a) for a in (states.h[:-1], states.c[:-1], states.c[1:]))
    z = dict(zip(cell.order, entering(params, xs, h, cell.gates), strict=True))
    memories = {"f": c, "i": c, "o": new}
    expected = []
    for gate, memory in memories.items():
        if gate in z:
            peephole = getattr(params, f"p_{gate}")
            total = z[gate] if peephole is None else z[gate] + np.asarray(peephole) * memory
            bound = np.inf if cell.clip is None else cell.clip
            expected.append(sigmoid(np.clip(total, -bound, bound)))
    assert_close(jitted(cell, params, xs, carry), expected, 1e-11)


@pytest.mark.parametrize(("id", "order"), [("gru_before", "rzn"), ("mgu_paper", "fn")])
def test_cells_without_a_memory(id: str, order: str, x64: None) -> None:
    spec = BY_ID[id]
    params, xs, carry = given(spec)
    states, _ = jaxrnn.trajectory(spec.cell, params, xs, carry)
    expected = [sigmoid(z) for z in entering(params, xs, states[:-1], len(order))[:-1]]
    assert_close(jitted(spec.cell, params, xs, carry), expected, 1e-11)


def test_a_normalised_gate(x64: None) -> None:
    """What comes of it, not what its product is."""
    spec = BY_ID["gru_after_layer_norm"]
    params, xs, carry = given(spec)
    states, _ = jaxrnn.trajectory(spec.cell, params, xs, carry)
    expected = []
    for k, z in enumerate(entering(params._replace(b=None), xs, states[:-1], 3)[:2]):
        own = slice(4 * k, 4 * k + 4)
        centred = z - z.mean(-1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        expected.append(sigmoid(normal * np.asarray(params.gain[own]) + np.asarray(params.b[own])))
    assert_close(jitted(spec.cell, params, xs, carry), expected, 1e-11)


def test_layers_one_after_the_other_and_cells_of_flax(x64: None) -> None:
    """A cell of Flax's has its gates in its own order, r, z; beside it stands a layer without any,
    and the gates of the layer above depend on what comes from below.
    """
    flax_cell = jaxrnn.linen.as_cell(nn.GRUCell(4, param_dtype=jnp.float64))
    lstm = jaxrnn.LSTM(5)
    cell = jaxrnn.Stack([flax_cell, jaxrnn.Elman(3), lstm])
    params = cell.init(jax.random.key(0), in_features=3, dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (TIME, BATCH, 3), jnp.float64)
    found = jitted(cell, params, xs)
    assert [gate.shape[-1] for gate in found] == [4, 4, 5, 5, 5]
    _, below = jaxrnn.scan(jaxrnn.Stack(cell.cells[:2]), params[:2], xs)
    assert_close(found[2:], gate_values(lstm, params[2], below), 1e-11)
    states, _ = jaxrnn.trajectory(flax_cell, params[0], xs)
    h = jax.tree.leaves(states)[0]
    weights = _weights(params[0])
    r = xs @ weights["ir"]["kernel"] + weights["ir"]["bias"] + h[:-1] @ weights["hr"]["kernel"]
    assert_close(found[0], sigmoid(np.asarray(r)), 1e-11)


def _weights(params: Any) -> Any:
    """Those of a `GRUCell`, wherever they stand."""
    while "ir" not in params:
        (params,) = params.values()
    return params


@some(
    "user_highway", "user_rematerialised", "stack_connected", "zoneout", "learned_carry", "jordan"
)
def test_gates_are_within_their_bounds(spec: Spec, x64: None) -> None:
    params, xs, carry = given(spec)
    found = jitted(spec.cell, params, xs, carry)
    for gate in found:
        assert gate.shape[:2] == (TIME, BATCH)
        assert jnp.all((gate > 0) & (gate < 1))
    counts = {"user_highway": 1, "user_rematerialised": 0, "jordan": 1}
    assert len(found) == counts.get(spec.id, len(found))


def test_gates_within_calls(x64: None) -> None:
    """A step may compute them under `jax.jit` or `jax.checkpoint`, or give them a derivative."""
    own = jax.custom_jvp(jax.nn.sigmoid)
    own.defjvps(None)
    calls = (jax.jit(jax.nn.sigmoid), jax.checkpoint(jax.nn.sigmoid), own)

    def step(params: Any, h: Any, x: Any) -> Any:
        return sum((gate((k + 1) * x) for k, gate in enumerate(calls)), h), h

    cell = FunctionCell(step, lambda *_: (), lambda _, shape: jnp.zeros(shape), 2)
    xs = np.linspace(-1, 1, 6).reshape(3, 2)
    expected = [sigmoid((k + 1) * xs) for k in range(len(calls))]
    assert_close(list(jitted(cell, (), xs)), expected, 1e-11)


def test_masks_boundaries_and_direction(x64: None) -> None:
    """NaN where a step is masked out; behind a boundary, as at the beginning of a sequence; in
    reverse, in the order of the walk.
    """
    spec = BY_ID["gru_after"]
    params, xs, _ = given(spec)
    lengths, reset = jnp.array([6, 5, 3, 0]), jnp.zeros(STEPS, bool).at[2].set(True)
    for gate in jitted(spec.cell, params, xs, lengths=lengths):
        inside = np.arange(TIME)[:, None] < np.asarray(lengths)
        assert np.array_equal(np.isfinite(gate).all(-1), inside)
    begun = jitted(spec.cell, params, xs, reset=reset)
    alone = gate_values(spec.cell, params, cut(xs, 2, None))
    assert_close([gate[2:] for gate in begun], alone, 1e-11)
    backwards = jitted(spec.cell, params, xs, reverse=True)
    assert_close(backwards, jitted(spec.cell, params, xs[::-1]), 1e-11)


def test_saturation_is_a_share_for_each_unit() -> None:
    gate = jnp.array([[0.05, 0.95], [0.5, 0.99], [jnp.nan, jnp.nan], [0.1, 0.9]])
    found = saturation([gate, gate[:, :1]])
    np.testing.assert_allclose(found.low[0], [1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(found.high[0], [0, 2 / 3], rtol=1e-6)
    low, high = saturation([gate, gate[:, :1]], margin=0.01).shares()
    assert (float(low), float(high)) == (0, 0)
    low, high = saturation([gate, gate[:, :1]], margin=0.2).shares()
    assert float(low) == pytest.approx(4 / 9)
    assert float(high) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match=r"margin is 0\.5, expected a number between 0 and 0\.5"):
        saturation([gate], margin=0.5)


def test_what_has_no_step_has_no_gates_to_see() -> None:
    cell = jaxrnn.Bidirectional(jaxrnn.GRU(3))
    params = cell.init(jax.random.key(0), in_features=2)
    with pytest.raises(TypeError, match="single step"):
        gate_values(cell, params, jnp.ones((4, 2)))
