"""A cell and its parameters in one file, without pickle.

The file is a safetensors file: the arrays by their path in the parameters, and in its metadata one line of JSON with a format
version, the cell's hyperparameters and a checksum over all of it. Reading it builds cells of known classes and nothing else.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from jaxrnn import activations, cells, combinators, initializers
from jaxrnn._cell import Cell, Params
from jaxrnn._check import check_cell
from jaxrnn._trees import form

_KEY = "jaxrnn"
"""The only one in the metadata: safetensors writes several in random order, and equal cells should give equal files."""

_VERSION = 1
_LONGEST_DESCRIPTION = 1_000_000
"""Characters of JSON; a stack of a thousand layers needs half as many."""


def save(path: str | os.PathLike[str], cell: Cell, params: Params) -> None:
    """Write a cell and its parameters to a file, which keeps every bit of them.

    Args:
        path: of the file; one that is there is replaced when the new one is whole, and left as it is if anything fails.
        cell: any cell or combinator whose hyperparameters are names, numbers or jaxrnn's dataclasses.
        params: its parameters.

    Raises:
        ValueError: a hyperparameter is a function, which no file holds, or `params` are not the cell's.
        TypeError: `cell` is not a cell.

    >>> import jax, jaxrnn, tempfile
    >>> cell = jaxrnn.Stack.repeat(jaxrnn.LSTM(4), 2, dropout=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxrnn.save(f"{folder}/cell.safetensors", cell, cell.init(jax.random.key(0), in_features=3))
    ...     again, params = jaxrnn.load(f"{folder}/cell.safetensors")
    >>> again == cell, params[0].w_x.shape
    (True, (3, 16))
    """
    import safetensors.numpy

    check_cell(cell, "save")
    content = {"version": _VERSION, "cell": _describe(cell, type(cell).__name__), "in_features": _in_features(cell, params)}
    arrays = {name: np.asarray(leaf) for name, leaf in _named(params).items()}
    metadata = {_KEY: json.dumps(content | {"sha256": _checksum(content, arrays)})}
    write_whole(Path(path), safetensors.numpy.save(arrays, metadata))


def load(path: str | os.PathLike[str], known: Sequence[type] = ()) -> tuple[Cell, Params]:
    """Read what `save` wrote.

    Args:
        path: of the file.
        known: classes of your own that the file may use: cells, activations, initialisers, constraints.

    Returns:
        A cell that is equal to the one that was saved, and its parameters, bit for bit.

    Raises:
        ValueError: the file is truncated, of another kind, changed since it was written, or of a later version; or it holds float64
            and JAX does not. Nothing in a file is ever run.
        OSError: it cannot be read.
    """
    import safetensors

    path = Path(path)
    path.open("rb").close()  # says what the system says of a file that is not there
    try:
        with safetensors.safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}); was it cut off, or is it of another kind?") from error
    if _KEY not in metadata:
        raise ValueError(f"{path} is a safetensors file, but jaxrnn.save did not write it; jaxrnn.convert reads other layouts")
    try:
        if (length := len(metadata[_KEY])) > _LONGEST_DESCRIPTION:
            raise ValueError(f"its description has {length} characters, more than {_LONGEST_DESCRIPTION}")
        content = json.loads(metadata[_KEY])
        if content["version"] != _VERSION:
            raise ValueError(f"its format has version {content['version']}, and this jaxrnn reads version {_VERSION}; upgrade jaxrnn")
        if content.pop("sha256") != _checksum(content, arrays):
            raise ValueError("its checksum is another, so it was changed after it was written; get it again")
        cell, in_features = _build(content["cell"], _classes(tuple(known))), content["in_features"]
        if not isinstance(cell, Cell):
            raise TypeError(f"it describes a {type(cell).__name__}, which is not a cell")
        initial = _initial(cell, in_features)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} holds no cell that can be read: {error}") from error
    wanted, given = ({name: leaf.shape for name, leaf in leaves.items()} for leaves in (_named(initial), arrays))
    if wanted != given:
        raise ValueError(f"{path} holds arrays {given}, but its cell has {wanted}")
    return cell, jax.tree.unflatten(jax.tree.structure(initial), [_array(arrays[name], path, name) for name in wanted])


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that there is always a whole one under its name: the old one or the new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@functools.cache
def _classes(known: tuple[type, ...]) -> dict[str, type]:
    """What a file may name: the dataclasses of the library, and those of the user."""
    own = {name: found for module in (cells, combinators, initializers, activations) for name, found in vars(module).items()}
    return {c.__name__: c for c in (*known, *own.values()) if isinstance(c, type) and dataclasses.is_dataclass(c)}


def _describe(value: Any, where: str) -> Any:
    """A hyperparameter as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_describe(item, f"{where}[{k}]") for k, item in enumerate(value)]
    name = type(value).__name__
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ValueError(f"save: {where} is {value!r}, which a file cannot hold; use a name or one of jaxrnn's dataclasses")
    if _classes(()).get(name, type(value)) is not type(value):
        raise ValueError(f"save: {where} is a {name} that is not jaxrnn's; give the class another name")
    return {"class": name} | {f.name: _describe(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}


def _build(description: Any, classes: dict[str, type]) -> Any:
    """The inverse."""
    if isinstance(description, list):
        return tuple(_build(item, classes) for item in description)
    if not isinstance(description, dict):
        return description
    fields = {name: _build(value, classes) for name, value in description.items() if name != "class"}
    name = description.get("class")
    if name not in classes:
        raise ValueError(f"it has a {name!r}, which is no class of jaxrnn; pass a class of your own as load(path, known=[...])")
    return classes[name](**fields)


def _named(params: Params) -> dict[str, Any]:
    """The leaves by their path, such as `0.forward.w_x`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _initial(cell: Cell, in_features: int) -> Any:
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), in_features))


def _in_features(cell: Cell, params: Params) -> int:
    """The size of the input that these parameters are for: the one for which `init` makes such."""
    sizes = [size for leaf in jax.tree.leaves(params) for size in np.shape(leaf)]
    for size in dict.fromkeys([*sizes, 1]):  # every size once, those of input weights first
        try:
            if form(_initial(cell, size)) == form(params):
                return size
        except ValueError:  # an input of that size does not fit the cell
            continue
    given = jax.tree.map(np.shape, params)
    raise ValueError(f"save: params have the shapes {given}, which {type(cell).__name__}.init makes for no in_features; are they its?")


def _checksum(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(content).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _array(array: np.ndarray, path: Path, name: str) -> jax.Array:
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ValueError(f"{path}: {name} has dtype {array.dtype}, which JAX would round; set jax_enable_x64 to load it")
    return jax.numpy.asarray(array)


# So that `jax.export` can write programs that take or give them; whoever reads such a file imports jaxrnn first.
for _class in {**vars(cells), **vars(combinators)}.values():
    if isinstance(_class, type) and issubclass(_class, tuple):
        export.register_namedtuple_serialization(_class, serialized_name=f"jaxrnn.{_class.__name__}")
