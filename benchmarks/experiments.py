"""The parts of a run. Each gives records of plain numbers, ready for JSON."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from benchmarks import (
    acting,
    agreement,
    attention,
    convolutional,
    first_result,
    foreign,
    limit,
    populations,
    rules,
    sizes,
)
from benchmarks.comparison import Comparison
from benchmarks.measure import compile_together, say, take_turns, training_step
from benchmarks.peers import OPPONENTS, OWN, SIDES, TWO_DEVICES, Makers, absent
from benchmarks.plan import CONVOLUTIONAL, PEER_CELLS, VARIANTS, Plan, drawn_cells
from benchmarks.sides import (
    Missing,
    Problem,
    Side,
    make_convolutional,
    make_problem,
    make_variant,
    scan_apply,
)
from jaxrnn.methods import MethodLike

Record = dict[str, Any]


METHODS: dict[str, MethodLike] = {OWN: "bptt", "autodiff": "autodiff"}


def chosen_sides(
    against: Iterable[str] | None, among: Makers = SIDES
) -> tuple[Makers, dict[str, str]]:
    """The sides that can take part, jaxrnn first, and why the others are skipped."""
    wanted = {OWN, TWO_DEVICES, *(OPPONENTS if against is None else against)}
    skipped = absent(name for name in among if name in wanted)
    return {name: among[name] for name in among if name in wanted and name not in skipped}, skipped


def versus_peers(plan: Plan) -> list[Record]:
    """One training step and the forward pass of every side, for each cell and shape."""
    makers, _ = chosen_sides(plan.against)
    return [
        _one_comparison(make_problem(kind, shape), makers, plan.step_seconds, plan.forward_seconds)
        for kind in plan.cells
        if kind in PEER_CELLS
        for shape in plan.shapes
    ]


def pictures_versus_peers(plan: Plan) -> list[Record]:
    """The same for the cells of pictures, whose slowest sides take seconds, and so one turn."""
    makers, _ = chosen_sides(plan.against, convolutional.SIDES)
    return [
        _one_comparison(
            make_convolutional(kind, picture), makers, plan.point_seconds, plan.point_seconds
        )
        for kind in drawn_cells(plan, CONVOLUTIONAL)
        for picture in plan.pictures
    ]


def _one_comparison(
    problem: Problem, makers: Makers, step_seconds: float, forward_seconds: float
) -> Record:
    say(f"{problem.kind} {problem.shape.label}: compiling and comparing {len(makers)} sides")
    sides, missing = _taking_part(problem, makers)
    products = limit.products(problem.kind, problem.shape)
    loops = limit.loops(products["step"])
    pending = [program for side in sides.values() for program in side.programs(problem)]
    ready = compile_together([*pending, *loops.values()])
    programs = {name: (ready[2 * k], ready[2 * k + 1]) for k, name in enumerate(sides)}
    alone = dict(zip(loops, ready[len(pending) :], strict=True))
    results = {
        name: side.results(problem, programs[name][0].call()) for name, side in sides.items()
    }
    agreement.check(problem, sides, results)
    del results
    times = {
        what: take_turns({name: pair[k].call for name, pair in programs.items()}, seconds)
        for k, (what, seconds) in enumerate((("step", step_seconds), ("forward", forward_seconds)))
    }
    of_loops = take_turns({label: loop.call for label, loop in alone.items()}, 0.0)
    found = {what: limit.records(orders, of_loops) for what, orders in products.items()}
    return {
        "cell": problem.kind,
        "shape": problem.shape._asdict(),
        "missing": missing,
        "sides": {
            name: {
                "step_ms": times["step"][name],
                "forward_ms": times["forward"][name],
                "step": step.facts(),
                "forward": forward.facts(),
            }
            for name, (step, forward) in programs.items()
        },
        "products": found,
    }


def _taking_part(problem: Problem, makers: Makers) -> tuple[dict[str, Side], dict[str, str]]:
    """The sides that can, and why the others are left out."""
    sides: dict[str, Side] = {}
    missing = {}
    for name, make in makers.items():
        try:
            sides[name] = make(problem)
        except Missing as reason:
            missing[name] = str(reason)
            say(f"  {name}: left out, {reason}")
    return sides, missing


def variants(plan: Plan) -> Iterator[Comparison]:
    """A training step of every option and combinator, random draws included, beside JAX's own
    derivative of the same.
    """
    for name in plan.few(VARIANTS):
        problem = make_variant(name, plan.base)
        given = (problem.params, problem.xs, problem.dys)
        yield Comparison(
            f"{name} {plan.base.label}",
            {
                side: (training_step(scan_apply(problem.cell, method, seed=0)), given)
                for side, method in METHODS.items()
            },
        )


def foreign_cells(plan: Plan) -> Iterator[Comparison]:
    """A training step of Flax's own cells, in jaxrnn's engine and in Flax's RNN."""
    for name in plan.few(foreign.CELLS):
        for shape in plan.foreign:
            yield foreign.comparison(name, shape)


def decoders(plan: Plan) -> Iterator[Comparison]:
    """A training step of decoders that attend, beside the same by hand."""
    for score in plan.few(attention.SCORES):
        yield attention.attention(score, plan.attention)


def acting_steps(plan: Plan) -> Iterator[Comparison]:
    """`step` inside a user's own loop."""
    for kind, hidden, rows in plan.few(
        itertools.product(acting.ACTING_CELLS, plan.acting_hidden, plan.acting_rows)
    ):
        yield acting.acting(kind, rows, hidden, plan.acting_steps)


def mapped(plan: Plan) -> Iterator[Comparison]:
    """Many models, or rows, under `vmap`."""
    for shape in plan.few(plan.rows):
        yield populations.rows(shape)
    for kind, (count, shape) in plan.few(itertools.product(populations.POPULATED, plan.models)):
        for what in ("forward", "training"):
            yield populations.models(kind, count, shape, what)


def compared(comparisons: Iterable[Comparison], seconds: float) -> list[Record]:
    """The records of all."""
    records = []
    for comparison in comparisons:
        say(comparison.what)
        records += comparison.records(seconds)
    return records


PARTS: dict[str, Callable[[Plan], list[Record]]] = {
    "peers": versus_peers,
    "convolutional": pictures_versus_peers,
    "variants": lambda plan: compared(variants(plan), plan.point_seconds),
    "foreign": lambda plan: compared(foreign_cells(plan), plan.point_seconds),
    "attention": lambda plan: compared(decoders(plan), plan.forward_seconds),
    "acting": lambda plan: compared(acting_steps(plan), plan.point_seconds),
    "populations": lambda plan: compared(mapped(plan), plan.point_seconds),
    "first_result": first_result.records,
    "rules": rules.records,
    "steps": sizes.single_steps,
    "long": sizes.long_sequence,
    "growth": sizes.growth,
    "unrolled": sizes.unrolled,
    "sweeps": sizes.sweeps,
}


def skipped(plan: Plan) -> dict[str, str]:
    """Who cannot take part, and why."""
    found = chosen_sides(plan.against)[1] | chosen_sides(plan.against, convolutional.SIDES)[1]
    for name, reason in found.items():
        say(f"skipped {name}: {reason}")
    return found


def run(plan: Plan) -> Iterator[tuple[str, list[Record]]]:
    """All parts that the plan asks for, one after the other."""
    for part in plan.parts:
        start = time.perf_counter()
        yield part, PARTS[part](plan)
        say(f"{part}: {time.perf_counter() - start:.0f} s")
