"""What is promised of compiled programs, and what is aimed at where that is more."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.ahead.sides import OURS
from benchmarks.plan import Shape

Record = dict[str, Any]

SMALL = 2**20
"""Temporaries of fewer bytes are not compared: a TPU's compiler has all of a small program's in
its own memory.
"""


class Broken(NamedTuple):
    """A promise that does not hold."""

    where: str
    what: str
    found: float
    most: float

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.found:.2f}, promised at most {self.most:g}"


@dataclasses.dataclass(frozen=True)
class Promise:
    """That a number of a case is small."""

    what: str
    measure: Callable[[Record], float | None]
    """None where there is nothing to compare."""
    most: float
    goal: float
    device: str
    applies: Callable[[Record], bool] = lambda row: True

    def found(self, rows: list[Record]) -> dict[str, float]:
        """The number of each case that this is about."""
        about = [row for row in rows if row["device"] == self.device and self.applies(row)]
        found = {label(row): self.measure(row) for row in about}
        return {where: number for where, number in found.items() if number is not None}

    def broken(self, rows: list[Record]) -> Iterator[Broken]:
        for where, number in self.found(rows).items():
            if number > self.most:
                yield Broken(where, self.what, number, self.most)

    def line(self, rows: list[Record]) -> str:
        """What was found, as text."""
        found = self.found(rows)
        if not found:
            return f"{self.device}, {self.what}: nothing to compare"
        met = sum(number <= self.goal for number in found.values())
        return (
            f"{self.device}, {self.what}: {min(found.values()):.2f} to {max(found.values()):.2f}, "
            f"promised at most {self.most:g}; goal {self.goal:g}, met by {met} of {len(found)}"
        )


def label(row: Record) -> str:
    return f"{row['device']}, {row['cell']} {row['shape']} {row['dtype']}"


def steps(row: Record) -> int:
    """How many time steps a case has."""
    return Shape.parse(row["shape"]).time


def per_step(kind: str) -> Callable[[Record], float]:
    """What a time step costs."""
    return lambda row: row["sides"][OURS][kind]["cost"] / steps(row)


def beside(kind: str, figure: str) -> Callable[[Record], float | None]:
    """The ratio to the best of the peers."""

    def ratio(row: Record) -> float | None:
        own, best = row["sides"][OURS][kind][figure], least(row, kind, figure)
        if best is None or (figure == "temp_bytes" and max(own, best) < SMALL):
            return None
        return own / max(best, 1)

    return ratio


def least(row: Record, kind: str, figure: str) -> int | None:
    """Of the peers, if there are any."""
    return min(
        (
            figures[kind][figure]
            for side, figures in row["sides"].items()
            if not side.startswith(OURS)
        ),
        default=None,
    )


def gated(row: Record) -> bool:
    """Whether it is an LSTM or a GRU."""
    return row["cell"] in ("LSTM", "GRU")


def _gated_and_long(row: Record) -> bool:
    return gated(row) and steps(row) > SHORT


def _rows(row: Record) -> bool:
    return gated(row) and Shape.parse(row["shape"]).batch > 1


def _one_row(row: Record) -> bool:
    return Shape.parse(row["shape"]).batch == 1


SHORT = 64
"""Steps of a sequence of which a quarter, a block, is no more than 16: each block costs some thirty
launches of its own, and longer ones would cost more than half of the leanest peer's temporaries.
"""

FORWARD, TRAINING = per_step("forward"), per_step("training")
FORWARD_COST, TRAINING_COST = beside("forward", "cost"), beside("training", "cost")
TEMPORARIES = beside("training", "temp_bytes")

GPU, TPU = "NVIDIA H100", "TPU v5e"
PROMISES = (
    Promise("launches of a step forward, LSTM and GRU", FORWARD, 2.7, 2.5, GPU, gated),
    Promise(
        f"launches of a step of training, LSTM and GRU, more than {SHORT} steps",
        TRAINING,
        *(7.0, 7.0),
        GPU,
        _gated_and_long,
    ),
    Promise("launches of a step of training, LSTM and GRU", TRAINING, 8.5, 7.0, GPU, gated),
    Promise("launches forward, of the best peer's", FORWARD_COST, 1.0, 1.0, GPU),
    Promise("launches of training, of the best peer's", TRAINING_COST, 1.0, 1.0, GPU),
    Promise(
        "temporaries of training, of the leanest peer's, LSTM and GRU, batch of two and more",
        TEMPORARIES,
        *(0.5, 0.5),
        GPU,
        _rows,
    ),
    # of which there are few, and a few MiB of a product's workspace count
    Promise(
        "temporaries of training, of the leanest peer's, batch of one",
        TEMPORARIES,
        1.5,
        0.5,
        GPU,
        _one_row,
    ),
    Promise(
        "temporaries of training, of the leanest peer's, all cells", TEMPORARIES, 1.5, 0.5, GPU
    ),
    Promise("cycles forward, of the best peer's", FORWARD_COST, 1.6, 1.0, TPU),
    Promise("cycles of training, of the best peer's", TRAINING_COST, 1.1, 1.0, TPU),
    Promise("temporaries of training, of the leanest peer's", TEMPORARIES, 0.5, 0.5, TPU),
)


COLLECTIVES_IN_LOOPS = {
    (GPU, "Attention, dot"): 1,
    (GPU, "Attention, additive"): 1,
    (GPU, "ConvLSTM"): 3,
    (TPU, "ConvLSTM"): 8,
}
"""How many loops may hold if the compiler alone hears of the split; none in all other programs.
That of dot attention sums the gradients of the recurrent weight and the bias, once for each block.
"""


def broken(rows: list[Record], splits: list[Record]) -> list[Broken]:
    """All promises that do not hold; of split batches, that no loop holds a collective."""
    found = [found for promise in PROMISES for found in promise.broken(rows)]
    for row in splits:
        inside = row["collectives"]["inside"]
        known = {} if row["told"] == "types" else COLLECTIVES_IN_LOOPS
        most = known.get((row["device"], row["cell"]), 0)
        if inside > most:
            where = f"{label(row)}, told by {row['told']}"
            found.append(Broken(where, "collectives in loops", inside, most))
    return found
