"""Cells whose recurrent weights satisfy a constraint."""

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
    """A cell whose recurrent weights `w_h` satisfy a constraint, whatever an optimiser makes of the
    parameters behind them.

    The constraint is applied once in every call of a driver, to the matrix of each gate by itself,
    and its gradient is part of the parameters'. A cell of your own says with `gates` how many stand
    side by side in its `w_h`.

    Args:
        cell: any cell; one made of cells, too.
        constraint: `Dale()`, `Sparse(...)`, `SpectralNorm(...)`, or any hashable function of a
            matrix.

    Raises:
        TypeError: the constraint cannot be called.
        ValueError: there is no recurrent weight; or, when it is run, one is no matrix of as many
            gates as its cell says.

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
        """Run the cell; the cells inside get constrained parameters."""
        runner = dataclasses.replace(runner, changes=(*runner.changes, self._constrained))
        return runner(self.cell, params, xs, carry)

    def _constrained(self, cell: Cell, params: Params) -> Params:
        def gates(role: str, w: Array) -> Array:
            if role != "recurrent":
                return w
            if w.ndim != 2 or w.shape[1] % cell.gates:
                raise ValueError(
                    f"Constrained: w_h of {type(cell).__name__} has shape {w.shape}, "
                    f"expected a matrix [in, out] that holds gates = {cell.gates} of equal width"
                )
            each = w.reshape(w.shape[0], cell.gates, -1)
            return jax.vmap(self.constraint, in_axes=1, out_axes=1)(each).reshape(w.shape)

        return jax.tree.map(gates, cell.labels(params), params)
