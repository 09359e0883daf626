"""Readable names for the parameters of any cell."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import Array
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from jaxrnn.core.cell import Cell, Params, abstract_params
from jaxrnn.core.check import name_of

Path = tuple[str, ...]


def nested(params: Params) -> dict[str, Any]:
    """A cell's parameters as nested dicts under readable names, without those that an option leaves
    out.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.Elman(4, bias=False)] * 2)
    >>> jax.tree.map(jax.numpy.shape, nested(cell.init(jax.random.key(0), in_features=3)))
    {'layer_0': {'w_h': (4, 4), 'w_x': (3, 4)}, 'layer_1': {'w_h': (4, 4), 'w_x': (4, 4)}}
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return traverse_util.unflatten_dict({_names(path): leaf for path, leaf in leaves})


def gathered(like: Params, find: Callable[[Path], Array]) -> Params:
    """The cell's own structure again, from the leaves found under their readable names."""
    return jax.tree_util.tree_map_with_path(lambda path, _: find(_names(path)), like)


def flat(tree: Any) -> dict[str, Any]:
    """Nested dicts as one, whose names are joined by slashes."""
    return traverse_util.flatten_dict(tree, sep="/")


def in_features(owner: str, cell: Cell, given: Mapping[str, Any]) -> int:
    """The size of the input for which a cell has parameters of these names and shapes.

    Raises:
        ValueError: there is no such size; the message says what is missing or does not fit.
    """
    shapes = {name: jnp.shape(leaf) for name, leaf in given.items()}
    forms: list[dict[str, tuple[int, ...]]] = []
    sizes = sorted({1, *(n for shape in shapes.values() for n in shape)})
    for size in sizes:  # with most, the structure alone is right: then the cell says the size
        try:
            like = abstract_params(cell, size)
        except ValueError:  # the cell takes inputs of another size alone
            continue
        forms.append({name: leaf.shape for name, leaf in flat(nested(like)).items()})
        if forms[-1] == shapes:
            return size
        if forms[-1].keys() == shapes.keys():
            sizes += [n for n in [_told(cell, like, given)] if n not in sizes]
    nearest = max(forms, key=lambda form: len(form.items() & shapes.items()), default={})
    raise ValueError(f"{owner}: {name_of(cell)} {_misfit(nearest, shapes)}")


def _told(cell: Cell, like: Params, given: Mapping[str, Any]) -> int:
    """The size of the input that a cell reads off its parameters; 1 if it does not say."""
    try:
        return max(1, cell.in_features(gathered(like, lambda path: given["/".join(path)])))
    except (NotImplementedError, LookupError):
        return 1


def _misfit(wanted: dict[str, tuple[int, ...]], given: dict[str, tuple[int, ...]]) -> str:
    """In words, how parameters differ from those that a cell has."""
    if wanted.keys() == given.keys():
        name = min(name for name in wanted if wanted[name] != given[name])
        return f"has a parameter {name!r} of shape {wanted[name]}, got one of {given[name]}"
    found = [name.removesuffix(first) for first in [*wanted][:1] for name in given]
    below = [at for at in found if at and all(f"{at}{name}" in given for name in wanted)]
    where = f"; they are there in {' or '.join(map(repr, below))}: pass that part" if below else ""
    return f"has the parameters {sorted(wanted)}, got {sorted(given)[:20]}{where}"


def _names(path: tuple[Any, ...]) -> Path:
    return tuple(map(_name, path)) or ("w",)  # a cell whose parameters are one bare array


def _name(entry: Any) -> str:
    match entry:
        case GetAttrKey(name=name):
            return name
        case DictKey(key=key):
            return str(key)
        case SequenceKey(idx=index) | FlattenedIndexKey(key=index):
            return f"layer_{index}"
    raise TypeError(
        f"parameters live in a container whose entries have no name, {entry!r}; use a NamedTuple, "
        "dict or tuple"
    )
