"""Dropout on the input."""

import dataclasses

from jax import Array

from jaxrnn.combinators.wrapper import Around
from jaxrnn.core.cell import C, Cell, P
from jaxrnn.core.check import check_fields, check_flag, check_rate
from jaxrnn.core.composite import Runner
from jaxrnn.core.kinds import Keys
from jaxrnn.core.noise import drop, keep
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True)
class Dropout(Around[P, C]):
    """A cell with dropout on its input (Zaremba, Sutskever & Vinyals 2014).

        x_t  becomes  d ⊙ x_t / (1 - rate),    d ~ Bernoulli(1 - rate)

    Without a key nothing is dropped.

    Args:
        cell: any cell, also a composite such as `Stack`. Its input must be a single array.
        rate: the probability that a feature is dropped.
        locked: whether each sequence has one mask (Gal & Ghahramani 2016) or each step a new one.

    Raises:
        ValueError: `rate` is not in [0, 1), or `locked` is not a bool.
        TypeError: `cell` is not a cell. From a driver: the input is not a single array.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.Dropout(jaxrnn.LSTM(4), rate=0.5)])
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
    >>> ys.shape
    (7, 2, 4)
    """

    cell: Cell[P, C]
    rate: float
    _: dataclasses.KW_ONLY
    locked: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, check_rate, "rate")
        check_fields(self, check_flag, "locked")

    def run(self, params: P, xs: Tree, carry: C, runner: Runner) -> tuple[C, Tree]:
        xs = dropped(xs, self.rate, self.locked, runner.part(0), self.feature_axes)
        return runner.part(1)(self.cell, params, xs, carry)

    @property
    def noisy(self) -> bool:
        """Whether `rate` is positive, or the inner cell is noisy."""
        return self.rate > 0 or super().noisy


def dropped(xs: Tree, rate: float, locked: bool, runner: Runner, feature_axes: int = 1) -> Tree:
    """Apply dropout to a sequence or to one step, if the driver has a key.

    Raises:
        TypeError: `xs` is not a single array.
    """
    if not rate:
        return xs
    if not isinstance(xs, Array):
        raise TypeError(
            f"Dropout: xs is a {type(xs).__name__}, expected a single array whose features can be "
            "dropped; wrap a cell that takes one"
        )

    def survivors(keys: Keys) -> Array:
        return keep(keys.sequence if locked else keys.step, rate, xs.shape[-feature_axes:])

    return drop(xs, runner.draw(survivors), rate)
