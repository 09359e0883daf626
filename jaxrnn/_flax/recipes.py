"""Recipes that build Flax modules, and the dtypes of their carries."""

import dataclasses
import importlib
import sys
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.dtypes import wide
from jaxrnn.core.trees import is_real_float


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a Flax module is built. A cell holds it in place of the module, which has arrays.

    Args:
        make: the module's class, or another function that returns a module.
        arguments: its keyword arguments as pairs of name and value, sorted. Those that have their
            default are left out.

    Raises:
        TypeError: an argument is not hashable.
    """

    make: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.arguments:
            try:
                hash(value)
            except TypeError as error:
                raise TypeError(
                    f"as_cell: {name} of {self.make.__name__} is {value!r}, expected a hashable "
                    "value, because a cell compares by value; use a tuple, a number or a function"
                ) from error

    def __call__(self, **more: Any) -> Any:
        return self.make(**dict(self.arguments), **more)

    def __reduce__(self) -> Any:
        arguments = tuple((name, _by_name(value)) for name, value in self.arguments)
        return _recipe_found, (_by_name(self.make), arguments)


@dataclasses.dataclass(frozen=True)
class _Global:
    """The place of a function's definition: what `jax.jit` returns, for one, cannot be pickled."""

    module: str
    name: str

    def find(self) -> Any:
        return getattr(importlib.import_module(self.module), self.name)


def _by_name(value: Any) -> Any:
    module, name = (getattr(value, attribute, None) for attribute in ("__module__", "__qualname__"))
    if not (isinstance(module, str) and isinstance(name, str)):
        return value
    return _Global(module, name) if getattr(sys.modules.get(module), name, None) is value else value


def _recipe_found(make: Any, arguments: tuple[tuple[str, Any], ...]) -> Recipe:
    found = [value.find() if isinstance(value, _Global) else value for _, value in arguments]
    names = [name for name, _ in arguments]
    make = make.find() if isinstance(make, _Global) else make
    return Recipe(make, tuple(zip(names, found, strict=True)))


def widened(carry: Carry, params: Params) -> Carry:
    """Widen the floating leaves of a Flax cell's initial carry to at least float32."""
    weights = jax.tree.leaves(params)

    def leaf(value: Array) -> Array:
        return value.astype(wide(value, *weights)) if is_real_float(value) else value

    return jax.tree.map(leaf, carry)


def as_carried(after: Carry, before: Carry) -> Carry:
    """Widen a Flax cell's new carry again, where the cell's `dtype` has made it narrower."""

    def leaf(new: Array, old: Array) -> Array:
        narrower = is_real_float(new) and is_real_float(old) and wide(new, old) != new.dtype
        return new.astype(old.dtype) if narrower else new

    return jax.tree.map(leaf, after, before)
