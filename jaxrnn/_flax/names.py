"""Readable names for the parameters of any cell."""

from collections.abc import Callable
from typing import Any

import jax
from flax import traverse_util
from jax import Array
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from jaxrnn.core.cell import Params

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
