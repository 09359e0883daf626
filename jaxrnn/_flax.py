"""What both Flax homes share: names for parameters, Flax's dtypes, batch-major data."""

import dataclasses
import importlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from jaxrnn.core.affine import wide
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import check_cell, check_flag
from jaxrnn.drivers import scan
from jaxrnn.methods import MethodLike

Array = jax.Array
Path = tuple[str, ...]


class Home(Protocol):
    """The attributes of a module that runs a cell over sequences."""

    @property
    def cell(self) -> Cell: ...
    @property
    def time_major(self) -> bool: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def method(self) -> MethodLike: ...


def check_rnn(cell: Any, home: str, time_major: Any) -> None:
    """Refuse to build `RNN` around anything that is not a cell."""
    check_cell(cell, f"{home}.RNN")
    check_flag(f"jaxrnn.{home}.RNN", "time_major", time_major)


def check_rnn_cell(cell: Any, home: str) -> None:
    """Refuse to build `RNNCell` around anything that cannot take a single step."""
    check_cell(cell, f"{home}.RNNCell")
    if not cell.causal:
        raise TypeError(
            f"jaxrnn.{home}.RNNCell: {type(cell).__name__} needs the whole sequence, so Flax cannot run it step by step; "
            f"run it with jaxrnn.{home}.RNN, or give Flax's Bidirectional one causal cell for each direction"
        )


def nested(params: Params) -> dict[str, Any]:
    """A cell's parameters as nested dicts under readable names, without those that an option leaves out.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.Elman(4), jaxrnn.LSTM(4, bias=False)])
    >>> jax.tree.map(jax.numpy.shape, nested(cell.init(jax.random.key(0), in_features=3)))
    {'layer_0': {'b': (4,), 'w_h': (4, 4), 'w_x': (3, 4)}, 'layer_1': {'w_h': (4, 16), 'w_x': (4, 16)}}
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return traverse_util.unflatten_dict({_names(path): leaf for path, leaf in leaves})


def abstract_params(cell: Cell, in_features: int, dtype: Any) -> Params:
    """The shapes and dtypes of `cell.init(key, in_features, dtype)`."""
    return _init.eval_shape(cell, in_features, dtype)


@partial(jax.jit, static_argnums=(0, 1, 2))  # never run: jit remembers the shapes, and tracing `init` takes milliseconds
def _init(cell: Cell, in_features: int, dtype: Any) -> Params:
    return cell.init(jax.random.key(0), in_features, dtype)


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
    raise TypeError(f"parameters live in a container whose entries have no name, {entry!r}; use a NamedTuple, dict or tuple")


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating leaf in `dtype`; the tree as it is if that is None."""
    if dtype is None:
        return tree

    def leaf(value: Any) -> Any:
        value = jnp.asarray(value)
        return value.astype(dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value

    return jax.tree.map(leaf, tree)


def feature_size(owner: str, cell: Cell, x: Any) -> int:
    """The size of the last axis of one step's input; refused where there are too few axes."""
    return _feature_size(f"{owner}({type(cell).__name__})", "x", x, ["*batch", *["features"] * cell.feature_axes])


def sequence_feature_size(owner: str, home: Home, xs: Any) -> int:
    """The size of the last axis of a sequence; refused where there are too few axes."""
    steps = ["time", "*batch"] if home.time_major else ["*batch", "time"]
    name, form = f"{owner}({type(home.cell).__name__})", [*steps, *["features"] * home.cell.feature_axes]
    return _feature_size(name, "xs", xs, form, "; for a single step use jaxrnn.step")


def _feature_size(name: str, argument: str, tree: Any, form: list[str], hint: str = "") -> int:
    leaves = jax.tree.leaves(tree)
    if not leaves or jnp.ndim(leaves[0]) < len(form) - 1:
        given = f"has shape {jnp.shape(leaves[0])}" if leaves else "holds no array"
        raise ValueError(f"{name}: {argument} {given}, expected [{', '.join(form)}]{hint}")
    return jnp.shape(leaves[0])[-1]


def run(
    owner: str,
    home: Home,
    params: Params,
    xs: Any,
    carry: Carry,
    *,
    lengths: Any,
    mask: Any,
    reset: Any,
    reverse: bool,
    key: Array | None,
) -> tuple[Carry, Any]:
    """`jaxrnn.scan` in Flax's dtypes, over sequences whose time axis comes after the batch axes unless `home.time_major`."""
    shape = jnp.shape(jax.tree.leaves(xs)[0])
    axis = 0 if home.time_major else len(shape) - home.cell.feature_axes - 1
    lengths, mask, reset = (None if flag is None else jnp.asarray(flag) for flag in (lengths, mask, reset))
    if not home.time_major:
        _check_batch_major(f"{owner}({type(home.cell).__name__})", shape[: axis + 1], xs, lengths, mask, reset)
    xs, mask, reset = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, axis, 0), (xs, mask, reset))
    params, xs = cast((params, xs), home.dtype)
    flags = {"lengths": lengths, "mask": mask, "reset": reset, "reverse": reverse, "key": key}
    try:
        carry, ys = scan(home.cell, params, xs, carry, **flags, method=home.method)
    except (TypeError, ValueError) as error:
        if axis:
            error.add_note(f"{owner} was given xs of shape {shape}; it moves time to the front for jaxrnn.scan, which speaks above")
        raise
    return carry, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, axis), ys)


def _check_batch_major(name: str, steps: tuple[int, ...], xs: Any, lengths: Any, mask: Any, reset: Any) -> None:
    hint = "pass time_major=True to the constructor if time is the first axis"
    for path, leaf in jax.tree_util.tree_leaves_with_path(xs):
        if (given := jnp.shape(leaf))[: len(steps)] != steps:
            where = f"xs{jax.tree_util.keystr(path)}"
            raise ValueError(f"{name}: {where} has shape {given}, expected it to start [*batch, time] = {steps}; {hint}")
    forms = [("lengths", lengths, "[*batch]", steps[:-1]), ("mask", mask, "[*batch, time]", steps)]
    forms.append(("reset", reset, "[*batch, time]", steps))
    for argument, flag, form, want in forms:
        if flag is not None and (given := jnp.shape(flag)) != want:
            raise ValueError(f"{name}: {argument} has shape {given}, expected {form} = {want}; {hint}")


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
        """Build it."""
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
