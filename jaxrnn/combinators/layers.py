"""Layers without a state. All steps are computed at once, each from its own input."""

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
    """A cell without a state, which needs no loop over time. A subclass defines `apply`."""

    mixes: ClassVar[bool] = True
    """Whether an output feature depends on any input feature but the one at its own place."""

    @abstractmethod
    def apply(self, params: P, xs: Array) -> Array:
        """Compute the outputs of one step or of many."""

    def initial_carry(self, params: P, input_shape: tuple[int, ...]) -> tuple[()]:
        """Return `()`, because there is no state."""
        del params, input_shape
        return ()

    def run(
        self, params: P, xs: Array, carry: tuple[()], runner: Runner
    ) -> tuple[tuple[()], Array]:
        return carry, runner.emitted(runner.apply(self.apply, params, xs), xs)


@dataclasses.dataclass(frozen=True)
class Pointwise(Layer[tuple[()]]):
    """A pointwise function as a layer: `y_t = f(x_t)`.

    A `Stack` turns a function, or the name of one, into this layer.

    Args:
        function: f, a name (`"relu"`, ...) or a pointwise function.
        features: the size of the input and of the output.

    Raises:
        ValueError: `features` is not positive, or the name is unknown. From `init`: the input has
            another size. From a driver: the function changes the shape.
        TypeError: `function` is not a function of one argument.

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
        """Return `()`, because there are no parameters.

        Raises:
            ValueError: `in_features` is not the layer's size.
        """
        del key, dtype
        self.check_in_features(in_features)
        return ()

    def check_in_features(self, in_features: int) -> None:
        if check_in_features(self, in_features) != self.features:
            raise ValueError(
                f"Pointwise: in_features is {in_features}, expected {self.features}; change "
                "Pointwise(function, features), or the layer below"
            )

    def in_features(self, params: tuple[()]) -> int:
        """Return the size of the output, which is that of the input, too."""
        del params
        return self.features

    def apply(self, params: tuple[()], xs: Array) -> Array:
        del params
        ys = activation(self.function)(xs)
        if jnp.shape(ys) != xs.shape:
            raise ValueError(
                f"Pointwise: {self.function!r} returns the shape {jnp.shape(ys)} for {xs.shape}, "
                "expected the same shape; use a layer that changes the size, such as jaxrnn.Dense"
            )
        return ys

    @property
    def out_features(self) -> int:
        return self.features


class DenseParams(NamedTuple):
    """Parameters of `Dense`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.Dense(5).init(jax.random.key(0), in_features=3)
    >>> params.w_x.shape, params.b.shape
    ((3, 5), (5,))
    """

    w_x: Array  # [in, features]
    b: Array | None  # [features]


@dataclasses.dataclass(frozen=True)
class Dense(Layer[DenseParams]):
    """A dense layer, applied to every step alike: `y_t = φ(x_t W_x + b)`.

    Args:
        features: the size of the output.
        activation: φ, a name (`"tanh"`, `"relu"`, ...) or a pointwise function; the identity if
            left out.
        bias: whether there is a `b`.
        w_x_init: initialiser of the weights.
        b_init: initialiser of the bias.

    Raises:
        ValueError: `features` is not positive, `bias` is not a bool, or a name is unknown.
        TypeError: an activation or an initialiser is not a function of its arguments.

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
    """Turn layers that are functions, or names of functions, into `Pointwise` layers.

    Raises:
        TypeError: a function takes another number of arguments.
        ValueError: a name is unknown, or the first layer is a function, so that its size is not
            known.
    """
    layers: list[Cell] = []
    for k, cell in enumerate(cells):
        if isinstance(cell, Cell) or not (isinstance(cell, str) or takes(cell, 1)):
            layers.append(cell)
        elif not k:
            raise ValueError(
                f"{name_of(owner)}: cells begins with the function {cell!r}, expected a layer of "
                "known size; write jaxrnn.Pointwise(function, features)"
            )
        else:
            layers.append(Pointwise(cell, layers[-1].out_features))
    return tuple(layers)


def ends_below(cell: Cell, above: bool, ys: Tree, take: Take, backwards: bool) -> Tree:
    """Return the outputs at the end of a cell's walk, below other layers.

    Args:
        cell: the cell.
        above: whether a layer above the cell mixes its features.
        ys: the outputs of the top layer.
        take: as in `Cell.ends`.
        backwards: as in `Cell.ends`.

    Raises:
        ValueError: the cell has two directions, and a layer above has mixed them.
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
            f"{name_of(cell)} has two directions, but a layer above it has mixed them, so that "
            "their ends cannot be separated; take the last output below that layer"
        )
    return take(ys, *ends)
