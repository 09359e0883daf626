"""Base classes and helpers of the combinators around one cell."""

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
    P,
    Params,
    abstract_carry,
    abstract_params,
    one_row,
)
from jaxrnn.core.check import check_inner
from jaxrnn.core.composite import Composite, Delegate
from jaxrnn.core.kinds import Keys, NoisyCell, WithContext
from jaxrnn.core.noise import for_each
from jaxrnn.core.trees import Tree, abstract, is_float, path_names


class Row(NamedTuple):
    """The types of the arguments of one step for one row of the batch."""

    params: Params
    carry: Carry
    u: Tree  # the projected input


@dataclasses.dataclass(frozen=True)
class Wrapper(Delegate[P, C], NoisyCell[P, C]):
    """A combinator that changes the step of one cell. The base class changes nothing.

    A subclass overrides `step`. If it draws random numbers, it also sets `noisy` and overrides
    `draw_own`. The projected input that its `step` gets is then the pair `(u, drawn)`.

    Raises:
        ValueError: the cell has no step of its own: it is made of cells, or is not causal.
        TypeError: `cell` is not a cell.
    """

    def __post_init__(self) -> None:
        check_inner(self, "cell", self.cell)
        name, inner = type(self).__name__, type(self.cell).__name__
        if isinstance(self.cell, Around):
            raise ValueError(
                f"{name}: cell is a {inner}, which changes whole runs of the cell inside it, "
                f"expected a cell with a step of its own; put {name} inside {inner}"
            )
        if isinstance(self.cell, Composite) or not self.cell.causal:
            raise ValueError(
                f"{name}: cell is a {inner}, which is made of cells, expected a cell with a step "
                "of its own; wrap the cells inside it instead"
            )

    def project(
        self, params: P, xs: Tree, noise: tuple[Any, Keys] | None = None
    ) -> tuple[Tree, Tree]:
        """Return the cell's projected input, and what this combinator draws."""
        for_cell, keys = noise or (None, None)
        params, project = self.inner(params), self._noisy_cell().project
        us = project(params, xs, for_cell) if self.cell.noisy else project(params, xs)
        if keys is None:
            return us, None
        return us, for_each(partial(self.draw_own, row=self._row(params, xs, us)), keys)

    def _row(self, params: P, xs: Tree, us: Tree) -> Row:
        shape = jax.tree.leaves(xs)[0].shape
        rows = len(shape) - self.feature_axes
        carry = abstract(lambda p: self.cell.initial_carry(p, shape[rows:]), params)
        u = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[rows:], leaf.dtype), us)
        return Row(jax.tree.map(jax.typeof, params), carry, u)

    def step(
        self, params: P, carry: C, u: tuple[Tree, Tree], affine: Affine = default_affine
    ) -> tuple[C, Array]:
        if isinstance(params, WithContext):
            own: Params = params._replace(params=self.inner(params.params))
        else:
            own = self.inner(params)
        return self.cell.step(own, carry, u[0], affine)

    def draw_own(self, keys: Keys, row: Row) -> Tree:
        """Draw the combinator's own random numbers, for one step of one row."""
        del keys, row

    def draw(self, keys: Keys) -> tuple[Tree, Keys]:
        """Return what the inner cell draws, and keys for the combinator.

        The combinator draws in `project`, where the shapes are known.
        """
        for_cell, own = keys.split()
        return (self._noisy_cell().draw(for_cell) if self.cell.noisy else None), own

    def _noisy_cell(self) -> NoisyCell[P, C]:
        return cast(NoisyCell[P, C], self.cell)


@dataclasses.dataclass(frozen=True)
class Around(Delegate[P, C], Composite[P, C]):
    """A combinator around any cell that changes the input or the output of its runs.

    A subclass defines `run`. The cell may be a composite, too.
    """

    def __post_init__(self) -> None:
        check_inner(self, "cell", self.cell)


@dataclasses.dataclass(frozen=True)
class Selective(Delegate[P, C]):
    """A combinator that needs a part of its cell, such as a recurrent weight or a state h.

    It looks for the part when it is made. If the cell cannot take inputs of size 1, only `init` can
    look for it.
    """

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]
        try:
            params = abstract_params(self.cell, 1)
        except ValueError:
            return
        self.check_form(params, 1)

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> P:
        params = super().init(key, in_features, dtype)
        self.check_form(params, in_features)
        return params

    def check_form(self, params: P, in_features: int) -> None:
        """Refuse a cell without that part. The parameters may be shapes and dtypes."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class AroundWeights(Selective[P, C], Around[P, C]):
    """A combinator around any cell that changes its recurrent weights during a run.

    Raises:
        ValueError: the cell has no recurrent weight.
        TypeError: `cell` is not a cell.
    """

    def check_form(self, params: P, in_features: int) -> None:
        del in_features
        if "recurrent" not in jax.tree.leaves(self.cell.labels(params)):
            name, inner = type(self).__name__, type(self.cell).__name__
            raise ValueError(
                f"{name}: {inner} has no recurrent weight, expected one for {name} to change; in a "
                "cell of your own, name it w_h or list it in `roles`"
            )


def parts(carry: Carry) -> dict[str, Array]:
    """Return the arrays of a carry by name. A carry that is a single array has the name "h"."""
    leaves = jax.tree_util.tree_leaves_with_path(carry)
    return {(path_names(path) or ["h"])[0]: leaf for path, leaf in leaves if len(path) <= 1}


def with_parts(carry: C, y: Tree, new: dict[str, Array]) -> tuple[C, Tree]:
    """Replace some parts of a carry, and the output, if it is the same array as such a part."""
    replaced = {id(part): new[name] for name, part in parts(carry).items() if name in new}
    return jax.tree.map(lambda leaf: replaced.get(id(leaf), leaf), (carry, y))


def state_names(cell: Cell[P, C], params: P, in_features: int) -> set[str]:
    """Return the names of the floating parts of a cell's carry, without computing anything."""
    carry = abstract_carry(cell, params, one_row(cell, in_features))
    return {name for name, leaf in parts(carry).items() if is_float(leaf)}
