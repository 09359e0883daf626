"""The gradient of the parameters of each step against loops written out."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.diagnostics import gradient_by_step
from tests.support.helpers import (
    assert_close,
    is_floating,
    make_carry,
    make_flags,
    make_params,
    make_xs,
)
from tests.support.specs import Spec, some

TIME = 4


def loss(carry: Any, ys: Any) -> Any:
    """Of a weight of its own for every number."""
    total = jnp.float64(0)
    for k, leaf in enumerate(jax.tree.leaves((carry, ys))):
        if is_floating(leaf):
            total += jnp.sum(jnp.sin(leaf) * np.random.default_rng(k).normal(size=leaf.shape))
    return total


@partial(jax.jit, static_argnums=0)
def of_one_step(cell: jaxrnn.Cell, params: Any, xs: Any, carry: Any) -> Any:
    """The gradient in the parameters of step 1 alone, of a loop."""

    def run(own: Any) -> Any:
        state, ys = carry, []
        for t in range(TIME):
            x = jax.tree.map(lambda leaf, t=t: leaf[t], xs)
            state, y = jaxrnn.step(cell, own if t == 1 else params, state, x)
            ys.append(y)
        return loss(state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ys))

    return jax.grad(run, allow_int=True)(params)


@some("lstm_all", "gru_before", "stack", "user_decaying", "user_clockwork", "user_linear")
def test_each_row_is_that_of_one_step(spec: Spec, x64: None) -> None:
    params, xs = make_params(spec), make_xs(spec, (TIME, 3))
    carry = make_carry(spec, params, xs)
    by_step = jax.jit(partial(gradient_by_step, loss), static_argnums=0)
    found = by_step(spec.cell, params, xs, carry)
    expected = [
        leaf
        for leaf in jax.tree.leaves(of_one_step(spec.cell, params, xs, carry))
        if leaf.dtype != jax.dtypes.float0
    ]
    assert_close([leaf[1] for leaf in jax.tree.leaves(found)], expected, 1e-11)


@pytest.mark.parametrize("reverse", [False, True])
def test_all_rows_together_are_the_gradient(reverse: bool, x64: None) -> None:
    """With lengths, masks and boundaries, in both directions."""
    cell = jaxrnn.LSTM(4)
    params = cell.init(jax.random.key(0), in_features=3, dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (6, 4, 3), jnp.float64)
    flags = {**make_flags(), "reverse": reverse}
    found = jax.jit(lambda p: gradient_by_step(loss, cell, p, xs, **flags))(params)
    whole = jax.jit(jax.grad(lambda p: loss(*jaxrnn.scan(cell, p, xs, **flags))))(params)
    assert_close([np.sum(leaf, axis=0) for leaf in jax.tree.leaves(found)], whole, 1e-10)


def test_a_loss_that_is_no_number() -> None:
    cell = jaxrnn.Elman(2)
    params = cell.init(jax.random.key(0), in_features=1)
    with pytest.raises(ValueError, match=r"gradient_by_step: loss returned shape \(3, 2\)"):
        gradient_by_step(lambda _, ys: ys, cell, params, jnp.ones((3, 1)))
