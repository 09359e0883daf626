"""From records to ratios."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from benchmarks.peers import JAX_PEERS, OWN, TORCH, TWO_DEVICES

Record = dict[str, Any]


class Ratio(NamedTuple):
    """jaxrnn beside the best opponent: it is faster above 1, and leaner (memory) below 1."""

    value: float
    own: float
    other: float
    opponent: str


class Summary(NamedTuple):
    """One ratio over several shapes."""

    mean: float
    worst: float
    where: str
    count: int


METRICS = {
    "step": "training step, speed against the fastest JAX peer",
    "step_split": "– jaxrnn with its batch split over two CPU devices",
    "forward": "forward alone, speed against the fastest JAX peer",
    "forward_split": "– jaxrnn with its batch split over two CPU devices",
    "torch": "training step, speed against PyTorch",
    "memory": "temporaries, share of the leanest JAX peer",
}
LEANER = ("memory",)
"""The metrics of which less is better."""


def ratios(row: Record) -> dict[str, Ratio]:
    """What one cell and shape has to say about each metric; one that cannot be formed is left out.

    Against JAX peers, on one device, jaxrnn runs on one device or, split, on the better of one and
    two. Against PyTorch, which uses all threads, it may split the batch, too."""
    sides = row["sides"]
    peers = [name for name in JAX_PEERS if name in sides]
    found = {}
    if peers:
        for metric in ("step", "forward"):
            found[metric] = _faster(sides, f"{metric}_ms", [OWN], peers)
            found[f"{metric}_split"] = _faster(sides, f"{metric}_ms", [OWN, TWO_DEVICES], peers)
        leanest = min(peers, key=lambda name: sides[name]["step"]["temp_bytes"])
        own, other = (sides[name]["step"]["temp_bytes"] for name in (OWN, leanest))
        found["memory"] = Ratio(own / other, own, other, leanest)
    if torch := [name for name in TORCH if name in sides]:
        found["torch"] = _faster(sides, "step_ms", [OWN, TWO_DEVICES], torch)
    return found


def _faster(sides: Record, what: str, own: list[str], others: list[str]) -> Ratio:
    times = {name: sides[name][what]["min"] for name in (*own, *others) if name in sides}
    ours = min(times[name] for name in own if name in times)
    opponent = min(others, key=lambda name: times[name])
    return Ratio(times[opponent] / ours, ours, times[opponent], opponent)


def geometric_mean(values: Iterable[float]) -> float:
    """The n-th root of the product."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def summarise(rows: list[Record], metric: str) -> Summary | None:
    """The geometric mean over shapes, and the worst shape; None where no row has the metric."""
    found = [(ratios(row)[metric].value, label(row)) for row in rows if metric in ratios(row)]
    if not found:
        return None
    worst, where = (max if metric in LEANER else min)(found)
    return Summary(geometric_mean(value for value, _ in found), worst, where, len(found))


def label(row: Record) -> str:
    """`LSTM 32x128x128x128`."""
    return f"{row['cell']} {size_label(row['shape'])}"


def size_label(shape: dict[str, int]) -> str:
    """`32x128x128x128`: batch, time, in, hidden, or whatever sizes there are."""
    return "x".join(map(str, shape.values()))


def by_cell(rows: list[Record]) -> dict[str, list[Record]]:
    """The rows of each cell, and all of them."""
    return {
        **{cell: [row for row in rows if row["cell"] == cell] for cell in cells_of(rows)},
        "all": rows,
    }


def cells_of(rows: list[Record]) -> list[str]:
    """The cells in order of appearance."""
    return list(dict.fromkeys(row["cell"] for row in rows))
