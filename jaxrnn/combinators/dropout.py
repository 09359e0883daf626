"""Dropout on inputs."""

import dataclasses
from typing import Any

import jax
from jax import Array

from jaxrnn.combinators.wrapper import Around
from jaxrnn.core.cell import Carry, Cell, Driver, Params
from jaxrnn.core.check import check_fields, check_flag, check_rate
from jaxrnn.core.noise import Keys, drop, keep


@dataclasses.dataclass(frozen=True)
class Dropout(Around):
    """The cell sees its input with some features dropped (Zaremba, Sutskever & Vinyals 2014).

        x_t  becomes  d ⊙ x_t / (1 - rate),    d ~ Bernoulli(1 - rate)

    Args:
        cell: any cell; one made of cells, too.
        rate: how often a feature is dropped.
        locked: one draw for each sequence (Gal & Ghahramani 2016), or a new one at each step.

    Raises:
        ValueError: the rate is not in [0, 1).

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.Dropout(jaxrnn.LSTM(4), rate=0.5)])
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
    >>> ys.shape
    (7, 2, 4)
    """

    cell: Cell
    rate: float
    locked: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, check_rate, "rate")
        check_fields(self, check_flag, "locked")

    def run(self, params: Params, xs: Any, carry: Carry, drive: Driver) -> tuple[Carry, Any]:
        """Drop, then run the cell."""
        return self.cell.run(
            params,
            dropped(xs, self.rate, self.locked, drive.part(0), self.feature_axes),
            carry,
            drive.part(1),
        )

    @property
    def noisy(self) -> bool:
        """Whether a feature is ever dropped, or the cell is noisy."""
        return self.rate > 0 or super().noisy


def dropped(xs: Any, rate: float, locked: bool, drive: Driver, feature_axes: int = 1) -> Any:
    """A sequence, or one step of it, with features dropped if the driver has a key."""
    if not rate:
        return xs
    if not isinstance(xs, jax.Array):
        raise TypeError(
            f"Dropout: xs is a {type(xs).__name__}, expected one array whose features can be "
            "dropped; wrap a cell that takes one"
        )

    def survivors(keys: Keys) -> Array:
        return keep(keys.sequence if locked else keys.step, rate, xs.shape[-feature_axes:])

    return drop(xs, drive.draw(survivors), rate)
