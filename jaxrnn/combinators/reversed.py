"""A cell that reads the sequence backwards."""

import dataclasses
from typing import Any

from jaxrnn.combinators.wrapper import Around
from jaxrnn.core.cell import C, P, Take
from jaxrnn.core.composite import Runner
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True)
class Reversed(Around[P, C]):
    """A cell that reads the sequence backwards.

    It does to one layer what `scan(..., reverse=True)` does to a whole cell. It starts at each
    sequence's own last valid step, and `ys[t]` belongs to `xs[t]`. It is not causal, so
    `jaxrnn.step` refuses it. Layers of alternating direction (Zhou & Xu 2015) are
    `Stack([LSTM(4), Reversed(LSTM(4)), ...])`.

    Args:
        cell: any cell, also a composite such as `Stack`.

    Raises:
        TypeError: `cell` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.Reversed(jaxrnn.LSTM(4))])
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    def run(self, params: P, xs: Tree, carry: C, runner: Runner) -> tuple[C, Tree]:
        """Run the cell in the direction opposite to the walk."""
        return runner.reversed()(self.cell, params, xs, carry)

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Any:
        """Take the end of the opposite direction."""
        return self.cell.ends(ys, take, not backwards)

    @property
    def causal(self) -> bool:
        return False
