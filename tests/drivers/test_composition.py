"""Several scans in one program: none changes the gradients of another, whatever each is asked for
and whatever stands around it.

Each program is compared with itself over `unroll`. `fuzz/programs.py` draws more of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxrnn
from tests.support.helpers import (
    DRIVERS,
    all_flags,
    assert_close,
    cotangents,
    initial_carry,
    make_params,
    make_xs,
    value_and_grads,
)
from tests.support.specs import every_program

TIME, BATCH = 3, 2
GRADIENTS = ("bptt", "checkpointed", "autodiff")
each_gradient = pytest.mark.parametrize("method", GRADIENTS)

Scan = Callable[..., tuple[Any, Any]]


def scan_by(method: Any) -> Scan:
    return jaxrnn.unroll if method == "unroll" else partial(jaxrnn.scan, method=method)


def total(*trees: Any) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(trees) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return sum((jnp.sum(jnp.sin(jnp.real(leaf))) for leaf in leaves), jnp.zeros(()))


@every_program
def test_scans_of_one_cell_do_not_change_each_other(spec, x64, strict):
    """Two scans, the inputs of one frozen, from the initial carry, which may depend on the
    parameters. Both give f, so the gradients of their product are 2 f times those of one scan by
    JAX's own derivative, and f times where the inputs of one are frozen.
    """
    params, xs = make_params(spec), make_xs(spec)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1), allow_int=True)
    def gradients(params: Any, xs: Any) -> Any:
        frozen = lax.stop_gradient(xs)
        return weighed(jaxrnn.scan(spec.cell, params, xs)) * weighed(
            jaxrnn.scan(spec.cell, params, frozen)
        )

    carry, pull_back = initial_carry(spec, params, xs)
    outputs, (of_params, of_xs, of_carry) = value_and_grads(
        DRIVERS["autodiff"], spec.cell, params, xs, carry, **all_flags()
    )
    f = float(weighed(jax.tree.map(np.asarray, outputs)))
    assert abs(f) > 0.01
    through_carry = zip(arrays(of_params), arrays(pull_back(of_carry)), strict=True)
    wanted = [2 * f * (a + b) for a, b in through_carry] + [f * leaf for leaf in arrays(of_xs)]
    found = arrays(gradients(params, xs))
    assert_close([leaf for leaf in found if leaf.dtype != jax.dtypes.float0], wanted, 1e-11)


def weighed(outputs: Any) -> Any:
    """The product with random cotangents."""
    outputs = jax.tree.leaves(outputs)
    pairs = zip(outputs, cotangents(outputs), strict=True)
    return sum((a * b).sum() for a, b in pairs if b is not None)


def arrays(tree: Any) -> list[np.ndarray]:
    """NumPy's leaves, for JAX would compile each product."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


CELL = jaxrnn.GRU(2)
"""A product, and a parameter and an input that are used pointwise."""


@pytest.fixture
def arguments(x64) -> tuple[Any, Any, Any]:
    """Parameters, inputs of the size of the outputs, a scale."""
    params = CELL.init(jax.random.key(0), CELL.out_features, jnp.float64)
    return (
        params,
        jax.random.normal(jax.random.key(1), (TIME, BATCH, 2), jnp.float64),
        jnp.asarray(1.3),
    )


def towers(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    """Siamese: one network reads both."""
    return jnp.sum(scan(CELL, params, xs * scale)[1] * scan(CELL, params, xs)[1])


def adversary(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    """The discriminator reads what the generator made, then what is real."""
    fake = scan(CELL, params, xs)[1]
    judge = jax.tree.map(lambda leaf: leaf * scale, lax.stop_gradient(params))
    return total(scan(CELL, judge, fake)[1]) - total(scan(CELL, judge, xs)[1])


def frozen_teacher(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    teacher = lax.stop_gradient(jax.tree.map(lambda leaf: leaf * 0.9, params))
    return jnp.sum((scan(CELL, params, xs * scale)[1] - scan(CELL, teacher, xs)[1]) ** 2)


def target_network(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    """A value is compared with the next one of a network that is held."""
    target = scan(CELL, lax.stop_gradient(params), xs)[1]
    return jnp.sum((scan(CELL, params, xs)[1][:-1] - scale * lax.stop_gradient(target[1:])) ** 2)


def gradient_of_gradient(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    inner = jax.grad(lambda params, scale: towers(scan, params, xs, scale), (0, 1))(params, scale)
    return total(inner, scan(CELL, params, xs))


def one_after_the_other(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    carry, first = scan(CELL, params, xs)
    carry, second = scan(CELL, params, first * scale, carry)
    return total(carry, scan(CELL, params, xs, lax.stop_gradient(carry)), second)


def learns_to_learn(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    """MAML: the loss after a step of gradient descent."""
    inner = jax.grad(lambda params: total(scan(CELL, params, xs)))(params)
    return total(
        scan(CELL, jax.tree.map(lambda p, g: p - 0.1 * scale * g, params, inner), xs * scale)
    )


def in_scan(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    def body(carry: Any, factor: Any) -> tuple[Any, Any]:
        carry, ys = scan(CELL, params, xs * factor, carry)
        return carry, total(ys)

    start = CELL.initial_carry(params, xs.shape[1:])
    carry, totals = lax.scan(body, start, scale * jnp.arange(1.0, 3.0))
    return total(carry, totals, scan(CELL, params, lax.stop_gradient(xs)))


def in_map(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    return total(
        lax.map(lambda factor: scan(CELL, params, xs * factor)[1], scale * jnp.arange(1.0, 3.0)),
        scan(CELL, params, xs),
    )


def in_cond(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    branches = (
        lambda: scan(CELL, params, xs * scale)[1],
        lambda: scan(CELL, lax.stop_gradient(params), xs)[1],
    )
    return total(lax.cond(scale > 1, *branches), lax.cond(scale > 2, *branches))


def in_while(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    """A loop without a derivative of its own, beside a scan that has one."""
    frozen, fixed = lax.stop_gradient((params, xs))

    def body(state: Any) -> Any:
        return state[0] + 1, scan(CELL, frozen, fixed + state[1])[1]

    found = lax.while_loop(lambda state: state[0] < 2, body, (0, fixed))[1]
    return total(scan(CELL, params, xs * scale)[1] * found)


def in_checkpoint(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    def layer(xs: Any) -> Any:
        return scan(CELL, params, xs)[1]

    return total(jax.checkpoint(layer)(xs * scale), layer(xs))


def one_mapped(scan: Scan, params: Any, xs: Any, scale: Any) -> Any:
    """A `vmap` of the inputs, one of the parameters, and neither."""
    factors = scale * jnp.arange(1.0, 3.0)
    several = jax.vmap(lambda factor: jax.tree.map(lambda leaf: leaf * factor, params))(factors)
    of_inputs = jax.vmap(lambda factor: scan(CELL, params, xs * factor)[1])(factors)
    of_params = jax.vmap(lambda params: scan(CELL, params, xs)[1])(several)
    return total(of_inputs, of_params, scan(CELL, params, xs))


PROGRAMS = [
    towers,
    adversary,
    frozen_teacher,
    target_network,
    gradient_of_gradient,
    one_after_the_other,
    learns_to_learn,
    in_scan,
    in_map,
    in_cond,
    in_while,
    in_checkpoint,
    one_mapped,
]


BY_BOTH = (towers, learns_to_learn, in_scan, one_mapped)
"""Those that both methods of the engine run."""


@pytest.mark.parametrize("program", PROGRAMS, ids=[program.__name__ for program in PROGRAMS])
def test_programs(program, arguments):
    """The whole gradient, and each part in turn, all in one program; the fuzzer draws such programs
    for every method.
    """
    methods = ("bptt", "checkpointed") if program in BY_BOTH else ("bptt",)

    def whole(loss: Any, arguments: Any) -> Any:
        (value, _), grads = jax.value_and_grad(lambda *a: (loss(*a), a), (0, 1, 2), has_aux=True)(
            *arguments
        )
        return value, grads

    @jax.jit
    def answers(*arguments: Any) -> Any:
        found = []
        for loss in (partial(program, scan_by(name)) for name in methods):
            turns = [jax.grad(loss, k)(*arguments) for k in (1, 0)]
            found.append((*whole(loss, arguments), turns))
        return whole(partial(program, jaxrnn.unroll), arguments), found

    (value, grads), found = answers(*arguments)
    for got in found:
        assert_close(got, (value, grads, [grads[1], grads[0]]), 1e-10)


@each_gradient
def test_gradients_taken_in_turn_eagerly(method, arguments):
    """Inputs, then parameters, then inputs again: what was traced for one question does not answer
    another.
    """
    want = [jax.grad(partial(towers, jaxrnn.unroll), k)(*arguments) for k in range(3)]
    for k in (1, 0, 1, 2, 0):
        assert_close(jax.grad(partial(towers, scan_by(method)), k)(*arguments), want[k], 1e-11)
    assert np.any(want[2])
