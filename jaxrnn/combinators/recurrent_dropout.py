"""Dropout on the recurrent state."""

import dataclasses
from typing import Any

import jax

from jaxrnn._cell import Affine, Carry, Cell, Params
from jaxrnn._check import check_fields, check_flag, check_rate, check_size
from jaxrnn._noise import Keys, drop, keep
from jaxrnn._numerics import Linear, cut_like, matmul, split
from jaxrnn._numerics import affine as default_affine
from jaxrnn.combinators.wrapper import Wrapper

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class RecurrentDropout(Wrapper):
    """Dropout on what the recurrent weights multiply (Gal & Ghahramani 2016; Semeniuta, Severyn & Barth 2016).

        h_{t-1} W_h  becomes  (d ⊙ h_{t-1} / (1 - rate)) W_h,    d ~ Bernoulli(1 - rate)

    Nothing else that the cell does with its state is touched. A projection of the state, `affine(None, ...)`, is left as it is.

    Args:
        cell: any cell that multiplies its state through `affine`, of the size of its output.
        rate: how often a unit is dropped.
        locked: one draw for each sequence (variational dropout), or a new one at each step.
        draws: one for all gates, or as many as the cell has gates, one for each, as Keras' `recurrent_dropout` has it; that costs a
            product per gate.

    Raises:
        ValueError: the rate is not in [0, 1), the cell is made of cells, or, when it is run, `draws` is not 1 or its number of gates.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.RecurrentDropout(jaxrnn.GRU(4), rate=0.25)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> h, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
    >>> ys.shape
    (7, 2, 4)
    """

    cell: Cell
    rate: float
    locked: bool = True
    draws: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, check_rate, "rate")
        check_fields(self, check_flag, "locked")
        check_fields(self, check_size, "draws")

    def draw_own(self, keys: Keys) -> Array:
        """Which units survive."""
        key = keys.sequence if self.locked else keys.step
        return keep(key, self.rate, (self.draws * self.out_features,))

    def step(self, params: Params, carry: Carry, u: tuple[Any, Any], affine: Affine = default_affine) -> tuple[Carry, Array]:
        """The cell's step, with an `affine` that drops first."""
        u_cell, kept = u
        if kept is None:
            return self.cell.step(params, carry, u_cell, affine)
        masks = split(kept, self.draws)
        own = iter(masks)  # of each gate in turn, whichever product it is in

        def dropping(u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul) -> Any:
            if u is None:
                return affine(u, h, w, linear)
            if self.draws == 1:
                return affine(u, drop(h, masks[0], self.rate), w, linear)
            parts = list(zip(u, own, cut_like(u, w), strict=False))
            if len(parts) < len(u):
                raise ValueError(f"RecurrentDropout: draws is {self.draws}, but {type(self.cell).__name__} has more gates")
            return tuple(affine((part,), drop(h, mask, self.rate), w_part, linear)[0] for part, mask, w_part in parts)

        stepped = self.cell.step(params, carry, u_cell, dropping)
        if self.draws > 1 and next(own, None) is not None:
            raise ValueError(f"RecurrentDropout: draws is {self.draws}, but {type(self.cell).__name__} has fewer gates")
        return stepped

    @property
    def noisy(self) -> bool:
        """True."""
        return True
