"""How fast could a step be? Its matrix products alone, each timed in a loop of its own.

A loop's turn multiplies the same operands as the last one, but for one number, which depends on
what the last gave. So turns run one after the other, as those of a recurrence do."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from benchmarks.measure import Traced, normal, traced
from benchmarks.plan import Shape

Record = dict[str, Any]

GATES = {"LSTM": 4, "GRU": 3, "Elman": 1}
MOST_ROWS = 1024
"""Of one block of a large product: what stays in a cache."""

LOOP_FLOP = 1e9
"""About what one call computes: some milliseconds."""

LARGE = 200.0
"""MFLOP of a product that runs as fast as products do."""

MOST_TURNS = 1000


class Product(NamedTuple):
    """`[rows, inner] x [inner, columns]`, and how many of them a step has."""

    rows: int
    inner: int
    columns: int
    times: float

    @property
    def label(self) -> str:
        """`product 1024x128x512`."""
        return f"product {self.rows}x{self.inner}x{self.columns}"

    @property
    def turned(self) -> "Product":
        """The same with its second factor first: `([columns, inner] x [inner, rows])ᵀ`."""
        return self._replace(rows=self.columns, columns=self.rows)


Orders = list[list[Product]]
"""Products, each in all orders that it can be computed in."""


def forward_products(kind: str, shape: Shape) -> Orders:
    """Of a forward pass: of the inputs of all steps, in blocks of rows, and the recurrent one."""
    width, tall = GATES[kind] * shape.hidden, shape.time * shape.batch
    rows = min(tall, MOST_ROWS)
    recurrent = Product(shape.batch, shape.hidden, width, shape.time)
    return [
        [Product(rows, shape.in_features, width, tall / rows)],
        [recurrent, recurrent.turned],
    ]


def step_products(kind: str, shape: Shape) -> Orders:
    """Of a training step: those of the forward pass, the cotangent's way through time, and the
    gradients of both weights and of the inputs.
    """
    width, tall = GATES[kind] * shape.hidden, shape.time * shape.batch
    rows = min(tall, MOST_ROWS)
    back = Product(shape.batch, width, shape.hidden, shape.time)
    return [
        *forward_products(kind, shape),
        [back, back.turned],
        [Product(shape.in_features, rows, width, tall / rows)],
        [Product(shape.hidden, rows, width, tall / rows)],
        [Product(rows, width, shape.in_features, tall / rows)],
    ]


def products(kind: str, shape: Any) -> dict[str, Orders]:
    """Of the training step and of the forward pass; none for a cell of pictures."""
    if not isinstance(shape, Shape):
        return {"step": [], "forward": []}
    return {"step": step_products(kind, shape), "forward": forward_products(kind, shape)}


def turns(product: Product) -> int:
    """How many a loop has."""
    flop = 2 * product.rows * product.inner * product.columns
    return min(MOST_TURNS, math.ceil(LOOP_FLOP / flop))


def loop(product: Product) -> Traced:
    """So many turns of it."""
    a, b = normal(0, product.rows, product.inner), normal(1, product.inner, product.columns)
    return traced(lambda a, b: repeated(jnp.matmul, a, b, turns(product)), a, b)


def repeated(multiply: Any, a: Array, b: Array, times: int) -> Array:
    """The last of so many products. Each is carried as a whole, or the compiler would compute no
    more of it than the number that the next one depends on.
    """

    def body(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        a, last = carry
        corner = lax.slice(last, (0, 0), (1, 1))
        a = lax.dynamic_update_slice(a, lax.slice(a, (0, 0), (1, 1)) + 1e-30 * corner, (0, 0))
        return (a, multiply(a, b)), None

    start = jnp.zeros(jax.eval_shape(multiply, a, b).shape)
    return lax.scan(body, (a, start), None, length=times)[0][1]


def loops(orders: Orders) -> dict[str, Traced]:
    """A loop for every product and order, by its label."""
    return {product.label: loop(product) for either in orders for product in either}


def records(orders: Orders, times: Mapping[str, Any]) -> list[Record]:
    """What one of each product takes, in the faster order, from the times of the loops."""
    found = []
    for either in orders:
        each = {product: times[product.label]["min"] / turns(product) for product in either}
        product = min(each, key=lambda product: each[product])
        found.append({**product._asdict(), "ms": each[product]})
    return found


def gigaflops(products: list[Record]) -> list[float]:
    """What is computed in a second, in each of the large products."""
    each = [(2e-6 * row["rows"] * row["inner"] * row["columns"], row["ms"]) for row in products]
    return [megaflop / ms for megaflop, ms in each if megaflop >= LARGE]


def milliseconds(products: list[Record]) -> float:
    """All of them, as often as a step has them."""
    return sum(row["times"] * row["ms"] for row in products)
