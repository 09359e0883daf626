"""Dropout on the factor of the recurrent weights."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
from jax import Array, lax
from jax.extend import core

from jaxrnn.combinators.wrapper import Row, Wrapper
from jaxrnn.core.affine import Affine, Linear, cut_like, matmul
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import C, Carry, Cell, P, Params
from jaxrnn.core.check import check_fields, check_flag, check_rate, check_size
from jaxrnn.core.kinds import Keys
from jaxrnn.core.noise import drop, keep
from jaxrnn.core.traced.equations import callee
from jaxrnn.core.trees import Tree, is_float


@dataclasses.dataclass(frozen=True)
class RecurrentDropout(Wrapper[P, C]):
    """Dropout on the hidden state where it meets the recurrent weights.

        h_{t-1} W_h  becomes  (d ⊙ h_{t-1} / (1 - rate)) W_h,    d ~ Bernoulli(1 - rate)

    Sources: Gal & Ghahramani 2016 (`locked=True`); Semeniuta, Severyn & Barth 2016.

    A product through `affine` is recurrent if its factor is the past: the carry before the step,
    what the step computes from it without a product, or either of them times a gate, as in `r ⊙
    h_{t-1}`. Other products, such as a projection of the new state, are not changed, nor is
    anything else that the cell does with its carry. Factors of equal shape share a mask. Without a
    key nothing is dropped.

    Args:
        cell: any cell that multiplies its state through `affine`.
        rate: the probability that a unit is dropped.
        locked: whether each sequence has one mask (variational dropout) or each step a new one.
        draws: the number of masks: 1 for all gates together, or the number of gates for one each,
            as in `recurrent_dropout` of Keras. The latter needs a product for each gate. The gates
            are the parts into which `affine` splits a product.

    Raises:
        ValueError: `rate` is not in [0, 1), `draws` is not positive, `locked` is not a bool, or the
            cell is made of cells, is not causal, or takes a context. From a driver with a key: no
            product is recurrent, or `draws` is neither 1 nor the number of gates.
        TypeError: `cell` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.RecurrentDropout(jaxrnn.GRU(4), rate=0.25)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> h, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), key=jax.random.key(1))
    >>> ys.shape
    (7, 2, 4)
    """

    cell: Cell[P, C]
    rate: float
    _: dataclasses.KW_ONLY
    locked: bool = True
    draws: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, check_rate, "rate")
        check_fields(self, check_flag, "locked")
        check_fields(self, check_size, "draws")
        if self.cell.takes_context:
            raise ValueError(
                f"RecurrentDropout: cell is a {type(self.cell).__name__}, which takes a context, "
                "expected a cell without one; put RecurrentDropout inside it"
            )

    def draw_own(self, keys: Keys, row: Row) -> list[list[Array] | None]:
        """Draw the masks of each product, one or one per gate. None for one not recurrent."""
        products = _recurrent_products(self.cell, row)
        gates = sum(product.gates for product in products if product)
        name = type(self.cell).__name__
        if not gates:
            raise ValueError(
                f"RecurrentDropout: {name} multiplies nothing of its carry through affine; its "
                "step must call the affine that it is given, outside jit, loops and checkpoints"
            )
        if self.draws not in (1, gates):
            expected = f"expected 1, or {gates}, the number of gates of {name}"
            raise ValueError(f"RecurrentDropout: draws is {self.draws}, {expected}")
        key = keys.sequence if self.locked else keys.step
        shapes = {product.shape for product in products if product}
        kept = {shape: list(keep(key, self.rate, (self.draws, *shape))) for shape in shapes}
        if self.draws == 1:
            return [product and kept[product.shape] for product in products]
        gate = iter(range(gates))

        def masks(product: _Product) -> list[Array]:
            return [kept[product.shape][next(gate)] for _ in range(product.gates)]

        return [product and masks(product) for product in products]

    def step(
        self, params: P, carry: C, u: tuple[Tree, Tree], affine: Affine = default_affine
    ) -> tuple[C, Array]:
        """Take the cell's step, with an `affine` that applies dropout to its factor first."""
        u_cell, kept = u
        if kept is None:
            return self.cell.step(params, carry, u_cell, affine)
        products = iter(kept)

        def dropping(
            u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul
        ) -> Any:
            masks = next(products)
            if masks is None:
                return affine(u, h, w, linear)
            if len(masks) == 1:
                return affine(u, drop(h, masks[0], self.rate), w, linear)

            def one(part: Array, mask: Array, w: Array) -> Array:
                return affine((part,), drop(h, mask, self.rate), w, linear)[0]

            return tuple(map(one, u or (), masks, cut_like(u, w)))

        return self.cell.step(params, carry, u_cell, dropping)

    @property
    def noisy(self) -> bool:
        return True


class _Product(NamedTuple):
    """A recurrent product."""

    shape: tuple[int, ...]  # of its left factor
    gates: int  # the number of parts into which `affine` splits it


def _recurrent_products(cell: Cell, row: Row) -> list[_Product | None]:
    """Return the products of all calls of `affine` in a step; None for one not recurrent."""

    def calls(
        params: Params, carry: Carry, u: Tree
    ) -> list[tuple[Array, tuple[Array, ...] | None]]:
        made = []

        def affine(
            u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul
        ) -> Tree:
            made.append((h, u))
            # the barrier marks the result as that of a product, whatever `linear` is
            return lax.optimization_barrier(default_affine(u, h, w, linear))

        cell.step(params, carry, u, affine)
        return made

    closed, forms = jax.make_jaxpr(calls, return_shape=True)(*row)
    given: list[_Kind] = [
        *("fixed" for _ in jax.tree.leaves(row.params)),
        # an integer in the carry is a counter, not a state
        *("past" if is_float(leaf) else "fixed" for leaf in jax.tree.leaves(row.carry)),
        *("new" for _ in jax.tree.leaves(row.u)),
    ]
    kinds = jax.tree.unflatten(jax.tree.structure(forms), _follow(closed.jaxpr, given))
    return [
        _Product(h.shape, 1 if u is None else len(u)) if kind == "past" else None
        for (h, u), (kind, _) in zip(forms, kinds, strict=True)
    ]


_Kind = Literal["fixed", "past", "new"]
"""Where a value comes from. "fixed": from parameters alone. "past": from the carry, without a
product since, or from that times anything. "new": from anything else, such as a product."""

_PRODUCTS = ("optimization_barrier", "dot_general", "conv_general_dilated")


def _follow(jaxpr: core.Jaxpr, given: list[_Kind]) -> list[_Kind]:
    """Return the kinds of a jaxpr's results, given the kinds of its arguments."""
    known: dict[Any, _Kind] = dict(zip(jaxpr.invars, given, strict=True))
    known |= dict.fromkeys(jaxpr.constvars, "fixed")

    def kinds_of(atoms: list[Any]) -> list[_Kind]:
        return ["fixed" if isinstance(atom, core.Literal) else known[atom] for atom in atoms]

    for equation in jaxpr.eqns:
        kinds = kinds_of(equation.invars)
        results: list[_Kind] = [_result(equation.primitive.name, kinds) for _ in equation.outvars]
        if inner := callee(equation):
            results = _follow(inner.jaxpr, kinds)
        known.update(zip(equation.outvars, results, strict=True))
    return kinds_of(jaxpr.outvars)


def _result(operation: str, kinds: list[_Kind]) -> _Kind:
    if operation in _PRODUCTS:
        return "new"
    if operation == "mul" and "past" in kinds:
        return "past"
    scaled = kinds[:1] if operation == "div" else kinds[1:] if operation == "select_n" else kinds
    if "new" not in scaled and "past" in scaled:
        return "past"
    return "new" if "new" in kinds else "past" if "past" in kinds else "fixed"
