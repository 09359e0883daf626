"""The engine's promises: products, temporaries and program sizes are counted, never timed."""

import re
from collections import Counter
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Jaxpr

import jaxrnn
from jaxrnn.core.walk import Walk
from jaxrnn.methods import BPTT, Checkpointed, Unrolled
from jaxrnn.methods.bptt import plan
from jaxrnn.methods.bptt.platforms import CPU
from tests.support.helpers import assert_close, make_flags
from tests.support.jaxprs import equations
from tests.support.user_cells import Decaying, Timed

CELLS = [jaxrnn.Elman(8), jaxrnn.LSTM(8), jaxrnn.GRU(8), jaxrnn.GRU(8, reset_gate="before")]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=["elman", "lstm", "gru_after", "gru_before"])
each_engine = pytest.mark.parametrize("method", ["bptt", "checkpointed"])


def setup(
    cell: jaxrnn.Cell, time: int, batch: int = 4, features: int = 6, dtype: Any = jnp.float32
) -> tuple[Any, jax.Array]:
    params = cell.init(jax.random.key(0), features, dtype)
    return params, jax.random.normal(jax.random.key(1), (time, batch, features), dtype)


def loss(cell: jaxrnn.Cell, params: Any, xs: jax.Array, method: Any = "bptt") -> jax.Array:
    carry, ys = jaxrnn.scan(cell, params, xs, method=method)
    return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))


def products(jaxpr: Jaxpr) -> Counter[int]:
    """How many matrix products stand in how many nested loops."""
    return Counter(depth for depth, e in equations(jaxpr) if e.primitive.name == "dot_general")


def size(jaxpr: Jaxpr) -> int:
    """How many equations a program has, those inside loops included."""
    return sum(1 for _ in equations(jaxpr))


@each_cell
@pytest.mark.parametrize("kept", ["carries", "preactivations", "nothing"])
def test_a_step_of_the_loops_has_one_product_each_way(cell, kept):
    """Per step: the recurrent product, and one with the transposed weight; all others are of whole
    blocks.
    """
    params, xs = setup(cell, time=1024)
    method = Checkpointed() if kept == "nothing" else BPTT(64, keep=kept)
    traced = jax.jit(jax.grad(lambda p, x: loss(cell, p, x, method), (0, 1))).trace(params, xs)
    recurrent = 2 if getattr(cell, "reset_gate", None) == "before" else 1
    in_loop = recurrent * (3 if kept == "nothing" else 2)
    assert products(traced.jaxpr.jaxpr)[2] == in_loop
    # in a block: the projection, its two gradients, each weight's gradient; rebuilt: the
    # projection, and with carries each product. Pre-activations save both, also for the candidate
    # of a GRU, which uses its projected input outside affine: that is kept, too
    projection_again = kept != "preactivations"
    in_block = 3 + recurrent + projection_again + recurrent * (kept == "carries")
    compiled = traced.lower().compile().as_text()
    assert compiled is not None
    assert len(re.findall(r" = \S+ dot\(", compiled)) == in_loop + in_block


NARROW = {
    "lstm": (jaxrnn.LSTM(2), lambda steps: normal(*steps, 9)),
    "pytrees": (Decaying(2), lambda steps: Timed(normal(*steps, 4), jnp.abs(normal(*steps)))),
}
"""Cells and inputs that are projected at once."""


def normal(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), shape, jnp.float64)


@pytest.mark.parametrize(("cell", "inputs"), NARROW.values(), ids=list(NARROW))
def test_gradients_of_projections_made_at_once(x64, cell, inputs):
    """In one block, which keeps everything, and in two and a rest, with all flags."""
    xs, flags = inputs((7, 2)), make_flags((7, 2))
    first = jax.tree.leaves(xs)[0]
    params = cell.init(jax.random.key(0), first.shape[-1], jnp.float64)
    carry = cell.initial_carry(params, first.shape[1:])
    made = plan.make_plan(cell, params, xs, carry, Walk().flags(), Walk(), CPU())
    assert made.projects_at_once
    assert made.keep == "all"

    def over(method: Any) -> Any:
        def loss(params: Any, xs: Any) -> jax.Array:
            carry, ys = jaxrnn.scan(cell, params, xs, method=method, reverse=True, **flags)
            return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, xs)

    wanted = over(Unrolled())
    for method in (BPTT(platform="cpu"), BPTT(3, platform="cpu")):
        assert_close(over(method), wanted, 1e-12)


@pytest.mark.parametrize("batch", [1, 2])
def test_an_output_that_is_the_state_is_stacked_once(batch):
    cell = jaxrnn.Elman(3)
    params, xs = setup(cell, time=8, batch=batch)
    run = jax.make_jaxpr(lambda params: jaxrnn.trajectory(cell, params, xs, method=BPTT(4)))
    loops = [e for _, e in equations(run(params).jaxpr) if e.primitive.name == "scan"]
    stacked = [len(loop.outvars) - 1 for loop in loops]  # one output is the carry
    assert sorted(stacked) == [1, 2]  # over steps; over blocks, with the carry before each


class Oscillator(jaxrnn.Elman):
    """Has no use for an input."""

    def project(self, params: Any, xs: Any) -> Any:
        return None

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        h = jnp.tanh(affine(None, carry + 1, params.w_h))
        return h, h


def test_a_step_without_inputs():
    """There is nothing to cut into blocks, so JAX's own derivative is used."""
    cell = Oscillator(3)
    params, xs = setup(cell, time=4)
    with pytest.warns(UserWarning, match="gets no array from project"):
        got = jax.grad(lambda p: loss(cell, p, xs))(params)
    assert_close(got, jax.grad(lambda p: loss(cell, p, xs, "autodiff"))(params), 1e-6)


@pytest.mark.parametrize("hidden", [3, 384], ids=["small", "large"])
def test_a_batch_without_rows(hidden):
    """Its gradients are zero, and its tangents have no rows."""
    cell = jaxrnn.LSTM(hidden)
    params, xs = setup(cell, time=2, batch=0, features=2)

    @jax.jit
    def derivatives(params: Any, xs: jax.Array) -> Any:
        def run(xs: jax.Array) -> jax.Array:
            return jaxrnn.scan(cell, params, xs)[1]

        return jax.grad(partial(loss, cell))(params, xs), jax.jvp(run, (xs,), (xs,))[1]

    gradients, tangent = derivatives(params, xs)
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients))
    assert tangent.shape == (2, 0, hidden)


def compiled_products(differentiated: Any, *arguments: Any) -> int:
    """How many matrix products the compiler leaves."""
    compiled = jax.jit(differentiated).lower(*arguments).compile().as_text()
    assert compiled is not None
    return len(re.findall(r" = \S+ dot\(", compiled))


@each_cell
@each_engine
def test_what_nobody_asks_for_costs_no_product(cell, method):
    """A gradient that is not asked for is not computed, or removed by XLA."""
    params, xs = setup(cell, time=1024)

    def count(differentiated: Any) -> int:
        return compiled_products(differentiated, params, xs)

    everything = count(jax.grad(lambda p, x: loss(cell, p, x, method), (0, 1)))
    recurrent = 2 if getattr(cell, "reset_gate", None) == "before" else 1
    assert count(jax.grad(lambda p, x: loss(cell, p, x, method))) == everything - 1
    assert count(jax.grad(lambda p, x: loss(cell, p, x, method), 1)) == everything - 1 - recurrent
    frozen_w_h = count(lambda p, x: jax.grad(lambda b: loss(cell, p._replace(b=b), x, method))(p.b))
    assert frozen_w_h == everything - 2 - recurrent


@each_engine
def test_an_eager_gradient_is_traced_once(method):
    """Later calls, and those of an equal cell, find the program, and trace and compile nothing."""

    class Counting(jaxrnn.Elman):
        traced = 0

        def step(self, *args: Any, **kwargs: Any) -> Any:
            Counting.traced += 1
            return super().step(*args, **kwargs)

    params, xs = setup(Counting(3), time=4)
    for argument in (0, 1):
        differentiated = [
            jax.grad(lambda p, x: loss(Counting(3), p, x, method), argument) for _ in range(2)
        ]
        differentiated[0](params, xs)
        before = Counting.traced
        assert before
        differentiated[1](params, xs)
        assert Counting.traced == before


@each_cell
@each_engine
def test_temporaries_are_a_fraction_of_those_of_autodiff(cell, method):
    params, xs = setup(cell, time=2**14)

    def temporaries(method: str) -> int:
        compiled = (
            jax.jit(jax.grad(lambda p, x: loss(cell, p, x, method), (0, 1)))
            .lower(params, xs)
            .compile()
        )
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    limit = {"bptt": 0.6 if isinstance(cell, jaxrnn.Elman) else 0.45, "checkpointed": 0.35}[method]
    assert temporaries(method) <= limit * temporaries("autodiff")


@each_engine
def test_the_program_does_not_grow_with_time(method):
    cell = jaxrnn.LSTM(8)

    def program(time: int) -> int:
        params, xs = setup(cell, time)
        return size(
            jax.make_jaxpr(jax.grad(lambda p, x: loss(cell, p, x, method)))(params, xs).jaxpr
        )

    assert program(2**13) == program(2**16)


@each_cell
def test_second_derivatives(x64, cell):
    params, xs = setup(cell, time=8, batch=2, features=3, dtype=jnp.float64)
    tangent = jax.tree.map(jnp.cos, params)

    def over(method: str) -> Any:
        grads = jax.grad(lambda p, x: loss(cell, p, x, method), (0, 1))

        def reverse_over_reverse(p: Any, x: Any) -> Any:
            return jax.grad(
                lambda p, x: sum(jnp.sum(jnp.cos(g)) for g in jax.tree.leaves(grads(p, x))), (0, 1)
            )(p, x)

        def forward_over_reverse(p: Any, x: Any) -> Any:
            return jax.jvp(lambda p: grads(p, x), (p,), (tangent,))[1]

        return jax.jit(lambda p, x: (reverse_over_reverse(p, x), forward_over_reverse(p, x)))(
            params, xs
        )

    wanted = over("autodiff")
    for method in ("bptt", "checkpointed"):
        assert_close(over(method), wanted, 1e-12)


class Driven(jaxrnn.Elman):
    """Multiplies its input inside the step, too: an operand that the carry does not reach."""

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        carry, _ = super().step(params, carry, u, affine)
        h = carry * jnp.cos(affine(None, u[0], params.w_h))
        return h, h


def test_second_derivatives_by_what_the_first_left_out(x64):
    """The first by the carry alone, the second by the weight."""
    cell = Driven(3)
    params, xs = setup(cell, time=4, batch=2, features=3, dtype=jnp.float64)
    carry = jnp.ones_like(cell.initial_carry(params, xs.shape[1:]))

    def mixed(method: Any) -> Any:
        def by_carry(params: Any) -> jax.Array:
            return jax.grad(
                lambda c: jnp.sum(jnp.sin(jaxrnn.scan(cell, params, xs, c, method=method)[1]))
            )(carry)

        return jax.jit(jax.grad(lambda p: jnp.sum(jnp.cos(by_carry(p)))))(params)

    assert_close(mixed("bptt"), mixed("autodiff"), 1e-12)


@each_cell
def test_forward_mode(x64, cell):
    """Before and after `jit`, and of a program that is mapped."""
    params, xs = setup(cell, time=5, batch=2, features=3, dtype=jnp.float64)
    tangents = jax.tree.map(jnp.cos, (params, xs))

    def by(method: str) -> Any:
        def both(params: Any, xs: jax.Array) -> Any:
            mapped = jax.vmap(lambda x: loss(cell, params, x, method), in_axes=1)
            return loss(cell, params, xs, method), mapped(xs)

        return both

    def tangents_of(function: Any) -> Any:
        return jax.jvp(function, (params, xs), tangents)

    wanted = tangents_of(jax.jit(by("autodiff")))
    for method in ("bptt", "checkpointed"):
        assert_close(tangents_of(by(method)), wanted, 1e-12)
        assert_close(tangents_of(jax.jit(by(method))), wanted, 1e-12)


def shapes(jaxpr: Jaxpr) -> set[tuple[int, ...]]:
    """Of all that a program computes."""
    return {getattr(v.aval, "shape", ()) for _, e in equations(jaxpr) for v in e.outvars}


@each_cell
@each_engine
def test_rows_that_are_mapped_share_one_weight_gradient(cell, method):
    params, xs = setup(cell, time=3, batch=5)

    def mapped(params: Any, xs: jax.Array) -> jax.Array:
        return jnp.sum(jax.vmap(lambda x: loss(cell, params, x, method), in_axes=1)(xs))

    def by_row(params: Any, xs: jax.Array) -> Any:
        one = jax.grad(lambda p, x: loss(cell, p, x, method))
        return jax.vmap(one, in_axes=(None, 1))(params, xs)

    together = jax.make_jaxpr(jax.grad(mapped))(params, xs).jaxpr
    apart = jax.make_jaxpr(by_row)(params, xs).jaxpr
    for w in (params.w_x, params.w_h):
        assert (5, *w.shape) in shapes(apart)
        assert (5, *w.shape) not in shapes(together)


def test_an_unknown_method_is_refused():
    cell = jaxrnn.GRU(8)
    params, xs = setup(cell, time=5)
    with pytest.raises(
        ValueError,
        match=r"scan: method is 'rtrl', expected one of \['bptt', 'checkpointed', 'autodiff'\]",
    ):
        loss(cell, params, xs, "rtrl")
