"""A cell and its parameters in one file, without pickle.

The file is a safetensors file: the arrays by their path in the parameters, and in its metadata one
line of JSON with a format version, the cell's hyperparameters and a checksum over all of it.
Reading it builds cells of known classes and nothing else."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from jaxrnn import activations, cells, combinators, initializers
from jaxrnn.core.call import check_cell, check_kinds, kind
from jaxrnn.core.cell import Cell, Params
from jaxrnn.core.check import check_in_features
from jaxrnn.core.trees import form

_KEY = "jaxrnn"
"""The only one in the metadata: safetensors writes several in random order, and equal cells should
give equal files.
"""

_VERSION = 1
_LONGEST = 1_000_000
"""Characters of JSON; a stack of a thousand layers needs half as many."""
_DEEPEST = 64
"""Levels of JSON: a cell in another one is one level below it, or two in a stack."""
_MOST = 10_000
"""Cells and other dataclasses, for to build one takes milliseconds."""


def save(path: str | os.PathLike[str], cell: Cell, params: Params) -> None:
    """Write a cell and its parameters to a file, which keeps every bit of them.

    Args:
        path: of the file; one that is there is replaced when the new one is whole, and left as it
            is if anything fails.
        cell: any cell or combinator whose hyperparameters are names, numbers or jaxrnn's
            dataclasses.
        params: its parameters.

    Raises:
        ValueError: a hyperparameter is a function, which no file holds, `params` are not the
            cell's, or the cell is larger than `load` takes.
        TypeError: `cell` is no cell, or a parameter holds other numbers than `init` makes:
            integers, say.

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
    description = _describe(cell, type(cell).__name__)
    in_features, initial = _fitting(cell, params)
    check_kinds(cell, params, initial)
    content = {"version": _VERSION, "cell": description, "in_features": in_features}
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _named(params).items()}
    text = json.dumps(content | {"sha256": _checksum(content, arrays)})
    try:
        _parsed(text)
    except ValueError as error:
        raise ValueError(f"save: {type(cell).__name__} is too large, for {error}") from None
    write_whole(Path(path), safetensors.numpy.save(arrays, {_KEY: text}))


def load(path: str | os.PathLike[str], known: Sequence[type] = ()) -> tuple[Cell, Params]:
    """Read what `save` wrote.

    Args:
        path: of the file.
        known: classes of your own that the file may use: cells, activations, initialisers,
            constraints.

    Returns:
        A cell that is equal to the one that was saved, and its parameters, bit for bit.

    Raises:
        ValueError: the file is truncated, of another kind, changed since it was written, or of a
            later version; or it holds float64 and JAX does not. Nothing in a file is ever run.
            Before a cell is built, a description is refused of over a million characters, 64 levels
            of JSON, 10,000 cells (activations and the like count, too), or of more cells than the
            file has arrays.
        OSError: it cannot be read.
    """
    path = Path(path)
    path.open("rb").close()  # says what the system says of a file that is not there
    metadata, arrays = _content(path)
    if _KEY not in metadata:
        raise ValueError(
            f"{path} is a safetensors file, but jaxrnn.save did not write it; jaxrnn.convert "
            "reads other layouts"
        )
    try:
        return _read(metadata[_KEY], arrays, _classes(tuple(known)))
    except _UNREADABLE as error:
        raise ValueError(f"{path} holds no cell that can be read: {error}") from error


_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What reading JSON, constructors and `init` raise for values that nobody saved."""


def _content(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the arrays of a safetensors file."""
    import safetensors

    try:
        with safetensors.safe_open(path, "np") as file:
            names = file.keys()
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError, *_UNREADABLE) as error:
        hint = "was it cut off, or is it of another kind?"
        raise ValueError(f"{path} is no whole safetensors file ({error}); {hint}") from error


def _read(
    text: str,
    arrays: dict[str, np.ndarray],
    classes: dict[str, type],
) -> tuple[Cell, Params]:
    """The cell that a text describes, and its parameters; what costs no time is checked first."""
    content = _parsed(text)
    _check_whole(content, arrays)
    _check_count(content["cell"], arrays)
    cell = _build(content["cell"], classes)
    if not isinstance(cell, Cell):
        raise TypeError(f"it describes a {type(cell).__name__}, which is not a cell")
    in_features = check_in_features(cell, content["in_features"])
    if in_features not in _sizes(arrays):
        raise ValueError(f"in_features is {in_features}, which is no size of its arrays")
    initial = _initial(cell, in_features)
    wanted = _named(initial)
    _check_arrays(arrays, wanted)
    leaves = [jax.numpy.asarray(arrays[name]) for name in wanted]
    return cell, jax.tree.unflatten(jax.tree.structure(initial), leaves)


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
    own = {
        name: found
        for module in (cells, combinators, initializers, activations)
        for name, found in vars(module).items()
    }
    return {
        c.__name__: c
        for c in (*known, *own.values())
        if isinstance(c, type) and dataclasses.is_dataclass(c)
    }


def _describe(value: Any, where: str) -> Any:
    """A hyperparameter as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_describe(item, f"{where}[{k}]") for k, item in enumerate(value)]
    name = type(value).__name__
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ValueError(
            f"save: {where} is {value!r}, which a file cannot hold; use a name or one of jaxrnn's "
            "dataclasses"
        )
    if _classes(()).get(name, type(value)) is not type(value):
        raise ValueError(
            f"save: {where} is a {name} that is not jaxrnn's; give the class another name"
        )
    return {"class": name} | {
        f.name: _describe(getattr(value, f.name), f"{where}.{f.name}")
        for f in dataclasses.fields(value)
    }


def _build(description: Any, classes: dict[str, type]) -> Any:
    """The inverse."""
    if isinstance(description, list):
        return tuple(_build(item, classes) for item in description)
    if not isinstance(description, dict):
        return description
    given = {name: _build(value, classes) for name, value in description.items() if name != "class"}
    name = description.get("class")
    if name not in classes:
        raise ValueError(
            f"it has a {name!r}, which is no class of jaxrnn; pass a class of your own as "
            "load(path, known=[...])"
        )
    built = classes[name](**given)
    for field in dataclasses.fields(built):
        kept, value = getattr(built, field.name), given.get(field.name, field.default)
        # A constructor that fills in what was left out, such as a second direction, could double
        # a cell at each level. It has done so before `save` describes the cell.
        if value is not kept and value is not dataclasses.MISSING and value != kept:
            raise ValueError(f"{name}: {field.name} is {value!r}, which save does not write")
    return built


def _parsed(text: str) -> Any:
    """What a text says, refused if it is too long, too deep or of too many parts."""
    if len(text) > _LONGEST:
        raise ValueError(f"its description has {len(text)} characters, more than {_LONGEST}")
    content = json.loads(text)
    if (depth := _depth(content)) > _DEEPEST:
        raise ValueError(f"its description has {depth} levels, more than {_DEEPEST}")
    if (count := sum(1 for _ in _class_names(content))) > _MOST:
        raise ValueError(f"its description has {count} cells and the like, more than {_MOST}")
    return content


def _check_whole(content: Any, arrays: dict[str, np.ndarray]) -> None:
    """Refuse what is of a later version, or was not all written by `save`."""
    if not isinstance(content, dict) or "version" not in content:
        raise ValueError("its description has no version")
    if (version := content["version"]) != _VERSION:
        this = f"this jaxrnn reads version {_VERSION}; upgrade jaxrnn"
        raise ValueError(f"its format has version {version}, and {this}")
    if missing := {"cell", "in_features", "sha256"} - content.keys():
        raise ValueError(f"its description lacks {sorted(missing)}")
    written = {name: value for name, value in content.items() if name != "sha256"}
    if content["sha256"] != _checksum(written, arrays):
        reason = "so it was changed after it was written; get it again"
        raise ValueError(f"its checksum is another, {reason}")


def _check_count(description: Any, arrays: dict[str, np.ndarray]) -> None:
    """Refuse more cells than arrays: each cell has some, if not each combinator."""
    names = [name for name in _class_names(description) if isinstance(name, str)]
    count = sum(hasattr(cells, name) for name in names)
    if count > len(arrays):
        raise ValueError(f"it describes {count} cells, but holds no more than {len(arrays)} arrays")


def _class_names(description: Any) -> Iterator[Any]:
    if isinstance(description, dict) and "class" in description:
        yield description["class"]
    for inner in _inside(description):
        yield from _class_names(inner)


def _depth(description: Any) -> int:
    return 1 + max(map(_depth, _inside(description)), default=0)


def _inside(description: Any) -> list[Any]:
    """What a level of JSON holds."""
    if isinstance(description, dict):
        return list(description.values())
    return description if isinstance(description, list) else []


def _check_arrays(arrays: dict[str, np.ndarray], wanted: dict[str, Any]) -> None:
    """Refuse arrays that are not those of the cell, or that JAX would round."""
    if missing := wanted.keys() - arrays.keys():
        raise ValueError(f"the array {min(missing)} of its cell is not there")
    if unknown := arrays.keys() - wanted.keys():
        raise ValueError(f"it holds an array {min(unknown)}, which its cell has not")
    for name, want in wanted.items():
        array = arrays[name]
        if array.shape != want.shape:
            raise ValueError(f"its array {name} has shape {array.shape}, expected {want.shape}")
        where = f"its array {name} has dtype {array.dtype}"
        if kind(array) != kind(want):
            raise ValueError(f"{where}, expected {kind(want)}")
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ValueError(f"{where}, which JAX would round; set jax_enable_x64 to load it")


def _named(params: Params) -> dict[str, Any]:
    """The leaves by their path, such as `0.forward.w_x`."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _initial(cell: Cell, in_features: int) -> Any:
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), in_features))


def _fitting(cell: Cell, params: Params) -> tuple[int, Any]:
    """The size of the input that these parameters are for, and what `init` makes for it."""
    for size in _sizes(_named(params)):
        try:
            if form(initial := _initial(cell, size)) == form(params):
                return size, initial
        except ValueError:  # an input of that size does not fit the cell
            continue
    given = jax.tree.map(np.shape, params)
    raise ValueError(
        f"save: params have the shapes {given}, which {type(cell).__name__}.init makes for no "
        "in_features; are they its?"
    )


def _sizes(arrays: dict[str, Any]) -> list[int]:
    """What may be the size of an input, once each; those of input weights come first."""
    sizes = [size for array in arrays.values() for size in np.shape(array)]
    return list(dict.fromkeys([*sizes, 1]))


def _checksum(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(content).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


# So that `jax.export` can write programs that take or give them; whoever reads such a file imports
# jaxrnn first.
for _class in {**vars(cells), **vars(combinators)}.values():
    if isinstance(_class, type) and issubclass(_class, tuple):
        export.register_namedtuple_serialization(
            _class, serialized_name=f"jaxrnn.{_class.__name__}"
        )
