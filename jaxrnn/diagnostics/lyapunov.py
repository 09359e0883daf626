"""Lyapunov exponents: how fast nearby states diverge or converge under given inputs."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import check_count, check_size
from jaxrnn.core.trees import Tree
from jaxrnn.diagnostics._state import drive, flat, norm, step_map

_BATCHES = 20
"""Of how many means the standard error is taken: few enough that each is long, and so that
neighbours hardly depend on each other."""


class Lyapunov(NamedTuple):
    """What `lyapunov` finds: growth rates per step as natural logarithms, the largest first.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import lyapunov
    >>> with jax.enable_x64(True):
    ...     cell = jaxrnn.Elman(2, activation="linear")  # h' = h diag(2, 1/2)
    ...     params = cell.init(jax.random.key(0), in_features=1, dtype=jnp.float64)
    ...     params = params._replace(w_h=jnp.diag(jnp.array([2, 0.5])))
    ...     xs = jnp.zeros((40, 1))
    ...     found = lyapunov(cell, params, xs, key=jax.random.key(1), warm_up=20)
    >>> [round(float(exponent), 4) for exponent in found.exponents]  # ± log 2
    [0.6931, -0.6931]
    >>> found.history.shape, found.steps[-1].item()
    ((20, 2), 20)
    """

    exponents: Array
    """`[*batch, k]`; -inf where a direction was lost."""

    error: Array
    """Their standard errors `[*batch, k]`; inf if there is only one block, 0 for -inf."""

    history: Array
    """The running estimate after each block, `[blocks, *batch, k]`, in the order of `exponents`;
    the last entry is `exponents`."""

    steps: Array
    """The number of steps up to the end of each block, `[blocks]`."""


def lyapunov(
    cell: Cell,
    params: Params,
    xs: Tree,
    carry: Carry = None,
    *,
    key: Array,
    k: int | None = None,
    every: int = 1,
    warm_up: int = 0,
    context: Tree = None,
) -> Lyapunov:
    """Compute the k largest Lyapunov exponents of a cell that is driven by inputs.

    The Jacobian of each step moves k orthonormal tangent vectors along the trajectory. After every
    m steps they are orthonormalised again (Benettin et al. 1980; for networks Engelken, Wolf &
    Abbott 2023, Lyapunov spectra of chaotic recurrent neural networks, arXiv 2006.02427):

        Q_b R_b = J_{t+m} ... J_{t+1} Q_{b-1},    λ_i = Σ_b log R_b[i, i] / steps

    J is the Jacobian of the whole carry, n real numbers for each sequence. It is never formed: each
    step costs k products with it (`jax.jvp`). The exponents depend on the inputs, and each sequence
    has its own. The standard error comes from the means of 20 groups of neighbouring blocks (or of
    fewer, if there are fewer blocks), so correlation within a group does not distort it. If an
    estimate oscillates about its limit, as on a periodic orbit, the standard error is several times
    too large.

    Finite exponents are differentiable with respect to the parameters, so a loss may contain them
    (Engelken 2023, Gradient flossing, arXiv 2312.17306).

    A direction is lost if nothing is left of it, for example behind a unit that is off. This is so
    if fewer numbers of the state can still change than there are directions, or if what is left is
    rounding, 8 eps of the former size. Its exponent is -inf from then on. The exponents of the
    other directions are as if it did not exist.

    Args:
        cell, params, carry, context: as for `jaxrnn.scan`.
        xs: as for `jaxrnn.scan`. For an autonomous system, pass zeros, one for each step.
        key: the key from which the first tangents are drawn.
        k: the number of exponents; all n by default.
        every: m, the number of steps between two orthonormalisations; the last block may be
            shorter. A larger m is cheaper, as long as exp((λ_1 - λ_k) m) is far below 1 / eps. A
            block that loses half of the digits, or overflows, is repeated with m = 1.
        warm_up: how many steps at the beginning are left out. They bring the state near its
            attractor and sort the tangents. A tangent that is lost in them starts again.

    Warns:
        UserWarning: the state is float32.

    Raises:
        ValueError, TypeError: as `jaxrnn.scan`; or the cell has no single step, k is more than n,
            or `every` or `warm_up` does not fit.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import lyapunov
    >>> with jax.enable_x64(True):
    ...     cell = jaxrnn.Elman(4)  # an orthogonal recurrent weight, and tanh, which shrinks
    ...     params = cell.init(jax.random.key(0), in_features=3, dtype=jnp.float64)
    ...     xs = jax.random.normal(jax.random.key(1), (100, 2, 3))
    ...     found = lyapunov(cell, params, xs, key=jax.random.key(2), k=2, warm_up=20)
    ...     shrinks = jnp.all(found.exponents < 0)  # the inputs decide where the state goes
    >>> found.exponents.shape, found.history.shape
    ((2, 2), (80, 2, 2))
    >>> bool(shrinks)
    True
    """
    every = check_size(lyapunov, "every", every)
    way = drive("lyapunov", cell, params, xs, carry, context=context)
    rows = len(way.batch)
    size = jax.eval_shape(lambda: flat(way.before(), rows + 1)).shape
    k = size[-1] if k is None else check_size(lyapunov, "k", k)
    if k > size[-1]:
        raise ValueError(
            f"lyapunov: k is {k}, expected at most {size[-1]}, the real numbers that the carry of "
            f"{type(cell).__name__} has for each sequence"
        )
    warm_up = check_count(lyapunov, "warm_up", warm_up)
    if warm_up >= size[0]:
        raise ValueError(
            f"lyapunov: warm_up is {warm_up}, expected less than {size[0]}, the steps of xs; "
            "exponents are averaged over the steps after it"
        )
    found = _spectrum(cell, params, way.before(), way.xs, context, key, k, every, warm_up)
    if (dtype := found.exponents.dtype) != jnp.float64:
        warnings.warn(
            f"lyapunov: the state is {dtype}, whose rounding hides small exponents and the border "
            'between small and -inf; set jax.config.update("jax_enable_x64", True), and cast '
            "params and xs to float64",
            stacklevel=2,
        )
    return found


@partial(jax.jit, static_argnames=("cell", "k", "every", "warm_up"))
def _spectrum(
    cell: Cell,
    params: Params,
    before: Carry,
    xs: Tree,
    context: Tree,
    key: Array,
    k: int,
    every: int,
    warm_up: int,
) -> Lyapunov:
    rows = jax.tree.leaves(xs)[0].ndim - 1 - cell.feature_axes
    states = jax.eval_shape(lambda: flat(before, rows + 1))
    time, *batch, n = states.shape
    first, _ = orthonormal(jax.random.normal(key, (k, *batch, n), states.dtype))

    def step(tangents: Array, given: tuple[Carry, Tree]) -> tuple[Array, None]:
        state, x = given
        after = step_map(cell, params, state, x, context=context)
        at = flat(state, rows)
        return jax.vmap(lambda q: jax.jvp(after, (at,), (q,))[1])(tangents), None

    def cautious(tangents: Array, given: tuple[Carry, Tree]) -> tuple[Array, Array]:
        return orthonormal(step(tangents, given)[0])

    def block(tangents: Array, steps: tuple[Carry, Tree]) -> tuple[Array, Array]:
        moved, _ = lax.scan(step, tangents, steps)
        found = orthonormal(moved)
        if len(jax.tree.leaves(steps)[0]) == 1:
            return found

        def again() -> tuple[Array, Array]:
            last, log_sizes = lax.scan(cautious, tangents, steps)
            return last, jnp.sum(log_sizes, axis=0)

        return lax.cond(_lost(tangents, moved, found[1]), again, lambda: found)

    def block_of_warm_up(tangents: Array, steps: tuple[Carry, Tree]) -> tuple[Array, Array]:
        tangents, log_sizes = block(tangents, steps)
        return jnp.where(jnp.isneginf(log_sizes)[..., None], first, tangents), log_sizes

    tangents, _ = _in_blocks(block_of_warm_up, first, (before, xs), range(warm_up), every)
    if warm_up:
        tangents, _ = orthonormal(tangents)
    _, log_sizes = _in_blocks(block, tangents, (before, xs), range(warm_up, time), every)
    return _summary(jnp.moveaxis(log_sizes, 1, -1), time - warm_up, every)


def orthonormal(vectors: Array) -> tuple[Array, Array]:
    """Orthonormalise vectors `[k, *batch, n]` from first to last; also return the logarithm of the
    norm that was left of each.

    This is a QR decomposition, by the method of Gram and Schmidt done twice. A vector of which
    nothing is left becomes zero. So it takes no direction from later vectors, as it would in
    LAPACK's decomposition. There are no more directions than coordinates in which some vector is
    not zero. Beyond that number the vectors are set to zero, whatever rounding leaves of them.
    """
    rounding = 8 * float(jnp.finfo(vectors.dtype).eps)
    coordinates = jnp.sum(jnp.any(vectors != 0, axis=0), axis=-1)

    def one(state: tuple[Array, Array], given: tuple[Array, Array]) -> tuple[Any, Array]:
        earlier, room = state
        i, vector = given
        rest = vector
        for _ in range(2):
            along = jnp.einsum("k...n,...n->k...", earlier, rest)
            rest = rest - jnp.einsum("k...,k...n->...n", along, earlier)
        size = norm(rest, [-1])
        dead = (size <= rounding * norm(vector, [-1])) | (room == 0)
        unit = jnp.where(dead[..., None], 0, rest / _nonzero(size)[..., None])
        log_size = jnp.where(dead, -jnp.inf, jnp.log(_nonzero(size)))
        return (earlier.at[i].set(unit), jnp.where(dead, room, room - 1)), log_size

    start = jnp.zeros_like(vectors), coordinates
    (unit, _), log_sizes = lax.scan(one, start, (jnp.arange(len(vectors)), vectors))
    return unit, log_sizes


def _lost(tangents: Array, moved: Array, log_sizes: Array) -> Array:
    """Return whether a tangent that was not zero has lost half of its digits against the others,
    or is not finite.
    """
    was_there = jnp.any(tangents != 0, axis=-1)
    half = math.log(jnp.finfo(moved.dtype).eps) / 2
    return jnp.any(was_there & ~(log_sizes - jnp.log(norm(moved, [-1])) > half))


def _nonzero(size: Array) -> Array:
    """Put 1 in place of 0, so that a branch that is not chosen has a derivative."""
    return jnp.where(size == 0, 1, size)


def _in_blocks(
    block: Callable[[Array, Any], tuple[Array, Array]],
    start: Array,
    given: Tree,
    steps: range,
    every: int,
) -> tuple[Array, Array]:
    """Scan over blocks of so many steps, and over the shorter block at the end."""
    whole, rest = divmod(len(steps), every)
    border = steps.start + whole * every
    each = []
    for size, begin, end in ((every, steps.start, border), (rest, border, steps.stop)):
        if begin < end:
            cut = jax.tree.map(
                lambda leaf, b=begin, e=end, s=size: leaf[b:e].reshape(-1, s, *leaf.shape[1:]),
                given,
            )
            start, found = lax.scan(block, start, cut)
            each.append(found)
    return start, jnp.concatenate(each) if each else jnp.zeros((0, *start.shape[:-1]), start.dtype)


def _summary(log_sizes: Array, time: int, every: int) -> Lyapunov:
    """Compute exponents and errors from the log norms left of tangents, `[blocks, *batch, k]`."""
    steps = np.minimum(every * np.arange(1, len(log_sizes) + 1), time)
    each_row = steps.reshape(-1, *[1] * (log_sizes.ndim - 1))
    history = jnp.cumsum(log_sizes, axis=0) / each_row.astype(log_sizes.dtype)
    whole = time // every
    batches = max(min(_BATCHES, whole), 1)
    length = whole // batches
    means = log_sizes[whole - batches * length : whole].reshape(
        batches, length, *log_sizes.shape[1:]
    )
    rates = jnp.mean(means, axis=1) / every
    if batches > 1:
        error = jnp.std(rates, axis=0, ddof=1) / math.sqrt(batches)
    else:
        error = jnp.full_like(history[-1], jnp.inf)
    order = jnp.argsort(-history[-1], axis=-1)
    history = jnp.take_along_axis(history, order[None], axis=-1)
    error = jnp.take_along_axis(error, order, axis=-1)
    error = jnp.where(jnp.isneginf(history[-1]), 0, error)
    return Lyapunov(history[-1], error, history, jnp.asarray(steps))
