"""Cells whose recurrent weights meet a constraint."""

import dataclasses

import jax
from jax import Array

from jaxrnn.combinators.wrapper import AroundWeights
from jaxrnn.constraints import Constraint
from jaxrnn.core.cell import C, Cell, P, Params
from jaxrnn.core.check import takes
from jaxrnn.core.composite import Runner
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True)
class Constrained(AroundWeights[P, C]):
    """A cell whose recurrent weights always meet a constraint.

        W_h  becomes  constraint(W_h), gate by gate

    The parameters are free matrices, which an optimiser may change at will. Every call of a driver
    applies the constraint once, to the matrix of each gate separately. Gradients pass through the
    constraint. A cell of your own has to set `gates`, the number of matrices in its `w_h`.

    Args:
        cell: any cell, also a composite such as `Stack`.
        constraint: `Dale()`, `Sparse(...)`, `SpectralNorm(...)`, or any hashable function of a
            matrix `[in, out]` (`jaxrnn.constraints.Constraint`).

    Raises:
        TypeError: `cell` is not a cell, or `constraint` is not a function of one argument.
        ValueError: the cell has no recurrent weight. From a driver: a recurrent weight is not a
            matrix, or its width is not a multiple of the cell's `gates`.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Constrained(jaxrnn.Elman(4, activation="relu"), jaxrnn.Dale())
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    cell: Cell[P, C]
    constraint: Constraint

    def __post_init__(self) -> None:
        super().__post_init__()
        if not takes(self.constraint, arguments=1):
            raise TypeError(
                f"Constrained: constraint is {self.constraint!r}, expected a function of a matrix "
                "such as jaxrnn.Dale()"
            )

    def run(self, params: P, xs: Tree, carry: C, runner: Runner) -> tuple[C, Tree]:
        """Run the cell, with constrained parameters for every cell inside."""
        runner = dataclasses.replace(runner, changes=(*runner.changes, self._constrained))
        return runner(self.cell, params, xs, carry)

    def _constrained(self, cell: Cell, params: Params) -> Params:
        def gates(role: str, w: Array) -> Array:
            if role != "recurrent":
                return w
            if w.ndim != 2 or w.shape[1] % cell.gates:
                raise ValueError(
                    f"Constrained: w_h of {type(cell).__name__} has shape {w.shape}, "
                    f"expected a matrix [in, gates * out] with gates = {cell.gates}; set `gates` "
                    "in a cell of your own"
                )
            each = w.reshape(w.shape[0], cell.gates, -1)
            return jax.vmap(self.constraint, in_axes=1, out_axes=1)(each).reshape(w.shape)

        return jax.tree.map(gates, cell.labels(params), params)
