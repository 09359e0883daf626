"""What combinators around one cell share."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import (
    C,
    Carry,
    Cell,
    Keys,
    NoisyCell,
    P,
    Params,
    WithContext,
    abstract_params,
)
from jaxrnn.core.check import check_inner
from jaxrnn.core.composite import Composite, Delegate
from jaxrnn.core.noise import for_each
from jaxrnn.core.trees import Tree, is_float, path_names


class Row(NamedTuple):
    """What a cell is given at one step of one row: trees of `jax.ShapeDtypeStruct`."""

    params: Params
    carry: Carry
    u: Tree


@dataclasses.dataclass(frozen=True)
class Wrapper(Delegate[P, C], NoisyCell[P, C]):
    """A cell around one cell, which does all that a subclass does not write anew: everything, here.

    A subclass that draws is `noisy`, writes `draw_own`, and finds what it drew as the second part
    of its projected input.
    """

    def __post_init__(self) -> None:
        check_inner(self, "cell", self.cell)
        name, inner = type(self).__name__, type(self.cell).__name__
        if isinstance(self.cell, Around):
            raise ValueError(
                f"{name}: cell is a {inner}, which changes a whole run of the cell inside it "
                f"and has no step of its own to change; put {name} inside {inner}"
            )
        if isinstance(self.cell, Composite) or not self.cell.causal:
            raise ValueError(
                f"{name}: cell is a {inner}, which is made of cells "
                "and has no step of its own to change; wrap the cells inside it instead"
            )

    def project(
        self, params: P, xs: Tree, noise: tuple[Any, Keys] | None = None
    ) -> tuple[Tree, Tree]:
        """The cell's projection, and what this combinator drew."""
        for_cell, keys = noise or (None, None)
        params, project = self.inner(params), self._noisy_cell().project
        us = project(params, xs, for_cell) if self.cell.noisy else project(params, xs)
        if keys is None:
            return us, None
        return us, for_each(partial(self.draw_own, row=self._row(params, xs, us)), keys)

    def _row(self, params: P, xs: Tree, us: Tree) -> Row:
        shape = jax.tree.leaves(xs)[0].shape
        rows = len(shape) - self.feature_axes
        carry = jax.eval_shape(lambda p: self.cell.initial_carry(p, shape[rows:]), params)
        u = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[rows:], leaf.dtype), us)
        return Row(jax.eval_shape(lambda p: p, params), carry, u)

    def step(
        self, params: P, carry: C, u: tuple[Tree, Tree], affine: Affine = default_affine
    ) -> tuple[C, Array]:
        if isinstance(params, WithContext):
            own: Params = params._replace(params=self.inner(params.params))
        else:
            own = self.inner(params)
        return self.cell.step(own, carry, u[0], affine)

    def draw_own(self, keys: Keys, row: Row) -> Tree:
        """What this combinator draws at one step of one row, besides the cell."""
        del keys, row

    def draw(self, keys: Keys) -> tuple[Tree, Keys]:
        """What the cell draws, and the keys of the combinator: its draws need shapes."""
        for_cell, own = keys.split()
        return (self._noisy_cell().draw(for_cell) if self.cell.noisy else None), own

    def _noisy_cell(self) -> NoisyCell[P, C]:
        return cast(NoisyCell[P, C], self.cell)


@dataclasses.dataclass(frozen=True)
class Around(Delegate[P, C], Composite[P, C]):
    """A cell around any cell, even one made of cells, that changes what goes in or comes out.

    A subclass writes `run`.
    """

    def __post_init__(self) -> None:
        check_inner(self, "cell", self.cell)


@dataclasses.dataclass(frozen=True)
class AroundWeights(Around[P, C]):
    """A cell around any cell that changes its recurrent weights for a run; it must have some."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            form = abstract_params(self.cell, 1)
        except ValueError:  # it takes inputs of another size alone: `init` will see its parameters
            return
        self._check_weights(form)

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> P:
        params = super().init(key, in_features, dtype)
        self._check_weights(params)
        return params

    def _check_weights(self, params: P) -> None:
        if "recurrent" not in jax.tree.leaves(self.cell.labels(params)):
            name, inner = type(self).__name__, type(self.cell).__name__
            raise ValueError(
                f"{name}: {inner} has no recurrent weight, so {name} would change nothing; a cell "
                "of your own names it w_h, or gives it that role in `roles`"
            )


def parts(carry: Carry) -> dict[str, Array]:
    """The arrays of a carry by name; a carry that is one array is `h`."""
    leaves = jax.tree_util.tree_leaves_with_path(carry)
    return {(path_names(path) or ["h"])[0]: leaf for path, leaf in leaves if len(path) <= 1}


def with_parts(carry: C, y: Tree, new: dict[str, Array]) -> tuple[C, Tree]:
    """A carry with some parts replaced, and the output, replaced as well if it is such a part."""
    replaced = {id(part): new[name] for name, part in parts(carry).items() if name in new}
    return jax.tree.map(lambda leaf: replaced.get(id(leaf), leaf), (carry, y))


def state_names(cell: Cell) -> set[str]:
    """The names of the floating parts of a cell's carry, found without computing."""

    def carry() -> Carry:
        return cell.initial_carry(cell.init(jax.random.key(0), 1), (1,) * cell.feature_axes)

    found = parts(jax.eval_shape(carry)).items()
    return {name for name, leaf in found if is_float(leaf)}
