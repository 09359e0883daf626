"""The spectral radii and norms of recurrent weights."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.call import check_cell
from jaxrnn.core.cell import Carry, Cell, Params, one_row
from jaxrnn.core.composite import Composite, Delegate, OneStep, Runner
from jaxrnn.core.dtypes import wide
from jaxrnn.core.trees import Tree

DOUBLINGS = 20
"""Of the power in Gelfand's formula, which is off by (log condition) / 2^20."""


class Spectrum(NamedTuple):
    """The spectral radius and norm of one recurrent weight, `[gates]` each.

    >>> import jax, jaxrnn
    >>> from jaxrnn.diagnostics import spectral_radii
    >>> cell = jaxrnn.GRU(5, w_h_init="lecun_normal")
    >>> found = spectral_radii(cell, cell.init(jax.random.key(0), in_features=3))["w_h"]
    >>> found.radius.shape, bool((found.radius <= found.norm).all())  # r, z and n
    ((3,), True)
    """

    radius: Array
    """The largest |eigenvalue| of each gate's matrix."""

    norm: Array
    """Its largest singular value, at least the radius."""


def spectral_radii(cell: Cell, params: Params) -> dict[str, Spectrum]:
    """Compute the spectral radius and norm of every recurrent weight, for each gate by itself.

    The radius comes from Gelfand's formula, `ρ(W) = lim ‖W^k‖^(1/k)`, with k = 2^20 by repeated
    squaring. The formula needs no eigenvalues, so it runs on any device. It is exact to about 1e-6
    in float32. The norm is `ρ(WᵀW)^½`. The radius says how a state grows over many steps, the norm
    how much it can grow in one. Gradients can explode only if the norm times the largest slope of
    the activation exceeds 1; even then they need not (Pascanu, Mikolov & Bengio 2013).

    W is the matrix that a step multiplies by. For a `Constrained` cell this is the weight after its
    constraint. For an `LSTM` with a projection it is `W_r W_h`, from one memory to the next. Two
    kinds of weights are left out: those without a square matrix for each gate (of convolutions, of
    `Jordan`), and those without a label "recurrent" (of Flax's cells, in `as_cell`).

    Args:
        cell: any cell; the cells inside a combinator are found, too.
        params: its parameters. `cell.labels` says which are recurrent, and `cell.gates` how many
            matrices a weight holds side by side.

    Returns:
        A dictionary by the place of the weight in `params`, such as `"w_h"`, or `"1.w_h"` in a
        `Stack`.

    Raises:
        TypeError: `cell` is not a cell.
        NotImplementedError: a cell made of cells does not know the size of its input, because the
            cells inside have no input weight.

    >>> import jax, jaxrnn
    >>> from jaxrnn.diagnostics import spectral_radii
    >>> cell = jaxrnn.Stack([jaxrnn.Elman(4), jaxrnn.GRU(5, w_h_init="lecun_normal")])
    >>> radii = spectral_radii(cell, cell.init(jax.random.key(0), in_features=3))
    >>> [(name, found.radius.shape) for name, found in radii.items()]
    [('0.w_h', (1,)), ('1.w_h', (3,))]
    >>> round(float(radii["0.w_h"].radius[0]), 5)  # an Elman's weight starts orthogonal
    1.0
    """
    check_cell(cell, "diagnostics.spectral_radii")
    roles = jax.tree.leaves(cell.labels(params))
    places: dict[int, list[str]] = {}  # of each recurrent weight: several, if it is shared
    for role, (path, leaf) in zip(roles, jax.tree_util.tree_leaves_with_path(params), strict=True):
        if role == "recurrent":
            place = jax.tree_util.keystr(path, simple=True, separator=".")
            places.setdefault(id(leaf), []).append(place)
    found = {}
    for inner, raw, used in _cells_inside(cell, params):
        projection = _only(inner, used, "projection")
        labelled = zip(*map(jax.tree.leaves, (inner.labels(raw), raw, used)), strict=True)
        for role, leaf, weight in labelled:
            matrices = _matrices(weight, inner.gates, projection) if role == "recurrent" else None
            if matrices is not None:
                place = places[id(leaf)].pop(0) if places.get(id(leaf)) else type(inner).__name__
                found[place] = _spectrum(matrices)
    return found


def _matrices(w: Array, gates: int, projection: Array | None) -> Array | None:
    """Return a square matrix for each gate, `[gates, n, n]`; None if there is none."""
    if w.ndim != 2 or w.shape[1] % gates:
        return None
    each = jnp.moveaxis(w.reshape(w.shape[0], gates, -1), 1, 0).astype(wide(w))
    if projection is not None and projection.shape[::-1] == each.shape[1:]:
        each = jnp.matmul(projection.astype(each.dtype), each, precision=lax.Precision.HIGHEST)
    return each if each.shape[1] == each.shape[2] else None


def _only(cell: Cell, params: Params, role: str) -> Array | None:
    """Return the parameter of this role, if there is just one."""
    labelled = zip(jax.tree.leaves(cell.labels(params)), jax.tree.leaves(params), strict=True)
    leaves = [leaf for found, leaf in labelled if found == role]
    return leaves[0] if len(leaves) == 1 else None


def _spectrum(matrices: Array) -> Spectrum:
    squares = jnp.matmul(matrices.mT, matrices, precision=lax.Precision.HIGHEST)
    return Spectrum(_radius(matrices), jnp.sqrt(_radius(squares)))


def _radius(matrices: Array) -> Array:
    """Compute the spectral radius of each matrix `[..., n, n]`.

    The largest entry of each power is kept at 1, so that nothing under- or overflows; `log` is
    log ‖W^k‖ / k.
    """

    def normalised(powers: Array) -> tuple[Array, Array]:
        size = jnp.max(jnp.abs(powers), axis=(-2, -1), keepdims=True)
        return powers / jnp.where(size > 0, size, 1), jnp.log(size[..., 0, 0])

    def double(number: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        powers, log = state
        squares = jnp.matmul(powers, powers, precision=lax.Precision.HIGHEST)
        powers, size = normalised(squares)
        return powers, log + size * jnp.exp2(-(number + 1.0)).astype(log.dtype)

    return jnp.exp(lax.fori_loop(0, DOUBLINGS, double, normalised(matrices))[1])


def _cells_inside(cell: Cell, params: Params) -> list[tuple[Cell, Params, Params]]:
    """Return all inner cells, each with its parameters and with those that its step gets."""
    if not _holds_cells(cell):
        return [(cell, params, params)]
    visitor = _Visitor(method=OneStep())
    visitor.visit(cell, params)
    return visitor.visited


def _holds_cells(cell: Cell) -> bool:
    """Return whether a cell, or the one that it is around, is made of cells."""
    return isinstance(cell, Composite) or (isinstance(cell, Delegate) and _holds_cells(cell.cell))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Visitor(Runner):
    """A runner that records all inner cells and runs none of them.

    It records them in a list, because a combinator need not return what a runner returns.
    """

    visited: list[tuple[Cell, Params, Params]] = dataclasses.field(default_factory=list)

    def __call__(self, cell: Cell, params: Params, xs: Tree, carry: Carry) -> tuple[Carry, Any]:
        if isinstance(cell, Composite):
            return cell.run(params, xs, carry, self)
        if isinstance(cell, Delegate) and _holds_cells(cell.cell):
            self.visit(cell.cell, cell.inner(params))
        else:
            used = params
            for change in self.changes:
                used = change(cell, used)
            self.visited.append((cell, params, used))
        return carry, jnp.zeros(one_row(cell, cell.out_features))

    def visit(self, cell: Cell, params: Params) -> None:
        """Call itself on one row of an input, which nobody reads."""
        row = one_row(cell, cell.in_features(params))
        self(cell, params, jnp.zeros(row), cell.initial_carry(params, row))

    def reversed(self) -> Runner:
        return self
