"""The parts of a run. Each gives records of plain numbers, ready for JSON."""

import sys
from collections.abc import Iterable
from typing import Any

import jaxrnn
from benchmarks import agreement, foreign, streaming
from benchmarks.measure import Program, compile_together, compiled, take_turns, training_step
from benchmarks.peers import OPPONENTS, OWN, SIDES, TWO_DEVICES, absent
from benchmarks.plan import PEER_CELLS, VARIANTS, Plan, drawn_cells
from benchmarks.sides import Missing, Problem, make_problem, make_variant, scan_apply

Record = dict[str, Any]


def say(line: str) -> None:
    """Progress, beside the results."""
    print(line, file=sys.stderr, flush=True)


def chosen_sides(against: Iterable[str] | None) -> tuple[list[str], dict[str, str]]:
    """The sides that can take part, jaxrnn first, and why the others are skipped."""
    wanted = [
        OWN,
        TWO_DEVICES,
        *(name for name in OPPONENTS if against is None or name in set(against)),
    ]
    skipped = absent(wanted)
    return [name for name in wanted if name not in skipped], skipped


def versus_peers(plan: Plan, names: list[str]) -> list[Record]:
    """One training step and the forward pass of every side, for each cell and shape."""
    return [
        _one_comparison(make_problem(kind, shape), names, plan)
        for kind in plan.cells
        if kind in PEER_CELLS
        for shape in plan.shapes
    ]


def _one_comparison(problem: Problem, names: list[str], plan: Plan) -> Record:
    say(f"{problem.kind} {problem.shape.label}: compiling and comparing {len(names)} sides")
    sides, pending, missing = {}, [], {}
    for name in names:
        try:
            side = SIDES[name](problem)
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


def _step_of(problem: Problem, method: str, seed: int | None = None) -> Program:
    return compiled(
        training_step(scan_apply(problem.cell, method, seed)),
        problem.params,
        problem.xs,
        problem.dys,
    )


def _records(programs: dict[str, Program], seconds: float, side: str, **where: Any) -> list[Record]:
    times = take_turns({name: program.call for name, program in programs.items()}, seconds)
    return [
        {**where, side: name, "step_ms": times[name], **program.facts()}
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
        programs = {method: _step_of(problem, method, seed=0) for method in ("bptt", "autodiff")}
        records += _records(
            programs, plan.point_seconds, "method", cell=name, shape=plan.base._asdict()
        )
    return records


def foreign_cells(plan: Plan) -> list[Record]:
    """A training step of Flax's own cells, in jaxrnn's engine and in Flax's RNN."""
    records = []
    for name in foreign.CELLS:
        for shape in plan.foreign:
            say(f"{name} {shape.label}")
            records += _records(
                foreign.programs(name, shape),
                plan.forward_seconds,
                "side",
                cell=name,
                shape=shape._asdict(),
            )
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
                shape = plan.base._replace(
                    **({"hidden": size, "in_features": size} if axis == "hidden" else {axis: size})
                )
                problem = make_problem(kind, shape)
                programs = {method: _step_of(problem, method) for method in ("bptt", "autodiff")}
                records += _records(
                    programs,
                    plan.point_seconds,
                    "method",
                    cell=kind,
                    axis=axis,
                    shape=shape._asdict(),
                )
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
        applies: dict[str, Any] = {"scan": scan_apply(problem.cell)}
        if going:
            applies["unroll"] = lambda params, xs, cell=problem.cell: jaxrnn.unroll(
                cell, params, xs
            )[1]
        arguments = (
            (problem.params, problem.xs, problem.dys)
            if what == "training"
            else (problem.params, problem.xs)
        )
        programs = {
            driver: compiled(training_step(apply) if what == "training" else apply, *arguments)
            for driver, apply in applies.items()
        }
        records += _records(
            programs,
            plan.point_seconds,
            "driver",
            cell=kind,
            what=what,
            shape=problem.shape._asdict(),
        )
        going = going and (programs["unroll"].compile_seconds or 0.0) < plan.compile_limit
    return records


def long_sequence(plan: Plan) -> list[Record]:
    """One long sequence of the LSTM: plain `lax.scan`, the engine, and the engine with checkpoints."""
    say(f"LSTM, T = {plan.long.time}: plain, bptt, checkpointed")
    problem = make_problem("LSTM", plan.long)
    side: Any = SIDES["lax.scan"](problem)
    programs = {
        "lax.scan": compiled(training_step(side.apply), problem.params, problem.xs, problem.dys),
        "bptt": _step_of(problem, "bptt"),
        "checkpointed": _step_of(problem, "checkpointed"),
    }
    return _records(programs, plan.step_seconds, "method", cell="LSTM", shape=plan.long._asdict())


def growth(plan: Plan) -> list[Record]:
    """Time, memory and compile time of a small LSTM against long T."""
    records = []
    for time in plan.growth:
        say(f"LSTM, small, T = {time}")
        problem = make_problem("LSTM", plan.growth_base._replace(time=time))
        programs = {
            method: _step_of(problem, method) for method in ("bptt", "checkpointed", "autodiff")
        }
        records += _records(
            programs, plan.point_seconds, "method", cell="LSTM", shape=problem.shape._asdict()
        )
    return records


def run(plan: Plan) -> Record:
    """All parts that the plan asks for."""
    names, skipped = chosen_sides(plan.against)
    for name, reason in skipped.items():
        say(f"skipped {name}: {reason}")
    parts: Record = {"skipped": skipped}
    if "peers" in plan.parts:
        parts["peers"] = versus_peers(plan, names)
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
