"""Equinox's weights, both ways."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.convert import from_equinox, to_equinox
from tests.support.conversions import (
    BATCH,
    FEATURES,
    HIDDEN,
    LENGTHS,
    assert_refused,
    each_dtype,
    each_precision,
    over_ragged,
    random_inputs,
    random_like,
    random_params,
    without_start,
)
from tests.support.helpers import assert_close, assert_equal
from tests.support.specs import BY_ID, every

eqx = pytest.importorskip("equinox", reason="needs equinox: `make oracle-test` installs it")

HELD = {"lstm", "lstm_no_bias", "lstm_chrono", "gru_after", "gru_after_no_bias"}


def build(kind: str, bias: bool, dtype: str) -> Any:
    """Equinox's own cell, random everywhere."""
    cell = getattr(eqx.nn, kind)(
        FEATURES, HIDDEN, use_bias=bias, dtype=jnp.dtype(dtype), key=jax.random.key(0)
    )
    arrays, rest = eqx.partition(cell, eqx.is_array)
    return eqx.combine(random_like(arrays, dtype), rest)


def run(module: Any, xs: Any) -> Any:
    """Its final state and outputs."""
    zeros, lstm = jnp.zeros((BATCH, HIDDEN), xs.dtype), not hasattr(module, "bias_n")
    cell = jax.vmap(module)

    def step(state: Any, x: Any) -> Any:
        state = cell(x, state)
        return state, state[0] if lstm else state

    return over_ragged(step, (zeros, zeros) if lstm else zeros, xs)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
@each_precision
def test_equals_equinox(kind, bias, dtype, tolerance):
    """The same carries and outputs with Equinox's weights, and then the same module again, by the
    line that the docstring has.
    """
    module, xs = build(kind, bias, dtype), random_inputs(dtype)
    cell, params = from_equinox(module)
    assert_close(jaxrnn.scan(cell, params, xs, lengths=LENGTHS), run(module, xs), tolerance)
    arrays = to_equinox(cell, params)
    other = getattr(eqx.nn, kind)(FEATURES, HIDDEN, use_bias=bias, key=jax.random.key(1))
    again = eqx.tree_at(
        lambda module: [getattr(module, name) for name in arrays], other, list(arrays.values())
    )
    assert_equal(again, module)


@each_dtype
@pytest.mark.parametrize("id", sorted(HELD))
def test_bits_come_back(id, dtype):
    cell = BY_ID[id].cell
    params = random_params(cell, dtype)
    again, read = from_equinox(to_equinox(cell, params))
    assert again == without_start(cell)
    assert_equal(read, params)


@every
def test_every_other_cell_is_refused(spec):
    if spec.id not in HELD:
        assert_refused(spec, to_equinox)


LSTM = {"weight_ih": np.ones((16, 3), "f"), "weight_hh": np.ones((16, 4), "f")}
GRU = {"weight_ih": np.ones((12, 3), "f"), "weight_hh": np.ones((12, 4), "f")}
MISTAKES: dict[str, Any] = {
    "missing": (
        {"weight_ih": LSTM["weight_ih"]},
        r"weight_hh is missing; there are \['weight_ih'\]",
    ),
    "second bias": ({**GRU, "bias": np.ones(12, "f")}, "bias_n is missing"),
    "unknown": ({**LSTM, "weight_hr": 1}, r"unexpected \['weight_hr'\]"),
    "no GRU": (
        {**LSTM, "bias": np.ones(16, "f"), "bias_n": np.ones(4, "f")},
        r"unexpected \['bias_n'\]",
    ),
    "rows": (
        {**LSTM, "weight_ih": np.ones((8, 3), "f")},
        "weight_ih has 8 rows for 4 units, expected 3 or 4 times as many",
    ),
    "shape": (
        {**LSTM, "weight_hh": np.ones((12, 4), "f")},
        r"weight_hh has shape \(12, 4\), expected \(16, 4\)",
    ),
    "axes": (
        {**LSTM, "weight_hh": np.ones(16, "f")},
        r"weight_hh has shape \(16,\), expected \[gates",
    ),
    "module": (object(), r"weight_ih is missing; there are \[\]"),
}


@pytest.mark.parametrize(("module", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(module, message):
    with pytest.raises(ValueError, match=f"from_equinox: {message}"):
        from_equinox(module)
