"""A cell that walks the other way."""

import dataclasses
from typing import Any

from jaxrnn.combinators.wrapper import Around
from jaxrnn.core.cell import C, P, Take
from jaxrnn.core.composite import Runner
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True)
class Reversed(Around[P, C]):
    """The cell reads the sequence from its end: as `scan(..., reverse=True)`, for one layer among
    others.

    It starts at each sequence's own last valid step, and `ys[t]` still belongs to `xs[t]`. There is
    no single step: the future is needed. Layers of alternating direction (Zhou & Xu 2015) are
    `Stack([LSTM(4), Reversed(LSTM(4)), ...])`.

    Args:
        cell: any cell; one made of cells, too.

    Raises:
        TypeError: the argument is not a cell, or a single step is asked for.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.Reversed(jaxrnn.LSTM(4))])
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    def run(self, params: P, xs: Tree, carry: C, runner: Runner) -> tuple[C, Tree]:
        """Run the cell against the way time is walked."""
        return runner.reversed()(self.cell, params, xs, carry)

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Any:
        """At the other end."""
        return self.cell.ends(ys, take, not backwards)

    @property
    def causal(self) -> bool:
        return False
