"""What combinators around one cell share."""

import dataclasses
from typing import Any

import jax

from jaxrnn._cell import Affine, Carry, Cell, Composite, Delegate, Params
from jaxrnn._check import check_inner
from jaxrnn._noise import Keys
from jaxrnn._numerics import affine as default_affine

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Wrapper(Delegate):
    """A cell around one cell, which does all that a subclass does not write anew: here, everything.

    A subclass that draws is `noisy`, writes `draw_own`, and finds what it drew as the second part of its projected input.
    """

    def __post_init__(self) -> None:
        check_inner(self, "cell", self.cell)
        if isinstance(self.cell, Composite) or not self.cell.causal:
            raise ValueError(
                f"{type(self).__name__}: cell is a {type(self.cell).__name__}, which is made of cells and has no step of its own "
                "to change; wrap the cells inside it"
            )

    def project(self, params: Params, xs: Any, noise: Any = None) -> tuple[Any, Any]:
        """The cell's projection, and what this combinator drew."""
        inner, own = (None, None) if noise is None else noise
        return (self.cell.project(params, xs, inner) if self.cell.noisy else self.cell.project(params, xs)), own  # type: ignore[call-arg]

    def step(self, params: Params, carry: Carry, u: tuple[Any, Any], affine: Affine = default_affine) -> tuple[Carry, Array]:
        """The cell's step."""
        return self.cell.step(params, carry, u[0], affine)

    def draw_own(self, keys: Keys) -> Any:
        """What this combinator draws at one step of one row, besides the cell."""
        del keys

    def draw(self, keys: Keys) -> tuple[Any, Any]:
        """What the cell and the combinator draw."""
        for_cell, own = keys.split()
        return (self.cell.draw(for_cell) if self.cell.noisy else None), self.draw_own(own)

    @property
    def noisy(self) -> bool:
        """Whether the cell is."""
        return self.cell.noisy


@dataclasses.dataclass(frozen=True)
class Around(Delegate, Composite):
    """A cell around any cell, even one made of cells, that changes what goes in or comes out: a subclass writes `run`."""

    def __post_init__(self) -> None:
        check_inner(self, "cell", self.cell)


def state_leaves(carry: Carry) -> dict[str, Array]:
    """The parts of a carry by name; a carry that is one array is `h`."""
    if isinstance(carry, jax.Array):
        return {"h": carry}
    return dict(carry._asdict()) if hasattr(carry, "_asdict") else {}


def with_leaves(carry: Carry, new: dict[str, Array]) -> Carry:
    """The carry with some of its parts replaced."""
    return new.get("h", carry) if isinstance(carry, jax.Array) else carry._replace(**new)


def state_sizes(cell: Cell) -> dict[str, int]:
    """The sizes of the named parts of a cell's carry, found without computing."""
    shape = (1,) * cell.feature_axes

    def carry() -> Carry:
        return cell.initial_carry(cell.init(jax.random.key(0), 1), shape)

    form = jax.eval_shape(carry)
    leaves = {"h": form} if hasattr(form, "shape") else dict(form._asdict()) if hasattr(form, "_asdict") else {}
    return {name: leaf.shape[-1] for name, leaf in leaves.items() if getattr(leaf, "ndim", 0) == 1}
