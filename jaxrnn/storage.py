"""Save a cell with its parameters, or any pytree with metadata, in one file without pickle.

It is a safetensors file. Each array is named by its path in the pytree. The file's metadata hold
one line of JSON: a format version, the hyperparameters, and a checksum over everything. Reading a
file builds nothing but dataclasses that the library or the caller knows."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export

from jaxrnn import activations, cells, combinators, initializers
from jaxrnn.core.call import check_cell, check_kinds, kind
from jaxrnn.core.cell import Cell, Params, abstract_params
from jaxrnn.core.check import check_in_features
from jaxrnn.core.description import build, class_names, describe, parse
from jaxrnn.core.files import UNREADABLE, as_written, checksum, read_arrays, write_whole
from jaxrnn.core.trees import Tree, form

__all__ = ["load", "load_tree", "save", "save_tree"]

_KEY = "jaxrnn"
"""The only key in the metadata. safetensors writes several keys in random order, and equal cells
should give equal files.
"""

_VERSION = 1


class _Content(NamedTuple):
    """A kind of file."""

    name: str
    writer: str
    reader: str
    fields: tuple[str, ...]  # of its JSON description


_CELL = _Content("cell", "jaxrnn.save", "jaxrnn.load", ("cell", "in_features"))
_TREE = _Content("pytree", "jaxrnn.storage.save_tree", "jaxrnn.storage.load_tree", ("metadata",))


def save(path: str | os.PathLike[str], cell: Cell, params: Params) -> None:
    """Write a cell and its parameters to a file, bit for bit.

    Args:
        path: the path of the file. An existing file is replaced once the new one is complete, and
            left unchanged if anything fails.
        cell: any cell or combinator whose hyperparameters are names, numbers or jaxrnn's
            dataclasses.
        params: its parameters.

    Raises:
        ValueError: a hyperparameter is a function, `params` are not the cell's, or the cell exceeds
            the limits of `load`.
        TypeError: `cell` is not a cell, or a parameter holds another kind of numbers than `init`
            makes, such as integers.

    >>> import jax, jaxrnn, tempfile
    >>> cell = jaxrnn.Stack.repeat(jaxrnn.LSTM(4), 2, dropout=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxrnn.save(f"{folder}/cell.safetensors", cell, cell.init(jax.random.key(0), 3))
    ...     again, params = jaxrnn.load(f"{folder}/cell.safetensors")
    >>> again == cell, params[0].w_x.shape
    (True, (3, 16))
    """
    check_cell(cell, "save(path, cell, params)")
    where = f"save: {type(cell).__name__}"
    description = describe(cell, where, _classes(()))
    in_features, initial = _fitting(cell, params)
    check_kinds(cell, params, initial)
    _write(Path(path), params, {"cell": description, "in_features": in_features}, where)


def load(path: str | os.PathLike[str], known: Sequence[type] = ()) -> tuple[Cell, Params]:
    """Read a file that `save` wrote. Nothing in it is ever executed.

    Args:
        path: the path of the file.
        known: classes of your own that the file may name: cells, activations, initialisers and
            constraints.

    Returns:
        A cell that equals the saved one, and its parameters, bit for bit.

    Raises:
        ValueError: the file is truncated, of another kind, changed since it was written, or of a
            later version; or it holds float64 while `jax_enable_x64` is off. Before a cell is
            built, a description of more than a million characters, 64 levels of JSON, 10,000
            dataclasses, or more cells than the file has arrays, is refused.
        OSError: the file cannot be opened.

    >>> import jax, jaxrnn, tempfile
    >>> cell = jaxrnn.GRU(4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxrnn.save(f"{folder}/gru", cell, cell.init(jax.random.key(0), 3))
    ...     jaxrnn.load(f"{folder}/gru")[0]
    GRU(4)
    """
    read = functools.partial(_cell, classes=_classes(tuple(known)))
    return _read(Path(path), _CELL, read)


def save_tree(path: str | os.PathLike[str], tree: Tree, metadata: Any = None) -> None:
    """Write a pytree of arrays and its metadata to a file, bit for bit.

    Args:
        path: the path of the file. An existing file is replaced once the new one is complete, and
            left unchanged if anything fails.
        tree: the arrays, in NamedTuples, dictionaries, tuples, lists or any other pytree.
        metadata: names, numbers, None, cells and other dataclasses, and tuples or dictionaries of
            these.

    Raises:
        ValueError: `metadata` holds something else, such as a function, or exceeds the limits of
            `load_tree`; or two arrays have the same path, as in `{"a.b": x, "a": {"b": y}}`.
        TypeError: a leaf is not an array of numbers or bools.

    A model of several parts can be a dataclass of its hyperparameters:

    >>> import dataclasses, jax, jaxrnn, tempfile
    >>> from jaxrnn.storage import load_tree, save_tree
    >>> @dataclasses.dataclass(frozen=True)
    ... class Tagger:
    ...     rnn: jaxrnn.Cell
    ...     words: int
    ...
    ...     def init(self, key):
    ...         embedding = jax.random.normal(key, (self.words, 16))
    ...         return {"embedding": embedding, "rnn": self.rnn.init(key, 16)}
    >>> model, key = Tagger(jaxrnn.Stack.repeat(jaxrnn.GRU(8), 2), words=100), jax.random.key(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tree(f"{folder}/tagger.safetensors", model.init(key), model)
    ...     params, again = load_tree(
    ...         f"{folder}/tagger.safetensors", lambda model: model.init(key), known=[Tagger]
    ...     )
    >>> again == model, params["rnn"][0].w_x.shape
    (True, (16, 24))
    """
    where = "save_tree: metadata"
    _write(Path(path), tree, {"metadata": describe(metadata, where, _classes(()))}, where)


def load_tree(
    path: str | os.PathLike[str], like: Any, known: Sequence[type] = ()
) -> tuple[Any, Any]:
    """Read a file that `save_tree` wrote. Nothing in it is ever executed.

    Args:
        path: the path of the file.
        like: a pytree of the same structure and shapes, whose leaves are arrays or
            `jax.ShapeDtypeStruct`; or a function `(metadata) -> pytree`, of which nothing but the
            shapes are computed.
        known: dataclasses of your own that the metadata may name.

    Returns:
        The pytree, bit for bit, and metadata that equals the saved one.

    Raises:
        ValueError: `save_tree` did not write the file, or it is truncated, changed since it was
            written, or of a later version; its arrays do not fit `like`; or it holds float64 while
            `jax_enable_x64` is off. The limits of `load` hold, except the number of arrays.
        OSError: the file cannot be opened.

    >>> import jax.numpy as jnp, tempfile
    >>> from jaxrnn.storage import load_tree, save_tree
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tree(f"{folder}/tree", {"w": jnp.ones(3)}, {"epoch": 7})
    ...     tree, metadata = load_tree(f"{folder}/tree", like={"w": jnp.zeros(3)})
    >>> tree["w"].tolist(), metadata
    ([1.0, 1.0, 1.0], {'epoch': 7})
    """
    read = functools.partial(_tree, like=like, classes=_classes(tuple(known)))
    return _read(Path(path), _TREE, read)


def _write(path: Path, tree: Tree, content: dict[str, Any], where: str) -> None:
    """Write arrays and their description, with a checksum over both."""
    import safetensors.numpy

    arrays = {name: as_written(name, leaf) for name, leaf in _named(tree).items()}
    content = {"version": _VERSION} | content
    text = json.dumps(content | {"sha256": checksum(content, arrays)})
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"{where} is too large to load, for {error}") from None
    write_whole(path, safetensors.numpy.save(arrays, {_KEY: text}))


def _read(
    path: Path,
    expected: _Content,
    interpret: Callable[[Any, dict[str, np.ndarray]], tuple[Any, Any]],
) -> tuple[Any, Any]:
    """Read a file, check that it is whole, and interpret its description and its arrays."""
    path.open("rb").close()  # raises the system's own error if the file does not exist
    metadata, arrays = read_arrays(path)
    if _KEY not in metadata:
        raise ValueError(
            f"{path} is a safetensors file, but {expected.writer} did not write it; "
            "jaxrnn.convert reads other layouts"
        )
    try:
        content = parse(metadata[_KEY])
        _check_whole(content, arrays, expected)
        return interpret(content, arrays)
    except UNREADABLE as error:
        raise ValueError(f"{path} holds no {expected.name} that can be read: {error}") from error


def _cell(
    content: Any, arrays: dict[str, np.ndarray], classes: dict[str, type]
) -> tuple[Cell, Params]:
    """Return the cell that a file describes, and its parameters. Cheap checks come first."""
    _check_count(content["cell"], arrays)
    cell = build(content["cell"], classes | {"dict": dict})
    if not isinstance(cell, Cell):
        raise TypeError(f"it describes a {type(cell).__name__}, which is not a cell")
    in_features = check_in_features(cell, content["in_features"])
    # "largest" and not "equal": a cell may concatenate more to its input before it multiplies
    if in_features > max((1, *(n for array in arrays.values() for n in array.shape))):
        raise ValueError(f"in_features is {in_features}, more than any size of its arrays")
    return cell, _filled(abstract_params(cell, in_features), arrays, "its cell")


def _tree(
    content: Any, arrays: dict[str, np.ndarray], like: Any, classes: dict[str, type]
) -> tuple[Any, Any]:
    """Return the pytree of a file, and its metadata."""
    metadata = build(content["metadata"], classes | {"dict": dict})
    # A module that is both a callable and a pytree counts as a pytree.
    if callable(like) and jax.tree_util.all_leaves([like]):
        like = jax.eval_shape(lambda: like(metadata))
    return _filled(like, arrays, "`like`"), metadata


def _filled(like: Any, arrays: dict[str, np.ndarray], owner: str) -> Any:
    """Return the arrays in the structure of `like`. Refuse arrays that do not fit it."""
    wanted = _named(like)
    _check_arrays(arrays, wanted, owner)
    leaves = [jax.device_put(arrays[name]) for name in wanted]  # compiles nothing, as asarray would
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


@functools.cache
def _classes(known: tuple[type, ...]) -> dict[str, type]:
    """Return the classes that a file may name: the library's dataclasses and the user's."""
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


def _check_whole(content: Any, arrays: dict[str, np.ndarray], expected: _Content) -> None:
    """Refuse a later version, another kind of file, and one that was changed since."""
    if not isinstance(content, dict) or "version" not in content:
        raise ValueError("its description has no version")
    if (version := content["version"]) != _VERSION:
        this = f"this jaxrnn reads version {_VERSION}; upgrade jaxrnn"
        raise ValueError(f"its format has version {version}, but {this}")
    other = _TREE if expected is _CELL else _CELL
    if content.keys() >= {*other.fields}:
        raise ValueError(f"{other.writer} wrote it; use {other.reader}")
    if missing := {*expected.fields, "sha256"} - content.keys():
        raise ValueError(f"its description lacks {sorted(missing)}")
    written = {name: value for name, value in content.items() if name != "sha256"}
    if content["sha256"] != checksum(written, arrays):
        raise ValueError("its checksum does not match: it was changed since; get it again")


def _check_count(description: Any, arrays: dict[str, np.ndarray]) -> None:
    """Refuse more cells than arrays. Combinators and layers may have none, but cells have some."""
    names = [name for name in class_names(description) if isinstance(name, str)]
    count = sum(hasattr(cells, name) for name in names)
    if count > len(arrays):
        raise ValueError(f"it describes {count} cells, but holds only {len(arrays)} arrays")


def _check_arrays(arrays: dict[str, np.ndarray], wanted: dict[str, Any], owner: str) -> None:
    """Refuse arrays whose names, shapes or kinds differ from their owner's, or that JAX rounds."""
    if missing := wanted.keys() - arrays.keys():
        raise ValueError(f"it lacks the array {min(missing)} of {owner}")
    if unknown := arrays.keys() - wanted.keys():
        raise ValueError(f"it holds an array {min(unknown)}, which {owner} does not have")
    for name, want in wanted.items():
        array = arrays[name]
        if array.shape != want.shape:
            raise ValueError(f"its array {name} has shape {array.shape}, expected {want.shape}")
        where = f"its array {name} has dtype {array.dtype}"
        if kind(array) != kind(want):
            raise ValueError(f"{where}, expected {kind(want)}")
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ValueError(f"{where}, which JAX would round; set jax_enable_x64 to load it")


def _named(tree: Tree) -> dict[str, Any]:
    """Return the leaves by their path, such as `0.forward.w_x`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(f"two arrays of a tree have the same path, one of {[*named]}; rename one")
    return named


def _fitting(cell: Cell, params: Params) -> tuple[int, Params]:
    """Return the input size that the parameters belong to, and what `init` makes for it."""
    try:
        size = cell.in_features(params)
        if form(initial := abstract_params(cell, size)) == form(params):
            return size, initial
    except NotImplementedError as error:  # the cell does not tell the size of its input
        raise ValueError(f"save: {error}") from error
    except _UNFIT:
        pass
    given = jax.tree.map(np.shape, params)
    raise ValueError(
        f"save: params have the shapes {given}, which {type(cell).__name__}.init makes for no "
        "in_features; pass the parameters of this cell"
    )


_UNFIT = (ValueError, TypeError, LookupError, AttributeError)
"""What a cell raises if it gets the parameters of another."""


# `jax.export` can then write programs that take or return these NamedTuples. A program that reads
# such a file has to import jaxrnn first.
for _class in {**vars(cells), **vars(combinators)}.values():
    if isinstance(_class, type) and issubclass(_class, tuple):
        export.register_namedtuple_serialization(
            _class, serialized_name=f"jaxrnn.{_class.__name__}"
        )
