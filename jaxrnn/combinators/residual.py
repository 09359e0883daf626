"""Connections around a cell."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.combinators.wrapper import Around
from jaxrnn.core.affine import project
from jaxrnn.core.cell import C, Cell, P, Params
from jaxrnn.core.check import check_fields, check_number, check_same_size
from jaxrnn.core.composite import Runner
from jaxrnn.initializers import draw_gates


@dataclasses.dataclass(frozen=True)
class Residual(Around[P, C]):
    """A residual connection around a cell (He et al. 2016; Wu et al. 2016 for recurrent layers).

        y_t = cell(x)_t + x_t

    Args:
        cell: any cell whose output has the size of its input, also a composite such as `Stack`.

    Raises:
        ValueError: input and output differ in size. A `Stack` raises it when it is built, `init`
            otherwise.
        TypeError: `cell` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Residual(jaxrnn.GRU(4))
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=4), jnp.ones((7, 2, 4)))
    >>> bool(jnp.allclose(ys[-1], h + 1))
    True
    """

    cell: Cell[P, C]

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> P:
        self.check_in_features(in_features)
        return self.cell.init(key, in_features, dtype)

    def check_in_features(self, in_features: int) -> None:
        check_same_size(self, self.cell, in_features)

    def run(self, params: P, xs: Array, carry: C, runner: Runner) -> tuple[C, Array]:
        carry, ys = runner(self.cell, params, xs, carry)
        return carry, ys + xs


class HighwayParams(NamedTuple):
    """Parameters of `Highway`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.Highway(jaxrnn.GRU(4)).init(jax.random.key(0), in_features=4)
    >>> params.inner.w_x.shape, params.w_t.shape, params.b_t.tolist()
    ((4, 12), (4, 4), [-1.0, -1.0, -1.0, -1.0])
    """

    inner: Params  # the cell's
    w_t: Array  # [size, size]
    b_t: Array  # [size]


@dataclasses.dataclass(frozen=True)
class Highway(Around[HighwayParams, C]):
    """A highway connection: a gate between a cell's output and its input.

        t_t = σ(x_t W_t + b_t),    y_t = t_t ⊙ cell(x)_t + (1 - t_t) ⊙ x_t

    Sources: Srivastava, Greff & Schmidhuber 2015; Zhang et al. 2016 for recurrent layers.

    Args:
        cell: any cell whose output has the size of its input, also a composite such as `Stack`.
        bias: the gate's initial bias. If it is negative, the layer passes on most of its input at
            first.

    Raises:
        ValueError: `bias` is not a number, or input and output differ in size. A `Stack` raises the
            latter when it is built, `init` otherwise.
        TypeError: `cell` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Highway(jaxrnn.GRU(4))
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=4), jnp.ones((7, 2, 4)))
    >>> ys.shape
    (7, 2, 4)
    """

    cell: Cell[Any, C]
    _: dataclasses.KW_ONLY
    bias: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, check_number, "bias")

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> HighwayParams:
        """Draw the parameters of the cell and of the gate."""
        self.check_in_features(in_features)
        k_inner, k_t = jax.random.split(key)
        w_t = draw_gates("lecun_normal", k_t, (in_features, in_features), dtype, gates=1)
        return HighwayParams(
            self.cell.init(k_inner, in_features, dtype),
            w_t,
            jnp.full(in_features, self.bias, dtype),
        )

    def inner(self, params: HighwayParams) -> Params:
        """Return the parameters without the gate's."""
        return params.inner

    def labels(self, params: HighwayParams) -> HighwayParams:
        return HighwayParams(self.cell.labels(params.inner), w_t="highway", b_t="bias")  # type: ignore[arg-type]

    def check_in_features(self, in_features: int) -> None:
        check_same_size(self, self.cell, in_features)

    def run(self, params: HighwayParams, xs: Array, carry: C, runner: Runner) -> tuple[C, Array]:
        carry, ys = runner(self.cell, params.inner, xs, carry)
        (z,) = project(xs, params.w_t, params.b_t, gates=1)
        t = jax.nn.sigmoid(z).astype(ys.dtype)
        return carry, t * ys + (1 - t) * xs
