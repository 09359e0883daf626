"""Layers without a state: every step is computed from its input alone, all of them at once."""

import dataclasses
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.activations import Activation, activation, check_activation
from jaxrnn.core.affine import matmul
from jaxrnn.core.cell import Cell, P, Take
from jaxrnn.core.check import (
    check_fields,
    check_flag,
    check_in_features,
    check_size,
    name_of,
    takes,
)
from jaxrnn.core.composite import Composite, Runner
from jaxrnn.core.dtypes import promote
from jaxrnn.core.trees import Tree
from jaxrnn.initializers import Initializer, check_initializer, draw_gates


class Layer(Composite[P, tuple[()]]):
    """A cell without a state, which no loop runs. A subclass writes `apply`."""

    mixes: ClassVar[bool] = True
    """Whether an output feature depends on more than the one input feature."""

    @abstractmethod
    def apply(self, params: P, xs: Array) -> Array:
        """The outputs, for one step or for many."""

    def initial_carry(self, params: P, input_shape: tuple[int, ...]) -> tuple[()]:
        """None: `()`."""
        del params, input_shape
        return ()

    def run(
        self, params: P, xs: Array, carry: tuple[()], runner: Runner
    ) -> tuple[tuple[()], Array]:
        return carry, runner.emitted(runner.apply(self.apply, params, xs), xs)


@dataclasses.dataclass(frozen=True)
class Pointwise(Layer[tuple[()]]):
    """`y_t = f(x_t)`: a pointwise function as a layer; a `Stack` makes it of a function or a name.

    Args:
        function: f, a name (`"relu"`, ...) or a pointwise function.
        features: the size of its input, and of its output.

    Raises:
        ValueError: the size is not positive, the name is unknown, or the input has another size.
        TypeError: it is no function of one argument.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.LSTM(4), jax.nn.relu])
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> carry[1], bool(jnp.all(ys >= 0))
    ((), True)
    """

    function: Activation
    features: int

    mixes = False

    def __post_init__(self) -> None:
        check_fields(self, check_activation, "function")
        check_fields(self, check_size, "features")

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> tuple[()]:
        """There are no parameters: `()`."""
        del key, dtype
        self.check_in_features(in_features)
        return ()

    def check_in_features(self, in_features: int) -> None:
        if check_in_features(self, in_features) != self.features:
            raise ValueError(
                f"Pointwise: in_features is {in_features}, expected {self.features}, the size that "
                "it was made for"
            )

    def in_features(self, params: tuple[()]) -> int:
        """As many as come out."""
        del params
        return self.features

    def apply(self, params: tuple[()], xs: Array) -> Array:
        del params
        ys = activation(self.function)(xs)
        if jnp.shape(ys) != xs.shape:
            raise ValueError(
                f"Pointwise: {self.function!r} makes {jnp.shape(ys)} of shape {xs.shape}, expected "
                "the same; a layer that changes the size is a cell, such as jaxrnn.Dense"
            )
        return ys

    @property
    def out_features(self) -> int:
        return self.features


class DenseParams(NamedTuple):
    """Parameters of `Dense`."""

    w_x: Array  # [in, features]
    b: Array | None  # [features]


@dataclasses.dataclass(frozen=True)
class Dense(Layer[DenseParams]):
    """`y_t = φ(x_t W_x + b)`, the same at every step.

    Args:
        features: the size of the output.
        activation: φ, a name (`"tanh"`, `"relu"`, ...) or a pointwise function; none if left out.
        bias: whether there is a `b`.
        w_x_init: initialiser of the weights.
        b_init: initialiser of the bias.

    Raises:
        ValueError: `features` is not positive, a flag is no bool, or a name is unknown.
        TypeError: an activation or an initialiser is no function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.Dense(5, "relu"), jaxrnn.LSTM(6)])
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> params[1].w_x.shape, ys.shape
    ((4, 5), (7, 2, 6))
    """

    features: int
    activation: Activation | None = None
    _: dataclasses.KW_ONLY
    bias: bool = True
    w_x_init: Initializer = "lecun_normal"
    b_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        check_fields(self, check_size, "features")
        if self.activation is not None:
            check_fields(self, check_activation, "activation")
        check_fields(self, check_flag, "bias")
        check_fields(self, check_initializer, "w_x_init", "b_init")

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> DenseParams:
        in_features = check_in_features(self, in_features)
        k_x, k_b = jax.random.split(key)
        w_x = draw_gates(self.w_x_init, k_x, (in_features, self.features), dtype, gates=1)
        b = draw_gates(self.b_init, k_b, (self.features,), dtype, gates=1)
        return DenseParams(w_x, b if self.bias else None)

    def apply(self, params: DenseParams, xs: Array) -> Array:
        ys = matmul(xs, params.w_x)
        if params.b is not None:
            ys = ys + promote(params.b, ys)
        return ys if self.activation is None else activation(self.activation)(ys)

    @property
    def out_features(self) -> int:
        return self.features


def as_layers(owner: object, cells: tuple[Any, ...]) -> tuple[Cell, ...]:
    """Layers of which some may be given as functions or their names; those become `Pointwise`.

    Raises:
        TypeError: one is no function of one argument, nor a cell.
        ValueError: the first is a function: the size of its input is not known.
    """
    layers: list[Cell] = []
    for k, cell in enumerate(cells):
        if isinstance(cell, Cell) or not (isinstance(cell, str) or takes(cell, 1)):
            layers.append(cell)
        elif not k:
            raise ValueError(
                f"{name_of(owner)}: cells begins with the function {cell!r}, whose size is not "
                "known; write jaxrnn.Pointwise(function, features)"
            )
        else:
            layers.append(Pointwise(cell, layers[-1].out_features))
    return tuple(layers)


def ends_below(cell: Cell, above: bool, ys: Tree, take: Take, backwards: bool) -> Tree:
    """The outputs at the end of a cell's walk, after layers that mix its features or do not.

    Raises:
        ValueError: they have mixed two directions.
    """
    if not above:
        return cell.ends(ys, take, backwards)
    ends: set[bool] = set()

    def direction(ys: Tree, backwards: bool) -> Tree:
        ends.add(backwards)
        return ys

    cell.ends(jnp.zeros(cell.out_features), direction, backwards)
    if len(ends) > 1:
        raise ValueError(
            f"{name_of(cell)} has two directions, which a layer above it has mixed, so that "
            "neither's end can be told; take the last output below that layer"
        )
    return take(ys, *ends)
