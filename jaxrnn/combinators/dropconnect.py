"""Dropout on recurrent weights."""

import dataclasses

import jax
from jax import Array

from jaxrnn.combinators.wrapper import AroundWeights
from jaxrnn.core.cell import C, Cell, P
from jaxrnn.core.check import check_fields, check_rate
from jaxrnn.core.composite import Runner
from jaxrnn.core.noise import drop, keep
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True)
class DropConnect(AroundWeights[P, C]):
    """Dropout on the recurrent weights of a cell (Merity, Keskar & Socher 2018).

        W_h  becomes  D ⊙ W_h / (1 - rate),    D ~ Bernoulli(1 - rate)

    The mask D is the same for the whole batch and for all steps of a call. It applies to every
    parameter with the role "recurrent"; a projection `w_r` stays as it is. Without a key nothing is
    dropped.

    Args:
        cell: any cell, also a composite such as `Stack`.
        rate: the probability that a weight is dropped.

    Raises:
        ValueError: `rate` is not in [0, 1), or the cell has no recurrent weight.
        TypeError: `cell` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.DropConnect(jaxrnn.LSTM(4), rate=0.5)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
    >>> ys.shape
    (7, 2, 4)
    """

    cell: Cell[P, C]
    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, check_rate, "rate")

    def run(self, params: P, xs: Tree, carry: C, runner: Runner) -> tuple[C, Tree]:
        draws = runner.part(0).draws
        if draws is not None and self.rate:
            params = self._thinned(params, draws.key)
        return runner.part(1)(self.cell, params, xs, carry)

    def _thinned(self, params: P, key: Array) -> P:
        roles = self.cell.labels(params)
        leaves, form = jax.tree.flatten(roles)
        keys = jax.tree.unflatten(form, [*jax.random.split(key, len(leaves))])

        def leaf(role: str, w: Array, own: Array) -> Array:
            if role != "recurrent":
                return w
            return drop(w, keep(own, self.rate, w.shape), self.rate)

        return jax.tree.map(leaf, roles, params, keys)

    @property
    def noisy(self) -> bool:
        """Whether `rate` is positive, or the inner cell is noisy."""
        return self.rate > 0 or super().noisy
