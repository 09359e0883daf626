"""ONNX's activation functions, both ways: names, and the numbers alpha and beta, which a file holds
as float32.

What a cell computes in float32 or narrower, it computes with the same float32 numbers after a round
trip, and a number comes back as the shortest one that means it: 0.2, not 0.20000000298. In float64
a number must be a float32 to be held at all."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
from jaxrnn.convert._common import refuse

Precision = type[np.float32] | type[np.float64]
"""In which a cell computes."""

_PLAIN = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
}

_NUMBERED: dict[str, tuple[type[Any], tuple[float | None, ...]]] = {
    "Affine": (Affine, (None, None)),
    "Elu": (ELU, (1.0,)),
    "HardSigmoid": (HardSigmoid, (0.2, 0.5)),
    "LeakyRelu": (LeakyReLU, (0.01,)),
    "ScaledTanh": (ScaledTanh, (None, None)),
    "ThresholdedRelu": (ThresholdedReLU, (None,)),
}
"""Those with an alpha, or an alpha and a beta, and their defaults; None where ONNX names none, or
ONNX Runtime takes another: 0.
"""

_SHORT: dict[str, Any] = {
    "elu": ELU(),
    "hard_sigmoid": HardSigmoid(),
    "leaky_relu": LeakyReLU(),
    "linear": Affine(1.0, 0.0),
}
"""jaxrnn's names for some of these."""

_NUMBERS = ("activation_alpha", "activation_beta")


def precision_of(dtype: Any) -> Precision:
    """In which a cell with such parameters computes."""
    return np.float64 if dtype == np.float64 else np.float32


def read_number(value: float, precision: Precision) -> float:
    """A number of a file: the shortest that means the same where it is computed with.

    >>> read_number(float(np.float32(0.2)), np.float32), read_number(float(np.float32(0.2)), np.float64)
    (0.2, 0.20000000298023224)
    """
    return float(str(precision(value)))


def write_number(name: str, value: float, precision: Precision) -> float:
    """The same number as a file holds it.

    Raises:
        ValueError: it is none of float32, and the cell computes in float64.
    """
    if precision(np.float32(value)) != precision(value):
        refuse(
            "to_onnx",
            f"{name} is {value!r}, but ONNX holds it as float32, where a cell in float64 would "
            "notice; round it",
        )
    return float(np.float32(value))


def read_activations(
    source: str,
    names: Sequence[str],
    attributes: Mapping[str, Sequence[float]],
    precision: Precision,
) -> list[Activation]:
    """What the attributes of a node say.

    Args:
        source: who is reading, for messages.
        names: of the functions, in any case.
        attributes: with `activation_alpha` and `activation_beta`, if the node has them; each
            function takes as many as it needs.
        precision: in which the cell computes.

    Raises:
        ValueError: a name is unknown, a number is missing, or some are left over.
    """
    left = {attribute: list(attributes.get(attribute, ())) for attribute in _NUMBERS}
    found = [_read(source, name, left, precision) for name in names]
    for attribute, rest in left.items():
        if rest:
            refuse(
                source, f"{attribute} has {len(rest)} more than the activations {list(names)} take"
            )
    return found


def _read(
    source: str, given: str, left: dict[str, list[float]], precision: Precision
) -> Activation:
    """One function, which takes its numbers from those that are left."""
    name = next((name for name in (*_PLAIN, *_NUMBERED) if name.lower() == given.lower()), None)
    if name is None:
        refuse(
            source,
            f"activation {given!r} is unknown, expected one of {sorted((*_PLAIN, *_NUMBERED))}",
        )
    if name in _PLAIN:
        return _PLAIN[name]
    build, defaults = _NUMBERED[name]
    values = []
    for attribute, default in zip(_NUMBERS, defaults, strict=False):
        value = left[attribute].pop(0) if left[attribute] else default
        if value is None:
            refuse(
                source,
                f"{attribute} has no number for {name}, and runtimes do not agree on a default",
            )
        values.append(read_number(float(np.float32(value)), precision))
    function = build(*values)
    return next(
        (
            short
            for short, f in _SHORT.items()
            if _meaning(f, precision) == _meaning(function, precision)
        ),
        function,
    )


def _meaning(function: Any, precision: Precision) -> tuple[Any, ...]:
    return type(function), *map(precision, dataclasses.astuple(function))


def write_activations(
    cell: Any, options: Iterable[str], precision: Precision
) -> dict[str, list[Any]]:
    """The attributes for the functions that are these options of a cell.

    Raises:
        ValueError: ONNX has no such function, or cannot hold its numbers.
    """
    by_name = {ours: name for name, ours in _PLAIN.items()}
    by_class = {build: name for name, (build, _) in _NUMBERED.items()}
    written: dict[str, list[Any]] = {"activations": [], **{attribute: [] for attribute in _NUMBERS}}
    for option in options:
        given = getattr(cell, option)
        function, what = _long(given), f"{type(cell).__name__} has {option}={given!r}"
        if isinstance(function, str):
            written["activations"].append(by_name[function])
        elif type(function) in by_class:
            written["activations"].append(by_class[type(function)])
            for attribute, value in zip(_NUMBERS, dataclasses.astuple(function), strict=False):
                written[attribute].append(
                    write_number(f"{what}, whose {attribute}", value, precision)
                )
        else:
            known = [*sorted({*by_name, *_SHORT}), *(build.__name__ for build in by_class)]
            refuse("to_onnx", f"{what}, expected one of {known}")
    return written


def mirrors(function: Activation) -> bool:
    """Whether a(-z) = 1 - a(z).

    >>> mirrors("sigmoid"), mirrors(HardSigmoid(0.2)), mirrors("tanh")
    (True, True, False)
    """
    function = _long(function)
    return (
        function == "sigmoid"
        or (isinstance(function, HardSigmoid) and function.offset == 0.5)
        or (isinstance(function, Affine) and function.beta == 0.5)
    )


def _long(function: Activation) -> Any:
    """The function with its numbers, if it is a name for one."""
    return _SHORT.get(function, function) if isinstance(function, str) else function
