"""A cell that walks the other way."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxrnn.combinators.wrapper import Around
from jaxrnn.core.cell import Carry, Driver, Params


@dataclasses.dataclass(frozen=True)
class Reversed(Around):
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
    >>> carry, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    def run(self, params: Params, xs: Any, carry: Carry, drive: Driver) -> tuple[Carry, Any]:
        """Run the cell against the way time is walked."""
        return self.cell.run(params, xs, carry, drive.reversed())

    def ends(self, ys: Any, take: Callable[[Any, bool], Any], backwards: bool = False) -> Any:
        """At the other end."""
        return self.cell.ends(ys, take, not backwards)

    @property
    def causal(self) -> bool:
        """False."""
        return False
