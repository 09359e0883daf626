"""Programs that compute the same, of which jaxrnn's is one."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from benchmarks.agreement import Disagreement, distance, tolerance
from benchmarks.measure import Program, compile_together, take_turns, traced

Record = dict[str, Any]
Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of arrays, and what it is given."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """By the name of each side, a function and its arguments. All give the same, in one layout."""

    what: str
    sides: Mapping[str, Call]

    def programs(self) -> dict[str, Program]:
        """All sides, compiled.

        Raises:
            Disagreement: they do not compute the same.
        """
        pending = [traced(call, *given) for call, given in self.sides.values()]
        programs = dict(zip(self.sides, compile_together(pending), strict=True))
        self.check({side: program.call() for side, program in programs.items()})
        return programs

    def check(self, results: Mapping[str, Any]) -> None:
        """Compare what the sides gave with what the last one did.

        Raises:
            Disagreement: naming each that is off, and by how much.
        """
        *_, reference = results
        wanted, allowed = jax.tree.leaves(results[reference]), tolerance()
        errors = {
            side: max(map(distance, jax.tree.leaves(result), wanted))
            for side, result in results.items()
        }
        wrong = [f"{side} is off by {off:.1e}" for side, off in errors.items() if not off < allowed]
        if wrong:
            raise Disagreement(
                f"{self.what}: {', '.join(wrong)}, relative to the norm of {reference} "
                f"(allowed {allowed:g})"
            )

    def records(self, seconds: float, **where: Any) -> list[Record]:
        """A record of each side, after turns of so many seconds."""
        programs = self.programs()
        times = take_turns({side: program.call for side, program in programs.items()}, seconds)
        return [
            {**where, "what": self.what, "side": side, "step_ms": times[side], **program.facts()}
            for side, program in programs.items()
        ]
