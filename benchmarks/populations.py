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
from benchmarks.measure import training_step
from benchmarks.plan import CELLS, Shape
from benchmarks.sides import Apply, scan_apply, scan_by_hand

What = Literal["training", "forward"]
POPULATED = ("GRU", "LSTM")


def models(kind: str, count: int, shape: Shape, what: What) -> Comparison:
    """Many models, each with inputs of its own."""
    cell = CELLS[kind](shape.hidden)
    k_params, k_x, k_y = jax.random.split(jax.random.key(0), 3)
    params = jax.vmap(lambda key: cell.init(key, shape.in_features))(
        jax.random.split(k_params, count)
    )
    xs = jax.random.normal(k_x, (count, shape.time, shape.batch, shape.in_features))
    dys = jax.random.normal(k_y, (count, shape.time, shape.batch, shape.hidden))

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
    k_params, k_x, k_y = jax.random.split(jax.random.key(0), 3)
    xs = jax.random.normal(k_x, (shape.time, shape.batch, shape.in_features))
    dys = jax.random.normal(k_y, (shape.time, shape.batch, shape.hidden))
    given = (cell.init(k_params, shape.in_features), xs, dys)

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
