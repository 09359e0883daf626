"""Dropout on recurrent weights."""

import dataclasses
from typing import Any

import jax
from jax import Array

from jaxrnn.combinators.wrapper import AroundWeights
from jaxrnn.core.cell import Carry, Cell, Driver, Params
from jaxrnn.core.check import check_fields, check_rate
from jaxrnn.core.noise import drop
from jaxrnn.labels import is_recurrent


@dataclasses.dataclass(frozen=True)
class DropConnect(AroundWeights):
    """Some recurrent weights are dropped, the same for the whole batch and all steps of a call
    (Merity, Keskar & Socher 2018).

        W_h  becomes  D ⊙ W_h / (1 - rate),    D ~ Bernoulli(1 - rate)

    of every parameter that is named `w_h`; a projection `w_r` is left alone.

    Args:
        cell: any cell; one made of cells, too.
        rate: how often a weight is dropped.

    Raises:
        ValueError: the rate is not in [0, 1), or no parameter is named `w_h`.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.DropConnect(jaxrnn.LSTM(4), rate=0.5)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
    >>> ys.shape
    (7, 2, 4)
    """

    cell: Cell
    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, check_rate, "rate")

    def run(self, params: Params, xs: Any, carry: Carry, drive: Driver) -> tuple[Carry, Any]:
        """Drop, then run the cell."""
        if drive.draws is not None and self.rate:
            leaves = jax.tree_util.tree_leaves_with_path(params)
            keys = iter(jax.random.split(drive.part(0).draws.key, len(leaves)))

            def thinned(path: Any, leaf: Array) -> Array:
                own = next(keys)
                return (
                    drop(leaf, jax.random.bernoulli(own, 1 - self.rate, leaf.shape), self.rate)
                    if is_recurrent(path)
                    else leaf
                )

            params = jax.tree_util.tree_map_with_path(thinned, params)
        return self.cell.run(params, xs, carry, drive.part(1))

    @property
    def noisy(self) -> bool:
        """Whether a weight is ever dropped, or the cell is noisy."""
        return self.rate > 0 or super().noisy
