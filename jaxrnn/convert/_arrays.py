"""Single arrays: conversion from every framework to JAX and NumPy, gate order, and biases."""

from collections.abc import Iterable
from types import ModuleType
from typing import Protocol, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

_FLOATS = ("bfloat16", "float16", "float32", "float64")

A = TypeVar("A", Array, np.ndarray)


class ForeignArray(Protocol):
    """An array of any framework: of NumPy, JAX or torch, or a variable of Flax or Keras."""

    @property
    def shape(self) -> Iterable[int]:
        """The sizes of its axes."""
        ...

    @property
    def dtype(self) -> object:
        """Its dtype, as an object of the framework."""
        ...


def is_traced(array: object) -> bool:
    """Return whether JAX traces the array, which then has a shape and dtype but no numbers yet."""
    return isinstance(array, Tracer)


def to_numpy(array: object, own: bool = False) -> np.ndarray:
    """Convert an array of any framework to NumPy, bit for bit, bfloat16 included.

    A traced array is returned as it is, for it has no numbers yet.

    Args:
        array: the array.
        own: whether the result must be a writable copy in C order.
    """
    if is_traced(array):
        return cast(np.ndarray, array)
    if detach := getattr(array, "detach", None):  # of torch, whose NumPy bridge has no bfloat16
        tensor = detach().cpu()
        bfloat16 = "bfloat16" in str(tensor.dtype)
        array = jnp.from_dlpack(tensor.contiguous()) if bfloat16 else tensor
    return np.array(array, order="C") if own else np.asarray(array)


def form_of(array: object, name: str) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of an array of any framework, without reading its numbers.

    Raises:
        TypeError: it is not an array, it does not hold floats, or it is float64 and JAX's float64
            is off.
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


def to_jax(array: object, name: str) -> Array:
    """Convert an array of any framework to JAX, bit for bit.

    Raises:
        TypeError: as for `form_of`, or the numbers cannot be read.
    """
    form = form_of(array, name)
    held = None if isinstance(array, Array) else getattr(array, "__jax_array__", None)
    value = held() if held else array  # a variable of Flax or Keras holds an array
    if isinstance(value, Array):  # which may be traced, or lie on several devices
        return value
    try:
        # copied, for device_put may keep the memory; asarray would compile a program for each shape
        return jax.device_put(np.array(to_numpy(value), form.dtype))
    except (NotImplementedError, TypeError, ValueError) as error:
        kind = type(value).__name__
        raise TypeError(f"{name} is a {kind} that cannot be read: {error}") from error


def reorder_gates(array: A, given: str, wanted: str, *, negate: str = "") -> A:
    """Reorder the gates on the last axis of a weight or a bias, and negate some of them.

    This helps with formats that have no converter. The gates of jaxrnn's LSTM have the order i f g
    o, those of its GRU r z n, those of its MGU f n. Its matrices are `[in, gates * hidden]` and
    `[hidden, gates * hidden]`. A recipe:

    1. Transpose matrices that are `[gates * hidden, in]`. If the format has one matrix for each
       gate, join them on the last axis with `concatenate`.
    2. Reorder `w_x`, `w_h` and `b`. DyNet's LSTM, for example, has its gates in the order i f o g.
    3. If a gate of the format is one minus jaxrnn's, negate it, because `σ(-z) = 1 - σ(z)`.
       jaxrnn's GRU is `h_t = z ⊙ h_{t-1} + (1 - z) ⊙ n`, so a format in which z multiplies n needs
       `negate="z"`.
    4. Add to `b` what the format adds while it runs, such as a forget bias. Add up two biases.
    5. Build the parameters, `jaxrnn.LSTMParams(w_x, w_h, b)`, run both cells on one input, and
       compare.

    Args:
        array: an array of NumPy or JAX.
        given: the present order of the gates, one letter each.
        wanted: the same letters in the wanted order.
        negate: the letters of the gates to negate.

    Raises:
        ValueError: the letters differ, a letter occurs twice, or the last axis cannot be split into
            so many gates.

    >>> reorder_gates(np.arange(4), "ifog", "ifgo").tolist()
    [0, 1, 3, 2]
    >>> reorder_gates(np.arange(1, 7), "zrn", "rzn", negate="z").tolist()
    [3, 4, -1, -2, 5, 6]
    """
    if len({*given}) < len(given) or sorted(given) != sorted(wanted) or not {*negate} <= {*given}:
        raise ValueError(
            f"reorder_gates: given is {given!r}, wanted {wanted!r} and negate {negate!r}, expected "
            "the same letters, each once, and some of them"
        )
    if not array.ndim or array.shape[-1] % len(given):
        raise ValueError(
            f"reorder_gates: the array has shape {array.shape}, expected [..., {len(given)} * "
            f"hidden] for the gates {given!r}; transpose it if the gates stand on another axis"
        )
    library = _library(array)
    blocks = dict(zip(given, library.split(array, len(given), axis=-1), strict=True))
    turned = [-blocks[gate] if gate in negate else blocks[gate] for gate in wanted]
    return library.concatenate(turned, axis=-1)


def add_to_forget(b: Array, number: int) -> Array:
    """Add a number to the forget gate of a bias in the order i f g o."""
    hidden = b.size // 4
    return b.at[hidden : 2 * hidden].add(jnp.asarray(number, b.dtype))


def no_bias(b: A) -> A:
    """Return a bias that changes nothing when it is added to `b`.

    It is -0, because adding 0 to -0 gives 0.
    """
    return _library(b).full_like(b, -0.0)


def _library(array: Array | np.ndarray) -> ModuleType:
    """Return `jax.numpy` for an array of JAX, and NumPy for one of NumPy."""
    return jnp if isinstance(array, Array) else np


def gru_biases(b_x: Array, b_h: Array) -> tuple[Array, Array]:
    """Return a GRU's `b` and `b_hn` from the biases of input and state, in the order r z n.

    The biases of the gates are added up. The candidate keeps both, because the reset gate
    multiplies that of the state.
    """
    candidate = slice(-(b_x.size // 3), None)
    return (b_x + b_h).at[candidate].set(b_x[candidate]), b_h[candidate]


def state_bias(b: Array, b_hn: Array | None) -> Array:
    """Return the bias of the state for a framework in which `b` is the bias of the input.

    For a GRU, this is the inverse of `gru_biases`: it is `b_hn` for the candidate. Everywhere else,
    and without `b_hn`, it changes nothing.
    """
    second = no_bias(b)
    return second if b_hn is None else second.at[-b_hn.size :].set(b_hn)
