"""How a change of the state at one time step changes the last state."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core.call import Flags
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import check_flag, check_size
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import StepFlags
from jaxrnn.diagnostics._state import drive, flat, norm, step_map


class JacobianFlow(NamedTuple):
    """What `jacobian_flow` finds. Logarithms are natural; that of zero is -inf.

    Entry t of `[time + 1, *batch]` belongs to `∂carry_T / ∂carry_t`, in the order in which time is
    walked. The last entry belongs to the identity.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import jacobian_flow
    >>> cell = jaxrnn.Elman(4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> flow = jacobian_flow(cell, params, jnp.ones((7, 2, 3)))
    >>> flow.log_norm.shape, float(flow.error.max()), flow.log_singular_values
    ((8, 2), 0.0, None)
    """

    log_norm: Array
    """The logarithm of the Frobenius norm, `[time + 1, *batch]`."""

    error: Array
    """The standard error of `log_norm`; 0 if it is exact."""

    log_singular_values: Array | None
    """`[time + 1, *batch, n]`, the largest first; the first is the log of the spectral norm."""


def jacobian_flow(
    cell: Cell,
    params: Params,
    xs: Tree,
    carry: Carry = None,
    *,
    singular_values: bool = False,
    vectors: int | None = None,
    key: Array | None = None,
    **flags: Unpack[Flags],
) -> JacobianFlow:
    """Compute the norms of the Jacobians `∂carry_T / ∂carry_t = J_T J_{T-1} ⋯ J_{t+1}` for every t.

    One pass backwards through time computes all of them. The state is the whole carry of all
    layers, n real numbers for each sequence. A layer's new state reaches the layer above in the
    same step. The products are scaled to norm 1 and their size is kept as a logarithm, so nothing
    under- or overflows. In float32, singular values below 1e-7 of the largest are rounding errors;
    `lyapunov` resolves such values.

    Args:
        cell, params, xs, carry, flags: as for `jaxrnn.scan`. The Jacobian of a masked step is the
            identity, that of a step after a boundary is zero.
        singular_values: whether to compute these, too, by one decomposition for each step.
        vectors: estimate the norm from so many vectors v of random signs, in place of the n unit
            vectors of the exact norm: `‖J‖²` is the expectation of `‖Jᵀv‖²` (Hutchinson 1990).
        key: the key from which `vectors` are drawn.

    Raises:
        ValueError, TypeError: as `jaxrnn.scan`; or the cell has no single step, singular values are
            asked for with random vectors, or only one of `vectors` and `key` is given.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import jacobian_flow
    >>> cell, xs = jaxrnn.Elman(4, activation="linear"), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)  # an orthogonal recurrent weight
    >>> flow = jacobian_flow(cell, params, xs, singular_values=True)
    >>> bool(jnp.all(jnp.abs(flow.log_singular_values) < 1e-5))
    True
    >>> flow = jacobian_flow(cell, params, xs, vectors=8, key=jax.random.key(1))
    >>> bool(jnp.all(jnp.abs(flow.log_norm - jnp.log(2)) < 1e-5))  # √4
    True
    """
    check_flag(jacobian_flow, "singular_values", singular_values)
    way = drive("jacobian_flow", cell, params, xs, carry, **flags)
    last = jax.tree.map(lambda leaf: leaf[-1], way.states)
    rows = len(way.batch)
    size = flat(last, rows)
    probes = _probes(size, vectors, key, singular_values)
    context = flags.get("context")

    def back(state: tuple[Array, Array], step: tuple[Carry, Tree, StepFlags]) -> tuple:
        before, x, flags_t = step
        after = step_map(cell, params, before, x, flags_t, context)
        _, pull = jax.vjp(after, flat(before, rows))
        (moved,) = jax.vmap(pull)(state[0])
        state = _normalised(moved, state[1])
        return state, _measures(*state, vectors, singular_values)

    start = _normalised(probes, jnp.zeros(way.batch, size.dtype))
    inputs = (way.before(), way.xs, way.flags)
    _, earlier = lax.scan(back, start, inputs, reverse=True)
    here = _measures(*start, vectors, singular_values)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), earlier, here)


def _probes(state: Array, vectors: int | None, key: Array | None, singular_values: bool) -> Array:
    """Return the vectors that multiply the Jacobians from the left, `[vectors, *batch, n]`."""
    if vectors is not None and key is not None:
        check_size(jacobian_flow, "vectors", vectors)
        if singular_values:
            raise ValueError(
                "jacobian_flow: random vectors give no singular values; leave out vectors and key"
            )
        return jax.random.rademacher(key, (vectors, *state.shape), state.dtype)
    if vectors is not None or key is not None:
        raise ValueError(
            "jacobian_flow: vectors and key belong together; pass both for random vectors, or "
            "neither for the exact Jacobian"
        )
    n = state.shape[-1]
    unit = jnp.eye(n, dtype=state.dtype).reshape(n, *[1] * (state.ndim - 1), n)
    return jnp.broadcast_to(unit, (n, *state.shape))


def _normalised(products: Array, log_size: Array) -> tuple[Array, Array]:
    """Scale products to norm 1 for each row; also return the logarithms of the divisors."""
    size = norm(products, [0, -1])
    safe = jnp.where(size > 0, size, 1)
    return products / safe[None, ..., None], log_size + jnp.log(size)


def _measures(
    products: Array, log_size: Array, vectors: int | None, singular_values: bool
) -> JacobianFlow:
    if vectors is None:
        values = None
        if singular_values:
            matrices = jnp.moveaxis(products, 0, -2)
            values = jnp.log(jnp.linalg.svd(matrices, compute_uv=False)) + log_size[..., None]
        return JacobianFlow(log_size, jnp.zeros_like(log_size), values)
    squares = jnp.sum(products**2, axis=-1)  # their sum over vectors is 1
    deviation = jnp.std(squares, axis=0) * vectors / jnp.sqrt(max(vectors - 1, 1))
    return JacobianFlow(log_size - jnp.log(vectors) / 2, deviation / 2, None)
