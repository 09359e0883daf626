"""The method that unrolls the loop over time."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxrnn.core.affine import affine
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import Walk
from jaxrnn.methods.autodiff import Autodiff
from jaxrnn.methods.method import Method, step_of


@dataclasses.dataclass(frozen=True)
class Unrolled(Method):
    """Run a Python loop over time, as `jaxrnn.unroll` does.

    It is the reference for all other methods. Its program and its compile time grow with T.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> jaxrnn.scan(cell, params, xs, method=jaxrnn.methods.Unrolled())[1].shape
    (7, 2, 4)
    """

    def run(
        self, cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk
    ) -> tuple[Carry, Tree]:
        time = jax.tree.leaves(xs)[0].shape[0]
        if time == 0:
            return Autodiff().run(cell, params, xs, carry, walk)
        step, flags = step_of(cell, xs, walk), walk.flags()
        ys: list[Tree] = [None] * time
        for t in reversed(range(time)) if walk.reverse else range(time):
            x, flags_t = jax.tree.map(lambda leaf, t=t: leaf[t], (xs, flags))
            carry, ys[t] = step(params, carry, cell.project(params, x), flags_t, affine)
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ys)
