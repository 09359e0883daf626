"""Dictionaries of arrays. All arrays are checked before the first one is copied."""

from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias

import jax
from jax import Array

from jaxrnn.convert._arrays import ForeignArray, form_of, to_jax
from jaxrnn.convert._errors import listed, refuse

Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""The shapes of arrays, by name."""

Tree: TypeAlias = Mapping[str, "ForeignArray | Tree"]
"""Arrays in nested dictionaries."""


def flatten(caller: str, tree: object, prefix: str = "") -> dict[str, object]:
    """Return the arrays of nested dictionaries, with their keys joined by slashes.

    Raises:
        TypeError: `tree` is not a dictionary.
        ValueError: two arrays get the same name.

    >>> flatten("from_flax", {"cell": {"i": {"kernel": 1, "bias": 2}}})
    {'cell/i/kernel': 1, 'cell/i/bias': 2}
    """
    flat: dict[str, object] = {}
    for key, value in _checked_mapping(caller, tree).items():
        name = f"{prefix}{key}"
        nested = isinstance(value, Mapping)
        inner = flatten(caller, value, f"{name}/") if nested else {name: value}
        if twice := sorted(flat.keys() & inner.keys()):
            refuse(caller, f"{twice[0]} is there twice: a key with a slash equals another's path")
        flat |= inner
    return flat


def _checked_mapping(caller: str, given: object) -> Mapping[object, object]:
    """Return the argument, which must be a dictionary; otherwise raise a `TypeError`."""
    if not isinstance(given, Mapping):
        hint = "; pass its .state_dict()" if hasattr(given, "state_dict") else ""
        expected = f"expected a dictionary of arrays{hint}"
        raise TypeError(f"{caller}: the argument is a {type(given).__name__}, {expected}")
    return given


class Weights:
    """The arrays of a dictionary. All of them are checked before the first is copied.

    Args:
        arrays: the arrays, by name.
        caller: the function that reads, for messages.
        prefix: the beginning of the names to read; other arrays are ignored.

    Raises:
        TypeError: `arrays` is not a dictionary, or a key is not a string.
    """

    def __init__(self, arrays: object, caller: str, prefix: str = "") -> None:
        self._all: dict[str, object] = {}
        for key, array in _checked_mapping(caller, arrays).items():
            if not isinstance(key, str):
                kind = type(key).__name__
                raise TypeError(f"{caller}: the key {key!r} is of type {kind}, expected a string")
            self._all[key] = array
        self._caller, self._prefix = caller, prefix
        self._arrays = {k[len(prefix) :]: a for k, a in self._all.items() if k.startswith(prefix)}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def has(self, start: str) -> bool:
        """Return whether a name starts with this."""
        return any(name.startswith(start) for name in self._arrays)

    def named(self, name: str) -> str:
        """Return the name of an array for messages: the caller, then the prefix and the name."""
        return f"{self._caller}: {self._prefix}{name}"

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array. A missing one is refused."""
        return self._form(name).shape

    def sizes(self, name: str, *axes: str) -> Sequence[int]:
        """Return the shape of an array. Another number of axes, or an axis of size 0, is refused.

        The names of the axes appear in the message.
        """
        shape = self.shape(name)
        if len(shape) != len(axes) or 0 in shape:
            wanted = f"expected [{', '.join(axes)}], none of them 0"
            raise ValueError(f"{self.named(name)} has shape {shape}, {wanted}")
        return shape

    def check(self, shapes: Shapes, *, one_dtype: bool = False) -> None:
        """Refuse unless the dictionary holds arrays of these names and shapes, and nothing else.

        Args:
            shapes: the expected shapes, by name.
            one_dtype: whether all dtypes must be equal.

        Raises:
            ValueError: an array is missing, has another shape or dtype, or is not in `shapes`.
            TypeError: an array holds no floats.
        """
        forms = {name: self._form(name) for name in shapes}
        first = next(iter(forms))
        for name, form in forms.items():
            if form.shape != shapes[name]:
                wanted = f"has shape {form.shape}, expected {shapes[name]}"
                raise ValueError(f"{self.named(name)} {wanted}")
            if one_dtype and form.dtype != forms[first].dtype:
                wanted = f"has dtype {form.dtype}, expected {forms[first].dtype}, that of {first}"
                raise ValueError(f"{self.named(name)} {wanted}; cast one of them")
        if left := self._arrays.keys() - forms.keys():
            refuse(self._caller, f"unexpected {listed(self._prefix + name for name in left)}")

    def take(self, shapes: Shapes, *, one_dtype: bool = False) -> dict[str, Array]:
        """Return all arrays as arrays of JAX, in the order of `shapes`, after `check`."""
        self.check(shapes, one_dtype=one_dtype)
        return {name: to_jax(self._arrays[name], self.named(name)) for name in shapes}

    def missing(self, *names: str) -> NoReturn:
        """Refuse a dictionary in which the first of these names is missing.

        Raises:
            ValueError: always. The message has the other prefixes with which a name exists.
        """
        fitting = [
            key.removesuffix(name)
            for key in self._all
            for name in names
            if key.endswith(f".{name}") and key != f"{self._prefix}{name}"
        ]
        hint = f"; it is there with prefix={' or '.join(map(repr, fitting))}" if fitting else ""
        there = f"there are {listed(self._arrays)}{hint}"
        raise ValueError(f"{self.named(names[0])} is missing; {there}")

    def _form(self, name: str) -> jax.ShapeDtypeStruct:
        """Return the shape and dtype of an array. A missing one is refused."""
        if name not in self._arrays:
            self.missing(name)
        return form_of(self._arrays[name], self.named(name))
