"""Gradients and Jacobians through time against JAX's derivatives of a loop written out."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.diagnostics import gradient_flow, jacobian_flow
from jaxrnn.diagnostics._state import flat
from tests.support.helpers import assert_close, is_floating, make_carry, make_params, make_xs
from tests.support.specs import Spec, every_causal

BORDER, TIME = 1, 3
"""The state after so many steps is looked at. There are no batch axes, so that Jacobians are few
numbers."""


def loss(carry: Any, ys: Any) -> Any:
    """Of a weight of its own for every number, but for what is put out before the border."""
    total = jnp.float64(0)
    late = jax.tree.map(lambda leaf: leaf[BORDER:], ys)
    for k, leaf in enumerate(jax.tree.leaves((carry, late))):
        if is_floating(leaf):
            weights = np.random.default_rng(k).normal(size=leaf.shape)
            total += jnp.sum(jnp.sin(leaf) * weights)
    return total


@partial(jax.jit, static_argnums=0)
def found(cell: jaxrnn.Cell, params: Any, xs: Any, carry: Any) -> Any:
    """What the functions say."""
    return (
        gradient_flow(loss, cell, params, xs, carry),
        jacobian_flow(cell, params, xs, carry, singular_values=True),
    )


@partial(jax.jit, static_argnums=0)
def expected(cell: jaxrnn.Cell, params: Any, xs: Any, carry: Any) -> Any:
    """The gradient of the loss in the carry at the border, and the Jacobian of the last carry,
    from loops written out.
    """
    first, late = (
        jax.tree.map(lambda leaf, p=p: leaf[p], xs) for p in (slice(BORDER), slice(BORDER, None))
    )
    border, ys = jaxrnn.unroll(cell, params, first, carry)
    leaves, form = jax.tree.flatten(border)
    at = [k for k, leaf in enumerate(leaves) if is_floating(leaf)]

    def end(moved: list[Any]) -> Any:
        all_leaves = list(leaves)
        for k, leaf in zip(at, moved, strict=True):
            all_leaves[k] = leaf
        last, later = jaxrnn.unroll(cell, params, late, form.unflatten(all_leaves))
        whole = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, later)
        return loss(last, whole), [flat(last)]

    floating = [leaves[k] for k in at]
    gradient = jax.grad(lambda moved: end(moved)[0])(floating)
    blocks = jax.jacfwd(lambda moved: end(moved)[1][0])(floating)
    size = len(flat(border))
    return gradient, jnp.concatenate([block.reshape(size, -1) for block in blocks], axis=1)


@every_causal
def test_flow_agrees_with_a_loop_written_out(spec: Spec, x64: None) -> None:
    """One walk back gives the gradient and the Jacobian that JAX finds from the border on. Where
    layers stand on each other, a layer's gradient has a path that its carry has not: through the
    output of the same step.
    """
    params, xs = make_params(spec), make_xs(spec, (TIME,))
    carry = make_carry(spec, params, xs)
    flow, jacobians = found(spec.cell, params, xs, carry)
    gradient, jacobian = expected(spec.cell, params, xs, carry)
    if not spec.cell.is_composite:
        norms = [norm[BORDER] for norm in jax.tree.leaves(flow.parts)]
        assert_close(norms, [np.linalg.norm(leaf) for leaf in gradient], 1e-9)
    values = np.linalg.svd(np.asarray(jacobian), compute_uv=False)
    assert_close(np.exp(jacobians.log_singular_values[BORDER]), values, 1e-9, floor=1e-2)
    assert_close(jnp.exp(jacobians.log_norm[BORDER]), np.linalg.norm(values), 1e-9)
    assert jacobians.log_norm[TIME] == pytest.approx(np.log(len(values)) / 2)
