"""`jax.vmap` over the parameters of many models, or over rows, of `jaxrnn.scan` and of `lax.scan`
written by hand.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
from jax import Array

import jaxrnn
from benchmarks.comparison import Comparison
from benchmarks.measure import normal, training_step, untimed
from benchmarks.plan import CELLS, Shape
from benchmarks.sides import Apply, drawn, scan_apply, scan_by_hand

What = Literal["training", "forward"]
POPULATED = ("GRU", "LSTM")


def models(kind: str, count: int, shape: Shape, what: What) -> Comparison:
    """Many models, each with inputs of its own."""
    cell = CELLS[kind](shape.hidden)
    keys = jax.random.split(jax.random.key(0), count)
    params = untimed(jax.vmap(lambda key: cell.init(key, shape.in_features)), keys)
    xs = normal(1, count, shape.time, shape.batch, shape.in_features)
    dys = normal(2, count, shape.time, shape.batch, shape.hidden)

    def run(apply: Apply) -> Callable[..., Any]:
        return jax.vmap(training_step(apply) if what == "training" else apply)

    given = (params, xs, dys) if what == "training" else (params, xs)
    name = f"{kind}, {what}, {count} models of {shape.label}"
    return Comparison(
        name,
        {
            "jaxrnn": (run(scan_apply(cell)), given),
            "by hand": (run(partial(scan_by_hand, kind)), given),
        },
    )


def rows(shape: Shape) -> Comparison:
    """A training step of one model whose rows are mapped, and the same with a batch axis."""
    cell = jaxrnn.LSTM(shape.hidden)
    xs = normal(1, shape.time, shape.batch, shape.in_features)
    dys = normal(2, shape.time, shape.batch, shape.hidden)
    given = drawn(cell, shape.in_features), xs, dys

    def mapped(apply: Apply) -> Callable[[Any, Array, Array], Any]:
        return training_step(jax.vmap(apply, (None, 1), 1))

    return Comparison(
        f"LSTM, training, rows of {shape.label}",
        {
            "jaxrnn": (mapped(scan_apply(cell)), given),
            "jaxrnn, batch axis": (training_step(scan_apply(cell)), given),
            "by hand": (mapped(partial(scan_by_hand, "LSTM")), given),
        },
    )
