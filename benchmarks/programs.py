"""Read the text of a compiled program: which operations stand in which loop, how often they run,
and which of them exchange data between devices.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

Computations = dict[str, list[tuple[str, str]]]
"""The name and the line of each operation of each computation."""

_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_OPERATION = re.compile(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*)$")
_NAME = re.compile(r"(?:^|\s)([a-z][a-z0-9\-]*)\(")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_LIMIT = re.compile(r"[su](?:32|64)\[\]\S* constant\((\d+)\)")
_CALLED = re.compile(r"(?:body|to_apply|calls|\w+_computation)=%?([\w.\-]+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')

CALLS = ("while", "call", "conditional", "async-start")
NO_KERNEL = {
    *CALLS,
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"),
    *("after-all", "partition-id", "replica-id"),
    *("async-done", "copy-done", "fusion-done"),  # their start was counted
}
"""Operations that launch nothing themselves."""

COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all"),
    *("collective-permute", "collective-broadcast"),
)
"""Operations that exchange data between devices."""


class Operation(NamedTuple):
    """An operation, and the loops that it stands in, outermost first, by how often each turns."""

    name: str
    line: str
    loops: tuple[int, ...]

    @property
    def times(self) -> int:
        """How often it runs."""
        return math.prod(self.loops)

    @property
    def cycles(self) -> int:
        """Of one run, as a TPU's compiler estimates them."""
        found = _CYCLES.search(self.line)
        return int(found[1]) if found else 0


class Program:
    """The operations of a compiled program."""

    def __init__(self, text: str) -> None:
        self._entry, self._computations = _parse(text)

    def operations(self) -> Iterator[Operation]:
        """All outside fusions, in the order of the text, a loop before what stands in it."""
        return self._operations(self._entry, ())

    def turns(self) -> list[int]:
        """How often each loop turns, in the order of `operations`."""
        return [self._turns(line) for name, line, _ in self.operations() if name == "while"]

    def kernels(self) -> int:
        """How many kernels and copies one run launches."""
        return sum(op.times for op in self.operations() if op.name not in NO_KERNEL)

    def cycles(self) -> int:
        """How many one run takes, as a TPU's compiler estimates."""
        return sum(op.times * op.cycles for op in self.operations())

    def collectives(self) -> list[Operation]:
        """Where devices exchange data, within fusions or not."""
        return [
            op
            for op in self.operations()
            if any(name.removesuffix("-start") in COLLECTIVES for name in self._within(op))
        ]

    def _operations(self, name: str, loops: tuple[int, ...]) -> Iterator[Operation]:
        for operation, line in self._computations.get(name, []):
            yield Operation(operation, line, loops)
            if operation in CALLS:
                inner = (*loops, self._turns(line)) if operation == "while" else loops
                for called in _CALLED.findall(line):
                    yield from self._operations(called, inner)

    def _within(self, operation: Operation) -> Iterator[str]:
        """The names of an operation and of those that it fuses."""
        yield operation.name
        if operation.name not in CALLS:
            for called in _CALLED.findall(operation.line):
                for name, line in self._computations.get(called, []):
                    yield from self._within(Operation(name, line, ()))

    def _turns(self, line: str) -> int:
        """How often a loop turns: what the compiler says, or else the number that its condition
        compares with; once, if neither is there.
        """
        if known := _TRIPS.search(line):
            return int(known[1])
        condition = _CONDITION.search(line)
        lines = [line for _, line in self._computations.get(condition[1], [])] if condition else []
        for called in [called for line in lines for called in _CALLED.findall(line)]:
            lines += [line for _, line in self._computations.get(called, [])]
        return max((int(limit) for line in lines for limit in _LIMIT.findall(line)), default=1)


def kernels(text: str) -> int:
    """How many kernels and copies one run of the program launches: where steps are short, their
    number is the time.
    """
    return Program(text).kernels()


def _parse(text: str) -> tuple[str, Computations]:
    """The name of the entry computation, and all computations."""
    entry, computations, current = "", {}, []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif (operation := _OPERATION.match(line)) and (name := _NAME.search(operation[1])):
            current.append((name[1], operation[1]))
    return entry, computations
