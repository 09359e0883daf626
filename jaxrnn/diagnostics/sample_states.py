"""States of trajectories, as starts of a search for fixed points."""

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrnn.core.cell import Carry
from jaxrnn.core.check import check_size
from jaxrnn.core.trees import is_float


def sample_states(
    states: Carry,
    count: int | None = None,
    *,
    key: Array | None = None,
    noise: ArrayLike = 0.0,
    axes: int = 2,
) -> Carry:
    """Draw states of a trajectory as starts `[count, ...]` for `fixed_points`.

    They are drawn without replacement if there are enough.

    Args:
        states: the states `[time, *batch, ...]` that `jaxrnn.trajectory` returns.
        count: the number of starts; by default all states, in their order.
        key: the key from which states and noise are drawn.
        noise: the standard deviation of Gaussian noise that is added; integers get none.
        axes: the number of leading axes, time and batch together.

    Raises:
        ValueError: the states have too few axes or do not agree in them, `count` is not positive,
            or `count` or `noise` is given without a key.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import sample_states
    >>> cell = jaxrnn.LSTM(4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> states, _ = jaxrnn.trajectory(cell, params, jnp.ones((7, 2, 3)))
    >>> sample_states(states).h.shape
    (16, 4)
    >>> sample_states(states, 5, key=jax.random.key(1), noise=0.1).c.shape
    (5, 4)
    """
    check_size("sample_states", "axes", axes)
    shapes = {np.shape(leaf)[:axes] for leaf in jax.tree.leaves(states)}
    if len(shapes) != 1 or len(next(iter(shapes))) < axes:
        raise ValueError(
            f"sample_states: states have the leading axes {sorted(shapes)}, expected the same "
            f"{axes} of every array, [time, *batch, ...]; axes= says how many these are"
        )
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), states)
    silent = isinstance(noise, int | float) and noise == 0
    if key is None:
        if count is None and silent:
            return flat
        raise ValueError("sample_states: count and noise need a key, key=jax.random.key(0)")
    k_rows, k_noise = jax.random.split(key)
    if count is not None:
        check_size("sample_states", "count", count)
        there = len(jax.tree.leaves(flat)[0])
        rows = jax.random.choice(k_rows, there, (count,), replace=count > there)
        flat = jax.tree.map(lambda leaf: leaf[rows], flat)
    if silent:
        return flat
    leaves, form = jax.tree.flatten(flat)
    keys = jax.random.split(k_noise, len(leaves))
    return form.unflatten(
        [
            leaf + noise * jax.random.normal(k, leaf.shape, leaf.dtype) if is_float(leaf) else leaf
            for k, leaf in zip(keys, leaves, strict=True)
        ]
    )
