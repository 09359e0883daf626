"""The function with a derivative of its own, over all blocks of time."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.dtypes import wide
from jaxrnn.core.trees import Tree, float_positions, floats, only, put
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt.backward import (
    Fixed,
    Gradients,
    Pullback,
    collect,
    rebuild,
    walk_back,
)
from jaxrnn.methods.bptt.blocks import over_blocks, steps_in
from jaxrnn.methods.bptt.forward import Kept, Residuals, first_calls, forward
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.products import forward_product, transposed_product
from jaxrnn.methods.bptt.seam import Call
from jaxrnn.methods.mesh import varying_as

State = tuple[list[Array], Gradients]  # the cotangent of a carry, and the sums over later blocks
Steps = tuple[Tree, StepFlags, list[Array] | None, Kept]
"""xs, flags, dys unless they are all zero, what is kept."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def bptt(
    plan: Plan, params: Params, xs: Tree, carry: Carry, flags: StepFlags
) -> tuple[Carry, Tree]:
    """Run a cell over time, with the engine's derivative."""
    results, _ = forward(plan, params, xs, carry, flags, plan.block_forward, "nothing")
    return results


def _forward(plan: Plan, *primals: Tree) -> tuple[tuple[Carry, Tree], Residuals]:
    params, xs, carry, flags = jax.tree.map(lambda leaf: leaf.value, primals)
    return forward(plan, params, xs, carry, flags, plan.block, plan.keep)


def _backward(
    plan: Plan, residuals: Residuals, cotangents: tuple[Carry, Tree]
) -> tuple[Params, Tree, Carry, None]:
    """From the cotangents of the last carry and the outputs to those of params, xs and the first
    carry. StepFlags have none.
    """
    params, xs, flags, kept, starts = residuals
    dlast, dys = map(floats, cotangents)
    start = jax.tree.map(lambda leaf: leaf[0], starts)
    fixed, pull_weights = _prepare(plan, params, xs, start, flags)
    silent = all(map(_is_symbolic, dys))

    def block(state: State, steps: Steps, start: Carry) -> tuple[State, list[Array], None]:
        dcarry, total = state
        xs, flags, dys_known, kept = steps
        dys_here = dys_known or varying_as(xs, _zeros(dys, steps_in(xs)))
        rebuilt, pull_projection = rebuild(fixed, start, xs, flags, kept)
        walked = walk_back(fixed, rebuilt, dcarry, dys_here)
        gradients, dxs = collect(fixed, rebuilt, walked, dys_here, pull_projection)
        return (walked.dstart, jax.tree.map(jnp.add, total, gradients)), dxs, None

    state = varying_as(xs, ([*map(_dense, dlast)], _no_gradients(fixed)))
    steps = (xs, flags, None if silent else varying_as(xs, [*map(_dense, dys)]), kept)
    (dstart, total), dxs, _ = over_blocks(block, state, steps, starts, plan.block, not plan.reverse)
    return (
        _of_params(fixed, total, pull_weights),
        only(xs, float_positions(xs), dxs),
        only(start, float_positions(start), dstart),
        None,
    )


# symbolic zeros tell which outputs nothing depends on
bptt.defvjp(_forward, _backward, symbolic_zeros=True)


def _prepare(
    plan: Plan, params: Params, xs: Tree, start: Carry, flags: StepFlags
) -> tuple[Fixed, Pullback]:
    """What is the same in every block, and the pullback from the weights of `affine` to the
    floating parameters.
    """
    places = float_positions(params)

    def weights(theta: list[Array]) -> tuple[list[Array], list[Call]]:
        calls = first_calls(plan, put(params, places, theta), xs, start, flags)
        return [call.w for call in calls], calls

    _, pull_weights, calls = jax.vjp(weights, floats(params), has_aux=True)
    products, transposes = (
        [make(call) for call in calls] for make in (forward_product, transposed_product)
    )
    return Fixed(plan, params, calls, products, transposes), pull_weights


def _no_gradients(fixed: Fixed) -> Gradients:
    """Zeros to add to, wide enough to add up in."""
    leaves = jax.tree.leaves(fixed.params)
    trained = {j: call.w for j, call in enumerate(fixed.calls) if fixed.plan.seam.trained[j]}
    return jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, wide(leaf)),
        Gradients(trained, {i: leaves[i] for i in fixed.plan.reached_params}),
    )


def _of_params(fixed: Fixed, total: Gradients, pull_weights: Pullback) -> Params:
    """The cotangent of the parameters, from their use as weights and from any other."""
    places = float_positions(fixed.params)
    (through_weights,) = pull_weights(
        [
            total.weights[j].astype(call.w.dtype) if j in total.weights else jnp.zeros_like(call.w)
            for j, call in enumerate(fixed.calls)
        ]
    )

    def add(i: int, through: Array) -> Array:
        if i not in total.params:
            return through
        other = total.params[i]
        return (other + through.astype(other.dtype)).astype(through.dtype)

    return only(fixed.params, places, [*map(add, places, through_weights)])


def _is_symbolic(leaf: Array) -> bool:
    return isinstance(leaf, SymbolicZero)


def _dense(leaf: Array) -> Array:
    return jnp.zeros(leaf.shape, leaf.dtype) if _is_symbolic(leaf) else leaf


def _zeros(forms: list[Array], steps: int) -> list[Array]:
    """Zeros like these, which start with time, for some steps."""
    return [jnp.zeros((steps, *form.shape[1:]), form.dtype) for form in forms]
