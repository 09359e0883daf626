"""Compile, and time by taking turns."""

import dataclasses
import gc
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax import Array

TURN_SECONDS = 0.03
LONG = 0.1  # seconds, of a call that is timed once in a turn
VERY_LONG = 0.5  # and of one whose first call counts
SLOW = 2.0  # times as long as the fastest side
MIN_ROUNDS = 3
MAX_ROUNDS = 200

Call = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function with its arguments: call it and the result is there."""

    call: Call
    compile_seconds: float | None = None
    temp_bytes: int | None = None
    program_bytes: int | None = None

    def facts(self) -> dict[str, Any]:
        """What is known without running it."""
        return {
            "compile_s": self.compile_seconds,
            "temp_bytes": self.temp_bytes,
            "program_bytes": self.program_bytes,
        }


@dataclasses.dataclass(frozen=True)
class Traced:
    """A function that is traced for its arguments, ready to be compiled."""

    lowered: Any
    args: tuple[Any, ...]

    def compile(self) -> Program:
        """Compile it, and time that."""
        start = time.perf_counter()
        executable = self.lowered.compile()
        seconds = time.perf_counter() - start
        memory = executable.memory_analysis()
        return Program(
            call=lambda: jax.block_until_ready(executable(*self.args)),
            compile_seconds=round(seconds, 4),
            temp_bytes=getattr(memory, "temp_size_in_bytes", None),
            program_bytes=_program_bytes(executable),
        )


def normal(seed: int, *shape: int) -> Array:
    """Random numbers; NumPy's, for JAX would compile a program for each shape."""
    return jax.device_put(np.random.default_rng(seed).standard_normal(shape, np.float32))


def untimed(function: Callable[..., Any], *args: Any) -> Any:
    """Call what nobody times, as one program that is not optimised, for that compiles faster."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(function, compiler_options=options)(*args)


def traced(function: Callable[..., Any], *args: Any) -> Traced:
    """Trace a function of arrays, which are passed as arguments: none becomes a constant of the
    program.
    """
    return Traced(jax.jit(function).lower(*args), args)


def compiled(function: Callable[..., Any], *args: Any) -> Program:
    """Trace and compile."""
    return traced(function, *args).compile()


def compile_together(programs: Sequence[Traced | Program]) -> list[Program]:
    """Compile many at once, on all cores. How long each took is not kept, for they disturb each
    other.
    """

    def finish(program: Traced | Program) -> Program:
        return (
            dataclasses.replace(program.compile(), compile_seconds=None)
            if isinstance(program, Traced)
            else program
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(finish, programs))


def _program_bytes(executable: Any) -> int | None:
    """The size of the serialised machine code; None where the backend cannot tell."""
    try:
        return len(executable.runtime_executable().serialize())
    except (AttributeError, NotImplementedError, jax.errors.JaxRuntimeError):
        return None


def training_step(apply: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """`(weights, xs, dys) -> (ys, (dweights, dxs))`: the forward pass, and the gradients of all
    that goes in.
    """

    def step(weights: Any, xs: Any, dys: Any) -> Any:
        ys, pull = jax.vjp(apply, weights, xs)
        return ys, pull(dys)

    return step


def take_turns(calls: Mapping[str, Call], seconds: float) -> dict[str, dict[str, Any]]:
    """Time all sides, one after the other in a new order each round, until the seconds are over.

    A turn is a few calls, of which the fastest counts: the first may have to bring its data back
    into the cache. What other processes do meanwhile hits all sides alike, and the minimum over
    rounds is the least disturbed. There are at least three rounds. A side that takes twice as long
    as the fastest has no turn after these. If its call is long, it has one, and none if very long.

    Returns:
        For each side the minimum, median and maximum over rounds, in milliseconds, and the number
        of rounds.
    """
    once = {name: _once(call) for name, call in calls.items()}
    best, turns = dict(once), {name: [] for name in calls}
    deadline, shuffle = time.perf_counter() + seconds, random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        for done in range(MAX_ROUNDS):
            if done >= MIN_ROUNDS and time.perf_counter() >= deadline:
                break
            spare = VERY_LONG if not done else LONG if done < MIN_ROUNDS else 0.0
            enough = max(spare, SLOW * min(best.values(), default=0.0))
            order = [name for name in calls if best[name] <= enough]
            shuffle(order)
            for name in order:
                turns[name].append(min(_timed(calls[name]) for _ in range(_repeats(once[name]))))
                best[name] = min(best[name], turns[name][-1])
    finally:
        gc.enable()
    return {name: spread(times or [once[name]]) for name, times in turns.items()}


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """Minimum, median and maximum in milliseconds."""
    low, middle, high = (
        round(1e3 * value, 4) for value in (min(seconds), statistics.median(seconds), max(seconds))
    )
    return {"min": low, "median": middle, "max": high, "rounds": len(seconds)}


def say(line: str) -> None:
    """Progress, beside the results."""
    print(line, file=sys.stderr, flush=True)


def _once(call: Call) -> float:
    """The seconds of a call; the first may be slow to start, which little matters to a long one."""
    first = _timed(call)
    return first if first > VERY_LONG else _timed(call)


def _repeats(once: float) -> int:
    return 1 if once > LONG else min(20, max(2, math.ceil(TURN_SECONDS / once)))


def _timed(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
