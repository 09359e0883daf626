"""The parts of a run that follow one size: a step at a time, sweeps, the unrolled loop, long
sequences.
"""

from typing import Any, Literal

from benchmarks import streaming
from benchmarks.measure import Program, compiled, say, take_turns, training_step
from benchmarks.plan import PEER_CELLS, Plan, Shape, drawn_cells
from benchmarks.sides import Apply, Problem, make_problem, plain, scan_apply, unroll_apply
from jaxrnn.methods import MethodLike

Record = dict[str, Any]
BESIDE_AUTODIFF: tuple[Literal["bptt", "autodiff"], ...] = ("bptt", "autodiff")


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
        shape = plan.unrolled_base._replace(time=time)
        problem = make_problem(kind, shape)
        applies = {"scan": scan_apply(problem.cell)}
        if going:
            applies["unroll"] = unroll_apply(problem.cell)
        programs = {driver: _program(problem, apply, what) for driver, apply in applies.items()}
        seconds = plan.point_seconds
        records += _records(programs, seconds, "driver", shape, cell=kind, what=what)
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
        shape = plan.growth_base._replace(time=time)
        problem = make_problem("LSTM", shape)
        programs = {
            method: _step_of(problem, method) for method in ("bptt", "checkpointed", "autodiff")
        }
        records += _records(programs, plan.point_seconds, "method", shape, cell="LSTM")
    return records


def _step_of(problem: Problem, method: MethodLike) -> Program:
    return _program(problem, scan_apply(problem.cell, method), "training")


def _program(problem: Problem, apply: Apply, what: str) -> Program:
    """A training step, or the forward pass."""
    if what == "training":
        return compiled(training_step(apply), problem.params, problem.xs, problem.dys)
    return compiled(apply, problem.params, problem.xs)


def _records(
    programs: dict[str, Program], seconds: float, side: str, shape: Shape, **where: Any
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
