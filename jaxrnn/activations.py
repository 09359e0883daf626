"""Activations: pointwise functions by name, and small dataclasses for those with a number.

A cell whose activation is a name or one of these dataclasses compares by value and can be saved. A
function of JAX that has a name here counts as that name. Any other callable works, too, but it
compares by identity and cannot be saved.

The names are `"elu"`, `"hard_sigmoid"`, `"leaky_relu"`, `"linear"`, `"relu"`, `"sigmoid"`,
`"softplus"`, `"softsign"` and `"tanh"`. Each dataclass raises a ValueError if a field is not a real
number.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.core.check import check_fields, check_function, check_number

__all__ = [
    "ELU",
    "Affine",
    "HardSigmoid",
    "LeakyReLU",
    "ScaledTanh",
    "ThresholdedReLU",
    "activation",
]

Activation = str | Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class _OfNumbers:
    """An activation whose fields are all numbers."""

    def __post_init__(self) -> None:
        check_fields(self, check_number, *(field.name for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class LeakyReLU(_OfNumbers):
    """`max(z, 0) + slope * min(z, 0)` (Maas, Hannun & Ng 2013).

    >>> float(LeakyReLU(0.5)(jnp.float32(-2.0)))
    -1.0
    """

    slope: float = 0.01

    def __call__(self, z: Array) -> Array:
        return jnp.where(z >= 0, z, self.slope * z)


@dataclasses.dataclass(frozen=True)
class HardSigmoid(_OfNumbers):
    """`clip(slope * z + offset, 0, 1)`.

    The slope is 1/6 in PyTorch and Keras 3, and 0.2 in Keras 2 and ONNX. The offset is 1/2 in all
    of them.

    >>> float(HardSigmoid(0.2)(jnp.float32(1.0)))
    0.699999988079071
    """

    slope: float = 1 / 6
    offset: float = 0.5

    def __call__(self, z: Array) -> Array:
        return jnp.clip(self.slope * z + self.offset, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Affine(_OfNumbers):
    """`alpha * z + beta`, an activation of ONNX.

    >>> float(Affine(2.0, 1.0)(jnp.float32(3.0)))
    7.0
    """

    alpha: float
    beta: float

    def __call__(self, z: Array) -> Array:
        return self.alpha * z + self.beta


@dataclasses.dataclass(frozen=True)
class ELU(_OfNumbers):
    """`z` where it is positive, else `alpha * (exp(z) - 1)` (Clevert et al. 2015).

    >>> float(ELU(2.0)(jnp.float32(-100.0)))
    -2.0
    """

    alpha: float = 1.0

    def __call__(self, z: Array) -> Array:
        return jax.nn.elu(z, self.alpha)


@dataclasses.dataclass(frozen=True)
class ScaledTanh(_OfNumbers):
    """`alpha * tanh(beta * z)`.

    LeCun, Bottou, Orr & Müller (1998) recommend `alpha = 1.7159` and `beta = 2/3`.

    >>> float(ScaledTanh(1.5, 100.0)(jnp.float32(1.0)))
    1.5
    """

    alpha: float
    beta: float

    def __call__(self, z: Array) -> Array:
        return self.alpha * jnp.tanh(self.beta * z)


@dataclasses.dataclass(frozen=True)
class ThresholdedReLU(_OfNumbers):
    """`z` where it is above `alpha`, else 0 (Konda, Memisevic & Krueger 2015).

    >>> ThresholdedReLU(1.0)(jnp.array([0.5, 1.5])).tolist()
    [0.0, 1.5]
    """

    alpha: float = 1.0

    def __call__(self, z: Array) -> Array:
        return jnp.where(z <= self.alpha, 0.0, z)  # with this order, NaN stays NaN


def _linear(z: Array) -> Array:
    return z


NAMED: dict[str, Callable[[Array], Array]] = {
    "elu": ELU(),
    "hard_sigmoid": HardSigmoid(),
    "leaky_relu": LeakyReLU(),
    "linear": _linear,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "tanh": jnp.tanh,
}


def activation(name_or_function: Activation) -> Callable[[Array], Array]:
    """Look up an activation by its name. A callable is returned as it is.

    Raises:
        ValueError: no activation has this name. The message lists the names.
        TypeError: the argument is neither a name nor a function of one array.

    >>> float(activation("relu")(jnp.float32(-1.0)))
    0.0
    """
    function = check_activation(activation, "name", name_or_function)
    return NAMED[function] if isinstance(function, str) else function


def check_activation(owner: object, argument: str, value: Activation) -> Activation:
    """Refuse anything but the name of an activation or a function of one array.

    A function that has a name becomes its name: cells with either are then equal, and JAX's own
    functions cannot be pickled.
    """
    given = check_function(owner, argument, value, NAMED, ("z",))
    return next((name for name, function in NAMED.items() if function is given), given)
