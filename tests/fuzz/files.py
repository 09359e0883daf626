"""Damaged files, some with a checksum that fits: refused by name, or a cell that runs."""

import contextlib
import copy
import functools
import json
import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

import jaxrnn
from jaxrnn import GRU, LSTM, MGU, Elman, storage
from jaxrnn.activations import HardSigmoid
from jaxrnn.core import files
from jaxrnn.initializers import Chrono, Identity

SECONDS = 5.0
"""Of this process alone, which others cannot lengthen: for a file of some kilobytes."""
IN_FEATURES = 3
CELLS: tuple[Callable[[], jaxrnn.Cell], ...] = (
    lambda: LSTM(4, peepholes=True, projection=3, clip=2.0, layer_norm="gates"),
    lambda: GRU(3, gate_activation=HardSigmoid(0.2), update_bias=Chrono(10)),
    lambda: MGU(3, form="flax"),
    lambda: Elman(3, w_h_init=Identity(0.5), layer_norm=True),
    lambda: jaxrnn.Stack((LSTM(2), jaxrnn.Residual(Elman(2))), dropout=0.1),
    lambda: jaxrnn.Stack.repeat(Elman(2), 3, bidirectional=True, connection="dense"),
    lambda: jaxrnn.Bidirectional(GRU(2), jaxrnn.Reversed(Elman(2)), merge="sum"),
    lambda: jaxrnn.Highway(jaxrnn.DropConnect(GRU(3), 0.5)),
    lambda: jaxrnn.Zoneout(jaxrnn.LearnedCarry(LSTM(2)), h=0.1, c=0.5),
    lambda: jaxrnn.StateNoise(jaxrnn.RecurrentDropout(GRU(2), 0.2, draws=3), 0.1),
    lambda: jaxrnn.Dropout(jaxrnn.CandidateDropout(GRU(2), 0.2, locked=True), 0.5),
    lambda: jaxrnn.Constrained(jaxrnn.Constrained(Elman(3), jaxrnn.Dale()), jaxrnn.SpectralNorm()),
    lambda: jaxrnn.Constrained(Elman(3), jaxrnn.Sparse(0.5, seed=1)),
)
CLASSES = tuple(storage._classes(()))
WORDS = ("", "tanh", "relu", "zeros", "orthogonal", "identity", "concat", "sum", "before", "flax")
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    4,
    7,
    100,
    2**31 - 1,
    2**31,
    10**30,
    10**400,
    0.0,
    0.5,
    -0.5,
    1e300,
    1e-320,
)
OTHERS = (None, True, False, float("nan"), float("inf"), [], {}, [1, 2], "\ud800")
AROUND = (
    ("Bidirectional", "forward"),
    ("Reversed", "cell"),
    ("DropConnect", "cell"),
    ("Residual", "cell"),
)
DTYPES = (
    "bool",
    "int8",
    "int32",
    "uint8",
    "int64",
    "complex64",
    "float16",
    "bfloat16",
    "float64",
    "float32",
)


class TooLongError(AssertionError):
    """A file kept `load` busy."""


def case(random: random.Random) -> str:
    """Damage a file and load it."""
    file, content, arrays = _saved(random.randrange(len(CELLS)))
    damage = random.choice(("bytes", "description", "description", "arrays"))
    if damage == "bytes":
        file = _other_bytes(random, file)
    elif damage == "arrays":
        file = _written(content, arrays := _other_arrays(random, arrays))
    else:
        for _ in range(random.choice((1, 1, 2))):
            content = _other_json(random, content)
        file = _written(content, arrays)
    with tempfile.TemporaryDirectory() as folder, _limited():
        path = Path(folder) / "damaged"
        path.write_bytes(file)
        try:
            cell, params = jaxrnn.load(path)
        except ValueError as error:
            _check_message(path, error)
            return f"{damage}: refused"
        _check_run(cell, params, content["in_features"])
        jaxrnn.save(path, cell, params)
        assert jaxrnn.load(path)[0] == cell
        _check_same(_contents(path)[1], arrays)
    return f"{damage}: loaded"


def _check_message(path: Path, error: ValueError) -> None:
    assert str(error).startswith(str(path)), error


def _check_run(cell: jaxrnn.Cell, params: Any, in_features: int) -> None:
    xs = jax.ShapeDtypeStruct((2, 2, in_features), jnp.float32)
    _, ys = jax.eval_shape(lambda params, xs: jaxrnn.scan(cell, params, xs), params, xs)
    for y in jax.tree.leaves(ys):  # two for merge=None
        assert y.shape[:-1] == (2, 2), ys
        assert y.dtype == jnp.float32, ys


def _check_same(arrays: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert arrays.keys() == wanted.keys()
    for name, array in arrays.items():
        assert array.dtype == wanted[name].dtype, name
        assert array.tobytes() == wanted[name].tobytes(), name


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TooLongError(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@functools.cache
def _saved(number: int) -> tuple[bytes, dict[str, Any], dict[str, np.ndarray]]:
    """A whole file, its description and its arrays."""
    cell = CELLS[number]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cell"
        jaxrnn.save(path, cell, cell.init(jax.random.key(0), IN_FEATURES))
        return path.read_bytes(), *_contents(path)


def _contents(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    metadata, arrays = files.read_arrays(path)
    return json.loads(metadata["jaxrnn"]), arrays


def _written(content: Any, arrays: dict[str, np.ndarray]) -> bytes:
    """A file whose checksum fits."""
    if isinstance(content, dict):
        content = {name: value for name, value in content.items() if name != "sha256"}
        content["sha256"] = files.checksum(content, arrays)
    return safetensors.numpy.save(arrays, {"jaxrnn": json.dumps(content)})


def _other_bytes(random: random.Random, file: bytes) -> bytes:
    changed = bytearray(file)
    for _ in range(random.choice((1, 1, 2, 8))):
        place, size = random.randrange(len(changed)), random.choice((1, 1, 2, 9))
        twice = changed[place : place + size] * 2
        changed[place : place + size] = random.choice((random.randbytes(size), b"", twice))
    if random.random() < 0.2:
        del changed[random.randrange(len(changed)) :]
    return bytes(changed)


def _other_json(random: random.Random, content: Any) -> Any:
    """Another value at some place, or none."""
    content = copy.deepcopy(content)
    container, key = random.choice(list(_places(content)))
    value = container[key]
    match random.choice(("replace", "replace", "replace", "remove", "class", "around", "repeat")):
        case "replace":
            container[key] = _value(random, content)
        case "remove":
            del container[key]
        case "class" if isinstance(value, dict):
            value["class"] = random.choice(CLASSES)
        case "around":
            name, inner = random.choice(AROUND)
            for _ in range(random.choice((1, 2, 20, 100))):
                container[key] = {"class": name, inner: container[key]}
        case _:
            container[key] = [value] * random.choice((1, 2, 3000))
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every value below this one, as what holds it and where."""
    inside: Any = enumerate(content) if isinstance(content, list) else ()
    if isinstance(content, dict):
        inside = content.items()
    for key, value in inside:
        yield content, key
        yield from _places(value)


def _value(random: random.Random, content: Any) -> Any:
    container, key = random.choice(list(_places(content)))
    some_class = {"class": random.choice(CLASSES)}
    values = [random.choice(some) for some in (WORDS, NUMBERS, OTHERS)]
    values += [some_class, container[key]]
    return copy.deepcopy(random.choice(values))


def _other_arrays(random: random.Random, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = random.choice(sorted(arrays))
    array, arrays = arrays[name], dict(arrays)
    changes = ("dtype", "dtype", "all dtypes", "shape", "numbers", "remove", "rename", "add")
    match random.choice(changes):
        case "dtype":
            arrays[name] = array.astype(jnp.dtype(random.choice(DTYPES)))
        case "all dtypes":
            dtype = jnp.dtype(random.choice(DTYPES))
            arrays = {name: array.astype(dtype) for name, array in arrays.items()}
        case "shape":
            shape, size = array.shape, array.size
            shapes = ((), (size,), (*shape, 1), shape[::-1], (2, *shape[1:]))
            arrays[name] = np.resize(array, random.choice(shapes))
        case "numbers":
            arrays[name] = np.full_like(array, random.choice((np.nan, np.inf, -0.0, 1e30)))
        case "remove":
            del arrays[name]
        case "rename":
            arrays[random.choice((*arrays, "w", f"0.{name}", name + "."))] = arrays.pop(name)
        case _:
            arrays[random.choice(("w", "", "\n", "0.w_x", "start"))] = array
    return arrays
