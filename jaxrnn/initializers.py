"""Initialisers: names, or frozen dataclasses that are called as `(key, shape, dtype) -> array`.

A cell draws the block of each gate separately. Every block is then orthogonal, or has the variance
that the formula states. Numbers are drawn in at least float32 and then cast, so every initialiser
works for bfloat16 and float16.

The initialisers of `jax.nn.initializers` and any other callable with this signature work, too, but
they compare by identity and cannot be saved. The names are `"glorot_uniform"`, `"identity"`,
`"lecun_normal"`, `"orthogonal"`, `"torch_uniform"` and `"zeros"`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import sequential_vmap
from jax.typing import DTypeLike

from jaxrnn.core.check import check_fields, check_function, check_number, check_size
from jaxrnn.core.dtypes import wide

__all__ = [
    "Chrono",
    "GlorotUniform",
    "Identity",
    "LecunNormal",
    "Orthogonal",
    "TorchUniform",
    "initializer",
]

Initializer = str | Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class Orthogonal:
    """A uniformly random orthogonal matrix times `scale` (Saxe et al. 2014).

    A square one with `scale = 1` keeps the norm of every vector that it multiplies. A rectangular
    one has orthonormal rows or columns.

    Raises:
        ValueError: `scale` is not a real number.

    >>> q = Orthogonal()(jax.random.key(0), (4, 4))
    >>> bool(jnp.allclose(q @ q.T, jnp.eye(4), atol=1e-5))
    True
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, check_number, "scale")

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        # One matrix after the other under vmap: on a CPU of two cores, jit(vmap(...)) of two QR
        # factorisations can wait for ever, for each batch holds a thread and waits for the other.
        @sequential_vmap
        def draw(key: Array) -> Array:
            return _draw(jax.nn.initializers.orthogonal(self.scale), key, shape, dtype)

        return draw(key)


@dataclasses.dataclass(frozen=True)
class Identity:
    """The identity matrix times `scale`.

    With ReLU and zero biases, an `Elman` with these recurrent weights is the IRNN of Le, Jaitly &
    Hinton (2015).

    Raises:
        ValueError: `scale` is not a real number, or the shape to draw has not two axes.

    >>> Identity(0.5)(jax.random.key(0), (2, 2)).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, check_number, "scale")

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        del key
        if len(shape) != 2:
            raise ValueError(
                f"Identity: shape is {shape}, expected two axes, (in, out); use another initialiser"
            )
        return (self.scale * jnp.eye(*shape)).astype(dtype)


@dataclasses.dataclass(frozen=True)
class GlorotUniform:
    """Uniform with variance `2 / (fan_in + fan_out)` (Glorot & Bengio 2010).

    >>> w = GlorotUniform()(jax.random.key(0), (3, 3))
    >>> bool(jnp.max(jnp.abs(w)) <= 1.0)
    True
    """

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return _draw(jax.nn.initializers.glorot_uniform(), key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class LecunNormal:
    """Truncated normal with variance `1 / fan_in` (LeCun et al. 1998).

    >>> LecunNormal()(jax.random.key(0), (3, 5), jnp.bfloat16).dtype
    dtype(bfloat16)
    """

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        return _draw(jax.nn.initializers.lecun_normal(), key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class TorchUniform:
    """Uniform within `±1 / sqrt(n)`, where n is the last axis of the shape.

    PyTorch draws every weight and bias of its recurrent layers like this, with n the hidden size.
    The two agree except for the projection of an LSTM, where n is the size of the projection.

    >>> w = TorchUniform()(jax.random.key(0), (3, 4))
    >>> bool(jnp.max(jnp.abs(w)) <= 0.5)
    True
    """

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        bound = shape[-1] ** -0.5
        return jax.random.uniform(key, shape, _wide(dtype), -bound, bound).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Chrono:
    """Gate biases for memories of up to `longest` steps (Tallec & Ollivier 2018).

        b ~ log U(1, longest - 1)

    With `LSTM(forget_bias=Chrono(longest))`, the forget gate's bias is b, and the input gate's bias
    is -b. With `GRU(update_bias=Chrono(longest))`, the update gate's bias is b, because an open
    update gate keeps the state. With `MGU(forget_bias=Chrono(longest))`, the gate's bias is -b, or
    b if `form="flax"`.

    Args:
        longest: the longest dependency, in steps.

    Raises:
        ValueError: `longest` is not an integer, or is below 3, where the interval is empty.

    >>> b = Chrono(100)(jax.random.key(0), (5,))
    >>> bool(jnp.all((b >= 0) & (b <= jnp.log(99))))
    True
    """

    longest: int

    def __post_init__(self) -> None:
        check_fields(self, check_size, "longest")
        if self.longest < 3:
            raise ValueError(
                f"Chrono: longest is {self.longest}, expected an integer of at least 3; pass the "
                "length of the longest dependency, in steps"
            )

    def __call__(self, key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
        steps = jax.random.uniform(key, shape, minval=1.0, maxval=self.longest - 1.0)
        return jnp.log(steps).astype(dtype)


def _zeros(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    del key
    return jnp.zeros(shape, dtype)


NAMED: dict[str, Callable[..., Array]] = {
    "glorot_uniform": GlorotUniform(),
    "identity": Identity(),
    "lecun_normal": LecunNormal(),
    "orthogonal": Orthogonal(),
    "torch_uniform": TorchUniform(),
    "zeros": _zeros,
}


def initializer(name_or_function: Initializer) -> Callable[..., Array]:
    """Look up an initialiser by its name. A callable is returned as it is.

    Raises:
        ValueError: no initialiser has this name. The message lists the names.
        TypeError: the argument is neither a name nor a function of `(key, shape, dtype)`.

    >>> initializer("orthogonal")
    Orthogonal(scale=1.0)
    """
    function = check_initializer(initializer, "name", name_or_function)
    return NAMED[function] if isinstance(function, str) else function


def check_initializer(owner: object, argument: str, value: Initializer) -> Initializer:
    """Refuse anything but the name of an initialiser or a function of `(key, shape, dtype)`."""
    return check_function(owner, argument, value, NAMED, ("key", "shape", "dtype"))


def check_initial(owner: object, argument: str, value: float | Chrono) -> float | Chrono:
    """Refuse an initial gate bias that is neither a number nor a `Chrono`."""
    return value if isinstance(value, Chrono) else check_number(owner, argument, value)


def draw_gates(
    init: Initializer, key: Array, shape: tuple[int, ...], dtype: DTypeLike, gates: int
) -> Array:
    """Draw one block of `shape` per gate, and concatenate the blocks on the last axis."""
    draw = initializer(init)
    return jnp.concatenate([draw(k, shape, dtype) for k in jax.random.split(key, gates)], axis=-1)


def _draw(
    init: Callable[..., Array], key: Array, shape: tuple[int, ...], dtype: DTypeLike
) -> Array:
    return init(key, shape, _wide(dtype)).astype(dtype)


def _wide(dtype: DTypeLike) -> DTypeLike:
    """Return the dtype to draw in."""
    return wide(jnp.zeros((), dtype))
