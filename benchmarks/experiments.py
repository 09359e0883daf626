"""The parts of a run. Each gives records of plain numbers, ready for JSON."""

import sys
from collections.abc import Iterable
from typing import Any, Literal

from benchmarks import agreement, convolutional, foreign, streaming
from benchmarks.measure import Program, compile_together, compiled, take_turns, training_step
from benchmarks.peers import OPPONENTS, OWN, SIDES, TWO_DEVICES, Makers, absent
from benchmarks.plan import CONVOLUTIONAL, PEER_CELLS, VARIANTS, Picture, Plan, Shape, drawn_cells
from benchmarks.sides import (
    Apply,
    Missing,
    Problem,
    make_convolutional,
    make_problem,
    make_variant,
    plain,
    scan_apply,
    unroll_apply,
)
from jaxrnn.methods import MethodLike

Record = dict[str, Any]
BESIDE_AUTODIFF: tuple[Literal["bptt", "autodiff"], ...] = ("bptt", "autodiff")


def say(line: str) -> None:
    """Progress, beside the results."""
    print(line, file=sys.stderr, flush=True)


def chosen_sides(
    against: Iterable[str] | None, among: Makers = SIDES
) -> tuple[Makers, dict[str, str]]:
    """The sides that can take part, jaxrnn first, and why the others are skipped."""
    wanted = {OWN, TWO_DEVICES, *(OPPONENTS if against is None else against)}
    skipped = absent(name for name in among if name in wanted)
    return {name: among[name] for name in among if name in wanted and name not in skipped}, skipped


def versus_peers(plan: Plan, makers: Makers) -> list[Record]:
    """One training step and the forward pass of every side, for each cell and shape."""
    return [
        _one_comparison(make_problem(kind, shape), makers, plan)
        for kind in plan.cells
        if kind in PEER_CELLS
        for shape in plan.shapes
    ]


def pictures_versus_peers(plan: Plan, makers: Makers) -> list[Record]:
    """The same for the cells of pictures."""
    return [
        _one_comparison(make_convolutional(kind, picture), makers, plan)
        for kind in plan.cells
        if kind in CONVOLUTIONAL
        for picture in plan.pictures
    ]


def _one_comparison(problem: Problem, makers: Makers, plan: Plan) -> Record:
    say(f"{problem.kind} {problem.shape.label}: compiling and comparing {len(makers)} sides")
    sides, pending, missing = {}, [], {}
    for name, make in makers.items():
        try:
            side = make(problem)
            pending += side.programs(problem)
            sides[name] = side
        except Missing as reason:
            missing[name] = str(reason)
            say(f"  {name}: left out, {reason}")
    ready = compile_together(pending)
    programs = dict(zip(sides, zip(ready[::2], ready[1::2], strict=True), strict=True))
    results = {
        name: side.results(problem, programs[name][0].call()) for name, side in sides.items()
    }
    agreement.check(problem, sides, results)
    del results
    steps = take_turns({name: step.call for name, (step, _) in programs.items()}, plan.step_seconds)
    forwards = take_turns(
        {name: forward.call for name, (_, forward) in programs.items()}, plan.forward_seconds
    )
    return {
        "cell": problem.kind,
        "shape": problem.shape._asdict(),
        "missing": missing,
        "sides": {
            name: {
                "step_ms": steps[name],
                "forward_ms": forwards[name],
                "step": step.facts(),
                "forward": forward.facts(),
            }
            for name, (step, forward) in programs.items()
        },
    }


def _step_of(problem: Problem, method: MethodLike, seed: int | None = None) -> Program:
    return _program(problem, scan_apply(problem.cell, method, seed), "training")


def _program(problem: Problem, apply: Apply, what: str) -> Program:
    """A training step, or the forward pass."""
    if what == "training":
        return compiled(training_step(apply), problem.params, problem.xs, problem.dys)
    return compiled(apply, problem.params, problem.xs)


def _records(
    programs: dict[str, Program], seconds: float, side: str, shape: Shape | Picture, **where: Any
) -> list[Record]:
    """A record of each program, which is named under `side`."""
    times = take_turns({name: program.call for name, program in programs.items()}, seconds)
    return [
        {
            **where,
            "shape": shape._asdict(),
            side: name,
            "step_ms": times[name],
            **program.facts(),
        }
        for name, program in programs.items()
    ]


def variants(plan: Plan) -> list[Record]:
    """A training step of every option and combinator, random draws included, beside JAX's own
    derivative of the same.
    """
    records = []
    for name in VARIANTS:
        say(f"{name} {plan.base.label}")
        problem = make_variant(name, plan.base)
        programs = {method: _step_of(problem, method, seed=0) for method in BESIDE_AUTODIFF}
        records += _records(programs, plan.point_seconds, "method", plan.base, cell=name)
    return records


def foreign_cells(plan: Plan) -> list[Record]:
    """A training step of Flax's own cells, in jaxrnn's engine and in Flax's RNN."""
    records = []
    for name in foreign.CELLS:
        for shape in plan.foreign:
            say(f"{name} {shape.label}")
            programs = foreign.programs(name, shape)
            records += _records(programs, plan.forward_seconds, "side", shape, cell=name)
    return records


def single_steps(plan: Plan) -> list[Record]:
    """Streaming, one step at a time, batch one."""
    records = []
    for kind in drawn_cells(plan, PEER_CELLS):
        say(f"{kind}, {plan.stream_hidden} units, step by step")
        times = take_turns(streaming.calls(kind, plan.stream_hidden), plan.forward_seconds)
        where = {"cell": kind, "hidden": plan.stream_hidden, "steps": streaming.STEPS}
        records += [{**where, "side": side, "step_ms": spread} for side, spread in times.items()]
    return records


def sweeps(plan: Plan) -> list[Record]:
    """A training step of jaxrnn, beside JAX's own derivative, against one size at a time."""
    records = []
    for kind in drawn_cells(plan):
        for axis, sizes in plan.sweeps:
            say(f"{kind}: {axis} from {sizes[0]} to {sizes[-1]}")
            for size in sizes:
                names = ("hidden", "in_features") if axis == "hidden" else (axis,)
                shape = plan.base._replace(**dict.fromkeys(names, size))
                problem = make_problem(kind, shape)
                programs = {method: _step_of(problem, method) for method in BESIDE_AUTODIFF}
                seconds = plan.point_seconds
                records += _records(programs, seconds, "method", shape, cell=kind, axis=axis)
    return records


def unrolled(plan: Plan) -> list[Record]:
    """A training step and the forward pass by `scan` and by the Python loop, against T."""
    return [
        record
        for kind in drawn_cells(plan, PEER_CELLS)
        for what in ("training", "forward")
        for record in _one_unrolling(kind, what, plan)
    ]


def _one_unrolling(kind: str, what: str, plan: Plan) -> list[Record]:
    records, going = [], True
    for time in plan.unrolled:
        say(f"{kind}, {what}: scan{' and the unrolled loop' if going else ''}, T = {time}")
        problem = make_problem(kind, plan.unrolled_base._replace(time=time))
        applies = {"scan": scan_apply(problem.cell)}
        if going:
            applies["unroll"] = unroll_apply(problem.cell)
        programs = {driver: _program(problem, apply, what) for driver, apply in applies.items()}
        seconds = plan.point_seconds
        records += _records(programs, seconds, "driver", problem.shape, cell=kind, what=what)
        going = going and (programs["unroll"].compile_seconds or 0.0) < plan.compile_limit
    return records


def long_sequence(plan: Plan) -> list[Record]:
    """One long sequence of the LSTM: plain `lax.scan`, the engine, and its checkpoints."""
    say(f"LSTM, T = {plan.long.time}: plain, bptt, checkpointed")
    problem = make_problem("LSTM", plan.long)
    programs = {
        "lax.scan": _program(problem, plain(problem).apply, "training"),
        "bptt": _step_of(problem, "bptt"),
        "checkpointed": _step_of(problem, "checkpointed"),
    }
    return _records(programs, plan.step_seconds, "method", plan.long, cell="LSTM")


def growth(plan: Plan) -> list[Record]:
    """Time, memory and compile time of a small LSTM against long T."""
    records = []
    for time in plan.growth:
        say(f"LSTM, small, T = {time}")
        problem = make_problem("LSTM", plan.growth_base._replace(time=time))
        programs = {
            method: _step_of(problem, method) for method in ("bptt", "checkpointed", "autodiff")
        }
        records += _records(programs, plan.point_seconds, "method", problem.shape, cell="LSTM")
    return records


def run(plan: Plan) -> Record:
    """All parts that the plan asks for."""
    peers, skipped = chosen_sides(plan.against)
    of_pictures, skipped_too = chosen_sides(plan.against, convolutional.SIDES)
    skipped |= skipped_too
    for name, reason in skipped.items():
        say(f"skipped {name}: {reason}")
    parts: Record = {"skipped": skipped}
    if "peers" in plan.parts:
        parts["peers"] = versus_peers(plan, peers)
    if "convolutional" in plan.parts:
        parts["convolutional"] = pictures_versus_peers(plan, of_pictures)
    if "variants" in plan.parts:
        parts["variants"] = variants(plan)
    if "foreign" in plan.parts:
        parts["foreign"] = foreign_cells(plan)
    if "steps" in plan.parts:
        parts["steps"] = single_steps(plan)
    if "long" in plan.parts and "LSTM" in plan.cells:
        parts["long"], parts["growth"] = long_sequence(plan), growth(plan)
    if "unrolled" in plan.parts:
        parts["unrolled"] = unrolled(plan)
    if "sweeps" in plan.parts:
        parts["sweeps"] = sweeps(plan)
    return parts
