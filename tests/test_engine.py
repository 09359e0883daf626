"""The engine keeps its promises: products, temporaries and program sizes are counted, never timed."""

import re
import subprocess
import sys
import textwrap
from collections import Counter
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from helpers import assert_close
from jax.extend.core import ClosedJaxpr, Jaxpr

import jaxrnn
from jaxrnn import _plan, _products
from jaxrnn._sequence import Walk

CELLS = [jaxrnn.Elman(8), jaxrnn.LSTM(8), jaxrnn.GRU(8), jaxrnn.GRU(8, reset="before")]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=["elman", "lstm", "gru_after", "gru_before"])
each_engine = pytest.mark.parametrize("gradient", ["bptt", "checkpointed"])


def setup(cell: jaxrnn.Cell, time: int, batch: int = 4, features: int = 6, dtype: Any = jnp.float32) -> tuple[Any, jax.Array]:
    params = cell.init(jax.random.key(0), features, dtype)
    return params, jax.random.normal(jax.random.key(1), (time, batch, features), dtype)


def loss(cell: jaxrnn.Cell, params: Any, xs: jax.Array, gradient: Any = "bptt") -> jax.Array:
    carry, ys = jaxrnn.scan(cell, params, xs, gradient=gradient)
    return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))


def inner(equation: Any) -> list[Jaxpr]:
    """The jaxprs inside an equation."""
    found = []
    for value in jax.tree.leaves(equation.params, is_leaf=lambda v: isinstance(v, Jaxpr | ClosedJaxpr)):
        if isinstance(value, Jaxpr | ClosedJaxpr):
            found.append(value.jaxpr if isinstance(value, ClosedJaxpr) else value)
    return found


def products(jaxpr: Jaxpr, depth: int = 0) -> Counter[int]:
    """How many matrix products stand in how many nested loops."""
    counts: Counter[int] = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            counts[depth] += 1
        for sub in inner(equation):
            counts += products(sub, depth + (equation.primitive.name == "scan"))
    return counts


def size(jaxpr: Jaxpr) -> int:
    """How many equations a program has, those inside loops included."""
    return sum(1 + sum(size(sub) for sub in inner(equation)) for equation in jaxpr.eqns)


@each_cell
@pytest.mark.parametrize("kept", ["carries", "sums", "nothing"])
def test_a_step_of_the_loops_has_one_product_each_way(cell, kept):
    """Per step: the recurrent product, and one with the transposed weight; all others are of whole blocks."""
    params, xs = setup(cell, time=1024)
    gradient = "checkpointed" if kept == "nothing" else "bptt"
    jax.clear_caches()  # else a program that keeps something else could be found there
    with mock.patch.object(_plan, "_worth_keeping", return_value=kept):
        traced = jax.jit(jax.grad(lambda p, x: loss(cell, p, x, gradient), (0, 1))).trace(params, xs)
    recurrent = 2 if getattr(cell, "reset", None) == "before" else 1
    in_loop = recurrent * (3 if kept == "nothing" else 2)
    assert products(traced.jaxpr.jaxpr)[2] == in_loop
    # in a block: the projection, its two gradients, each weight's gradient; rebuilt: the projection, and with carries each product
    pointwise = getattr(cell, "reset", None) == "after"  # the candidate of this GRU uses its input outside affine, too
    projection_again = kept != "sums" or pointwise
    in_block = 3 + recurrent + projection_again + recurrent * (kept == "carries")
    compiled = traced.lower().compile().as_text()
    assert compiled is not None
    assert len(re.findall(r" = \S+ dot\(", compiled)) == in_loop + in_block


def test_what_is_kept():
    """Sums where they take no more memory than carries or save much work."""

    def kept(cell: Any, gradient: str = "bptt") -> str:
        params, xs = setup(cell, time=64)
        carry = cell.initial_carry(params, xs.shape[1:])
        return _plan.make_plan(cell, params, xs, carry, Walk().flags(), False, gradient == "checkpointed").kept

    assert kept(jaxrnn.Elman(8)) == "sums"
    assert (kept(jaxrnn.LSTM(8)), kept(jaxrnn.LSTM(256))) == ("carries", "sums")
    assert (kept(jaxrnn.GRU(8)), kept(jaxrnn.GRU(256))) == ("carries", "sums")
    assert kept(jaxrnn.LSTM(256), "checkpointed") == "nothing"


def test_blocks():
    """Tall enough, small enough for a cache, a small part of all time; about √T where carries are kept at borders alone."""
    assert _plan.block_size(time=128, rows=32, width=512, checkpointed=False) == 8
    assert _plan.block_size(time=512, rows=1, width=1024, checkpointed=False) == 64
    assert _plan.block_size(time=100_000, rows=32, width=4096, checkpointed=False) == 4
    assert _plan.block_size(time=16_384, rows=8, width=512, checkpointed=True) == 128
    assert _plan.block_size(time=3, rows=1, width=4, checkpointed=False) == 3
    assert _plan.block_size(time=1009, rows=0, width=0, checkpointed=False) > 0


@pytest.mark.parametrize("batch", [(), (1,), (2, 2)], ids=str)
def test_a_large_weight_comes_first(batch):
    """With few rows, `(wᵀ hᵀ)ᵀ` instead of `h w`; a batch of one has neither a copy of the weight."""
    cell = jaxrnn.LSTM(384)
    params = cell.init(jax.random.key(0), 5)
    assert params.w_h.size >= _products.LARGE_WEIGHT
    xs = jax.random.normal(jax.random.key(1), (6, *batch, 5))
    got, wanted = (
        jax.value_and_grad(lambda p, x, gradient=gradient: loss(cell, p, x, gradient), (0, 1))(params, xs)
        for gradient in ("bptt", "autodiff")
    )
    assert_close(got, wanted, 1e-5)


@each_cell
def test_what_nobody_asks_for_costs_no_product(cell):
    params, xs = setup(cell, time=1024)

    def in_loops(differentiated: Any) -> int:
        counts = products(jax.make_jaxpr(differentiated)(params, xs).jaxpr)
        return counts[1] + counts[2]

    everything = in_loops(jax.grad(lambda p, x: loss(cell, p, x), (0, 1)))
    recurrent = 2 if getattr(cell, "reset", None) == "before" else 1
    assert in_loops(jax.grad(lambda p, x: loss(cell, p, x))) == everything - 1
    assert in_loops(jax.grad(lambda p, x: loss(cell, p, x), 1)) == everything - 1 - recurrent
    frozen_w_h = in_loops(lambda p, x: jax.grad(lambda b: loss(cell, p._replace(b=b), x))(p.b))
    assert frozen_w_h == everything - 2 - recurrent


@each_cell
@each_engine
def test_temporaries_are_a_fraction_of_those_of_autodiff(cell, gradient):
    params, xs = setup(cell, time=1024)

    def temporaries(gradient: str) -> int:
        compiled = jax.jit(jax.grad(lambda p, x: loss(cell, p, x, gradient), (0, 1))).lower(params, xs).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    limit = {"bptt": 0.6 if isinstance(cell, jaxrnn.Elman) else 0.45, "checkpointed": 0.35}[gradient]
    assert temporaries(gradient) <= limit * temporaries("autodiff")


@each_engine
def test_the_program_does_not_grow_with_time(gradient):
    cell = jaxrnn.LSTM(8)

    def program(time: int) -> int:
        params, xs = setup(cell, time)
        return size(jax.make_jaxpr(jax.grad(lambda p, x: loss(cell, p, x, gradient)))(params, xs).jaxpr)

    assert program(2**11) == program(2**16)


@each_cell
@each_engine
def test_second_derivatives(x64, cell, gradient):
    params, xs = setup(cell, time=9, batch=2, features=3, dtype=jnp.float64)
    tangent = jax.tree.map(jnp.cos, params)

    def over(gradient: str) -> Any:
        grads = jax.grad(lambda p, x: loss(cell, p, x, gradient), (0, 1))

        def reverse_over_reverse(p: Any, x: Any) -> Any:
            return jax.grad(lambda p, x: sum(jnp.sum(jnp.cos(g)) for g in jax.tree.leaves(grads(p, x))), (0, 1))(p, x)

        def forward_over_reverse(p: Any, x: Any) -> Any:
            return jax.jvp(lambda p: grads(p, x), (p,), (tangent,))[1]

        return jax.jit(lambda p, x: (reverse_over_reverse(p, x), forward_over_reverse(p, x)))(params, xs)

    assert_close(over(gradient), over("autodiff"), 1e-12)


def test_forward_mode_is_autodiffs():
    cell = jaxrnn.GRU(8)
    params, xs = setup(cell, time=5)
    value, slope = jax.jvp(lambda x: loss(cell, params, x, "autodiff"), (xs,), (xs,))
    assert jnp.isfinite(value)
    assert jnp.isfinite(slope)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: loss(cell, params, x), (xs,), (xs,))


def test_an_unknown_gradient_is_refused():
    cell = jaxrnn.GRU(8)
    params, xs = setup(cell, time=5)
    with pytest.raises(ValueError, match=r"scan: gradient is 'rtrl', expected one of \['bptt', 'checkpointed', 'autodiff'\]"):
        loss(cell, params, xs, "rtrl")


SHARDED = """
    import re
    import jax, jax.numpy as jnp, jaxrnn
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

    jax.config.update("jax_enable_x64", True)
    cell = jaxrnn.Stack((jaxrnn.LSTM(6), jaxrnn.GRU(5)))
    params = cell.init(jax.random.key(0), 4, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (300, 16, 4), jnp.float64)
    lengths = 20 * jnp.arange(16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def collectives_in_loops(program):
        computation, found = "", []
        for line in program.splitlines():
            if re.match(r"(ENTRY )?%?[\\w.-]+ \\(.*{$", line):
                computation = line
            if re.search(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\\(", line):
                found.append(computation)
        assert found, "a sum over devices is expected"
        return [name for name in found if not name.startswith("ENTRY")]

    def check(name, compiled, arguments, want):
        got = compiled(*arguments)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert jnp.linalg.norm(a - b) <= 1e-12 * jnp.linalg.norm(b), name
        assert not collectives_in_loops(compiled.as_text()), name

    for gradient in ("bptt", "checkpointed"):
        def loss(params, xs, lengths):
            carry, ys = jaxrnn.scan(cell, params, xs, lengths=lengths, gradient=gradient)
            return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf ** 2) for leaf in jax.tree.leaves(carry))

        grads = jax.grad(loss, (0, 1))
        want = jax.jit(grads)(params, xs, lengths)
        specs = (P(), P(None, "data"), P("data"))
        places = tuple(NamedSharding(mesh, spec) for spec in specs)
        placed = jax.device_put((params, xs, lengths), places)
        check("jit", jax.jit(grads).lower(*placed).compile(), placed, want)
        with jax.set_mesh(mesh):
            compiled = jax.jit(grads, in_shardings=places).lower(params, xs, lengths).compile()
        check("jit in a mesh", compiled, placed, want)

        def summed(params, xs, lengths):
            dparams, dxs = grads(params, xs, lengths)
            return jax.lax.psum(dparams, "data"), dxs

        for check_vma, body in ((True, grads), (False, summed)):
            mapped = jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=specs[:2], check_vma=check_vma)
            check(f"shard_map {check_vma}", jax.jit(mapped).lower(params, xs, lengths).compile(), placed, want)
    print("agreed")
"""


def test_sharded_batches_agree_and_sum_over_devices_once():
    """In a process of its own, for it needs eight CPU devices."""
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", textwrap.dedent(SHARDED)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert re.search("agreed", result.stdout)
