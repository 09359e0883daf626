"""The method that leaves the derivative of the loop over time to JAX."""

import dataclasses

import jax
from jax import lax

from jaxrnn.core.affine import affine
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import Walk
from jaxrnn.methods.method import Method, steps


@dataclasses.dataclass(frozen=True)
class Autodiff(Method):
    """Run `lax.scan`, and let JAX differentiate it.

    In reverse mode (`jax.grad`), JAX keeps every intermediate result of a step, and adds one small
    product per step to each weight's gradient. In forward mode (`jax.jvp`, `jax.jacfwd`), it keeps
    none of them and is the fastest, but it projects the inputs of all steps before the loop.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> run = lambda xs: jaxrnn.scan(cell, params, xs, method="autodiff")[1]
    >>> ys, slope = jax.jvp(run, (xs,), (xs,))
    >>> slope.shape
    (7, 2, 4)
    """

    def run(
        self, cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk
    ) -> tuple[Carry, Tree]:
        step, inputs = steps(cell, params, xs, walk)

        def body(carry: Carry, inputs: Tree) -> tuple[Carry, Tree]:
            u, flags = inputs
            return step(params, carry, u, flags, affine)

        return lax.scan(body, carry, inputs, length=length(inputs, xs), reverse=walk.reverse)


def length(inputs: Tree, xs: Tree) -> int | None:
    """Return the `length` for `lax.scan`: None if its inputs have it, for it may be a symbol."""
    return None if jax.tree.leaves(inputs) else jax.tree.leaves(xs)[0].shape[0]
