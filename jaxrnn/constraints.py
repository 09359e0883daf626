"""Constraints on recurrent weights, for `jaxrnn.Constrained`."""

import dataclasses
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn.core.check import check_fields, check_positive, check_rate, check_seed, check_size
from jaxrnn.core.dtypes import wide

__all__ = ["Constraint", "Dale", "Sparse", "SpectralNorm"]


class Constraint(Protocol):
    """Maps the free matrix `[in, out]` of one gate to one that satisfies the constraint.

    It must be hashable, as a frozen dataclass is.
    """

    def __call__(self, w: Array) -> Array: ...


@dataclasses.dataclass(frozen=True)
class Dale:
    """Each unit either excites or inhibits all others: `W = diag(sign) |W|` (Song, Yang & Wang
    2016).

    Args:
        excitatory: the share of units that excite. They are the first ones; the rest inhibit.

    Raises:
        ValueError: the share is not in [0, 1).

    >>> Dale(excitatory=0.5)(jnp.array([[-1.0, 2.0], [3.0, -4.0]])).tolist()
    [[1.0, 2.0], [-3.0, -4.0]]
    """

    excitatory: float = 0.8

    def __post_init__(self) -> None:
        check_fields(self, check_rate, "excitatory")

    def __call__(self, w: Array) -> Array:
        excites = jnp.arange(w.shape[0]) < round(self.excitatory * w.shape[0])
        return jnp.abs(w) * jnp.where(excites, 1, -1).astype(w.dtype)[:, None]


@dataclasses.dataclass(frozen=True)
class Sparse:
    """Most connections do not exist: a fixed random share of the weights is zero.

    Args:
        density: the share of weights that exist.
        seed: what chooses them. Seed and shape alone decide, so all gates of a cell have the same
            connections.

    Raises:
        ValueError: the density is not in [0, 1), or the seed is not an integer of at least 0.

    >>> w = Sparse(density=0.25, seed=0)(jnp.ones((100, 100)))
    >>> 0.2 < float(w.mean()) < 0.3
    True
    """

    density: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, check_rate, "density")
        check_fields(self, check_seed, "seed")

    def __call__(self, w: Array) -> Array:
        # NumPy's bits depend on the seed alone; JAX's also on x64 and the implementation of keys.
        exists = np.random.Generator(np.random.PCG64(self.seed)).random(w.shape) < self.density
        return jnp.where(exists, w, jnp.zeros((), w.dtype))


@dataclasses.dataclass(frozen=True)
class SpectralNorm:
    """No state is stretched by more than `bound`: `W min(1, bound / σ(W))` (Miyato et al. 2018).

    σ is the largest singular value. Power iteration approaches it from below.

    Args:
        bound: the largest singular value that is left as it is.
        iterations: how many steps of power iteration are taken.

    Raises:
        ValueError: the bound or the number of iterations is not positive.

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
