"""Haiku's weights, both ways."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.convert import from_haiku, to_haiku
from tests.support.conversions import (
    BATCH,
    HIDDEN,
    LENGTHS,
    assert_refused,
    each_dtype,
    each_precision,
    over_ragged,
    random_inputs,
    random_like,
    random_params,
    with_zeros,
    without_start,
)
from tests.support.helpers import assert_close, assert_equal
from tests.support.specs import BY_ID, every

hk = pytest.importorskip("haiku", reason="needs dm-haiku: `make oracle-test` installs it")

CORES = {
    "lstm": lambda: hk.LSTM(HIDDEN),
    "gru": lambda: hk.GRU(HIDDEN),
    "vanilla_rnn": lambda: hk.VanillaRNN(HIDDEN),
    "one_bias": lambda: hk.VanillaRNN(HIDDEN, double_bias=False),
}
HELD = {
    "lstm",
    "lstm_no_bias",
    "lstm_chrono",
    "gru_before",
    "gru_before_no_bias",
    "elman_relu",
    "elman_irnn",
}


def transformed(make: Any) -> Any:
    """The core on ragged sequences, within a module of its own."""

    class Model(hk.Module):
        def __init__(self) -> None:
            super().__init__("model")
            self.core = make()

        def __call__(self, xs: Any) -> Any:
            def step(state: Any, x: Any) -> Any:
                y, state = self.core(x, state)
                return state, y

            state, ys = over_ragged(step, self.core.initial_state(BATCH), xs)
            return state, hk.Linear(2, name="head")(ys), ys

    return hk.without_apply_rng(hk.transform(lambda xs: Model()(xs)))


@pytest.mark.parametrize("core", CORES)
@each_precision
def test_equals_haiku(core, dtype, tolerance):
    """The same carries and outputs with Haiku's weights, deep in a model, and from them again in
    Haiku.
    """
    model, xs = transformed(CORES[core]), random_inputs(dtype)
    weights = random_like(jax.eval_shape(model.init, jax.random.key(0), xs), dtype)
    name = f"model/~/{'vanilla_rnn' if core == 'one_bias' else core}"
    cell, params = from_haiku(weights, name)
    assert_equal(from_haiku(weights)[1], params)
    carry, _, ys = model.apply(weights, xs)
    assert_close(jaxrnn.scan(cell, params, xs, lengths=LENGTHS), (carry, ys), tolerance)
    written = to_haiku(cell, params, name)
    again, _, ys_again = model.apply({**weights, **written}, xs)
    assert_close((again, ys_again), (carry, ys), tolerance)
    if core != "one_bias":  # for it, there is one array more, which Haiku does not look at
        assert jax.tree.structure(written) == jax.tree.structure(
            {path: weights[path] for path in weights if path.startswith(name)}
        )


@each_dtype
@pytest.mark.parametrize("id", sorted(HELD))
def test_bits_come_back(id, dtype):
    cell: Any = BY_ID[id].cell
    params = random_params(cell, dtype)
    weights = to_haiku(cell, params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(weights)} == {dtype}
    again, read = from_haiku(weights)
    assert again == without_start(cell, bias=True)
    wanted = with_zeros(params, read)
    # whose forget bias is 1 less in Haiku, and as precise as numbers about 1 are
    if isinstance(cell, jaxrnn.LSTM):
        own = slice(cell.hidden, 2 * cell.hidden)
        np.testing.assert_allclose(
            np.float64(read.b[own]),
            np.float64(wanted.b[own]),
            rtol=0,
            atol=float(jnp.finfo(dtype).eps),
        )
        wanted = wanted._replace(b=wanted.b.at[own].set(read.b[own]))
    assert_equal(read, wanted)


@every
def test_every_other_cell_is_refused(spec):
    if spec.id not in HELD:
        assert_refused(spec, to_haiku)


LINEAR, SQUARE = (
    {"w": np.ones(shape, "f"), "b": np.ones(shape[1], "f")} for shape in ((7, 16), (16, 16))
)
GRU = {"w_i": np.ones((3, 12), "f"), "w_h": np.ones((4, 12), "f"), "b": np.ones(12, "f")}
MISTAKES: dict[str, Any] = {
    "none": (
        {"linear": LINEAR},
        None,
        r"name is left out, and there are 0 modules that may be meant: \[\]",
    ),
    "two": (
        {"lstm/linear": LINEAR, "a/~/gru": GRU},
        None,
        r"there are 2 modules that may be meant: \['a/~/gru', 'lstm'\]",
    ),
    "another": (
        {"lstm/linear": LINEAR},
        "gru",
        r"'gru' is not an LSTM, GRU or VanillaRNN; there are \['lstm'\]",
    ),
    "missing": ({"gru": {"w_i": GRU["w_i"], "w_h": GRU["w_h"]}}, None, "gru/b is missing"),
    "unknown": ({"lstm/linear": {**LINEAR, "c": 1}}, None, r"unexpected \['lstm/linear/c'\]"),
    "linear": (
        {"mlp/linear": {"w": np.ones((2, 6), "f")}},
        None,
        r"linear/w of an LSTM has shape \(2, 6\), expected \(in \+ hidden, 4",
    ),
    "narrow": (
        {"mlp/linear": {"w": np.ones((1, 4), "f")}},
        None,
        r"linear/w of an LSTM has shape \(1, 4\), expected",
    ),
    "shape": (
        {"gru": {**GRU, "w_i": np.ones((3, 8), "f")}},
        None,
        r"gru/w_i has shape \(3, 8\), expected \(3, 12\)",
    ),
    "vanilla": (
        {"v/linear": LINEAR, "v/linear_1": LINEAR},
        None,
        r"v/linear/w has shape \(7, 16\), expected \(7, 7\)",
    ),
    "bias": (
        {"v/linear": LINEAR, "v/linear_1": {**SQUARE, "b": GRU["b"]}},
        None,
        r"v/linear_1/b has shape \(12,\), expected \(16,\)",
    ),
    "integers": ({"gru": {**GRU, "b": np.ones(12, int)}}, None, "gru/b has dtype int64"),
    "no dictionary": ([1], None, "the argument is a list, expected a dictionary of arrays"),
}


@pytest.mark.parametrize(("params", "name", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(params, name, message):
    with pytest.raises((ValueError, TypeError), match=message):
        from_haiku(params, name)


def test_options_that_haiku_computes_otherwise():
    for cell, message in (
        (jaxrnn.GRU(4), "GRU has reset_gate='after', and Haiku's computes 'before'"),
        (jaxrnn.Elman(4), "Elman has activation='tanh', and Haiku's VanillaRNN computes 'relu'"),
    ):
        with pytest.raises(ValueError, match=message):
            to_haiku(cell, random_params(cell))
