"""What is measured: shapes, cells, sweeps, and how long it may take."""

import dataclasses
from collections.abc import Callable, Container, Iterable
from typing import Any, NamedTuple, TypeVar

import jaxrnn

Point = TypeVar("Point")


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


class Attended(NamedTuple):
    """The sizes of a decoder's problem."""

    batch: int
    time: int
    places: int
    hidden: int


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
    "CandidateDropout of LSTM": lambda n: jaxrnn.CandidateDropout(jaxrnn.LSTM(n), 0.2),
    "StateNoise of LSTM": lambda n: jaxrnn.StateNoise(jaxrnn.LSTM(n), 0.1),
    "Constrained Elman": lambda n: jaxrnn.Constrained(jaxrnn.Elman(n), jaxrnn.Dale()),
    "LearnedCarry of LSTM": lambda n: jaxrnn.LearnedCarry(jaxrnn.LSTM(n)),
    "Readout of LSTM": lambda n: jaxrnn.Readout(jaxrnn.LSTM(n), n),
    "Residual LSTM": lambda n: jaxrnn.Residual(jaxrnn.LSTM(n)),
    "Highway LSTM": lambda n: jaxrnn.Highway(jaxrnn.LSTM(n)),
    "Reversed LSTM": lambda n: jaxrnn.Reversed(jaxrnn.LSTM(n)),
    "Bidirectional LSTM": lambda n: jaxrnn.Bidirectional(jaxrnn.LSTM(n)),
    "Stack of LSTM, LSTM": lambda n: jaxrnn.Stack([jaxrnn.LSTM(n), jaxrnn.LSTM(n)]),
    "Stack of Dense, LSTM, Pointwise": lambda n: jaxrnn.Stack(
        [jaxrnn.Dense(n), jaxrnn.LSTM(n), jaxrnn.Pointwise("relu", n)]
    ),
}
"""Options and combinators, whose price is measured beside their own autodiff; `Attention` has a
part of its own.
"""

PEER_CELLS = ("LSTM", "GRU", "Elman")
"""The cells that the other libraries have too."""

SHAPES = tuple(
    map(
        Shape.parse,
        (
            *("1x512x128x128", "1x1024x32x384", "1x2048x16x512", "2x64x384x384"),
            *("2x512x192x32", "2x2048x512x256", "4x512x768x512", "4x1024x192x96"),
            *("8x32x384x768", "8x64x512x64", "8x256x128x16", "16x64x64x192"),
            *("16x128x192x256", "16x256x768x192", "32x16x16x96", "32x2048x64x128"),
            *("64x16x32x64", "64x32x96x768", "64x128x256x16", "128x16x16x32"),
            *("128x32x96x384", "128x256x384x64", "256x128x64x192", "256x1024x256x16"),
        ),
    )
)
"""Drawn once, by a Latin hypercube, from the grid of batch 1 to 256, time 16 to 2,048, in and
hidden 16 to 768, among the sizes whose training step of an LSTM takes 0.08 to 40 GFLOP.
"""

QUICK_SHAPES = tuple(map(Shape.parse, ("1x512x128x128", "16x64x64x192")))
"""Small ones of these."""

PICTURES = (
    Picture(4, 8, 32, 32, 16, 32, 3),
    Picture(2, 8, 64, 64, 1, 16, 5),
    Picture(4, 8, 16, 16, 64, 64, 3),
)
"""Small ones, for a step of the JAX peers takes seconds."""

BASE, UNROLLED_BASE = Shape(32, 128, 128, 128), Shape(16, 1, 64, 64)
ATTENDED, FIRST_BASE = Attended(32, 60, 60, 256), Shape(16, 1, 64, 64)
LONG, GROWTH_BASE = Shape(8, 4096, 128, 128), Shape(4, 1, 32, 32)


@dataclasses.dataclass(frozen=True)
class Plan:
    """One run: what to measure and for how many seconds to take turns."""

    cells: tuple[str, ...] = (*CELLS, *CONVOLUTIONAL)
    shapes: tuple[Shape, ...] = SHAPES
    pictures: tuple[Picture, ...] = PICTURES
    against: tuple[str, ...] | None = None
    """Names of the sides to meet; None for all."""
    parts: tuple[str, ...] = ()
    """Names of `experiments.PARTS`."""
    points: int | None = None
    """How many of each part's points are measured, the last ones; None for all."""
    step_seconds: float = 1.2
    forward_seconds: float = 0.6
    point_seconds: float = 0.4
    base: Shape = BASE
    foreign: tuple[Shape, ...] = (BASE,)
    attention: Attended = ATTENDED
    acting_rows: tuple[int, ...] = (4, 16, 64, 256)
    acting_hidden: tuple[int, ...] = (32, 128, 512)
    acting_steps: int = 128
    rows: tuple[Shape, ...] = (Shape(32, 128, 128, 128), Shape(64, 64, 256, 256))
    models: tuple[tuple[int, Shape], ...] = (
        (64, Shape(8, 64, 16, 32)),
        (64, Shape(1, 64, 16, 64)),
        (8, Shape(16, 64, 128, 128)),
    )
    imports: int = 5
    first_times: tuple[int, ...] = (32, 128, 512, 2048)
    first_base: Shape = FIRST_BASE
    rules_scale: int = 1
    """What the sizes of the rules are divided by."""
    stream_hidden: int = 256
    sweeps: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("time", (16, 128, 1024)),
        ("batch", (1, 16, 256)),
        ("hidden", (32, 128, 512)),
    )
    unrolled: tuple[int, ...] = (8, 16, 32)
    unrolled_base: Shape = UNROLLED_BASE
    compile_limit: float = 4.0
    """After a compilation of this many seconds the unrolled loop is not tried for longer T: for
    LSTM and GRU it takes XLA four times as long to compile the training step for twice the T.
    """
    long: Shape = LONG
    growth: tuple[int, ...] = (1_000, 8_000, 64_000)
    growth_base: Shape = GROWTH_BASE

    def few(self, points: Iterable[Point]) -> list[Point]:
        """The points that are measured, of all that there are."""
        every = list(points)
        return every if self.points is None else every[-self.points :]


def drawn_cells(plan: Plan, among: Container[str] = CELLS) -> list[str]:
    """The cells that are swept or unrolled."""
    return plan.few(cell for cell in plan.cells if cell in among)


def quick(plan: Plan) -> Plan:
    """Real sizes, in two minutes: the comparison with three peers at small shapes, and a point of
    every other part. Of a rule one point says nothing, so rules are left out unless asked for.
    """
    return dataclasses.replace(
        plan,
        parts=tuple(part for part in plan.parts if part != "rules") or plan.parts,
        shapes=QUICK_SHAPES if plan.shapes == SHAPES else plan.shapes,
        pictures=PICTURES[:1],
        against=plan.against or ("lax.scan", "linen", "nnx"),
        points=1,
        acting_rows=(64,),
        acting_hidden=(128,),
        step_seconds=0.5,
        forward_seconds=0.3,
        point_seconds=0.3,
        imports=2,
        first_times=(32, 512),
        sweeps=(("time", (128,)), ("batch", (32,)), ("hidden", (128,))),
        unrolled=(16,),
        growth=(8_000,),
    )


def tiny(plan: Plan) -> Plan:
    """Does everything work? No number means anything."""
    small = Shape(4, 16, 16, 16)
    return dataclasses.replace(
        quick(plan),
        parts=plan.parts,
        shapes=(Shape(8, 32, 16, 32),) if plan.shapes == SHAPES else plan.shapes,
        pictures=(Picture(2, 4, 8, 8, 3, 4, 3),),
        step_seconds=0.0,
        forward_seconds=0.0,
        point_seconds=0.0,
        base=small,
        foreign=(small,),
        attention=Attended(2, 4, 3, 8),
        acting_rows=(4,),
        acting_hidden=(8,),
        acting_steps=8,
        rows=(small,),
        models=((2, Shape(2, 8, 4, 4)),),
        imports=1,
        first_times=(8,),
        first_base=small,
        rules_scale=16,
        stream_hidden=16,
        sweeps=(("hidden", (8,)),),
        unrolled=(4,),
        long=Shape(4, 64, 16, 16),
        growth=(64,),
    )
