"""What a method is: how T steps of a cell are run, and how their derivative is computed."""

import dataclasses
from abc import ABC, abstractmethod

import jax

from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import Step, StepFlags, Walk, guarded_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """How T steps of one cell are run and differentiated: a frozen dataclass with one method,
    `run`.

    `jaxrnn.scan(..., method=)` and the homes take a name or any instance. Lengths, masks, resets,
    direction, random draws, stacks and devices are dealt with outside; what is left of them stands
    in `walk`, and `steps` hands it on.

    Args:
        batch_axes: the mesh axes that split the first batch axis, if they are the compiler's
            (`jax.sharding.AxisType.Auto`), for then no array's type tells. With them named, the sum
            over devices that a weight gradient needs is taken once, not within the loop. Explicit
            axes, and those of `jax.shard_map`, need no name.

    A method of your own, which keeps no more of a sequence than its last output:

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.methods import Method, steps
    >>> @dataclasses.dataclass(frozen=True)
    ... class LastOnly(Method):
    ...     def run(self, cell, params, xs, carry, walk):
    ...         step, inputs = steps(cell, params, xs, walk)
    ...         def body(state, inputs):
    ...             return step(params, state[0], *inputs, jaxrnn.affine), None
    ...         zero = jnp.zeros((*xs.shape[1:-1], cell.out_features), xs.dtype)
    ...         (carry, y), _ = jax.lax.scan(body, (carry, zero), inputs, reverse=walk.reverse)
    ...         return carry, y[None]
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, xs, lengths=jnp.array([7, 5]), method=LastOnly())
    >>> ys.shape, bool(jnp.all(ys[0, 0] == carry[0]))
    ((1, 2, 4), True)
    """

    batch_axes: str | tuple[str, ...] | None = None

    @abstractmethod
    def run(
        self, cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk
    ) -> tuple[Carry, Tree]:
        """Run a cell that draws nothing and is made of no others.

        Args:
            cell: what one time step is.
            params: its parameters.
            xs: inputs `[time, *batch, ...]`, zero at steps that are masked out.
            carry: the carry before the first step.
            walk: direction, valid steps and boundaries, and what a step puts out.

        Returns:
            The last carry, and the outputs in the order of `xs`.
        """


def step_of(cell: Cell, xs: Tree, walk: Walk) -> Step:
    """A cell's step with restarts and masking, and the output that `walk` asks for."""
    first = jax.tree.leaves(xs)[0]
    return guarded_step(cell, first.shape[1:], first.dtype, walk.all_carries)


def steps(cell: Cell, params: Params, xs: Tree, walk: Walk) -> tuple[Step, tuple[Tree, StepFlags]]:
    """A cell's step with restarts and masking, and what it reads: projected inputs and flags."""
    return step_of(cell, xs, walk), (cell.project(params, xs), walk.flags())
