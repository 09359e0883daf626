"""From records to ratios."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from benchmarks.limit import milliseconds
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
    "forward": "forward alone, speed against the fastest JAX peer",
    "two_devices": "training step, speed of two devices against one (batch of 16 and more)",
    "torch": "training step, speed against PyTorch",
    "memory": "temporaries, share of the leanest JAX peer",
    "limit": "training step, share of the limit",
    "limit_forward": "forward alone, share of the limit",
}
LEANER = ("memory",)
"""The metrics of which less is better."""
SHARES = ("memory", "limit", "limit_forward")
SPLIT_FROM = 16
"""Rows of the smallest batch that is worth two devices."""


def ratios(row: Record) -> dict[str, Ratio]:
    """What one cell and shape has to say about each metric; one that cannot be formed is left out.

    jaxrnn runs on one device, which may use all cores, as its peers do; only where two devices are
    told of, on two. The limit is the time of a step's matrix products alone."""
    sides = row["sides"]
    peers = [name for name in JAX_PEERS if name in sides]
    found = {}
    if peers:
        found["step"] = _faster(sides, "step_ms", OWN, peers)
        found["forward"] = _faster(sides, "forward_ms", OWN, peers)
        leanest = min(peers, key=lambda name: sides[name]["step"]["temp_bytes"])
        own, other = (sides[name]["step"]["temp_bytes"] for name in (OWN, leanest))
        found["memory"] = Ratio(own / other, own, other, leanest)
    if TWO_DEVICES in sides and row["shape"]["batch"] >= SPLIT_FROM:
        found["two_devices"] = _faster(sides, "step_ms", TWO_DEVICES, [OWN])
    if torch := [name for name in TORCH if name in sides]:
        found["torch"] = _faster(sides, "step_ms", OWN, torch)
    for metric, what in (("limit", "step"), ("limit_forward", "forward")):
        if products := row.get("products", {}).get(what):
            own, alone = sides[OWN][f"{what}_ms"]["min"], milliseconds(products)
            found[metric] = Ratio(alone / own, own, alone, "products")
    return found


def _faster(sides: Record, what: str, own: str, others: list[str]) -> Ratio:
    opponent = min(others, key=lambda name: sides[name][what]["min"])
    ours, theirs = (sides[name][what]["min"] for name in (own, opponent))
    return Ratio(theirs / ours, ours, theirs, opponent)


class Group(NamedTuple):
    """The records of one comparison, by side, jaxrnn's first."""

    what: str
    sides: dict[str, Record]

    @property
    def own(self) -> float:
        """jaxrnn's milliseconds."""
        return self.sides[OWN]["step_ms"]["min"]

    @property
    def others(self) -> list[str]:
        """The sides that are not jaxrnn's."""
        return [name for name in self.sides if not name.startswith(OWN)]

    def speed(self, others: Iterable[str] | None = None) -> float:
        """How many times as fast jaxrnn is as the fastest of these, or of all others."""
        names = self.others if others is None else others
        return min(self.sides[name]["step_ms"]["min"] for name in names) / self.own

    def share(self) -> float | None:
        """jaxrnn's temporaries as a share of the leanest other's; None where they are not known."""
        own = self.sides[OWN].get("temp_bytes")
        others = [self.sides[name].get("temp_bytes") for name in self.others]
        known = [size for size in others if size]
        return own / min(known) if own and known else None


def grouped(rows: Iterable[Record]) -> list[Group]:
    """The groups of `comparison.Comparison.records`, in order of appearance."""
    groups: dict[str, Group] = {}
    for row in rows:
        groups.setdefault(row["what"], Group(row["what"], {})).sides[row["side"]] = row
    return list(groups.values())


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
