"""What all conversions share: reading arrays by name, walking layers, permuting gates, and refusing by name and reason."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._cell import Cell, Params
from jaxrnn._check import check_params
from jaxrnn.combinators import Bidirectional, BidirectionalParams, Stack

Layer = list[tuple[Cell, Params]]
"""The directions of one layer, forwards first."""

_HOW_TO_START = {"forget_bias", "update_bias", "w_x_init", "w_h_init", "b_init", "p_init"}
"""Options that say how parameters are drawn, not what the cell computes: conversions don't carry them."""


def to_numpy(array: Any) -> np.ndarray:
    """Any framework's array as one of NumPy's, bit for bit; bfloat16 included."""
    if hasattr(array, "detach"):  # a tensor of torch, whose NumPy bridge knows no bfloat16
        array = jnp.from_dlpack(array.detach().cpu().contiguous()) if "bfloat16" in str(array.dtype) else array.detach().cpu()
    return np.asarray(array)


def to_jax(array: Any, name: str) -> jax.Array:
    """An array of JAX, bit for bit; refused where JAX would round it.

    Raises:
        TypeError: the array is float64 and JAX does not hold float64 as it is set up, or holds something else than floats.
    """
    if not isinstance(array, jax.Array):  # which may be a tracer, or lie on several devices
        array = to_numpy(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {array.dtype}, expected floating numbers")
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise TypeError(f"{name} has dtype {array.dtype}, which JAX would round; cast it, or enable jax_enable_x64")
    return jnp.asarray(array)


def flatten(source: str, tree: Any, name: str = "") -> dict[str, Any]:
    """The arrays of nested dictionaries, their keys joined by slashes.

    Raises:
        TypeError: `tree` is no dictionary.

    >>> flatten("from_flax", {"cell": {"i": {"kernel": 1, "bias": 2}}})
    {'cell/i/kernel': 1, 'cell/i/bias': 2}
    """
    if not isinstance(tree, Mapping):
        raise TypeError(f"{source}: {name or 'the argument'} is a {type(tree).__name__}, expected a dictionary of arrays")
    flat = {}
    for key, value in tree.items():
        inner = f"{name}/{key}" if name else str(key)
        flat |= flatten(source, value, inner) if isinstance(value, Mapping) else {inner: value}
    return flat


class Weights:
    """The arrays of a dictionary, each taken once, so that what is left over can be named.

    Args:
        arrays: by name.
        prefix: of the names that are looked at; others are ignored.
        source: who is reading, for messages.
    """

    def __init__(self, arrays: Mapping[str, Any], prefix: str, source: str) -> None:
        self._arrays = {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
        self._prefix, self._source = prefix, source
        self._left = set(self._arrays)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array that must be there."""
        return to_numpy(self._found(name)).shape

    def matrix(self, name: str) -> tuple[int, int]:
        """The shape of a matrix that must be there."""
        shape = self.shape(name)
        if len(shape) != 2:
            raise ValueError(f"{self._source}: {self._prefix}{name} has shape {shape}, expected two axes")
        return shape

    def take(self, name: str, shape: Sequence[int]) -> jax.Array:
        """The array of that name.

        Raises:
            ValueError: there is none, or it has another shape.
        """
        array = to_jax(self._found(name), f"{self._source}: {self._prefix}{name}")
        if array.shape != tuple(shape):
            raise ValueError(f"{self._source}: {self._prefix}{name} has shape {array.shape}, expected {tuple(shape)}")
        self._left.discard(name)
        return array

    def finish(self) -> None:
        """Refuse if something was not taken."""
        if self._left:
            raise ValueError(f"{self._source}: unexpected {sorted(self._prefix + name for name in self._left)}")

    def _found(self, name: str) -> Any:
        if name not in self._arrays:
            raise ValueError(f"{self._source}: {self._prefix}{name} is missing; there are {sorted(self._arrays)}")
        return self._arrays[name]


def refuse(target: str, reason: str) -> NoReturn:
    """Say what a target cannot hold, and why."""
    raise ValueError(f"{target}: {reason}")


def check_options(target: str, cell: Any, allowed: Iterable[str], what: str) -> None:
    """Refuse every option that is set and that the target does not know."""
    for field in dataclasses.fields(cell):
        known = field.name in _HOW_TO_START or field.name in allowed or field.name == "hidden"
        if not known and getattr(cell, field.name) != field.default:
            refuse(target, f"{type(cell).__name__} has {field.name}={getattr(cell, field.name)!r}, which {what} cannot hold")


def _refuse_params(target: str, cell: Cell, params: Params) -> NoReturn:
    """Say that parameters are of something else."""
    refuse(target, f"params are a {type(params).__name__}, expected what {type(cell).__name__}.init makes")


def own_params(target: str, cell: Cell, params: Params) -> Any:
    """The parameters as arrays of JAX, once they are known to be those of this cell, whose first array is an input matrix.

    Raises:
        ValueError: they have another structure or other shapes.
    """
    shape = np.shape(next(iter(jax.tree.leaves(params)), ()))
    if len(shape) != 2:
        _refuse_params(target, cell, params)
    check_params(cell, params, in_features=shape[0])
    return jax.tree_util.tree_map_with_path(lambda path, leaf: to_jax(leaf, f"{target}: params{jax.tree_util.keystr(path)}"), params)


def with_bias(cell: Any, params: Any) -> tuple[Any, Any]:
    """The same function as a cell that has its biases, for targets that always have them: those that it lacked are zero."""
    biased = dataclasses.replace(cell, bias=True)
    forms = jax.eval_shape(lambda: biased.init(jax.random.key(0), params.w_x.shape[0], params.w_x.dtype))
    missing = {name: form for name, form in forms._asdict().items() if form is not None and getattr(params, name) is None}
    return biased, params._replace(**{name: jnp.zeros(form.shape, form.dtype) for name, form in missing.items()})


def layers_of(target: str, cell: Cell, params: Params) -> list[Layer]:
    """A cell, a `Bidirectional` that concatenates, or a `Stack` of such, as layers of directions; anything else is refused."""
    if isinstance(cell, Stack):
        if cell.dense:
            refuse(target, "Stack has dense=True; its layers can only be converted one by one")
        if not isinstance(params, tuple) or len(params) != len(cell.cells):
            _refuse_params(target, cell, params)
        return [layer for inner, p in zip(cell.cells, params, strict=True) for layer in layers_of(target, inner, p)]
    if isinstance(cell, Bidirectional):
        if cell.merge != "concat":
            refuse(target, f"Bidirectional has merge={cell.merge!r}, expected 'concat'")
        if not isinstance(params, BidirectionalParams):
            _refuse_params(target, cell, params)
        return [[(cell.forward, params.forward), (cell.backward, params.backward)]]
    return [[(cell, params)]]


def join_layers(layers: Sequence[Layer]) -> tuple[Cell, Params]:
    """The inverse: a cell, a `Bidirectional`, or a `Stack` of them if there are several."""
    joined = [
        (Bidirectional(layer[0][0], layer[1][0]), BidirectionalParams(layer[0][1], layer[1][1])) if len(layer) == 2 else layer[0]
        for layer in layers
    ]
    if len(joined) == 1:
        return joined[0]
    cells, params = zip(*joined, strict=True)
    return Stack(cells), tuple(params)


def reorder(array: Any, given: str, wanted: str, axis: int = -1) -> Any:
    """An array whose axis holds blocks, one for each letter of `given`, with its blocks in the order of `wanted`.

    >>> reorder(np.arange(4), "ifgo", "iofg").tolist()
    [0, 3, 1, 2]
    """
    library: Any = jnp if isinstance(array, jax.Array) else np
    parts = dict(zip(given, library.split(array, len(given), axis=axis), strict=True))
    return library.concatenate([parts[gate] for gate in wanted], axis=axis)


def gru_biases(b_x: jax.Array, b_h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A GRU's `b` and `b_hn` from a bias of the input and one of the state, each in the order r z n: only the candidate needs two."""
    own = slice(-(b_x.size // 3), None)
    return (b_x + b_h).at[own].set(b_x[own]), b_h[own]


def recurrent_bias(b: jax.Array, b_hn: jax.Array | None) -> jax.Array:
    """The inverse: what to add to `b`, which is the input's, where a framework has a bias of the state, too."""
    zero = -jnp.zeros_like(b)  # minus zero changes no number that it is added to, not even minus zero
    return zero if b_hn is None else zero.at[-b_hn.size :].set(b_hn)
