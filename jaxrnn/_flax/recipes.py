"""Flax modules as cells: what stands for a module, and the dtypes of its carry."""

import dataclasses
import importlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.dtypes import wide


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a Flax module is built: what stands for the module in a cell, which may hold no array.

    Args:
        make: the module's class, or another function that gives one.
        arguments: names and values, sorted, without those that are the defaults.

    Raises:
        TypeError: an argument has no hash.
    """

    make: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name, value in self.arguments:
            try:
                hash(value)
            except TypeError as error:
                raise TypeError(
                    f"as_cell: {name} of {self.make.__name__} is {value!r}, expected a value that "
                    "hashes; a cell compares by value, so use a tuple, a number or a function"
                ) from error

    def __call__(self, **more: Any) -> Any:
        return self.make(**dict(self.arguments), **more)

    def __reduce__(self) -> Any:
        arguments = tuple((name, _by_name(value)) for name, value in self.arguments)
        return _recipe_found, (_by_name(self.make), arguments)


@dataclasses.dataclass(frozen=True)
class _Global:
    """Where a function is found: what `jax.jit` and `jax.custom_jvp` give does not pickle."""

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
    """A Flax cell's initial carry as jaxrnn carries it: floating leaves in at least float32."""
    weights = jax.tree.leaves(params)

    def leaf(value: Array) -> Array:
        return value.astype(wide(value, *weights)) if _is_floating(value) else value

    return jax.tree.map(leaf, carry)


def as_carried(after: Carry, before: Carry) -> Carry:
    """A Flax cell's new carry, with what its `dtype` made narrower as wide as before."""

    def leaf(new: Array, old: Array) -> Array:
        narrower = _is_floating(new) and _is_floating(old) and wide(new, old) != new.dtype
        return new.astype(old.dtype) if narrower else new

    return jax.tree.map(leaf, after, before)


def _is_floating(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
