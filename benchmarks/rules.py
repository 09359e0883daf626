"""Where the rules of a CPU's plan (`jaxrnn/methods/bptt/platforms.py`) change sides, and what both
sides take there: a row of `RULES` is a rule.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from benchmarks.comparison import Comparison, Record
from benchmarks.limit import Product, repeated, turns
from benchmarks.measure import normal, say, training_step
from benchmarks.plan import Plan, Shape
from benchmarks.sides import make_problem, scan_apply
from jaxrnn.methods import BPTT

ALL_TIME = 2**20
"""Steps of a block that holds any number of them."""

Compare = Callable[[tuple[int, ...]], Comparison]
Multiply = Callable[[Array, Array], Array]


class Way(NamedTuple):
    """One way to multiply, and what is done to the second operand once, before the loop."""

    multiply: Multiply
    prepared: Callable[[Array], Array] = lambda b: b


class Rule(NamedTuple):
    """A rule: its name, the sizes along which it changes sides, and what is compared at each."""

    name: str
    sizes: tuple[tuple[int, ...], ...]
    compare: Compare


def _scans(kind: str, what: str, methods: Mapping[str, BPTT]) -> Compare:
    """A training step or a forward pass, its plan forced."""

    def compare(sizes: tuple[int, ...]) -> Comparison:
        shape = Shape(*sizes)
        problem = make_problem(kind, shape)
        given: tuple[Any, ...] = (problem.params, problem.xs)
        applies = {name: scan_apply(problem.cell, method) for name, method in methods.items()}
        if what == "training":
            applies = {name: training_step(apply) for name, apply in applies.items()}
            given = (*given, problem.dys)
        sides = {name: (apply, given) for name, apply in applies.items()}
        return Comparison(f"{kind} {shape.label}", sides)

    return compare


def _projections(sizes: tuple[int, ...]) -> Comparison:
    """A forward pass whose inputs are projected for all steps at once, or for a block at a time."""
    shape = Shape(*sizes)
    problem = make_problem("LSTM", shape)
    cell = problem.cell
    start = cell.initial_carry(problem.params, problem.xs.shape[1:])

    def run(params: Any, carry: Any, xs: Array) -> Any:
        return lax.scan(partial(cell.step, params), carry, cell.project(params, xs))

    def at_once(params: Any, xs: Array) -> Array:
        return run(params, start, xs)[1]

    def in_blocks(params: Any, xs: Array) -> Array:
        blocks = xs.reshape(-1, min(shape.time, 16), *xs.shape[1:])
        _, ys = lax.scan(partial(run, params), start, blocks)
        return ys.reshape(shape.time, *ys.shape[2:])

    ways = {"as planned": scan_apply(cell), "at once": at_once, "blocks of 16": in_blocks}
    given = problem.params, problem.xs
    return Comparison(f"LSTM {shape.label}", {name: (way, given) for name, way in ways.items()})


def _products(label: str, ways: Mapping[str, Way], rows_of_both: bool = False) -> Compare:
    """A product in a loop. Sizes are rows, inner and columns of `[rows, inner] x [inner, columns]`,
    or, with rows of both, of `[rows, inner]ᵀ x [rows, columns]`.
    """

    def compare(sizes: tuple[int, ...]) -> Comparison:
        rows, inner, columns = sizes
        a, b = normal(0, rows, inner), normal(1, rows if rows_of_both else inner, columns)
        times = turns(Product(rows, inner, columns, times=1))
        calls = {
            name: (lambda a, b, way=way: repeated(way.multiply, a, way.prepared(b), times), (a, b))
            for name, way in ways.items()
        }
        return Comparison(f"{label.format(*sizes)}, {times} times", calls)

    return compare


def _blocks(*steps: int) -> dict[str, BPTT]:
    named = {f"blocks of {n}" if n < ALL_TIME else "one block": BPTT(n) for n in steps}
    return {"as planned": BPTT(), **named}


KEPT = {
    "as planned": BPTT(),
    "preactivations": BPTT(keep="preactivations"),
    "carries": BPTT(keep="carries"),
}
ROWS = tuple((batch, 256, 128, 128) for batch in (1, 8, 64, 256))
TIMES = tuple((8, time, 64, 64) for time in (16, 64, 256, 1024))
WIDTHS = tuple((16, 64, width, width) for width in (64, 256, 512, 768))
NARROW = tuple((128, time, 256, 16) for time in (32, 128, 512, 2048))
WEIGHTS = tuple((rows, n, 4 * n) for n in (256, 512, 768) for rows in (4, 16, 64))
GRADIENTS = tuple((rows, n, 4 * n) for n in (64, 256) for rows in (64, 256, 1024))

RULES = (
    Rule("steps in a block, training", ROWS, _scans("LSTM", "training", _blocks(4, 16, 64))),
    Rule("steps in a block, forward", ROWS, _scans("LSTM", "forward", _blocks(4, 32, 256))),
    Rule("all time in one block", TIMES, _scans("LSTM", "training", _blocks(16, ALL_TIME))),
    Rule("inputs projected, forward", NARROW, _projections),
    Rule("what is kept, LSTM", WIDTHS, _scans("LSTM", "training", KEPT)),
    Rule("what is kept, GRU", WIDTHS, _scans("GRU", "training", KEPT)),
    Rule(
        "weight first, in the loop",
        WEIGHTS,
        _products(
            "h of {} rows by w of {} x {}",
            {
                "weight first": Way(
                    lambda h, turned: (turned @ h.T).T, lambda w: lax.optimization_barrier(w.T)
                ),
                "as it stands": Way(jnp.matmul),
            },
        ),
    ),
    Rule(
        "operands turned for a weight's gradient",
        GRADIENTS,
        _products(
            "gradient over {} rows of a weight {} x {}",
            {
                "turned": Way(lambda h, d: lax.optimization_barrier(h.T) @ d),
                "as they stand": Way(lambda h, d: jnp.einsum("rn,rm->nm", h, d)),
            },
            rows_of_both=True,
        ),
    ),
)


def records(plan: Plan) -> list[Record]:
    """Every rule, along its sizes."""
    found = []
    for rule in RULES:
        for sizes in plan.few(rule.sizes):
            smaller = tuple(-(-size // plan.rules_scale) for size in sizes)
            comparison = rule.compare(smaller)
            say(f"{rule.name}: {comparison.what}")
            found += comparison.records(plan.point_seconds, rule=rule.name)
    return found
