"""What is compiled: cases that stand for the others, few enough for five minutes on two cores."""

import dataclasses

from benchmarks.ahead.sides import CELLS, Case
from benchmarks.plan import Shape

SHAPES = (
    Shape(64, 128, 256, 256),
    Shape(16, 1024, 768, 768),
    Shape(1, 512, 256, 256),
    Shape(32, 2048, 128, 128),
    Shape(256, 64, 512, 512),
)
"""Those that `benchmarks.accelerator` times where there is a device."""

SWEEP = (
    Shape(1, 16, 16, 16),
    Shape(1, 128, 768, 768),
    Shape(1, 512, 256, 256),
    Shape(1, 2048, 128, 128),
    Shape(2, 128, 256, 768),
    Shape(4, 64, 256, 256),
    Shape(4, 1024, 32, 64),
    Shape(8, 256, 64, 64),
    Shape(8, 2048, 256, 256),
    Shape(16, 100, 16, 32),
    Shape(16, 256, 512, 512),
    Shape(16, 1024, 768, 768),
    Shape(32, 32, 768, 256),
    Shape(32, 64, 128, 128),
    Shape(32, 1000, 64, 128),
    Shape(32, 2048, 128, 128),
    Shape(64, 64, 16, 512),
    Shape(64, 128, 256, 256),
    Shape(64, 512, 64, 128),
    Shape(128, 100, 128, 256),
    Shape(128, 256, 128, 128),
    Shape(256, 16, 64, 64),
    Shape(256, 64, 512, 512),
    Shape(256, 256, 128, 64),
)
"""Batch 1 to 256, 16 to 2,048 steps, 16 to 768 features in and hidden."""

OTHERS = {
    "Attention, dot": Shape(32, 60, 256, 256),
    "Attention, additive": Shape(32, 60, 256, 256),
    "Stack": Shape(64, 128, 256, 256),
    "Bidirectional": Shape(64, 128, 256, 256),
    "ConvLSTM": Shape(8, 32, 4, 16),
}
"""One size of each."""

SPLIT = ("LSTM", "GRU", *OTHERS)
"""What is compiled with its batch over four devices, too."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to compile for each target."""

    cases: list[Case]
    splits: list[Case]
    """With the batch over all devices."""


def representative() -> Plan:
    """The cells that peers have, each dtype with each of them and with every second shape; the
    others at one size; and the splits.
    """
    cases = [
        Case(cell, shape, ("float32", "bfloat16")[(row + column) % 2])
        for row, shape in enumerate(SHAPES)
        for column, cell in enumerate(("LSTM", "GRU"))
    ]
    cases += [Case("Elman", SHAPES[0]), Case("Elman", SHAPES[0], "bfloat16")]
    cases += [Case(cell, shape) for cell, shape in OTHERS.items()]
    return Plan(cases, [Case(cell, OTHERS.get(cell, SHAPES[0])) for cell in SPLIT])


def quick() -> Plan:
    """One of each kind, at sizes that compile at once."""
    case = Case("GRU", Shape(4, 32, 8, 8))
    return Plan([case], [case])


def chosen(cells: tuple[str, ...], shapes: tuple[str, ...], dtypes: tuple[str, ...]) -> Plan:
    """Every combination, on one device."""
    cases = [
        Case(cell, Shape.parse(shape), dtype)
        for shape in shapes
        for dtype in dtypes
        for cell in cells
    ]
    return Plan(cases, [])


def check(cells: tuple[str, ...]) -> None:
    """Raise ValueError if there is no such cell."""
    for cell in cells:
        if cell not in CELLS:
            raise ValueError(f"no cell is called {cell!r}; there are {'; '.join(CELLS)}")
