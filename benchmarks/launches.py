"""Count the kernels that a program compiled for a GPU runs, from its text: where steps are short,
their number is the time.
"""

import re

CALLS = ("while", "call", "conditional", "async-start")
NO_KERNEL = {
    *CALLS,
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"),
    *("after-all", "partition-id", "replica-id"),
    *("async-done", "copy-done", "fusion-done"),  # their start was counted
}
"""Operations that launch nothing themselves."""

Computations = dict[str, list[tuple[str, str]]]
"""The name and the line of each operation of each computation."""

_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_OPERATION = re.compile(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*)$")
_NAME = re.compile(r"(?:^|\s)([a-z][a-z0-9\-]*)\(")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(?:body|to_apply|calls|\w+_computation)=%?([\w.\-]+)")


def kernels(text: str) -> int:
    """How many kernels and copies one run of the program launches. A loop counts as often as it
    turns: once, if the compiler does not say how often.
    """
    entry, computations = _parse(text)
    return _launched(entry, computations)


def _launched(name: str, computations: Computations) -> int:
    """By one run of one computation, outside fusions, each of which is one kernel."""
    total = 0
    for operation, line in computations.get(name, []):
        if operation in CALLS:
            trips = _TRIPS.search(line) if operation == "while" else None
            inner = sum(_launched(called, computations) for called in _CALLED.findall(line))
            total += inner * int(trips[1] if trips else 1)
        total += operation not in NO_KERNEL
    return total


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
