"""A step at a time inside a user's own `lax.scan`, forward alone, as agents act: jaxrnn's `step`,
Flax's cells, and the same by hand.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax import nnx
from jax import Array

import jaxrnn
from benchmarks.comparison import Call, Comparison
from benchmarks.measure import normal
from benchmarks.plan import CELLS
from benchmarks.sides import STEPS, drawn, zero_carry
from jaxrnn.core.trees import Tree

ACTING_CELLS = ("GRU", "LSTM")

Step = Callable[[Tree, Tree, Array], tuple[Tree, Array]]
"""`(weights, carry, x) -> (carry, y)`."""


def acting(kind: str, rows: int, hidden: int, steps: int) -> Comparison:
    """All sides with the same weights and inputs."""
    cell = CELLS[kind](hidden)
    params, xs = drawn(cell, hidden), normal(1, steps, rows, hidden)
    zeros = zero_carry(kind, params, (rows,))

    def by_hand(params: Any, carry: Tree, x: Array) -> tuple[Tree, Array]:
        return STEPS[kind](params, carry, x @ params.w_x + params.b)

    def ours(params: Any, carry: Tree, x: Array) -> tuple[Tree, Array]:
        return jaxrnn.step(cell, params, carry, x)

    start = cell.initial_carry(params, (rows, hidden))
    sides: dict[str, Call] = {
        "jaxrnn": _looped(ours, params, start, xs),
        "linen": _looped(*_linen(kind, cell, params), zeros, xs),
        "nnx": _looped(*_nnx(kind, cell, params), zeros, xs),
        "by hand": _looped(by_hand, params, zeros, xs),
    }
    return Comparison(f"{kind}, {rows} rows, hidden {hidden}, {steps} steps", sides)


def _looped(step: Step, weights: Tree, start: Tree, xs: Array) -> Call:
    def run(weights: Tree, start: Tree, xs: Array) -> Array:
        return jax.lax.scan(lambda carry, x: step(weights, carry, x), start, xs)[1]

    return run, (weights, start, xs)


def _linen(kind: str, cell: Any, params: Tree) -> tuple[Step, Tree]:
    module = {"LSTM": nn.OptimizedLSTMCell, "GRU": nn.GRUCell}[kind](cell.hidden)
    name = f"linen.{type(module).__name__}"
    return module.apply, jaxrnn.convert.to_flax(cell, params, name)


def _nnx(kind: str, cell: Any, params: Tree) -> tuple[Step, Tree]:
    make = {"LSTM": nnx.OptimizedLSTMCell, "GRU": nnx.GRUCell}[kind]
    module = make(cell.hidden, cell.hidden, rngs=nnx.Rngs(0))
    nnx.update(module, jaxrnn.convert.to_flax(cell, params, f"nnx.{make.__name__}"))
    graph, weights, rest = nnx.split(module, nnx.Param, ...)
    return lambda weights, carry, x: nnx.merge(graph, weights, rest)(carry, x), weights
