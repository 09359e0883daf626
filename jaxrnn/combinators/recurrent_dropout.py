"""Dropout on the recurrent state."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
from jax import Array, lax
from jax.extend import core

from jaxrnn.combinators.wrapper import Row, Wrapper
from jaxrnn.core.affine import Affine, Linear, cut_like, matmul
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import C, Carry, Cell, Keys, P, Params
from jaxrnn.core.check import check_fields, check_flag, check_rate, check_size
from jaxrnn.core.noise import drop, keep
from jaxrnn.core.trees import Tree, is_float


@dataclasses.dataclass(frozen=True)
class RecurrentDropout(Wrapper[P, C]):
    """Dropout on what the recurrent weights multiply (Gal & Ghahramani 2016; Semeniuta, Severyn &
    Barth 2016).

        h_{t-1} W_h  becomes  (d ⊙ h_{t-1} / (1 - rate)) W_h,    d ~ Bernoulli(1 - rate)

    A product through `affine` is recurrent if it multiplies the past: the carry that the step is
    given, what a step makes of it without a product, or that times a gate: `r ⊙ h_{t-1}`. Other
    products, such as a projection of the new state, are left as they are, and so is all else that
    the cell does with its state. Operands of one shape share a mask.

    Args:
        cell: any cell that multiplies its state through `affine`.
        rate: how often a unit is dropped.
        locked: one draw for each sequence (variational dropout), or a new one at each step.
        draws: one for all gates, or as many as the cell has gates, one for each, as Keras'
            `recurrent_dropout` has it; that costs a product per gate. The parts into which `affine`
            splits a product are the gates.

    Raises:
        ValueError: the rate is not in [0, 1), or the cell is made of cells or takes a context; or,
            when it is run with a key, no product is recurrent, or `draws` is neither 1 nor the
            number of gates.

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
                f"RecurrentDropout: cell is a {type(self.cell).__name__}, which takes a context; "
                "which of its products are recurrent depends on that, so drop inside it"
            )

    def draw_own(self, keys: Keys, row: Row) -> list[list[Array] | None]:
        """For each product in turn: None, or which units survive, for all its gates or for each."""
        products = _recurrent_products(self.cell, row)
        gates = sum(product.gates for product in products if product)
        name = type(self.cell).__name__
        if not gates:
            raise ValueError(
                f"RecurrentDropout: {name} multiplies nothing of its carry through affine; its "
                "step must call the affine that it is handed, outside jit, loops and checkpoints"
            )
        if self.draws not in (1, gates):
            draws = f"draws is {self.draws}, but {name} has {gates} gates"
            raise ValueError(f"RecurrentDropout: {draws}; expected one for all, or one for each")
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
        """The cell's step, with an `affine` that drops first."""
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
    """A recurrent product: the shape of its operand, and into how many parts `affine` splits it."""

    shape: tuple[int, ...]
    gates: int


def _recurrent_products(cell: Cell, row: Row) -> list[_Product | None]:
    """For each call of `affine` in a step: None if the product is not recurrent."""

    def calls(params: Params, carry: Carry, u: Any) -> list[tuple[Array, tuple[Array, ...] | None]]:
        made = []

        def affine(u: tuple[Array, ...] | None, h: Array, w: Array, linear: Linear = matmul) -> Any:
            made.append((h, u))
            return lax.optimization_barrier(default_affine(u, h, w, linear))  # marks the result

        cell.step(params, carry, u, affine)
        return made

    closed, forms = jax.make_jaxpr(calls, return_shape=True)(*row)
    given: list[_Kind] = [
        *("fixed" for _ in jax.tree.leaves(row.params)),
        # an integer in the carry counts steps, it is no state
        *("past" if is_float(leaf) else "fixed" for leaf in jax.tree.leaves(row.carry)),
        *("new" for _ in jax.tree.leaves(row.u)),
    ]
    kinds = jax.tree.unflatten(jax.tree.structure(forms), _follow(closed.jaxpr, given))
    return [
        _Product(h.shape, 1 if u is None else len(u)) if kind == "past" else None
        for (h, u), (kind, _) in zip(forms, kinds, strict=True)
    ]


_Kind = Literal["fixed", "past", "new"]
"""Where a value comes from, if products end the way: parameters alone; the carry, too, or that
times anything; all else."""

_PRODUCTS = ("optimization_barrier", "dot_general", "conv_general_dilated")


def _follow(jaxpr: core.Jaxpr, given: list[_Kind]) -> list[_Kind]:
    """The kinds of what is computed from values of these kinds."""
    known: dict[Any, _Kind] = dict(zip(jaxpr.invars, given, strict=True))
    known |= dict.fromkeys(jaxpr.constvars, "fixed")

    def kinds_of(atoms: list[Any]) -> list[_Kind]:
        return ["fixed" if isinstance(atom, core.Literal) else known[atom] for atom in atoms]

    for equation in jaxpr.eqns:
        kinds, inner = kinds_of(equation.invars), equation.params.get("jaxpr")
        results: list[_Kind] = [_result(equation.primitive.name, kinds) for _ in equation.outvars]
        if equation.primitive.name in ("jit", "pjit") and isinstance(inner, core.ClosedJaxpr):
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
