"""An output layer on top of a cell."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.activations import Activation
from jaxrnn.combinators.layers import Dense, DenseParams, ends_below
from jaxrnn.combinators.wrapper import Around
from jaxrnn.core.cell import C, Cell, Params, Take
from jaxrnn.core.composite import Runner
from jaxrnn.core.trees import Tree
from jaxrnn.initializers import Initializer


class ReadoutParams(NamedTuple):
    """Parameters of `Readout`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.Readout(jaxrnn.GRU(4), 5).init(jax.random.key(0), in_features=3)
    >>> params.inner.w_x.shape, params.w_o.shape
    ((3, 12), (4, 5))
    """

    inner: Params  # the cell's
    w_o: Array  # [cell.out_features, features]
    b_o: Array | None  # [features]


@dataclasses.dataclass(frozen=True)
class Readout(Around[ReadoutParams, C]):
    """A cell with a dense output layer (Elman 1990).

        o_t = φ(y_t W_o + b_o),    y_t = cell(x)_t

    The layer is computed for all steps at once. The carry is the cell's.

    Args:
        cell: any cell, also a composite such as `Stack`.
        features: the size of the output.
        activation: φ, a name (`"tanh"`, `"relu"`, ...) or a pointwise function; the identity if
            left out.
        bias: whether there is a `b_o`.
        w_o_init: initialiser of the weights.
        b_o_init: initialiser of the bias.

    Raises:
        ValueError: `features` is not positive, `bias` is not a bool, or a name is unknown.
        TypeError: `cell` is not a cell, or an activation or an initialiser is not a function of its
            arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Readout(jaxrnn.LSTM(4), features=10)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> carry.h.shape, ys.shape
    ((2, 4), (7, 2, 10))
    """

    cell: Cell[Any, C]
    features: int
    activation: Activation | None = None
    _: dataclasses.KW_ONLY
    bias: bool = True
    w_o_init: Initializer = "lecun_normal"
    b_o_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        dense = self._dense
        for name in ("features", "activation", "bias"):
            object.__setattr__(self, name, getattr(dense, name))  # as Python's numbers

    @property
    def _dense(self) -> Dense:
        return Dense(
            self.features,
            self.activation,
            bias=self.bias,
            w_x_init=self.w_o_init,
            b_init=self.b_o_init,
        )

    def inner(self, params: ReadoutParams) -> Params:
        """Return the parameters without the output layer's."""
        return params.inner

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> ReadoutParams:
        """Draw the parameters of the cell and of the output layer."""
        k_inner, k_o = jax.random.split(key)
        inner = self.cell.init(k_inner, in_features, dtype)
        return ReadoutParams(inner, *self._dense.init(k_o, self.cell.out_features, dtype))

    def labels(self, params: ReadoutParams) -> ReadoutParams:
        b_o: Any = None if params.b_o is None else "bias"
        return ReadoutParams(self.cell.labels(params.inner), "output", b_o)  # type: ignore[arg-type]

    def run(self, params: ReadoutParams, xs: Tree, carry: C, runner: Runner) -> tuple[C, Array]:
        carry, ys = runner(self.cell, params.inner, xs, carry)
        _, ys = self._dense.run(DenseParams(params.w_o, params.b_o), ys, (), runner)
        return carry, ys

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Tree:
        return ends_below(self.cell, True, ys, take, backwards)

    @property
    def out_features(self) -> int:
        return self.features
