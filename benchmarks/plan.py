"""What is measured: shapes, cells, sweeps, and how long it may take."""

import dataclasses
from collections.abc import Callable, Container
from typing import Any, NamedTuple

import jaxrnn


class Picture(NamedTuple):
    """The sizes of a convolutional layer's problem."""

    batch: int
    time: int
    height: int
    width: int
    in_features: int
    hidden: int
    kernel: int

    @property
    def label(self) -> str:
        """`8x10x32x32x16x32x3`."""
        return "x".join(map(str, self))

    @property
    def space(self) -> tuple[int, ...]:
        """The axes between the batch and the features."""
        return self.height, self.width


class Shape(NamedTuple):
    """The sizes of one layer's problem."""

    batch: int
    time: int
    in_features: int
    hidden: int

    @property
    def label(self) -> str:
        """As the command line takes it: `32x128x128x128`."""
        return "x".join(map(str, self))

    @property
    def space(self) -> tuple[int, ...]:
        """None: a row is a vector."""
        return ()

    @staticmethod
    def parse(label: str) -> "Shape":
        """Read `BATCHxTIMExINxHIDDEN`."""
        try:
            shape = Shape(*(int(size) for size in label.replace(",", "x").split("x")))
        except (ValueError, TypeError):
            shape = None
        if shape is None or min(shape) < 1:
            raise ValueError(
                f"shape is {label!r}, expected BATCHxTIMExINxHIDDEN, for example 32x128x128x128"
            )
        return shape


CELLS: dict[str, Callable[[int], Any]] = {
    "LSTM": jaxrnn.LSTM,
    "GRU": jaxrnn.GRU,
    "Elman": jaxrnn.Elman,
}
"""Every cell of the pictures, made from its hidden size. Add a cell here and it is swept and drawn.
"""

CONVOLUTIONAL: dict[str, Callable[[Picture], Any]] = {
    "ConvLSTM": lambda picture: jaxrnn.ConvLSTM(picture.hidden, picture.kernel),
    "ConvGRU": lambda picture: jaxrnn.ConvGRU(picture.hidden, picture.kernel),
}
"""The cells of pictures, whose sizes are their own."""

VARIANTS: dict[str, Callable[[int], Any]] = {
    "LSTM": jaxrnn.LSTM,
    "LSTM, peepholes": lambda n: jaxrnn.LSTM(n, peepholes=True),
    "LSTM, coupled": lambda n: jaxrnn.LSTM(n, coupled=True),
    "LSTM, projection": lambda n: jaxrnn.LSTM(n, projection=n // 2),
    "LSTM, layer norm": lambda n: jaxrnn.LSTM(n, layer_norm="gates_and_cell"),
    "LSTM, all of them": lambda n: jaxrnn.LSTM(
        n, peepholes=True, coupled=True, projection=n // 2, layer_norm="gates_and_cell"
    ),
    "GRU": jaxrnn.GRU,
    "GRU, reset before": lambda n: jaxrnn.GRU(n, reset_gate="before"),
    "GRU, layer norm": lambda n: jaxrnn.GRU(n, layer_norm=True),
    "MGU": jaxrnn.MGU,
    "Dropout of LSTM": lambda n: jaxrnn.Dropout(jaxrnn.LSTM(n), 0.2),
    "RecurrentDropout of LSTM": lambda n: jaxrnn.RecurrentDropout(jaxrnn.LSTM(n), 0.2),
    "DropConnect of LSTM": lambda n: jaxrnn.DropConnect(jaxrnn.LSTM(n), 0.2),
    "Zoneout of LSTM": lambda n: jaxrnn.Zoneout(jaxrnn.LSTM(n), h=0.1, c=0.1),
    "Constrained Elman": lambda n: jaxrnn.Constrained(jaxrnn.Elman(n), jaxrnn.Dale()),
    "Bidirectional LSTM": lambda n: jaxrnn.Bidirectional(jaxrnn.LSTM(n)),
}
"""Options and combinators, whose price is measured beside their own autodiff."""

PEER_CELLS = ("LSTM", "GRU", "Elman")
"""The cells that the other libraries have too."""

SHAPES = (
    Shape(32, 128, 128, 128),
    Shape(64, 128, 256, 256),
    Shape(1, 512, 128, 256),
    Shape(16, 256, 64, 512),
    Shape(8, 1024, 32, 64),
    Shape(256, 64, 32, 128),
)

PICTURES = (
    Picture(8, 10, 32, 32, 16, 32, 3),
    Picture(4, 20, 64, 64, 1, 16, 5),
    Picture(16, 10, 16, 16, 64, 64, 3),
)

BASE, UNROLLED_BASE = Shape(32, 128, 128, 128), Shape(16, 1, 64, 64)
LONG, GROWTH_BASE = Shape(8, 16384, 128, 128), Shape(4, 1, 32, 32)

PARTS = ("peers", "convolutional", "variants", "foreign", "steps", "sweeps", "unrolled", "long")


@dataclasses.dataclass(frozen=True)
class Plan:
    """One run: what to measure and for how many seconds to take turns."""

    cells: tuple[str, ...] = (*CELLS, *CONVOLUTIONAL)
    shapes: tuple[Shape, ...] = SHAPES
    pictures: tuple[Picture, ...] = PICTURES
    against: tuple[str, ...] | None = None
    """Names of the sides to meet; None for all."""
    parts: tuple[str, ...] = PARTS
    drawn: int | None = None
    """How many of the cells, the last ones, are swept and unrolled; None for all."""
    step_seconds: float = 5.0
    forward_seconds: float = 2.0
    point_seconds: float = 1.0
    base: Shape = BASE
    foreign: tuple[Shape, ...] = SHAPES[:2]
    stream_hidden: int = 256
    sweeps: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("time", (16, 64, 256, 1024)),
        ("batch", (1, 8, 64, 256)),
        ("hidden", (32, 128, 512)),
    )
    unrolled: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    unrolled_base: Shape = UNROLLED_BASE
    compile_limit: float = 12.0
    """After a compilation of this many seconds the unrolled loop is not tried for longer T: for
    LSTM and GRU it takes XLA four times as long to compile the training step for twice the T.
    """
    long: Shape = LONG
    growth: tuple[int, ...] = (1_000, 3_000, 10_000, 30_000, 100_000)
    growth_base: Shape = GROWTH_BASE


def drawn_cells(plan: Plan, among: Container[str] = CELLS) -> list[str]:
    """The cells that are swept or unrolled."""
    cells = [cell for cell in plan.cells if cell in among]
    return cells if plan.drawn is None else cells[-plan.drawn :]


def quick(plan: Plan) -> Plan:
    """The same in under a minute: every part runs, no number means much."""
    return dataclasses.replace(
        plan,
        shapes=(Shape(8, 32, 16, 32),) if plan.shapes == SHAPES else plan.shapes,
        pictures=(Picture(2, 4, 8, 8, 3, 4, 3),),
        drawn=1,
        step_seconds=0.3,
        forward_seconds=0.1,
        point_seconds=0.05,
        base=Shape(4, 16, 16, 16),
        foreign=(Shape(4, 16, 16, 16),),
        stream_hidden=16,
        sweeps=(("time", (8, 32)), ("batch", (1,)), ("hidden", (8,))),
        unrolled=(8,),
        long=Shape(4, 512, 16, 16),
        growth=(64,),
    )
