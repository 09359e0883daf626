"""Who is compiled: jaxrnn, and the same written by hand in `lax.scan`, its input projected before
the loop or within it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import jaxrnn
from benchmarks.accelerator_sides import by_hand as cell_by_hand
from benchmarks.ahead.targets import DEVICES, Target
from benchmarks.attention import attention_by_hand
from benchmarks.measure import training_step
from benchmarks.plan import PEER_CELLS, Shape
from jaxrnn.methods import BPTT

OURS = "jaxrnn"
KINDS = ("forward", "training")

TOLD = {
    "types": "arrays on explicit axes",
    "arrays": "arrays on the compiler's axes",
    "in_shardings": "`jit(in_shardings=)`",
}
"""The ways to say that a batch is split. jaxrnn sees the first; the compiler alone, the others."""

PLACES = 60
"""In the memory that attention looks at."""

Lowerings = dict[str, Callable[[], jax.stages.Lowered]]
"""Forward pass and training step."""

CELLS: dict[str, Callable[[int], Any]] = {
    "LSTM": jaxrnn.LSTM,
    "GRU": jaxrnn.GRU,
    "Elman": jaxrnn.Elman,
    "Attention, dot": lambda n: jaxrnn.Attention(jaxrnn.LSTM(n), "dot"),
    "Attention, additive": lambda n: jaxrnn.Attention(jaxrnn.LSTM(n), "additive"),
    "Stack": lambda n: jaxrnn.Stack([jaxrnn.LSTM(n), jaxrnn.LSTM(n)]),
    "Bidirectional": lambda n: jaxrnn.Bidirectional(jaxrnn.LSTM(n)),
    "ConvLSTM": lambda n: jaxrnn.ConvLSTM(n, kernel_size=3),
}


class Case(NamedTuple):
    """One cell at one size."""

    cell: str
    shape: Shape
    dtype: str = "float32"

    @property
    def label(self) -> str:
        return f"{self.cell} {self.shape.label} {self.dtype}"


class Forms(NamedTuple):
    """What a program is given: shapes and dtypes, for there are no arrays."""

    params: Any
    xs: Any
    dys: Any


def forms(case: Case) -> Forms:
    """Of a picture's cell, hidden and in are channels, of pictures of 16 by 16."""
    cell, (batch, time, features, hidden) = CELLS[case.cell](case.shape.hidden), case.shape
    picture = (16, 16) if case.cell == "ConvLSTM" else ()

    def form(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, case.dtype)

    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), features))
    params = jax.tree.map(lambda leaf: form(*leaf.shape), params)
    xs: Any = form(time, batch, *picture, features)
    out = hidden * (2 if case.cell == "Bidirectional" else 1)
    if case.cell.startswith("Attention"):
        xs = (xs, form(batch, PLACES, hidden))
    return Forms(params, xs, form(time, batch, *picture, out))


def ours(case: Case, method: Any) -> Callable[[Any, Any], Any]:
    """`jaxrnn.scan`."""
    cell = CELLS[case.cell](case.shape.hidden)

    def apply(params: Any, xs: Any) -> Any:
        if case.cell.startswith("Attention"):
            xs, memory = xs
            return jaxrnn.scan(cell, params, xs, context=jaxrnn.Memory(memory), method=method)[1]
        return jaxrnn.scan(cell, params, xs, method=method)[1]

    return apply


def peers(case: Case) -> dict[str, Callable[[Any, Any], Any]]:
    """`lax.scan` by hand, where there is one."""
    if case.cell in PEER_CELLS:
        return {
            "lax.scan": cell_by_hand(case.cell, hoisted=False),
            "lax.scan, hoisted": cell_by_hand(case.cell, hoisted=True),
        }
    if case.cell == "Stack":
        return {"lax.scan, hoisted": _stack}
    if case.cell.startswith("Attention") and case.dtype == "float32":
        return {"lax.scan": lambda params, xs: attention_by_hand(params, *xs)}
    return {}


def _stack(params: Any, xs: Any) -> Any:
    """One layer after the other."""
    layer = cell_by_hand("LSTM", hoisted=True)
    for of_layer in params:
        xs = layer(of_layer, xs)
    return xs


def on_one_device(apply: Callable[[Any, Any], Any], given: Forms, target: Target) -> Lowerings:
    """Both programs, for the first device."""
    placed = _with(given, SingleDeviceSharding(target.devices[0]))
    return {
        "forward": lambda: jax.jit(apply).lower(placed.params, placed.xs),
        "training": lambda: jax.jit(training_step(apply)).lower(*placed),
    }


def split(
    apply: Callable[[Any, Any], Any], given: Forms, target: Target, told: str
) -> jax.stages.Lowered:
    """The training step with its batch over all devices, told in one of the ways."""
    kind = AxisType.Explicit if told == "types" else AxisType.Auto
    mesh = Mesh(target.devices[:DEVICES], ("data",), axis_types=(kind,))
    whole = NamedSharding(mesh, PartitionSpec())
    of_steps, of_rows = (
        NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((None, "data"), ("data",))
    )
    step = training_step(apply)
    over = (of_steps, of_rows) if isinstance(given.xs, tuple) else of_steps
    if told == "in_shardings":
        return jax.jit(step, in_shardings=(whole, over, of_steps)).lower(*given)
    xs = tuple(map(_with, given.xs, over)) if isinstance(over, tuple) else _with(given.xs, over)
    return jax.jit(step).lower(_with(given.params, whole), xs, _with(given.dys, of_steps))


def _with(tree: Any, sharding: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def method(target: Target, block: int | None = None) -> BPTT:
    """What jaxrnn chooses on the target, or with other blocks."""
    return BPTT(block, platform=target.platform)
