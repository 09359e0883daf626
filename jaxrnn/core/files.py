"""Files of arrays: written whole, read whole, and checked."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What JSON, constructors and `init` raise for values that `save` does not write."""

_DTYPES = frozenset(
    [
        "bool",
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "bfloat16", "float32", "float64", "complex64"),
    ]
)
"""What safetensors writes and reads in NumPy."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step: its path always leads to a whole file, the old or the new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_arrays(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return the metadata and the arrays of a safetensors file."""
    import safetensors

    try:
        with safetensors.safe_open(path, "np") as file:
            names = file.keys()
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError, *UNREADABLE) as error:
        hint = "was it truncated, or is it of another kind?"
        raise ValueError(f"{path} is not a whole safetensors file ({error}); {hint}") from error


def as_written(name: str, leaf: Any) -> np.ndarray:
    """Return a leaf as a NumPy array of the machine's byte order, to be written.

    Raises:
        TypeError: it is not an array, or has a dtype that a file cannot hold.
        ValueError: safetensors has another use for its name.
    """
    if name == "__metadata__":
        raise ValueError("an array has the name __metadata__, which safetensors needs; rename it")
    if isinstance(leaf, np.ndarray | np.generic) or (
        isinstance(leaf, jax.Array) and not jax.numpy.issubdtype(leaf.dtype, jax.dtypes.extended)
    ):
        array = np.asarray(leaf, order="C")
        if array.dtype.name not in _DTYPES:
            raise TypeError(
                f"{name or 'the tree'} has dtype {array.dtype}, which a file cannot hold; expected "
                f"one of {sorted(_DTYPES)}; cast it"
            )
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    hint = "put numbers into metadata, and turn a key into an array by jax.random.key_data"
    raise TypeError(
        f"{name or 'the tree'} is of type {type(leaf).__name__}, expected an array; {hint}"
    )


def checksum(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """Return a checksum over a description and all arrays."""
    digest = hashlib.sha256(json.dumps(content).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
