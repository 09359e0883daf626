"""Dropout on the candidate of a gated cell."""

import dataclasses
from typing import Any

from jax import Array

from jaxrnn.activations import activation
from jaxrnn.combinators.wrapper import Row, Wrapper
from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import C, Cell, P
from jaxrnn.core.check import check_fields, check_flag, check_rate
from jaxrnn.core.kinds import Keys
from jaxrnn.core.noise import drop, keep
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True)
class CandidateDropout(Wrapper[P, C]):
    """Recurrent dropout without memory loss (Semeniuta, Severyn & Barth 2016).

        LSTM:  c_t = f ⊙ c_{t-1} + i ⊙ (d ⊙ g / (1 - rate)),        d ~ Bernoulli(1 - rate)
        GRU:   h_t = (1 - z) ⊙ (d ⊙ n / (1 - rate)) + z ⊙ h_{t-1}

    Dropout applies to the candidate that a step writes, and never to the state that it keeps.
    Without a key nothing is dropped.

    Args:
        cell: a cell with a `candidate_activation`, such as `LSTM` or `GRU`.
        rate: the probability that a unit is dropped.
        locked: whether each sequence has one mask or each step a new one.

    Raises:
        ValueError: `rate` is not in [0, 1), `locked` is not a bool, or the cell has no
            `candidate_activation`.
        TypeError: `cell` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.CandidateDropout(jaxrnn.LSTM(4), rate=0.25)
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
        if not hasattr(self.cell, "candidate_activation"):
            raise ValueError(
                f"CandidateDropout: {type(self.cell).__name__} has no candidate_activation, "
                "expected a gated cell such as LSTM or GRU; put CandidateDropout inside all other "
                "combinators"
            )

    def draw_own(self, keys: Keys, row: Row) -> Array:
        """Draw which units are kept."""
        cell: Any = self.cell
        return keep(keys.sequence if self.locked else keys.step, self.rate, (cell.hidden,))

    def step(
        self, params: P, carry: C, u: tuple[Tree, Tree], affine: Affine = default_affine
    ) -> tuple[C, Array]:
        """Take the step of the same cell, with dropout after its `candidate_activation`."""
        u_cell, kept = u
        if kept is None:
            return self.cell.step(params, carry, u_cell, affine)
        cell: Any = self.cell
        function = activation(cell.candidate_activation)
        dropping = dataclasses.replace(
            cell, candidate_activation=lambda z: drop(function(z), kept, self.rate)
        )
        return dropping.step(params, carry, u_cell, affine)

    @property
    def noisy(self) -> bool:
        return True
