"""Which parameter is what, by its name."""

from typing import Any

import jax

from jaxrnn.core.cell import Params

LABELS = {
    "w_x": "input",
    "w_h": "recurrent",
    "w_r": "projection",
    "w_t": "highway",
    "p_i": "peephole",
    "p_f": "peephole",
    "p_o": "peephole",
    "start": "carry",
}


def labels(params: Params) -> Any:
    """The kind of every parameter, for `optax.multi_transform`, `optax.masked` and penalties.

    `"input"`, `"recurrent"`, `"projection"`, `"highway"`, `"peephole"`, `"bias"`, `"gain"`,
    `"carry"` (a learned initial one), or `"other"` where a user's cell has other names.

    >>> import jax, jaxrnn
    >>> labels(jaxrnn.Elman(4).init(jax.random.key(0), 3))
    ElmanParams(w_x='input', w_h='recurrent', b='bias', gain=None)
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: _label(path), params)


def is_recurrent(path: tuple[Any, ...]) -> bool:
    """Whether the parameter at this path is a recurrent weight."""
    return _label(path) == "recurrent"


def names(path: tuple[Any, ...]) -> list[str]:
    """The names on the way to a leaf of a pytree; an entry that has a number alone is ""."""
    return [str(getattr(entry, "name", getattr(entry, "key", ""))) for entry in path]


def _label(path: tuple[Any, ...]) -> str:
    way = names(path)
    if "start" in way:
        return LABELS["start"]
    name = way[-1] if way else ""
    if name in LABELS:
        return LABELS[name]
    return (
        "bias"
        if name == "b" or name.startswith("b_")
        else "gain"
        if name.startswith("gain")
        else "other"
    )
