"""JAX's own derivative of the loop over time."""

import dataclasses
from typing import Any

import jax
from jax import lax

from jaxrnn.core.affine import affine
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.walk import Walk
from jaxrnn.methods.method import Method, steps


@dataclasses.dataclass(frozen=True)
class Autodiff(Method):
    """`lax.scan` as JAX differentiates it, forwards (`jax.jvp`, `jax.jacfwd`) and backwards.

    Backwards it keeps all that a step computed, and adds one small product per step to each
    weight's gradient.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> run = lambda xs: jaxrnn.scan(cell, params, xs, method="autodiff")[1]
    >>> ys, slope = jax.jvp(run, (xs,), (xs,))
    >>> slope.shape
    (7, 2, 4)
    """

    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, walk: Walk
    ) -> tuple[Carry, Any]:
        """One `lax.scan`."""
        step, inputs = steps(cell, params, xs, walk)

        def body(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
            return step(params, carry, *inputs, affine)

        return lax.scan(body, carry, inputs, length=length(inputs, xs), reverse=walk.reverse)


def length(inputs: Any, xs: Any) -> Any:
    """What `lax.scan` must be told: nothing where its inputs tell, for it takes no symbolic length."""
    return None if jax.tree.leaves(inputs) else jax.tree.leaves(xs)[0].shape[0]
