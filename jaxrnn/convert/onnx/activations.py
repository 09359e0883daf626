"""ONNX's activation functions, read and written: their names, and the numbers alpha and beta.

A file holds these numbers as float32. A cell that computes in float32 or less computes the same
after a round trip. A number is read as the shortest decimal of the same float32: 0.2, not
0.20000000298. For a cell that computes in float64, only numbers that a float32 holds exactly can be
written.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np

from jaxrnn.activations import (
    ELU,
    Activation,
    Affine,
    HardSigmoid,
    LeakyReLU,
    ScaledTanh,
    ThresholdedReLU,
)
from jaxrnn.convert._errors import refuse
from jaxrnn.convert._layers import Plain
from jaxrnn.convert.onnx.schema import Attributes

Precision = type[np.float32] | type[np.float64]
"""The precision in which a cell computes."""

Numbered = Affine | ELU | HardSigmoid | LeakyReLU | ScaledTanh | ThresholdedReLU
"""A function with an alpha, or with an alpha and a beta."""

_PLAIN = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
}
"""The functions without numbers: ONNX's names and jaxrnn's."""

_NUMBERED: dict[str, tuple[type[Numbered], tuple[float | None, ...]]] = {
    "Affine": (Affine, (None, None)),
    "Elu": (ELU, (1.0,)),
    "HardSigmoid": (HardSigmoid, (0.2, 0.5)),
    "LeakyRelu": (LeakyReLU, (0.01,)),
    "ScaledTanh": (ScaledTanh, (None, None)),
    "ThresholdedRelu": (ThresholdedReLU, (None,)),
}
"""The functions with numbers, and the defaults of the numbers.

None means that ONNX has no default, or that ONNX Runtime uses another one, which is 0.
"""

_SHORT: dict[str, Numbered] = {
    "elu": ELU(),
    "hard_sigmoid": HardSigmoid(),
    "leaky_relu": LeakyReLU(),
    "linear": Affine(1.0, 0.0),
}
"""Functions with numbers for which jaxrnn has names."""

_BY_LOWER = {name.lower(): name for name in (*_PLAIN, *_NUMBERED)}  # ONNX ignores case

_NUMBERS = ("activation_alpha", "activation_beta")


def precision_of(dtype: np.dtype) -> Precision:
    """Return the precision in which a cell with parameters of this dtype computes."""
    return np.float64 if dtype == np.float64 else np.float32


def read_number(value: float, precision: Precision) -> float:
    """Return the shortest decimal that is the same number as a file's in the cell's precision.

    >>> held = float(np.float32(0.2))
    >>> read_number(held, np.float32), read_number(held, np.float64)
    (0.2, 0.20000000298023224)
    """
    return float(str(precision(value)))


def write_number(name: str, value: float, precision: Precision) -> float:
    """Return a number as a file holds it.

    Raises:
        ValueError: float32 does not hold it exactly, and the cell computes in float64.
    """
    if precision(np.float32(value)) != precision(value):
        reason = "ONNX holds it as float32, which would change a cell in float64; round it"
        refuse("to_onnx", f"{name} is {value!r}, but {reason}")
    return float(np.float32(value))


def read_activations(
    caller: str, names: Sequence[str], attributes: Attributes, precision: Precision
) -> list[Activation]:
    """Return the functions that the attributes of a node name.

    Args:
        caller: the function that reads, for messages.
        names: ONNX's names of the functions, in upper or lower case.
        attributes: the attributes of the node. Each function takes the numbers that it needs from
            the front of `activation_alpha` and `activation_beta`.
        precision: the precision in which the cell computes.

    Raises:
        ValueError: a name is unknown, a number is missing, or some are left over.
    """
    left = {
        "activation_alpha": [*attributes.get("activation_alpha", ())],
        "activation_beta": [*attributes.get("activation_beta", ())],
    }
    found = [_read(caller, name, left, precision) for name in names]
    for attribute, rest in left.items():
        if rest:
            reason = f"{len(rest)} more than the activations {list(names)} take"
            refuse(caller, f"{attribute} has {reason}")
    return found


def _read(
    caller: str, given: str, left: Mapping[str, list[float]], precision: Precision
) -> Activation:
    """Return one function, which takes its numbers from the front of those that are left."""
    name = _BY_LOWER.get(given.lower())
    if name is None:
        known = f"expected one of {sorted(_BY_LOWER.values())}"
        refuse(caller, f"activation {given!r} is unknown, {known}")
    if name in _PLAIN:
        return _PLAIN[name]
    build, defaults = _NUMBERED[name]
    values: list[float] = []
    for attribute, default in zip(_NUMBERS, defaults, strict=False):
        value = left[attribute].pop(0) if left[attribute] else default
        if value is None:
            reason = "and runtimes do not agree on a default"
            refuse(caller, f"{attribute} has no number for {name}, {reason}")
        values.append(read_number(float(np.float32(value)), precision))
    function = build(*values)
    meaning = _meaning(function, precision)
    same = (short for short, known in _SHORT.items() if _meaning(known, precision) == meaning)
    return next(same, function)


def _meaning(function: Numbered, precision: Precision) -> tuple[object, ...]:
    """Return a key that is equal for functions that compute the same in this precision."""
    return type(function), *map(precision, dataclasses.astuple(function))


def write_activations(
    cells: Iterable[Plain], options: Iterable[str], precision: Precision
) -> Attributes:
    """Return the attributes of a node for the activations of its cells.

    Args:
        cells: the cells of the node, one for each direction.
        options: the options of the cells that are activations, in ONNX's order.
        precision: the precision in which the cells compute.

    Raises:
        ValueError: ONNX has no such function, or cannot hold its numbers.
    """
    names: list[str] = []
    numbers: dict[str, list[float]] = {attribute: [] for attribute in _NUMBERS}
    for cell, option in itertools.product(cells, options):
        given = getattr(cell, option)
        name, values = _write(f"{type(cell).__name__} has {option}={given!r}", given, precision)
        names.append(name)
        for attribute, value in values.items():
            numbers[attribute].append(value)
    given_numbers = {attribute: values for attribute, values in numbers.items() if values}
    return cast(Attributes, {"activations": names, **given_numbers})


def _write(what: str, given: Activation, precision: Precision) -> tuple[str, dict[str, float]]:
    """Return the name of a function, and its numbers by attribute. `what` is for messages."""
    by_name = {ours: name for name, ours in _PLAIN.items()}
    by_class = {build: name for name, (build, _) in _NUMBERED.items()}
    function = _long(given)
    if isinstance(function, str):
        return by_name[function], {}
    if not isinstance(function, Numbered) or type(function) not in by_class:
        known = [*sorted({*by_name, *_SHORT}), *(build.__name__ for build in by_class)]
        refuse("to_onnx", f"{what}, expected one of {known}")
    values = zip(_NUMBERS, dataclasses.astuple(function), strict=False)
    return by_class[type(function)], {
        attribute: write_number(f"{what}, whose {attribute}", value, precision)
        for attribute, value in values
    }


def mirrors(function: Activation) -> bool:
    """Return whether a function a has a(-z) = 1 - a(z).

    >>> mirrors("sigmoid"), mirrors(HardSigmoid(0.2)), mirrors("tanh")
    (True, True, False)
    """
    function = _long(function)
    return (
        function == "sigmoid"
        or (isinstance(function, HardSigmoid) and function.offset == 0.5)
        or (isinstance(function, Affine) and function.beta == 0.5)
    )


def _long(function: Activation) -> Activation:
    """Return the function with numbers that a name stands for, and any other function as it is."""
    return _SHORT.get(function, function) if isinstance(function, str) else function
