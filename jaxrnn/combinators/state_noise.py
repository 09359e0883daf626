"""Noise on the hidden state."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.combinators.wrapper import Row, Selective, Wrapper, parts, state_names, with_parts
from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import C, Cell, P
from jaxrnn.core.check import check_fields, check_positive
from jaxrnn.core.kinds import Keys
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True)
class StateNoise(Selective[P, C], Wrapper[P, C]):
    """A cell with Gaussian noise on its hidden state (Jim, Giles & Horne 1996).

        h_t = h̃_t + scale ε_t,    ε_t ~ N(0, 1)

    h̃_t is the hidden state that the cell computes. If the cell's output is its state, it is noisy,
    too. Without a key there is no noise.

    Args:
        cell: any cell whose carry is a single array, or has a part named h.
        scale: the standard deviation of the noise.

    Raises:
        ValueError: `scale` is not positive, the carry has no h, or the cell is made of cells or is
            not causal.
        TypeError: `cell` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.StateNoise(jaxrnn.Elman(4), scale=0.1)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> h, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
    >>> bool(jnp.all(h == ys[-1]))
    True
    """

    cell: Cell[P, C]
    scale: float

    def __post_init__(self) -> None:
        check_fields(self, check_positive, "scale")
        super().__post_init__()

    def check_form(self, params: P, in_features: int) -> None:
        if "h" not in state_names(self.cell, params, in_features):
            raise ValueError(
                f"StateNoise: the carry of {type(self.cell).__name__} has no h, expected a single "
                "array or a part named h; name its hidden state h"
            )

    def draw_own(self, keys: Keys, row: Row) -> Array:
        """Draw ε."""
        return jax.random.normal(keys.step, parts(row.carry)["h"].shape, jnp.float32)

    def step(
        self, params: P, carry: C, u: tuple[Tree, Tree], affine: Affine = default_affine
    ) -> tuple[C, Array]:
        """Take the cell's step, and add noise to its hidden state."""
        u_cell, noise = u
        after, y = self.cell.step(params, carry, u_cell, affine)
        if noise is None:
            return after, y
        h = parts(after)["h"]
        return with_parts(after, y, {"h": h + self.scale * noise.astype(h.dtype)})

    @property
    def noisy(self) -> bool:
        return True
