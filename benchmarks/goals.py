"""What jaxrnn is to reach on a CPU, and what a record says of it."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from benchmarks.peers import OWN
from benchmarks.plan import PEER_CELLS
from benchmarks.summary import Group, grouped, summarise

Record = dict[str, Any]
Figure = Callable[[Record], float | None]
"""From a record; None if that does not have it."""


class Goal(NamedTuple):
    """A figure, and how large it is to be, at least or at most."""

    what: str
    figure: Figure
    wanted: float
    at_most: bool = False

    def reached(self, figure: float) -> bool:
        """Whether the figure is as large, or as small, as it is to be."""
        return figure <= self.wanted if self.at_most else figure >= self.wanted


def _mean(metric: str, record: Record, cells: Iterable[str] = PEER_CELLS) -> float | None:
    found = summarise([row for row in record.get("peers", []) if row["cell"] in cells], metric)
    return found and found.mean


def _worst(metric: str, record: Record, cells: Iterable[str] = PEER_CELLS) -> float | None:
    found = summarise([row for row in record.get("peers", []) if row["cell"] in cells], metric)
    return found and found.worst


def _slowest(part: str, others: Iterable[str] | None, record: Record) -> float | None:
    """The least speed of a part, against the fastest of these others."""
    groups = grouped(record.get(part, []))
    return min((group.speed(others) for group in groups), default=None)


def _import_seconds(record: Record) -> float | None:
    """What `import jaxrnn` takes beyond `import jax`."""
    for group in _first(record, "import"):
        return (group.own - group.sides["jax"]["step_ms"]["min"]) / 1e3
    return None


def _compiling(record: Record) -> float | None:
    """The largest share of what `lax.scan` takes to be traced and compiled."""
    return max((1 / group.speed() for group in _first(record, "trace")), default=None)


def _growing(record: Record) -> float | None:
    """The time to trace and compile for the most steps, as a share of that for the fewest."""
    times = [group.own for group in _first(record, "trace")]
    return times[-1] / times[0] if len(times) > 1 else None


def _calling(record: Record) -> float | None:
    """Microseconds of a call without `jit` beyond those of the compiled program."""
    for group in _first(record, "call"):
        own, compiled = (group.sides[side] for side in (OWN, "compiled"))
        return 1e3 * (own["step_ms"]["min"] - compiled["step_ms"]["min"]) / own["calls"]
    return None


def _first(record: Record, start: str) -> list[Group]:
    groups = grouped(record.get("first_result", []))
    return [group for group in groups if group.what.startswith(start)]


GOALS = (
    Goal("training step against the fastest JAX peer, worst shape", partial(_worst, "step"), 1.0),
    Goal("training step against the fastest JAX peer", partial(_mean, "step"), 1.5),
    Goal("forward against the fastest JAX peer, worst shape", partial(_worst, "forward"), 1.0),
    Goal("forward against the fastest JAX peer", partial(_mean, "forward"), 1.15),
    Goal("LSTM against PyTorch", partial(_mean, "torch", cells=("LSTM",)), 1.0),
    Goal("LSTM against PyTorch, worst shape", partial(_worst, "torch", cells=("LSTM",)), 0.75),
    Goal("GRU against PyTorch", partial(_mean, "torch", cells=("GRU",)), 1.6),
    Goal("Elman against PyTorch", partial(_mean, "torch", cells=("Elman",)), 1.8),
    Goal("temporaries of LSTM", partial(_mean, "memory", cells=("LSTM",)), 0.45, at_most=True),
    Goal("temporaries of GRU", partial(_mean, "memory", cells=("GRU",)), 0.45, at_most=True),
    Goal("temporaries of Elman", partial(_mean, "memory", cells=("Elman",)), 0.6, at_most=True),
    Goal("share of the limit, training step", partial(_mean, "limit"), 0.6),
    Goal("share of the limit, forward", partial(_mean, "limit_forward"), 0.75),
    Goal("two devices against one, batch of 16 and more", partial(_mean, "two_devices"), 1.5),
    Goal(
        "step in a user's loop against Flax's cells, worst sizes",
        partial(_slowest, "acting", ("linen", "nnx")),
        1.0,
    ),
    Goal(
        "vmap against vmap of lax.scan, worst sizes",
        partial(_slowest, "populations", ("by hand",)),
        1.0,
    ),
    Goal("seconds of import jaxrnn beyond import jax", _import_seconds, 0.15, at_most=True),
    Goal("trace and compile, of lax.scan's time, most", _compiling, 1.5, at_most=True),
    Goal("trace and compile, most steps against fewest", _growing, 1.25, at_most=True),
    Goal("µs of a call without jit beyond the compiled", _calling, 100.0, at_most=True),
)


def rows(record: Record) -> list[list[str]]:
    """Of each goal that the record tells of: what, the figure, the goal, and whether it is
    reached.
    """
    found = []
    for goal in GOALS:
        figure = goal.figure(record)
        if figure is not None:
            wanted = f"{'at most' if goal.at_most else 'at least'} {goal.wanted:g}"
            reached = "yes" if goal.reached(figure) else "no"
            found.append([goal.what, f"{figure:.2f}", wanted, reached])
    return found
