"""Zoneout: units that keep their last value at random."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.combinators.wrapper import Row, Selective, Wrapper, parts, state_names, with_parts
from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import C, Cell, P
from jaxrnn.core.check import check_fields, check_rate
from jaxrnn.core.kinds import Keys
from jaxrnn.core.noise import keep
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True)
class Zoneout(Selective[P, C], Wrapper[P, C]):
    """Zoneout: random units keep their last value for one step (Krueger et al. 2017).

        h_t = d ⊙ h_{t-1} + (1 - d) ⊙ h̃_t,    d ~ Bernoulli(rate)        with a key
        h_t = rate h_{t-1} + (1 - rate) h̃_t                              without: the expectation

    h̃_t is the state that the cell computes. Each step draws a new mask d. The memory c has a rate
    of its own. If the cell's output is its state, it changes with the state.

    Args:
        cell: any cell whose carry is a single array, or has parts named h and c.
        h: the probability that a unit of the hidden state keeps its value.
        c: the probability that a unit of the memory keeps its value.

    Raises:
        ValueError: a rate is not in [0, 1), the carry has no such part, or the cell is made of
            cells or is not causal.
        TypeError: `cell` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Zoneout(jaxrnn.LSTM(4), h=0.1, c=0.5)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
    >>> carry.c.shape, ys.shape
    ((2, 4), (7, 2, 4))
    """

    cell: Cell[P, C]
    _: dataclasses.KW_ONLY
    h: float = 0.0
    c: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, check_rate, "h", "c")
        super().__post_init__()

    def check_form(self, params: P, in_features: int) -> None:
        names = state_names(self.cell, params, in_features)
        for name, rate in (("h", self.h), ("c", self.c)):
            if rate and name not in names:
                raise ValueError(
                    f"Zoneout: {name} is {rate}, but the carry of {type(self.cell).__name__} has "
                    f"no {name}; its parts are {sorted(names)}"
                )

    @property
    def _rates(self) -> dict[str, float]:
        return {name: rate for name, rate in (("h", self.h), ("c", self.c)) if rate}

    def draw_own(self, keys: Keys, row: Row) -> dict[str, Array]:
        """Draw which units keep their values, for each part of the carry."""
        state = parts(row.carry)
        rates = zip(self._rates.items(), jax.random.split(keys.step, 2), strict=False)
        return {name: keep(key, 1 - rate, state[name].shape) for (name, rate), key in rates}

    def step(
        self, params: P, carry: C, u: tuple[Tree, Tree], affine: Affine = default_affine
    ) -> tuple[C, Array]:
        u_cell, kept = u
        after, y = self.cell.step(params, carry, u_cell, affine)
        old, new = parts(carry), parts(after)
        zoned = {
            name: rate * old[name] + (1 - rate) * new[name]
            if kept is None
            else jnp.where(kept[name], old[name], new[name])
            for name, rate in self._rates.items()
        }
        return with_parts(after, y, zoned)

    @property
    def noisy(self) -> bool:
        return True
