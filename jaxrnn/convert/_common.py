"""What all conversions share: reading arrays by name, walking layers, permuting gates, and refusing
by name and reason.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrnn.combinators import Bidirectional, BidirectionalParams, Stack
from jaxrnn.core.call import check_params
from jaxrnn.core.cell import Cell, Params

Layer = list[tuple[Cell, Params]]
"""The directions of one layer, forwards first."""

_HOW_TO_START = {"forget_bias", "update_bias", "w_x_init", "w_h_init", "b_init", "p_init"}
"""Options that say how parameters are drawn, not what the cell computes: conversions don't carry
them.
"""

_FLOATS = ("bfloat16", "float16", "float32", "float64")
_SHOWN = 20  # names in a message: a large model has thousands


def is_traced(array: Any) -> bool:
    """Whether an array has a shape and a dtype, but no numbers yet."""
    return isinstance(array, Tracer)


def to_numpy(array: Any, own: bool = False) -> Any:
    """Any framework's array as one of NumPy's, bit for bit, bfloat16 included.

    A traced one stays of JAX: it has no numbers, and to be moved it needs none.

    Args:
        array: what to convert.
        own: whether it must be a copy that can be written to, laid out row by row.
    """
    if is_traced(array):
        return array
    if hasattr(array, "detach"):  # a tensor of torch, whose NumPy bridge knows no bfloat16
        array = array.detach().cpu()
        if "bfloat16" in str(array.dtype):
            array = jnp.from_dlpack(array.contiguous())
    return np.array(array, order="C") if own else np.asarray(array)


def form_of(array: Any, name: str) -> jax.ShapeDtypeStruct:
    """The shape and dtype of any framework's array, whose numbers are not looked at.

    Raises:
        TypeError: it is no array, holds something else than floats, or is float64 where JAX has no
            float64, as it is set up.
    """
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
    if shape is None or dtype is None:
        given = "None" if array is None else f"a {type(array).__name__}"
        raise TypeError(f"{name} is {given}, expected an array such as numpy.asarray makes")
    kind = str(getattr(dtype, "name", dtype)).removeprefix("torch.")  # whatever its byte order
    if kind not in _FLOATS:
        raise TypeError(f"{name} has dtype {kind}, expected floating numbers: {', '.join(_FLOATS)}")
    if jax.dtypes.canonicalize_dtype(kind) != jnp.dtype(kind):
        raise TypeError(
            f"{name} has dtype {kind}, which JAX would round; cast it, or enable jax_enable_x64"
        )
    return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(kind))


def to_jax(array: Any, name: str) -> jax.Array:
    """An array of JAX, bit for bit; refused where JAX would round it.

    Raises:
        TypeError: as `form_of`; or the numbers cannot be had.
    """
    form = form_of(array, name)
    if not isinstance(array, jax.Array) and hasattr(array, "__jax_array__"):
        array = array.__jax_array__()  # what a variable of Flax or Keras holds
    if isinstance(array, jax.Array):  # which may be traced, or lie on several devices
        return array
    try:
        return jnp.asarray(np.asarray(to_numpy(array), form.dtype))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise TypeError(
            f"{name} is a {type(array).__name__} that cannot be read: {error}"
        ) from error


def flatten(source: str, tree: Any, prefix: str = "") -> dict[str, Any]:
    """The arrays of nested dictionaries, their keys joined by slashes.

    Raises:
        TypeError: `tree` is no dictionary.
        ValueError: two arrays come to have one name.

    >>> flatten("from_flax", {"cell": {"i": {"kernel": 1, "bias": 2}}})
    {'cell/i/kernel': 1, 'cell/i/bias': 2}
    """
    _check_mapping(source, tree)
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        nested = isinstance(value, Mapping)
        inner = flatten(source, value, f"{name}/") if nested else {name: value}
        if twice := sorted(flat.keys() & inner.keys()):
            raise ValueError(
                f"{source}: {twice[0]} is there twice, once by a key with a slash in it"
            )
        flat |= inner
    return flat


def _check_mapping(source: str, given: Any) -> None:
    if not isinstance(given, Mapping):
        hint = "; pass its .state_dict()" if hasattr(given, "state_dict") else ""
        kind = type(given).__name__
        raise TypeError(
            f"{source}: the argument is a {kind}, expected a dictionary of arrays{hint}"
        )


def listed(names: Iterable[str]) -> str:
    """The names in a message, or the first of many.

    >>> listed("ba"), listed(map(str, range(100, 123)))[-15:]
    ("['a', 'b']", "'119'] (3 more)")
    """
    first, rest = (ordered := sorted(names))[:_SHOWN], len(ordered) - _SHOWN
    return f"{first} ({rest} more)" if rest > 0 else str(first)


class Weights:
    """The arrays of a dictionary: all are looked at, and fit, before the first is copied.

    Args:
        arrays: by name.
        source: who is reading, for messages.
        prefix: of the names that are looked at; others are ignored.

    Raises:
        TypeError: `arrays` is no dictionary, or a key is no string.
    """

    def __init__(self, arrays: Any, source: str, prefix: str = "") -> None:
        _check_mapping(source, arrays)
        for key in arrays:
            if not isinstance(key, str):
                raise TypeError(
                    f"{source}: the key {key!r} is a {type(key).__name__}, expected a string"
                )
        self._all, self._prefix, self._source = arrays, prefix, source
        self._arrays = {k[len(prefix) :]: a for k, a in arrays.items() if k.startswith(prefix)}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def has(self, start: str) -> bool:
        """Whether some name starts so."""
        return any(name.startswith(start) for name in self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array that must be there."""
        return self._form(name).shape

    def sizes(self, name: str, *axes: str) -> tuple[int, ...]:
        """The shape of an array that must be there, have these axes, and hold something."""
        shape = self.shape(name)
        if len(shape) != len(axes) or 0 in shape:
            wanted = f"expected [{', '.join(axes)}], none of them 0"
            raise ValueError(f"{self.named(name)} has shape {shape}, {wanted}")
        return shape

    def check(self, shapes: Mapping[str, tuple[int, ...]], *, one_dtype: bool = False) -> None:
        """Refuse unless the dictionary holds arrays of these names and shapes, and nothing else.

        Args:
            shapes: by name.
            one_dtype: whether their dtypes must be equal.

        Raises:
            ValueError: one is missing, has another shape or dtype, or is too much.
            TypeError: one is no array of floats.
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
            unexpected = listed(self._prefix + name for name in left)
            raise ValueError(f"{self._source}: unexpected {unexpected}")

    def take(
        self, shapes: Mapping[str, tuple[int, ...]], *, one_dtype: bool = False
    ) -> dict[str, jax.Array]:
        """All arrays, once `check` has found them in order."""
        self.check(shapes, one_dtype=one_dtype)
        return {name: to_jax(self._arrays[name], self.named(name)) for name in shapes}

    def _form(self, name: str) -> jax.ShapeDtypeStruct:
        if name not in self._arrays:
            raise ValueError(
                f"{self.named(name)} is missing; there are {listed(self._arrays)}{self._hint(name)}"
            )
        return form_of(self._arrays[name], self.named(name))

    def named(self, name: str) -> str:
        """What an array is called in messages, by whom."""
        return f"{self._source}: {self._prefix}{name}"

    def _hint(self, name: str) -> str:
        """The prefixes with which the name would be found."""
        fitting = [key.removesuffix(name) for key in self._all if key.endswith(f".{name}")]
        fitting = [prefix for prefix in fitting if prefix != self._prefix]
        return f"; it is there with prefix={' or '.join(map(repr, fitting))}" if fitting else ""


@contextlib.contextmanager
def said_by(source: str) -> Iterator[None]:
    """What a cell refuses within, with the name of who made it in front."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith(f"{source}: "):
            raise
        raise ValueError(f"{source}: {error}") from error


def refuse(target: str, reason: str) -> NoReturn:
    """Say what a target cannot hold, and why."""
    raise ValueError(f"{target}: {reason}")


def check_options(target: str, cell: Any, allowed: Iterable[str], what: str) -> None:
    """Refuse every option that is set and that the target does not know."""
    for field in dataclasses.fields(cell):
        known = field.name in _HOW_TO_START or field.name in allowed or field.name == "hidden"
        if not known and getattr(cell, field.name) != field.default:
            refuse(
                target,
                f"{type(cell).__name__} has {field.name}={getattr(cell, field.name)!r}, which "
                f"{what} cannot hold",
            )


def _refuse_params(target: str, cell: Cell, params: Params) -> NoReturn:
    """Say that parameters are of something else."""
    refuse(
        target,
        f"params are a {type(params).__name__}, expected what {type(cell).__name__}.init makes",
    )


def own_params(target: str, cell: Cell, params: Params) -> Any:
    """The parameters as arrays of JAX, once they are known to be those of this cell, whose first
    array is an input matrix.

    Raises:
        ValueError: they have another structure or other shapes.
    """
    shape = np.shape(next(iter(jax.tree.leaves(params)), ()))
    if len(shape) != 2:
        _refuse_params(target, cell, params)
    check_params(cell, params, in_features=shape[0])
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: to_jax(leaf, f"{target}: params{jax.tree_util.keystr(path)}"), params
    )


def with_bias(cell: Any, params: Any) -> tuple[Any, Any]:
    """The same function as a cell that has its biases, for targets that always have them: those
    that it lacked are zero.
    """
    biased = dataclasses.replace(cell, bias=True)
    forms = jax.eval_shape(
        lambda: biased.init(jax.random.key(0), params.w_x.shape[0], params.w_x.dtype)
    )
    missing = {
        name: form
        for name, form in forms._asdict().items()
        if form is not None and getattr(params, name) is None
    }
    return biased, params._replace(
        **{name: jnp.zeros(form.shape, form.dtype) for name, form in missing.items()}
    )


def layers_of(target: str, cell: Cell, params: Params) -> list[Layer]:
    """A cell, a `Bidirectional` that concatenates, or a `Stack` of such, as layers of directions;
    anything else is refused.
    """
    if isinstance(cell, Stack):
        if cell.dense:
            refuse(target, "Stack has dense=True; its layers can only be converted one by one")
        if not isinstance(params, tuple) or len(params) != len(cell.cells):
            _refuse_params(target, cell, params)
        return [
            layer
            for inner, p in zip(cell.cells, params, strict=True)
            for layer in layers_of(target, inner, p)
        ]
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
        (Bidirectional(layer[0][0], layer[1][0]), BidirectionalParams(layer[0][1], layer[1][1]))
        if len(layer) == 2
        else layer[0]
        for layer in layers
    ]
    if len(joined) == 1:
        return joined[0]
    cells, params = zip(*joined, strict=True)
    return Stack(cells), tuple(params)


def reorder(array: Any, given: str, wanted: str, axis: int = -1) -> Any:
    """An array whose axis holds blocks, one for each letter of `given`, with its blocks in the
    order of `wanted`.

    >>> reorder(np.arange(4), "ifgo", "iofg").tolist()
    [0, 3, 1, 2]
    """
    library: Any = jnp if isinstance(array, jax.Array) else np
    parts = dict(zip(given, library.split(array, len(given), axis=axis), strict=True))
    return library.concatenate([parts[gate] for gate in wanted], axis=axis)


def gru_biases(b_x: jax.Array, b_h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A GRU's `b` and `b_hn` from a bias of the input and one of the state, each in the order r z
    n: only the candidate needs two.
    """
    own = slice(-(b_x.size // 3), None)
    return (b_x + b_h).at[own].set(b_x[own]), b_h[own]


def recurrent_bias(b: jax.Array, b_hn: jax.Array | None) -> jax.Array:
    """The inverse: what to add to `b`, which is the input's, where a framework has a bias of the
    state, too.
    """
    # minus zero changes no number that it is added to, not even minus zero
    zero = -jnp.zeros_like(b)
    return zero if b_hn is None else zero.at[-b_hn.size :].set(b_hn)
