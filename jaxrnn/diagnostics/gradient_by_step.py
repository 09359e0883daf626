"""The gradient of the parameters, split by the time steps that it comes from."""

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.call import Flags
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree, float_positions, pick, put, sparse
from jaxrnn.core.walk import StepFlags
from jaxrnn.diagnostics._state import drive, one_step
from jaxrnn.diagnostics.gradient_flow import checked_loss


def gradient_by_step(
    loss: Callable[[Any, Any], Array],
    cell: Cell,
    params: Params,
    xs: Tree,
    carry: Carry = None,
    **flags: Unpack[Flags],
) -> Params:
    """Compute a loss's gradient for the parameters, split by the time step that used them.

        ∂L/∂θ = Σ_t ∂L/∂θ_t,    where θ_t are the parameters as step t uses them

    The rows far from the outputs that the loss reads are what truncated back-propagation leaves
    out. The function holds a copy of the parameters for every step.

    Args:
        loss: a function `loss(carry, ys)` of what `jaxrnn.scan` returns, with one number as result.
        cell, params, xs, carry, flags: as for `jaxrnn.scan`. If no carry is given, the gradient
            through a learned initial carry (`LearnedCarry`) is left out.

    Returns:
        A tree like `params` with a leading axis of time, in the order of the walk; None for
        integers.

    Raises:
        ValueError, TypeError: what `jaxrnn.scan` raises, and a loss that is not one real number;
            the cell has no single step.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import gradient_by_step
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> def loss(carry, ys):
    ...     return jnp.sum(ys[-1])
    >>> by_step = gradient_by_step(loss, cell, params, xs)
    >>> whole = jax.grad(lambda p: loss(*jaxrnn.scan(cell, p, xs)))(params)
    >>> by_step.w_h.shape, bool(jnp.allclose(by_step.w_h.sum(0), whole.w_h, atol=1e-5))
    ((7, 4, 12), True)
    """
    way = drive("gradient_by_step", cell, params, xs, carry, **flags)
    first = jax.tree.map(lambda leaf: leaf[0], way.states)
    time = jax.tree.leaves(way.xs)[0].shape[0]
    context, backwards = flags.get("context"), flags.get("reverse", False)

    def advance(state: Carry, now: tuple[Params, Tree, StepFlags]) -> tuple[Carry, Any]:
        used, x, flags_t = now
        return one_step(cell, used, state, x, flags_t, context)

    def of_copies(floating: list[Array]) -> Array:
        used = put(copies, at, floating)
        last, ys = lax.scan(advance, first, (used, way.xs, way.flags))
        if backwards:
            ys = jax.tree.map(lambda leaf: jnp.flip(leaf, axis=0), ys)
        return checked_loss("gradient_by_step", loss(last, ys))

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (time, *leaf.shape)), params)
    at = float_positions(copies)
    return sparse(params, at, jax.grad(of_copies)(pick(copies, at)))
