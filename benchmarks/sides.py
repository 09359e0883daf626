"""One side of a comparison: jaxrnn itself, or plain `lax.scan`; the other libraries are in
`peers.py`.

A side is a function `(weights, xs) -> ys` in its own layout of weights, and `convert`, which makes
these weights from jaxrnn's parameters. As `convert` is linear up to a constant, its transpose
brings the side's gradients back to jaxrnn's layout, where all can be compared."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import sigmoid
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike

import jaxrnn
from benchmarks.measure import Program, Traced, normal, traced, training_step, untimed
from benchmarks.plan import CELLS, CONVOLUTIONAL, PEER_CELLS, VARIANTS, Picture, Shape
from jaxrnn.core.trees import Tree
from jaxrnn.methods import MethodLike

Apply = Callable[[Tree, Array], Any]
"""`(weights, xs) -> ys`, the weights in the side's own layout."""


class Problem(NamedTuple):
    """What every side of one comparison is given."""

    kind: str
    shape: Shape | Picture
    cell: jaxrnn.Cell
    params: Tree
    xs: Array
    dys: Array


class Missing(Exception):
    """This side has no such cell, or cannot run here; the message says why."""


Output = tuple[Array, tuple[Tree, Array]]
"""What a training step gives: `(ys, (dweights, dxs))`."""


class Side(Protocol):
    """One library's way to compute a problem."""

    @property
    def cell(self) -> jaxrnn.Cell | None: ...

    def programs(self, problem: Problem) -> tuple[Traced | Program, Traced | Program]: ...

    def results(self, problem: Problem, step_output: Any) -> "Results": ...


class Results(NamedTuple):
    """What one training step gives, in jaxrnn's layout."""

    ys: ArrayLike
    dparams: Tree
    dxs: ArrayLike


def make_problem(kind: str, shape: Shape) -> Problem:
    """Random parameters, inputs and cotangents. Biases are random too, or a wrong order of gates
    would pass in them.

    `b_hn` of the GRU alone is zero: nnx does not have it.
    """
    return _problem(kind, CELLS[kind](shape.hidden), shape)


def make_variant(name: str, shape: Shape) -> Problem:
    """The same for an option or a combinator."""
    return _problem(name, VARIANTS[name](shape.hidden), shape)


def make_convolutional(kind: str, picture: Picture) -> Problem:
    """The same for a cell of pictures."""
    return _problem(kind, CONVOLUTIONAL[kind](picture), picture)


def _problem(kind: str, cell: jaxrnn.Cell, shape: Shape | Picture) -> Problem:
    params = drawn(cell, shape.in_features)
    if kind in (*PEER_CELLS, *CONVOLUTIONAL):
        params = params._replace(b=params.b + 0.1 * normal(1, *params.b.shape))
    rows = shape.time, shape.batch, *shape.space
    xs, dys = normal(2, *rows, shape.in_features), normal(3, *rows, cell.out_features)
    return Problem(kind, shape, cell, params, xs, dys)


def drawn(cell: jaxrnn.Cell, in_features: int) -> Tree:
    """A cell's parameters."""
    return untimed(partial(cell.init, in_features=in_features), jax.random.key(0))


@dataclasses.dataclass(frozen=True)
class JaxSide:
    """A side that is written in JAX."""

    apply: Apply
    convert: Callable[[Tree], Tree] = lambda params: params
    batch_major: bool = False
    cell: jaxrnn.Cell | None = None
    """The jaxrnn cell that computes the same, if it is not the problem's."""
    place: Callable[[Array, bool], Array] = lambda array, batched: array
    """Puts an argument on its devices."""

    def programs(self, problem: Problem) -> tuple[Traced, Traced]:
        """The training step and the forward pass."""
        weights, xs, dys = self._arguments(problem)
        return traced(training_step(self.apply), weights, xs, dys), traced(self.apply, weights, xs)

    def results(self, problem: Problem, step_output: Output) -> Results:
        """What the training step gave, in jaxrnn's layout."""
        ys, (dweights, dxs) = step_output
        dparams = pulled_back(self.convert, reference_params(self, problem), dweights)
        return Results(self._swapped(ys), dparams, self._swapped(dxs))

    def _arguments(self, problem: Problem) -> tuple[Tree, Array, Array]:
        converted = untimed(self.convert, reference_params(self, problem))
        weights = jax.tree.map(lambda leaf: self.place(leaf, False), converted)
        xs, dys = (self.place(self._swapped(array), True) for array in (problem.xs, problem.dys))
        return weights, xs, dys

    def _swapped(self, array: Array) -> Array:
        return array.swapaxes(0, 1) if self.batch_major else array


def pulled_back(convert: Callable[[Tree], Tree], params: Tree, dweights: Tree) -> Tree:
    """The gradients in jaxrnn's layout of those in another one."""
    dweights = jax.tree.map(np.asarray, dweights)
    return untimed(lambda dweights: jax.vjp(convert, params)[1](dweights)[0], dweights)


def reference_params(side: Side, problem: Problem) -> Tree:
    """The problem's parameters, without those that the side's cell does not have."""
    if isinstance(side.cell, jaxrnn.GRU) and side.cell.reset_gate == "before":
        return problem.params._replace(b_hn=None)
    return problem.params


def scan_apply(cell: jaxrnn.Cell, method: MethodLike = "bptt", seed: int | None = None) -> Apply:
    """`jaxrnn.scan` as a function of parameters and inputs; with a seed, cells that draw do."""
    key = None if seed is None else jax.random.key(seed)
    return lambda params, xs: jaxrnn.scan(cell, params, xs, key=key, method=method)[1]


def unroll_apply(cell: jaxrnn.Cell) -> Apply:
    """`jaxrnn.unroll` as a function of parameters and inputs."""
    return lambda params, xs: jaxrnn.unroll(cell, params, xs)[1]


def own(problem: Problem) -> JaxSide:
    return JaxSide(scan_apply(problem.cell))


def own_on_two_devices(problem: Problem) -> JaxSide:
    if jax.device_count() < 2:
        raise Missing("there is one device; set XLA_FLAGS=--xla_force_host_platform_device_count=2")
    if problem.shape.batch % 2:
        raise Missing("the batch cannot be halved")
    mesh = jax.make_mesh(
        (2,), ("batch",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2]
    )

    def place(array: Array, batched: bool) -> Array:
        spec = PartitionSpec(None, "batch") if batched else PartitionSpec()
        return jax.device_put(array, NamedSharding(mesh, spec))

    return JaxSide(scan_apply(problem.cell), place=place)


def autodiff(problem: Problem) -> JaxSide:
    return JaxSide(scan_apply(problem.cell, "autodiff"))


def plain(problem: Problem) -> JaxSide:
    """What one writes by hand: the input projected at once, `lax.scan` over the rest, JAX's own
    derivative.
    """
    return JaxSide(partial(scan_by_hand, problem.kind))


def scan_by_hand(kind: str, params: Tree, xs: Array) -> Array:
    """The outputs."""
    start = zero_carry(kind, params, xs.shape[1:-1])
    step = partial(STEPS[kind], params)
    return jax.lax.scan(step, start, xs @ params.w_x + params.b)[1]


def zero_carry(kind: str, params: Tree, batch: tuple[int, ...]) -> Any:
    """What a step starts from."""
    zeros = jnp.zeros((*batch, params.w_h.shape[0]))
    return (zeros, zeros) if kind == "LSTM" else zeros


Stepped = tuple[Any, Array]
"""The carry and the output."""


def _lstm(params: Tree, carry: tuple[Array, Array], u: Array) -> Stepped:
    h, c = carry
    i, f, g, o = jnp.split(u + h @ params.w_h, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
    h = sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def _gru(params: Tree, h: Array, u: Array) -> Stepped:
    u_r, u_z, u_n = jnp.split(u, 3, axis=-1)
    r, z, n = jnp.split(h @ params.w_h, 3, axis=-1)
    n = jnp.tanh(u_n + sigmoid(u_r + r) * (n + params.b_hn))
    z = sigmoid(u_z + z)
    h = (1 - z) * n + z * h
    return h, h


def _elman(params: Tree, h: Array, u: Array) -> Stepped:
    h = jnp.tanh(u + h @ params.w_h)
    return h, h


STEPS: dict[str, Callable[[Tree, Any, Array], Stepped]] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "Elman": _elman,
}
"""One step by hand, from its projected input."""
