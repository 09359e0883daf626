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
from jaxrnn.core.trees import Tree

Path = tuple[str, ...]


def nested(params: Params) -> dict[str, Any]:
    """Return a cell's parameters as nested dicts with readable names.

    Parameters that an option leaves out are left out here, too.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.Elman(4, bias=False)] * 2)
    >>> jax.tree.map(jax.numpy.shape, nested(cell.init(jax.random.key(0), in_features=3)))
    {'layer_0': {'w_h': (4, 4), 'w_x': (3, 4)}, 'layer_1': {'w_h': (4, 4), 'w_x': (4, 4)}}
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return traverse_util.unflatten_dict({_names(path): leaf for path, leaf in leaves})


def gathered(like: Params, find: Callable[[Path], Array]) -> Params:
    """Return a tree of the cell's own structure, with `find(path)` at each readable path."""
    return jax.tree_util.tree_map_with_path(lambda path, _: find(_names(path)), like)


def flat(tree: Tree) -> dict[str, Any]:
    """Flatten nested dicts into one, with names joined by slashes."""
    return traverse_util.flatten_dict(tree, sep="/")


def in_features(owner: str, cell: Cell, given: Mapping[str, Any]) -> int:
    """Return the input size for which a cell has parameters with these names and shapes.

    Raises:
        ValueError: there is no such size. The message says what is missing or does not fit.
    """
    shapes = {name: jnp.shape(leaf) for name, leaf in given.items()}
    forms: list[dict[str, tuple[int, ...]]] = []
    sizes = sorted({1, *(n for shape in shapes.values() for n in shape)})
    if not given:  # of a layer without parameters, only the layer knows the size
        sizes = [_told(cell, (), given), *sizes]
    for size in sizes:  # a first guess often has the right names: then the cell tells the size
        try:
            like = abstract_params(cell, size)
        except ValueError:  # the cell cannot take inputs of this size
            continue
        forms.append({name: leaf.shape for name, leaf in flat(nested(like)).items()})
        if forms[-1] == shapes:
            return size
        if forms[-1].keys() == shapes.keys():
            sizes += [n for n in [_told(cell, like, given)] if n not in sizes]
    nearest = max(forms, key=lambda form: len(form.items() & shapes.items()), default={})
    raise ValueError(f"{owner}: {name_of(cell)} {_misfit(nearest, shapes)}")


def _told(cell: Cell, like: Params, given: Mapping[str, Any]) -> int:
    """Return the input size that a cell reads from its parameters, or 1 if it cannot."""
    try:
        return max(1, cell.in_features(gathered(like, lambda path: given["/".join(path)])))
    except (NotImplementedError, LookupError, AttributeError):
        return 1


def _misfit(wanted: dict[str, tuple[int, ...]], given: dict[str, tuple[int, ...]]) -> str:
    """Return in words how parameters differ from those of a cell."""
    if wanted.keys() == given.keys():
        name = min(name for name in wanted if wanted[name] != given[name])
        return f"has a parameter {name!r} of shape {wanted[name]}, got the shape {given[name]}"
    found = [name.removesuffix(first) for first in [*wanted][:1] for name in given]
    below = [at for at in found if at and all(f"{at}{name}" in given for name in wanted)]
    where = f"; {' or '.join(map(repr, below))} holds them: pass that part" if below else ""
    return f"has the parameters {sorted(wanted)}, got {sorted(given)[:20]}{where}"


def _names(path: tuple[Any, ...]) -> Path:
    return tuple(map(_name, path)) or ("w",)  # a cell whose parameters are one bare array


def _name(entry: Any) -> str:
    match entry:
        case GetAttrKey(name=name):
            return name
        case DictKey(key=key) if "/" not in str(key):
            return str(key)
        case DictKey(key=key):
            raise ValueError(
                f"a parameter has the name {key!r}, expected one without a slash, which separates "
                "the names of nested parameters in Flax; rename it"
            )
        case SequenceKey(idx=index) | FlattenedIndexKey(key=index):
            return f"layer_{index}"
    raise TypeError(
        f"the parameters have a container whose entries have no names, {entry!r}, expected "
        "NamedTuples, dicts, tuples or lists; use one of these"
    )
