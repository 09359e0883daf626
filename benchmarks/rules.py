"""Where the rules of a CPU's plan (`jaxrnn/methods/bptt/platforms.py`) change sides, and what both
sides take there: a row of `RULES` is a rule.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.comparison import Comparison, Record
from benchmarks.limit import repeated
from benchmarks.measure import say, training_step
from benchmarks.plan import Plan, Shape
from benchmarks.sides import make_problem, scan_apply
from jaxrnn.methods import BPTT

LOOP_FLOP = 1e9
MOST_TURNS = 200


class Rule(NamedTuple):
    """A rule: its name, the sizes along which it changes sides, and what is compared at each."""

    name: str
    sizes: tuple[tuple[int, ...], ...]
    compare: Callable[[tuple[int, ...]], Comparison]


Multiply = Callable[[Array, Array], Array]


def _scans(
    kind: str, what: str, methods: Mapping[str, BPTT]
) -> Callable[[tuple[int, ...]], Comparison]:
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


def _products(label: str, sides: Mapping[str, Multiply]) -> Callable[[tuple[int, ...]], Comparison]:
    """A product, in a loop; sizes are rows, inner and columns."""

    def compare(sizes: tuple[int, ...]) -> Comparison:
        rows, inner, columns = sizes
        keys = jax.random.split(jax.random.key(0))
        a = jax.random.normal(keys[0], (rows, inner))
        b = jax.random.normal(keys[1], (inner, columns))
        turns = int(min(MOST_TURNS, max(1, LOOP_FLOP // (2 * rows * inner * columns))))
        calls = {
            name: (lambda a, b, multiply=multiply: repeated(multiply, a, b, turns), (a, b))
            for name, multiply in sides.items()
        }
        return Comparison(f"{label.format(*sizes)}, {turns} times", calls)

    return compare


def _weight_first(h: Array, w: Array) -> Array:
    """`(wᵀ hᵀ)ᵀ`; the weight is turned once, before the loop."""
    return (w.T @ h.T).T


def _blocks(*steps: int) -> dict[str, BPTT]:
    return {"as planned": BPTT(), **{f"blocks of {block}": BPTT(block) for block in steps}}


KEPT = {
    "as planned": BPTT(),
    "preactivations": BPTT(keep="preactivations"),
    "carries": BPTT(keep="carries"),
}
ROWS = tuple((batch, 256, 128, 128) for batch in (1, 4, 16, 64, 256))
WIDTHS = tuple((16, 128, width, width) for width in (16, 32, 64, 128, 256))
WEIGHTS = tuple((rows, n, 4 * n) for n in (256, 512, 768) for rows in (2, 8, 32, 64))

RULES = (
    Rule("steps in a block, training", ROWS, _scans("LSTM", "training", _blocks(4, 16, 64))),
    Rule("steps in a block, forward", ROWS, _scans("LSTM", "forward", _blocks(4, 32, 256))),
    Rule("what is kept, LSTM", WIDTHS, _scans("LSTM", "training", KEPT)),
    Rule("what is kept, GRU", WIDTHS, _scans("GRU", "training", KEPT)),
    Rule(
        "weight first, in the loop",
        WEIGHTS,
        _products(
            "h of {} rows by w of {} x {}",
            {"as it stands": jnp.matmul, "weight first": _weight_first},
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
