"""Arrays and what they belong to in one file, without pickle: a cell and its parameters, or any
pytree with metadata.

The file is a safetensors file: the arrays by their path in the pytree, and in its metadata one line
of JSON with a format version, hyperparameters and a checksum over all of it. Reading it builds
dataclasses that are known and nothing else."""

import dataclasses
import functools
import hashlib
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
from jaxrnn.core.trees import form

__all__ = ["load", "load_tree", "save", "save_tree"]

_KEY = "jaxrnn"
"""The only one in the metadata: safetensors writes several in random order, and equal cells should
give equal files.
"""

_VERSION = 1


class _Content(NamedTuple):
    """What a file may hold."""

    name: str
    writer: str
    fields: tuple[str, ...]  # of its description


_CELL = _Content("cell", "jaxrnn.save", ("cell", "in_features"))
_TREE = _Content("pytree", "jaxrnn.storage.save_tree", ("metadata",))


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
    ...     jaxrnn.save(f"{folder}/cell.safetensors", cell, cell.init(jax.random.key(0), 3))
    ...     again, params = jaxrnn.load(f"{folder}/cell.safetensors")
    >>> again == cell, params[0].w_x.shape
    (True, (3, 16))
    """
    check_cell(cell, "save")
    where = f"save: {type(cell).__name__}"
    description = describe(cell, where, _classes(()))
    in_features, initial = _fitting(cell, params)
    check_kinds(cell, params, initial)
    _write(Path(path), params, {"cell": description, "in_features": in_features}, where)


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
    read = functools.partial(_cell, classes=_classes(tuple(known)))
    return _read(Path(path), _CELL, read)


def save_tree(path: str | os.PathLike[str], tree: Any, metadata: Any = None) -> None:
    """Write a pytree of arrays, and what belongs to it, to a file, which keeps every bit.

    Args:
        path: of the file; one that is there is replaced when the new one is whole, and left as it
            is if anything fails.
        tree: the arrays, in NamedTuples, dictionaries, tuples, lists or any other pytree.
        metadata: names, numbers, None, cells and other dataclasses, and tuples or dictionaries of
            these.

    Raises:
        ValueError: the metadata holds something else, such as a function, or more than `load_tree`
            takes; or two arrays have the same path, such as `{"a.b": x, "a": {"b": y}}`.
        TypeError: a leaf is no array of numbers or truth values.

    A model of several parts is a dataclass of its hyperparameters, saved and loaded in a line each:

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
    path: str | os.PathLike[str],
    like: Any,
    known: Sequence[type] = (),
) -> tuple[Any, Any]:
    """Read what `save_tree` wrote.

    Args:
        path: of the file.
        like: a pytree of the same structure and shapes, whose leaves are arrays or
            `jax.ShapeDtypeStruct`; or a function that makes one from the metadata, of which only
            shapes are computed.
        known: dataclasses of your own that the metadata may use.

    Returns:
        The pytree, bit for bit, and the metadata, which is equal to what was saved.

    Raises:
        ValueError: the file is none of `save_tree`, truncated, changed since it was written, or of
            a later version; its arrays are not those of `like`; or it holds float64 and JAX does
            not. The limits of `load` on what a file may describe hold here, too.
        OSError: it cannot be read.
    """
    read = functools.partial(_tree, like=like, classes=_classes(tuple(known)))
    return _read(Path(path), _TREE, read)


def _write(path: Path, tree: Any, content: dict[str, Any], where: str) -> None:
    """Write arrays and their description, with a checksum over both."""
    import safetensors.numpy

    arrays = {name: _array(name, leaf) for name, leaf in _named(tree).items()}
    content = {"version": _VERSION} | content
    text = json.dumps(content | {"sha256": _checksum(content, arrays)})
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"{where} is too large, for {error}") from None
    write_whole(path, safetensors.numpy.save(arrays, {_KEY: text}))


def _array(name: str, leaf: Any) -> np.ndarray:
    """A leaf as it is written."""
    if isinstance(leaf, np.ndarray | np.generic) or (
        isinstance(leaf, jax.Array) and not jax.numpy.issubdtype(leaf.dtype, jax.dtypes.extended)
    ):
        return np.asarray(leaf, order="C")
    hint = "numbers may be metadata, and jax.random.key_data makes an array of a key"
    raise TypeError(
        f"{name or 'the tree'} is of type {type(leaf).__name__}, expected an array; {hint}"
    )


def _read(
    path: Path,
    expected: _Content,
    interpret: Callable[[Any, dict[str, np.ndarray]], tuple[Any, Any]],
) -> tuple[Any, Any]:
    """What the description and the arrays of a file mean."""
    path.open("rb").close()  # says what the system says of a file that is not there
    metadata, arrays = _content(path)
    if _KEY not in metadata:
        raise ValueError(
            f"{path} is a safetensors file, but {expected.writer} did not write it; "
            "jaxrnn.convert reads other layouts"
        )
    try:
        content = parse(metadata[_KEY])
        _check_whole(content, arrays, expected.fields)
        return interpret(content, arrays)
    except _UNREADABLE as error:
        raise ValueError(f"{path} holds no {expected.name} that can be read: {error}") from error


def _cell(
    content: Any, arrays: dict[str, np.ndarray], classes: dict[str, type]
) -> tuple[Cell, Params]:
    """The cell that a file describes, and its parameters; what costs no time is checked first."""
    _check_count(content["cell"], arrays)
    cell = build(content["cell"], classes)
    if not isinstance(cell, Cell):
        raise TypeError(f"it describes a {type(cell).__name__}, which is not a cell")
    in_features = check_in_features(cell, content["in_features"])
    if in_features > _largest(arrays):  # an input can be joined with more before it meets a weight
        raise ValueError(f"in_features is {in_features}, more than any size of its arrays")
    return cell, _filled(abstract_params(cell, in_features), arrays, "its cell")


def _tree(
    content: Any, arrays: dict[str, np.ndarray], like: Any, classes: dict[str, type]
) -> tuple[Any, Any]:
    """The pytree of a file, and its metadata."""
    metadata = build(content["metadata"], classes | {"dict": dict})
    # A module that is both callable and a pytree is an example of the tree.
    if callable(like) and jax.tree_util.all_leaves([like]):
        like = jax.eval_shape(lambda: like(metadata))
    return _filled(like, arrays, "`like`"), metadata


def _filled(like: Any, arrays: dict[str, np.ndarray], owner: str) -> Any:
    """The arrays in the structure of the tree to which they must belong."""
    wanted = _named(like)
    _check_arrays(arrays, wanted, owner)
    leaves = [jax.numpy.asarray(arrays[name]) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


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


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that its name always stands for a whole one: the old one or the new one."""
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


def _check_whole(content: Any, arrays: dict[str, np.ndarray], fields: tuple[str, ...]) -> None:
    """Refuse what is of a later version, or was not all written by this module."""
    if not isinstance(content, dict) or "version" not in content:
        raise ValueError("its description has no version")
    if (version := content["version"]) != _VERSION:
        this = f"this jaxrnn reads version {_VERSION}; upgrade jaxrnn"
        raise ValueError(f"its format has version {version}, and {this}")
    if missing := {*fields, "sha256"} - content.keys():
        raise ValueError(f"its description lacks {sorted(missing)}")
    written = {name: value for name, value in content.items() if name != "sha256"}
    if content["sha256"] != _checksum(written, arrays):
        reason = "so it was changed after it was written; get it again"
        raise ValueError(f"its checksum is another, {reason}")


def _check_count(description: Any, arrays: dict[str, np.ndarray]) -> None:
    """Refuse more cells than arrays: each cell has some, if not each combinator or layer."""
    names = [name for name in class_names(description) if isinstance(name, str)]
    count = sum(hasattr(cells, name) for name in names)
    if count > len(arrays):
        raise ValueError(f"it describes {count} cells, but holds no more than {len(arrays)} arrays")


def _check_arrays(arrays: dict[str, np.ndarray], wanted: dict[str, Any], owner: str) -> None:
    """Refuse arrays that are not those of their owner, or that JAX would round."""
    if missing := wanted.keys() - arrays.keys():
        raise ValueError(f"the array {min(missing)} of {owner} is not there")
    if unknown := arrays.keys() - wanted.keys():
        raise ValueError(f"it holds an array {min(unknown)}, which {owner} has not")
    for name, want in wanted.items():
        array = arrays[name]
        if array.shape != want.shape:
            raise ValueError(f"its array {name} has shape {array.shape}, expected {want.shape}")
        where = f"its array {name} has dtype {array.dtype}"
        if kind(array) != kind(want):
            raise ValueError(f"{where}, expected {kind(want)}")
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ValueError(f"{where}, which JAX would round; set jax_enable_x64 to load it")


def _named(tree: Any) -> dict[str, Any]:
    """The leaves by their path, such as `0.forward.w_x`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError(f"two arrays of a tree have the same path, one of {[*named]}")
    return named


def _fitting(cell: Cell, params: Params) -> tuple[int, Params]:
    """The size of the input that these parameters are for, and what `init` makes for it."""
    try:
        size = cell.in_features(params)
        if form(initial := abstract_params(cell, size)) == form(params):
            return size, initial
    except NotImplementedError as error:  # how large its input is, it does not say
        raise ValueError(f"save: {error}") from error
    except _UNFIT:
        pass
    given = jax.tree.map(np.shape, params)
    raise ValueError(
        f"save: params have the shapes {given}, which {type(cell).__name__}.init makes for no "
        "in_features; are they its?"
    )


_UNFIT = (ValueError, TypeError, LookupError, AttributeError)
"""What a cell raises that is asked about the parameters of another."""


def _largest(arrays: dict[str, Any]) -> int:
    """What the size of an input is at most."""
    return max([1, *(size for array in arrays.values() for size in np.shape(array))])


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
