"""cuDNN's packed weights, both ways; `lstm_ref` is JAX's own description of what cuDNN does with
them.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn

import jaxrnn
from jaxrnn import LSTM, Bidirectional, LSTMCarry, Stack
from jaxrnn.convert import from_cudnn, to_cudnn
from tests.support.conversions import (
    BATCH,
    FEATURES,
    HIDDEN,
    LENGTHS,
    assert_refused,
    each_dtype,
    each_precision,
    random_inputs,
    random_like,
    random_params,
    with_zeros,
    without_start,
)
from tests.support.helpers import assert_close, assert_equal
from tests.support.specs import BY_ID, every

HELD = {"lstm", "lstm_no_bias", "lstm_chrono", "stack_of_one"}
DEEP = Stack((Bidirectional(LSTM(4), LSTM(4, bias=False)), Bidirectional(LSTM(4))))


@partial(jax.jit, static_argnums=(2, 3))
def run(flat: Any, xs: Any, layers: int, bidirectional: bool) -> Any:
    """cuDNN's outputs and final states `[layers * directions, batch, hidden]`."""
    h = c = jnp.zeros((layers * (1 + bidirectional), BATCH, HIDDEN), xs.dtype)
    sizes = (FEATURES, HIDDEN, layers, bidirectional)
    weights = rnn.unpack_lstm_weights(flat, *sizes)
    ys, h, c = rnn.lstm_ref(
        xs.swapaxes(0, 1),
        h,
        c,
        *weights,
        jnp.asarray(LENGTHS),
        FEATURES,
        HIDDEN,
        layers,
        0.0,
        bidirectional,
    )
    return ys.swapaxes(0, 1), h, c


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("layers", [1, 3])
@each_precision
def test_equals_cudnn(layers, bidirectional, dtype, tolerance):
    """The same outputs and final states with a packed vector, and from them again in another."""
    size, xs = (
        rnn.get_num_params_in_lstm(FEATURES, HIDDEN, layers, bidirectional),
        random_inputs(dtype),
    )
    flat = random_like(np.zeros(size), dtype)
    wanted = run(flat, xs, layers, bidirectional)
    cell, params = from_cudnn(flat, FEATURES, HIDDEN, layers, bidirectional)
    carry, ys = jaxrnn.scan(cell, params, xs, lengths=LENGTHS)
    states = jax.tree.leaves(carry, is_leaf=lambda c: isinstance(c, LSTMCarry))
    got = ys, np.stack([s.h for s in states]), np.stack([s.c for s in states])
    assert_close(got, wanted, tolerance)
    assert_close(run(to_cudnn(cell, params), xs, layers, bidirectional), wanted, tolerance)


@each_dtype
@pytest.mark.parametrize(
    "cell", [*(BY_ID[id].cell for id in sorted(HELD)), Bidirectional(LSTM(4)), DEEP], ids=str
)
def test_bits_come_back(cell, dtype):
    params = random_params(cell, dtype)
    flat = to_cudnn(cell, params)
    assert flat.dtype == dtype
    layers = len(cell.cells) if isinstance(cell, Stack) else 1
    again, read = from_cudnn(
        flat, FEATURES, jax.tree.leaves(params)[1].shape[0], layers, "Bidirectional" in repr(cell)
    )
    assert again == (LSTM(4) if cell == Stack((LSTM(4),)) else without_start(cell, bias=True))
    given = jax.tree.leaves(params, is_leaf=lambda p: hasattr(p, "w_x"))
    for own, p in zip(
        given, jax.tree.leaves(read, is_leaf=lambda p: hasattr(p, "w_x")), strict=True
    ):
        assert_equal(p, with_zeros(own, p))


def test_the_first_bias_is_jaxrnns():
    params = random_params(LSTM(HIDDEN))
    _, _, b_ih, b_hh = rnn.unpack_lstm_weights(
        to_cudnn(LSTM(HIDDEN), params), FEATURES, HIDDEN, 1, False
    )
    assert_equal(b_ih[0], params.b)
    assert not np.any(b_hh[0])


@every
def test_every_other_cell_is_refused(spec):
    if spec.id not in HELD:
        assert_refused(spec, to_cudnn)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (np.ones(143, "f"), 3, 4),
            r"flat has shape \(143,\), expected \(144,\) "
            "for in_features=3, hidden=4, layers=1, bidirectional=F",
        ),
        ((np.ones((2, 72), "f"), 3, 4), r"flat has shape \(2, 72\), expected \(144,\)"),
        (
            (np.ones(144, "f"), 3, 4, 1, True),
            r"flat has shape \(144,\), expected \(288,\) for .*bidirectional=True",
        ),
        ((np.ones(144, "f"), 3, 4, 0), "layers is 0, expected a positive integer"),
        ((np.ones(144, "f"), 3, 4.0), r"hidden is 4\.0, expected a positive integer"),
        ((np.ones(144, "f"), -3, 4), "in_features is -3, expected a positive integer"),
        ((np.ones(144, int), 3, 4), "flat has dtype int64, expected floating numbers"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        from_cudnn(*arguments)


def test_unequal_layers_are_refused():
    for cell, message in (
        (Stack((LSTM(4), LSTM(5))), r"LSTM\(5\) differs from LSTM\(4\)"),
        (Stack((LSTM(4), Bidirectional(LSTM(4)))), "all layers and directions are equally large"),
        (Stack((LSTM(4), jaxrnn.GRU(4))), "holds no GRU, expected LSTM"),
    ):
        with pytest.raises(ValueError, match=message):
            to_cudnn(cell, random_params(cell))
    params = random_params(LSTM(4))
    with pytest.raises(
        ValueError, match=r"the dtypes \['bfloat16', 'float32'\], but cuDNN's vector has one"
    ):
        to_cudnn(LSTM(4), params._replace(b=params.b.astype("bfloat16")))
