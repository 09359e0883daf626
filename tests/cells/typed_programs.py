"""Programs that a type checker must understand, and mistakes that it must find. Nobody runs them;
pyright reads them in `make lint`, and takes an ignored error that is none for an error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from typing import assert_type

import jax
import jax.numpy as jnp

import jaxrnn
from jaxrnn import GRUParams, LSTMCarry, LSTMParams


def what_is_known(xs: jax.Array) -> None:
    cell = jaxrnn.LSTM(4)
    params = assert_type(cell.init(jax.random.key(0), 3), LSTMParams)
    carry = assert_type(cell.initial_carry(params, (2, 3)), LSTMCarry)
    last, _ = jaxrnn.scan(cell, params, xs, carry)
    assert_type(last.c, jax.Array)
    last, _ = jaxrnn.step(cell, params, last, xs[0])
    assert_type(last, LSTMCarry)
    assert_type(jaxrnn.Zoneout(cell, h=0.1).initial_carry(params, (2, 3)), LSTMCarry)


def what_is_refused(xs: jax.Array, params: LSTMParams, carry: LSTMCarry, other: GRUParams) -> None:
    cell = jaxrnn.LSTM(4)
    jaxrnn.scan(cell, carry, xs)  # pyright: ignore[reportArgumentType]
    jaxrnn.scan(cell, params, xs, params)  # pyright: ignore[reportArgumentType]
    jaxrnn.scan(cell, other, xs)  # pyright: ignore[reportArgumentType]
    jaxrnn.scan(cell, params, xs, (carry.h, carry.c))  # pyright: ignore[reportArgumentType]
    jaxrnn.scan(cell, params, xs, length=jnp.ones(2))  # pyright: ignore[reportCallIssue]
    print(carry.x)  # pyright: ignore[reportAttributeAccessIssue]
    jaxrnn.LSTM(64, 128)  # pyright: ignore[reportCallIssue]
