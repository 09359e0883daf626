"""The base class of methods. A method runs T steps of a cell, and defines their derivative."""

import dataclasses
from abc import ABC, abstractmethod

import jax

from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import Step, StepFlags, Walk, guarded_step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """How T steps of one cell are run and differentiated: a frozen dataclass that defines `run`.

    `jaxrnn.scan(..., method=)` and the Flax modules take a name or any instance. Random draws,
    stacks and devices are handled before `run` is called. Lengths, masks, resets and direction
    arrive as `walk`, and the step that `steps` returns applies them.

    Args:
        batch_axes: the mesh axes that split the first batch axis, if they are of type
            `jax.sharding.AxisType.Auto`. Such axes are no part of an array's type. If they are
            named here, the sum over devices that a weight gradient needs is taken once, outside the
            loop, provided that the devices divide the batch axis. Explicit axes, and those of
            `jax.shard_map`, need no name.

    Example: a method that keeps nothing of a sequence but its last output.

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
        """Run a cell over time.

        Args:
            cell: one time step. It draws no random numbers and contains no other cells.
            params: its parameters.
            xs: inputs `[time, *batch, ...]`, zero at masked steps.
            carry: the carry before the first step.
            walk: the direction, the valid steps, the boundaries, and what a step returns.

        Returns:
            The last carry, and the outputs in the order of `xs`.
        """


def step_of(cell: Cell, xs: Tree, walk: Walk) -> Step:
    """Return the cell's step with restarts and masking. `walk` says what its output is.

    A method calls it that projects the inputs itself. Others call `steps`.

    Args:
        cell: the cell, as `Method.run` gets it.
        xs: the inputs, `[time, *batch, ...]`.
        walk: the walk, as `Method.run` gets it.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.core.walk import Walk
    >>> cell, xs, walk = jaxrnn.GRU(4), jnp.ones((7, 2, 3)), Walk()
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> u, h = cell.project(params, xs[0]), cell.initial_carry(params, (2, 3))
    >>> h, y = step_of(cell, xs, walk)(params, h, u, walk.flags(), jaxrnn.affine)
    >>> y.shape
    (2, 4)
    """
    first = jax.tree.leaves(xs)[0]
    return guarded_step(cell, first.shape[1:], first.dtype, walk.all_carries)


def steps(cell: Cell, params: Params, xs: Tree, walk: Walk) -> tuple[Step, tuple[Tree, StepFlags]]:
    """Return the cell's step with restarts and masking, and what it reads.

    It reads `(us, flags)`: the projected inputs and the flags of all steps. `Method` has an example
    of a loop over them.

    Args:
        cell: the cell, as `Method.run` gets it.
        params: its parameters.
        xs: the inputs, `[time, *batch, ...]`.
        walk: the walk, as `Method.run` gets it.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.core.walk import Walk
    >>> cell, xs = jaxrnn.Elman(4), jnp.ones((7, 2, 3))
    >>> step, (us, flags) = steps(cell, cell.init(jax.random.key(0), 3), xs, Walk(reverse=True))
    >>> jax.tree.map(jnp.shape, us), flags.valid
    (((7, 2, 4),), None)
    """
    return step_of(cell, xs, walk), (cell.project(params, xs), walk.flags())
