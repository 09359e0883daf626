"""Every cell against its paper's equations in float64 NumPy, values and gradients, whatever the
flags.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxrnn
from tests.support import reference
from tests.support.helpers import (
    STEPS,
    assert_close,
    both_directions,
    cotangents,
    each_walk,
    is_floating,
    make_carry,
    make_flags,
    make_params,
    make_xs,
    value_and_grads,
)
from tests.support.specs import every


@every
@both_directions
@pytest.mark.usefixtures("x64", "strict")
def test_values(spec, reverse):
    params, xs = make_params(spec), make_xs(spec)
    carry = make_carry(spec, params, xs)

    # all cells share the walk, so over all specs these are many
    @settings(max_examples=settings().max_examples // 3)
    @given(
        lengths=hnp.arrays(np.int64, STEPS[1:], elements=st.integers(0, STEPS[0])),
        mask=hnp.arrays(bool, STEPS),
        reset=hnp.arrays(bool, STEPS),
    )
    def compare(**flags):
        got = jaxrnn.scan(spec.cell, params, xs, carry, reverse=reverse, **flags)
        assert_close(
            got, reference.run(spec.reference, params, xs, carry, reverse=reverse, **flags), 1e-12
        )

    compare()


@every
@pytest.mark.usefixtures("x64", "strict")
def test_from_the_initial_carry_and_without_flags(spec):
    params, xs = make_params(spec), make_xs(spec)
    assert_close(
        jaxrnn.scan(spec.cell, params, xs), reference.run(spec.reference, params, xs), 1e-12
    )


@every
def test_float32(spec):
    params, xs = make_params(spec, jnp.float32), make_xs(spec, STEPS, jnp.float32)
    carry, flags = make_carry(spec, params, xs), make_flags()
    got = jaxrnn.scan(spec.cell, params, xs, carry, reverse=True, **flags)
    assert_close(got, reference.run(spec.reference, params, xs, carry, reverse=True, **flags), 1e-5)


@every
@each_walk
@pytest.mark.usefixtures("x64", "strict")
def test_gradients(spec, driver, reverse):
    """Along random directions, against the central difference of the reference: no derivative of
    JAX's in it.
    """
    expected, directions, slopes = along_directions(spec, reverse)
    params, xs = make_params(spec), make_xs(spec)
    at = (params, xs, make_carry(spec, params, xs))
    outputs, gradients = value_and_grads(driver, spec.cell, *at, reverse=reverse, **make_flags())
    assert_close(outputs, expected, 1e-12)
    for name, gradient, direction, slope in zip(
        ("params", "xs", "carry"), gradients, directions, slopes, strict=True
    ):
        pairs = zip(
            jax.tree.leaves(gradient),
            [d for d in jax.tree.leaves(direction) if np.ndim(d)],
            strict=True,
        )
        got = sum(float(np.sum(np.asarray(g) * d)) for g, d in pairs)
        assert abs(got - slope) <= 1e-7 * max(1.0, abs(slope)), (
            f"{name}: {got} along the direction, expected {slope}"
        )


@cache
def along_directions(spec, reverse):
    """What the reference gives for the arguments and all flags, a random direction for each
    argument, and the slope of the product with random cotangents along each.
    """
    params, xs = make_params(spec), make_xs(spec)
    at = jax.tree.map(np.asarray, (params, xs, make_carry(spec, params, xs)))
    flags = make_flags()

    def objective(arguments):
        outputs = reference.run(spec.reference, *arguments, reverse=reverse, **flags)
        weights = jax.tree.leaves(cotangents(outputs), is_leaf=lambda a: a is None)
        return sum(
            np.sum(a * np.asarray(b))
            for a, b in zip(jax.tree.leaves(outputs), weights, strict=True)
            if b is not None
        )

    rng, width = np.random.default_rng(5), 3e-6
    directions = [
        jax.tree.map(lambda a: rng.normal(size=a.shape) if is_floating(a) else 0, tree)
        for tree in at
    ]
    slopes = []
    for argument, direction in enumerate(directions):
        ends = []
        for sign in (-1, 1):
            moved = jax.tree.map(
                lambda a, d, sign=sign: a + sign * width * d if np.ndim(d) else a,
                at[argument],
                direction,
            )
            ends.append(objective((*at[:argument], moved, *at[argument + 1 :])))
        slopes.append((ends[1] - ends[0]) / (2 * width))
    outputs = reference.run(spec.reference, *at, reverse=reverse, **flags)
    return outputs, directions, slopes
