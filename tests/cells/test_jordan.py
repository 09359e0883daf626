"""The network of Jordan, and its teacher."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn.cells import Taught
from jaxrnn.sequences import shift
from tests.support.conversions import random_inputs, random_params
from tests.support.helpers import assert_close
from tests.support.jaxprs import equations

TAUGHT = jaxrnn.Jordan(5, features=2, output_activation="tanh", teacher=True)
ALONE = dataclasses.replace(TAUGHT, teacher=False)
PARAMS = random_params(TAUGHT)
XS = random_inputs("float32")


def loss(cell: jaxrnn.Cell, params: object, xs: object) -> jax.Array:
    return jnp.sum(jnp.sin(jaxrnn.scan(cell, params, xs)[1]))


@pytest.mark.parametrize("decay", [None, 0.5])
def test_taught_its_own_outputs_it_does_as_alone(decay):
    taught, alone = (dataclasses.replace(cell, decay=decay) for cell in (TAUGHT, ALONE))
    _, ys = jaxrnn.scan(alone, PARAMS, XS)
    carry, again = jaxrnn.scan(taught, PARAMS, Taught(XS, shift(ys, 0.0)))
    assert_close(again, ys, 1e-6)
    assert_close(jax.tree.leaves(carry)[0], ys[-1], 1e-6)
    h, before = taught.initial_carry(PARAMS, (4, 3)), jnp.zeros((4, 2))
    for t in range(6):
        h, before = jaxrnn.step(taught, PARAMS, h, Taught(XS[t], before))
    assert_close(before, ys[-1], 1e-6)


def test_a_teacher_leaves_no_product_in_a_loop():
    def forward(cell, xs):
        method = jaxrnn.methods.Autodiff()
        run = jax.make_jaxpr(lambda p: jaxrnn.scan(cell, p, xs, method=method))
        found = equations(run(PARAMS).jaxpr)
        return sum(depth > 0 and e.primitive.name == "dot_general" for depth, e in found)

    assert forward(ALONE, XS) == 2
    assert forward(TAUGHT, Taught(XS, jnp.zeros((6, 4, 2)))) == 0


def test_what_is_not_taught_is_refused():
    for xs in (XS, Taught(XS, XS), Taught(XS, jnp.zeros((6, 2)))):
        with pytest.raises((ValueError, TypeError), match=r"Jordan"):
            jaxrnn.scan(TAUGHT, PARAMS, xs)
    with pytest.raises(ValueError, match=r"Jordan: decay is 1.0, expected a rate in \[0, 1\)"):
        jaxrnn.Jordan(4, features=2, decay=1.0)
