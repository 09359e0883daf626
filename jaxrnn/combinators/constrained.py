"""Constraints on recurrent weights."""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn._cell import Carry, Cell, Driver, Params
from jaxrnn._check import check_fields, check_positive, check_rate, check_seed, check_size, takes
from jaxrnn._labels import is_recurrent
from jaxrnn.combinators.wrapper import Around

Array = jax.Array


class Constraint(Protocol):
    """From a free matrix `[in, out]` to one that satisfies something; hashable, so a frozen dataclass."""

    def __call__(self, w: Array) -> Array: ...


@dataclasses.dataclass(frozen=True)
class Dale:
    """Each unit either excites or inhibits all others: `W = diag(sign) |W|` (Song, Yang & Wang 2016).

    Args:
        excitatory: the share of units that excite, the first ones; the rest inhibit.

    Raises:
        ValueError: the share is not in [0, 1).

    >>> Dale(excitatory=0.5)(jnp.array([[-1.0, 2.0], [3.0, -4.0]])).tolist()
    [[1.0, 2.0], [-3.0, -4.0]]
    """

    excitatory: float = 0.8

    def __post_init__(self) -> None:
        check_fields(self, check_rate, "excitatory")

    def __call__(self, w: Array) -> Array:
        sign = jnp.where(jnp.arange(w.shape[0]) < round(self.excitatory * w.shape[0]), 1, -1).astype(w.dtype)
        return jnp.abs(w) * sign[:, None]


@dataclasses.dataclass(frozen=True)
class Sparse:
    """Most connections do not exist: a fixed random share of the weights is zero.

    Args:
        density: the share of weights that exist.
        seed: which ones; the same seed and shape give the same.

    Raises:
        ValueError: the density is not in [0, 1), or the seed is none.

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
        exists = jax.random.bernoulli(jax.random.key(self.seed), self.density, w.shape)
        return jnp.where(exists, w, jnp.zeros((), w.dtype))


@dataclasses.dataclass(frozen=True)
class SpectralNorm:
    """No matrix of a gate stretches a state by more than `bound`: `W min(1, bound / σ(W))` (Miyato et al. 2018).

    σ, the largest singular value, comes from power iteration, which approaches it from below. A weight that is made of square blocks
    has a gate in each, and each is bounded by itself.

    Args:
        bound: the largest singular value that is left as it is.
        iterations: of the power method.

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
        size = w.shape[0] if w.shape[1] % w.shape[0] == 0 else w.shape[1]
        blocks = w.reshape(w.shape[0], -1, size).swapaxes(0, 1)
        return jax.vmap(self._bounded)(blocks).swapaxes(0, 1).reshape(w.shape)

    def _bounded(self, w: Array) -> Array:
        fixed = lax.stop_gradient(w)

        def unit(v: Array) -> Array:
            return v / jnp.maximum(jnp.linalg.norm(v), jnp.finfo(v.dtype).tiny)

        start = unit(fixed @ (1 + jnp.arange(w.shape[1], dtype=w.dtype) / w.shape[1]))
        u = lax.fori_loop(0, self.iterations, lambda _, u: unit(fixed @ unit(fixed.T @ u)), start)
        sigma = u @ w @ unit(fixed.T @ u)
        return w * jnp.minimum(1, self.bound / jnp.maximum(sigma, jnp.finfo(w.dtype).tiny)).astype(w.dtype)


@dataclasses.dataclass(frozen=True)
class Constrained(Around):
    """A cell whose recurrent weights `w_h` satisfy a constraint, whatever an optimiser makes of the parameters behind them.

    The constraint is applied once in every call of a driver, and its gradient is part of the parameters'.

    Args:
        cell: any cell; one made of cells, too.
        constraint: `Dale()`, `Sparse(...)`, `SpectralNorm(...)`, or any hashable function of a matrix.

    Raises:
        TypeError: the constraint cannot be called.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Constrained(jaxrnn.Elman(4, activation="relu"), jaxrnn.Dale())
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    cell: Cell
    constraint: Constraint

    def __post_init__(self) -> None:
        super().__post_init__()
        if not takes(self.constraint, arguments=1):
            raise TypeError(f"Constrained: constraint is {self.constraint!r}, expected a function of a matrix such as jaxrnn.Dale()")

    def run(self, params: Params, xs: Any, carry: Carry, drive: Driver) -> tuple[Carry, Any]:
        """Constrain, then run the cell."""

        def constrained(path: tuple[Any, ...], leaf: Array) -> Array:
            return self.constraint(leaf) if is_recurrent(path) else leaf

        return self.cell.run(jax.tree_util.tree_map_with_path(constrained, params), xs, carry, drive)
