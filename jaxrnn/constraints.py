"""Constraints on recurrent weights, for `jaxrnn.Constrained`."""

import dataclasses
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn.core.check import check_fields, check_positive, check_seed, check_share, check_size
from jaxrnn.core.dtypes import wide

__all__ = ["Constraint", "Dale", "Sparse", "SpectralNorm"]


class Constraint(Protocol):
    """A function from the free matrix `[in, out]` of one gate to one that meets the constraint.

    The result has the same shape and dtype. Row i of a recurrent matrix holds the weights from unit
    i to all others. The function must be hashable, as a frozen dataclass is.

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Symmetric:
    ...     def __call__(self, w):
    ...         return (w + w.T) / 2
    >>> cell = jaxrnn.Constrained(jaxrnn.Elman(4), Symmetric())
    >>> _, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), 3), jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    def __call__(self, w: Array) -> Array: ...


@dataclasses.dataclass(frozen=True)
class Dale:
    """Dale's law: each unit either excites or inhibits all others (Song, Yang & Wang 2016).

        W = diag(sign) |W|

    Args:
        excitatory: the share of units that excite. They are the first units; the others inhibit.

    Raises:
        ValueError: `excitatory` is not in [0, 1].

    >>> Dale(excitatory=0.5)(jnp.array([[-1.0, 2.0], [3.0, -4.0]])).tolist()
    [[1.0, 2.0], [-3.0, -4.0]]
    """

    excitatory: float = 0.8

    def __post_init__(self) -> None:
        check_fields(self, check_share, "excitatory")

    def __call__(self, w: Array) -> Array:
        excites = jnp.arange(w.shape[0]) < round(self.excitatory * w.shape[0])
        return jnp.abs(w) * jnp.where(excites, 1, -1).astype(w.dtype)[:, None]


@dataclasses.dataclass(frozen=True)
class Sparse:
    """Sparse connections: a fixed random share of the weights is zero.

        W = M ⊙ W,    M_ij = 1 with probability density, else 0

    Args:
        density: the share of weights that are not zero.
        seed: determines M, together with the shape of W. All gates of a cell therefore have the
            same connections.

    Raises:
        ValueError: `density` is not in [0, 1], or `seed` is not an integer from 0 to 2**32 - 1.

    >>> w = Sparse(density=0.25, seed=0)(jnp.ones((100, 100)))
    >>> 0.2 < float(w.mean()) < 0.3
    True
    """

    density: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, check_share, "density")
        check_fields(self, check_seed, "seed")

    def __call__(self, w: Array) -> Array:
        # NumPy's bits depend on nothing but the seed. JAX's also depend on x64 and the key's type.
        exists = np.random.Generator(np.random.PCG64(self.seed)).random(w.shape) < self.density
        return jnp.where(exists, w, jnp.zeros((), w.dtype))


@dataclasses.dataclass(frozen=True)
class SpectralNorm:
    """A bound on the spectral norm (Miyato et al. 2018).

        W min(1, bound / σ(W))

    σ is the largest singular value. Power iteration approximates it from below.

    Args:
        bound: the largest singular value that is allowed.
        iterations: the number of steps of power iteration.

    Raises:
        ValueError: `bound` or `iterations` is not positive.

    >>> w = SpectralNorm(bound=0.5)(jnp.diag(jnp.array([2.0, 0.1])))
    >>> round(float(jnp.linalg.norm(w, 2)), 4)
    0.5
    """

    bound: float = 1.0
    iterations: int = 20

    def __post_init__(self) -> None:
        check_fields(self, check_positive, "bound")
        check_fields(self, check_size, "iterations")

    def __call__(self, w: Array) -> Array:
        free = w.astype(wide(w))
        fixed = lax.stop_gradient(free)

        def unit(v: Array) -> Array:
            return v / jnp.maximum(jnp.linalg.norm(v), jnp.finfo(v.dtype).tiny)

        start = unit(fixed @ (1 + jnp.arange(w.shape[1], dtype=fixed.dtype) / w.shape[1]))
        u = lax.fori_loop(0, self.iterations, lambda _, u: unit(fixed @ unit(fixed.T @ u)), start)
        sigma = u @ free @ unit(fixed.T @ u)
        return (free * (self.bound / jnp.maximum(sigma, self.bound))).astype(w.dtype)
