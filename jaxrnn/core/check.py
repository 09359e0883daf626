"""Checks of a cell's options.

Every message names the owner and the argument, what was given, what was expected, and what to do.
"Refuse" in a docstring means: raise a ValueError or a TypeError with such a message.
"""

import contextlib
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from jaxrnn.core.cell import Cell

Check = Callable[[object, str, Any], object]
"""`check(owner, argument, value)` returns the value, or raises an error that names all three."""


def check_same_size(cell: Cell, inner: Cell, in_features: int) -> None:
    """Refuse an inner cell whose output cannot be joined with the input, for the sizes differ."""
    in_features = check_in_features(cell, in_features)
    if inner.out_features != in_features:
        raise ValueError(
            f"{name_of(cell)}: {name_of(inner)} returns {inner.out_features} features for an input "
            f"of {in_features}, expected equal sizes, because both are joined; change its size, or "
            "use a projection"
        )


def check_fields(owner: object, check: Check, *names: str) -> None:
    """Check fields of a frozen dataclass, and replace each by what the check returns.

    A check turns NumPy's numbers into Python's, so that equal cells are saved as equal files.
    """
    for name in names:
        object.__setattr__(owner, name, check(owner, name, getattr(owner, name)))


def check_size(owner: object, argument: str, value: object, hint: str = "") -> int:
    """Refuse a size that is not a positive integer below 2**31, the most that JAX can index."""
    expected = "a positive integer below 2**31" + hint
    return _integer(owner, argument, value, range(1, 2**31), expected)


def check_count(owner: object, argument: str, value: object) -> int:
    """Refuse a number of things that is not an integer, 0 or above."""
    expected = "an integer from 0 to 2**31 - 1"
    return _integer(owner, argument, value, range(2**31), expected)


def check_in_features(cell: Cell, in_features: object) -> int:
    """Refuse an input size that is not a positive integer. Every `init` that uses it calls this."""
    hint = "; pass the size of the inputs' last axis, in_features=xs.shape[-1]"
    return check_size(cell, "in_features", in_features, hint)


def check_flag(owner: object, argument: str, value: object) -> bool:
    """Refuse anything but True and False: a string such as "False" would count as true."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name_of(owner)}: {argument} is {_shown(value)}, expected True or False")
    return bool(value)


def check_seed(owner: object, argument: str, value: object) -> int:
    """Refuse a seed that JAX would reject, or would truncate to 32 bits."""
    return _integer(owner, argument, value, range(2**32), "an integer from 0 to 2**32 - 1")


def _integer(owner: object, argument: str, value: object, within: range, expected: str) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) in within:
        return int(value)
    raise ValueError(f"{name_of(owner)}: {argument} is {_shown(value)}, expected {expected}")


_ABOVE_0, _BELOW_1 = math.nextafter(0, 1), math.nextafter(1, 0)


def check_number(owner: object, argument: str, value: object) -> float:
    """Refuse anything but a real number. Infinity is one, NaN is not."""
    return _number(owner, argument, value, -math.inf, math.inf, "a number")


def check_rate(owner: object, argument: str, value: object) -> float:
    """Refuse a rate outside [0, 1)."""
    return _number(owner, argument, value, 0.0, _BELOW_1, "a rate in [0, 1)")


def check_share(owner: object, argument: str, value: object) -> float:
    """Refuse a share outside [0, 1]."""
    return _number(owner, argument, value, 0.0, 1.0, "a share in [0, 1]")


def check_positive(owner: object, argument: str, value: object) -> float:
    """Refuse anything but a positive number."""
    return _number(owner, argument, value, _ABOVE_0, math.inf, "a positive number")


def check_limit(owner: object, argument: str, value: object) -> float | None:
    """Refuse a bound that is not positive. None means that there is no bound."""
    if value is None:
        return None
    expected = "a positive number, or None for no limit"
    return _number(owner, argument, value, _ABOVE_0, math.inf, expected)


def _number(
    owner: object,
    argument: str,
    value: object,
    least: float,
    most: float,
    expected: str,
) -> float:
    number = math.nan
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer that is larger than any float
            number = float(value)
    if not least <= number <= most:  # written so that NaN is refused, too
        raise ValueError(f"{name_of(owner)}: {argument} is {_shown(value)}, expected {expected}")
    return number


def check_function(
    owner: object,
    argument: str,
    value: object,
    named: Collection[str],
    parameters: tuple[str, ...],
) -> Any:
    """Refuse an unknown name, and anything that cannot be called with these parameters."""
    form = f"function({', '.join(parameters)})"
    expected = f"expected a name, one of {sorted(named)}, or a callable, {form}"
    if isinstance(value, str):
        if value not in named:
            raise ValueError(f"{name_of(owner)}: {argument} {value!r} is unknown, {expected}")
    elif not takes(value, len(parameters)):
        raise TypeError(f"{name_of(owner)}: {argument} is {value!r}, {expected}")
    return value


def takes(value: object, arguments: int) -> bool:
    """Return whether a value is a function of so many arguments.

    Classes and cells are not, nor are modules of Flax or another library: their parameters would be
    constants here, or do not exist yet.
    """
    if not callable(value) or isinstance(value, type | Cell) or is_module(value):
        return False
    try:
        inspect.signature(value).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:  # a function written in C may have no signature to inspect
        return True
    return True


def is_module(value: object) -> bool:
    """Return whether a value is a module of Flax, Equinox, Haiku or PyTorch."""
    return any(base.__name__ == "Module" for base in type(value).__mro__)


def check_choice(owner: object, argument: str, value: object, choices: tuple[Any, ...]) -> None:
    """Refuse a value that is not one of the choices."""
    if value not in choices:
        raise ValueError(
            f"{name_of(owner)}: {argument} is {value!r}, expected one of {list(choices)}"
        )


def check_inner(cell: Cell, argument: str, inner: object) -> None:
    """Refuse an inner cell that is not a `jaxrnn.Cell`."""
    if not isinstance(inner, Cell):
        hint = ""
        if is_module(inner):
            hint = (
                "; jaxrnn.Dense(features) is a linear layer, as_cell in jaxrnn.linen and jaxrnn.nnx"
                " makes a cell of a Flax cell, and other modules go before or after the RNN"
            )
        raise TypeError(
            f"{name_of(cell)}: {argument} holds {described(inner)}, expected a jaxrnn.Cell such as "
            f"jaxrnn.LSTM(128){hint}"
        )


BRIDGE = (
    "the parameters of a cell in a Flax model are jaxrnn.linen.params(cell, variables), or the "
    ".params of a jaxrnn.nnx.RNN"
)
"""The hint for someone who passes the variables of a Flax model."""


def check_no_variables(owner: object, params: object) -> None:
    """Refuse the variables of a Flax model, `{"params": ...}`, where parameters are expected."""
    if isinstance(params, Mapping) and "params" in params:
        raise ValueError(
            f"{name_of(owner)}: params is a {type(params).__name__} with the keys {[*params]}, "
            f"expected what cell.init makes; {BRIDGE}"
        )


def name_of(owner: object) -> str:
    """Return the name of an owner for a message: a string itself, or the name of its class."""
    return owner if isinstance(owner, str) else getattr(owner, "__name__", type(owner).__name__)


def _shown(value: object) -> str:
    """Return a value for a message. An array is shown by its shape."""
    shape = None if isinstance(value, np.generic) else getattr(value, "shape", None)
    return repr(value) if shape is None else f"an array of shape {shape}"


def described(value: object) -> str:
    """Return what a value is, for a message: `a list`, `an int`, `the class LSTM`."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"
