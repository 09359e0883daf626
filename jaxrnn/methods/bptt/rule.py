"""The function that runs a cell over time and has the engine's derivative (`jax.custom_jvp`)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero, zero_from_primal

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.trees import Tree, float_positions, floats, put
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt.forward import forward
from jaxrnn.methods.bptt.plan import Plan
from jaxrnn.methods.bptt.tangent import Tangents, derivative


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def bptt(
    plan: Plan, params: Params, xs: Tree, carry: Carry, flags: StepFlags
) -> tuple[Carry, Tree]:
    """Run a cell over time, and return the last carry and all outputs."""
    results, _ = forward(plan.undifferentiated, params, xs, carry, flags)
    return results


@partial(bptt.defjvp, symbolic_zeros=True)
def _derivative(
    plan: Plan, primals: tuple, tangents: tuple
) -> tuple[tuple[Carry, Tree], tuple[Carry, Tree]]:
    params, xs, carry, flags = primals
    dparams, dxs, dcarry, _ = tangents
    results, residuals = forward(plan, params, xs, carry, flags)
    known = Tangents(_nonzero(params, dparams), _nonzero(xs, dxs), _dense(carry, dcarry))
    dresults = derivative(plan, residuals, known)
    dlast, dys = (
        put(zero_from_primal(result, symbolic_zeros=True), float_positions(result), d)
        for result, d in zip(results, dresults, strict=True)
    )
    return results, (dlast, dys)


def _nonzero(tree: Tree, tangents: Tree) -> dict[int, Array]:
    """Return the tangents that are not zero, by position."""
    leaves = jax.tree.leaves(tangents)
    return {i: leaves[i] for i in float_positions(tree) if not isinstance(leaves[i], SymbolicZero)}


def _dense(tree: Tree, tangents: Tree) -> list[Array]:
    """Return the tangents of all floating leaves, zeros included."""
    known = _nonzero(tree, tangents)
    leaves = zip(float_positions(tree), floats(tree), strict=True)
    return [known[i] if i in known else jnp.zeros_like(leaf) for i, leaf in leaves]
