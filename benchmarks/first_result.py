"""How long until there is a first result: to import, to trace and to compile, and to call without
`jit`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

import jaxrnn
from benchmarks.comparison import Comparison, Record
from benchmarks.measure import Call, normal, say, spread, take_turns, training_step
from benchmarks.plan import Plan, Shape
from benchmarks.sides import drawn, scan_apply, scan_by_hand

COMPILED_TIMES = 2
CALLS = 20
SMALL = Shape(2, 8, 4, 8)


def imports(times: int) -> list[Record]:
    """`import jaxrnn` and `import jax`, each in a process of its own, without its start."""
    code = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    # the first of each writes byte code, and is not counted
    found: dict[str, list[float]] = {"jaxrnn": [], "jax": []}
    for _ in range(times + 1):
        for name, seconds in found.items():
            command = [sys.executable, "-c", code.format(name)]
            seconds.append(float(subprocess.check_output(command, env=os.environ)))
    return [
        {"what": "import", "side": name, "step_ms": spread(seconds[1:])}
        for name, seconds in found.items()
    ]


def compiling(base: Shape, times: tuple[int, ...]) -> list[Record]:
    """To trace and to compile a training step of two layers of LSTM, for each number of steps."""
    cell = jaxrnn.Stack([jaxrnn.LSTM(base.hidden), jaxrnn.LSTM(base.hidden)])
    params = drawn(cell, base.in_features)
    found = []
    for steps in times:
        shape = base._replace(time=steps)
        xs = normal(1, steps, shape.batch, shape.in_features)
        dys = normal(2, steps, shape.batch, shape.hidden)
        given = (params, xs, dys)
        sides = {"jaxrnn": scan_apply(cell), "lax.scan": _two_layers}
        what = f"trace and compile, T = {steps}"
        calls = {name: (training_step(apply), given) for name, apply in sides.items()}
        Comparison(what, calls).programs()
        found += [
            {"what": what, "side": name, **_first(call, given)}
            for name, (call, given) in calls.items()
        ]
    return found


def _two_layers(params: Any, xs: Array) -> Array:
    for of_layer in params:
        xs = scan_by_hand("LSTM", of_layer, xs)
    return xs


def _first(function: Callable[..., Any], given: tuple[Any, ...]) -> Record:
    """Seconds of tracing, which includes lowering, and of compiling; of all, the fastest."""
    tracing, compiling = [], []
    for _ in range(COMPILED_TIMES):
        jax.clear_caches()
        start = time.perf_counter()
        lowered = jax.jit(function).lower(*given)
        traced = time.perf_counter()
        lowered.compile()
        tracing.append(traced - start)
        compiling.append(time.perf_counter() - traced)
    both = [traced + compiled for traced, compiled in zip(tracing, compiling, strict=True)]
    return {
        "step_ms": spread(both),
        "trace_ms": spread(tracing),
        "compile_ms": spread(compiling),
    }


def calling(seconds: float) -> list[Record]:
    """`jaxrnn.scan` without `jit`, again and again, and what `jit` compiled of it."""
    cell = jaxrnn.LSTM(SMALL.hidden)
    params = drawn(cell, SMALL.in_features)
    xs = normal(1, SMALL.time, SMALL.batch, SMALL.in_features)
    run, compiled = scan_apply(cell), jax.jit(scan_apply(cell))
    Comparison("call", {}).check({"jaxrnn": run(params, xs), "compiled": compiled(params, xs)})

    def often(function: Callable[..., Any]) -> Call:
        def call() -> None:
            for _ in range(CALLS):
                jax.block_until_ready(function(params, xs))

        return call

    times = take_turns({"jaxrnn": often(run), "compiled": often(compiled)}, seconds)
    return [
        {"what": f"call, {CALLS} times", "side": name, "step_ms": spent, "calls": CALLS}
        for name, spent in times.items()
    ]


def records(plan: Plan) -> list[Record]:
    """All three."""
    say("first results: imports, compilations, calls")
    return [
        *imports(plan.imports),
        *compiling(plan.first_base, plan.first_times),
        *calling(plan.point_seconds),
    ]
