"""Programs over a batch that is split over eight CPU devices: `python -m tests.drivers.sharded`
runs all of them in one process of their own, and prints what was raised by each.
"""

import gc
import json
import os
import re
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    )
    gc.set_threshold(700_000)  # as in conftest.py

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxrnn
from jaxrnn.methods import BPTT, Checkpointed
from jaxrnn.methods.bptt.plan import MOST_NUMBERS_POINTWISE
from tests.support.user_cells import Attending

CELL = jaxrnn.GRU(5)  # a product, and a parameter that is used pointwise
LAYERS = jaxrnn.Stack((jaxrnn.LSTM(6), CELL))
BY_DATA = (P(), P(None, "data"), P("data"))


@cache
def arguments(cell: jaxrnn.Cell = CELL) -> tuple[Any, jax.Array, jax.Array]:
    """Parameters, inputs `[300, 16, 4]`, lengths."""
    params = cell.init(jax.random.key(0), 4, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (300, 16, 4), jnp.float64)
    return params, xs, 20 * jnp.arange(16)


def gradients(method: Any, cell: jaxrnn.Cell = CELL) -> Callable[..., Any]:
    def loss(params: Any, xs: Any, lengths: Any) -> Any:
        carry, ys = jaxrnn.scan(cell, params, xs, lengths=lengths, method=method)
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))

    return jax.grad(loss, (0, 1))


@cache
def wanted(cell: jaxrnn.Cell = CELL) -> Any:
    """The gradients of one device, by JAX's own derivative."""
    return jax.jit(gradients("autodiff", cell))(*arguments(cell))


def place(tree: Any, mesh: Any, specs: Any) -> Any:
    return jax.device_put(tree, tuple(NamedSharding(mesh, spec) for spec in specs))


def agree(name: str, got: Any, want: Any) -> None:
    """By NumPy, for JAX would compile each norm."""
    pairs = zip(*(map(jax.device_get, jax.tree.leaves(tree)) for tree in (got, want)), strict=True)
    for a, b in pairs:
        assert np.linalg.norm(a - b) <= 1e-12 * np.linalg.norm(b), name


def collectives_in_loops(program: str) -> list[str]:
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    computation, found = "", []
    for line in program.splitlines():
        if re.match(r"(ENTRY )?%?[\w.-]+ \(.*{$", line):
            computation = line
        if re.search(rf"({kinds})(-start)?\(", line):
            found.append(computation)
    assert found, "a sum over devices is expected"
    return [name for name in found if not name.startswith("ENTRY")]


def check(name: str, compiled: Any, given: Any, want: Any) -> None:
    agree(name, compiled(*given), want)
    assert not collectives_in_loops(compiled.as_text()), name


def run(mesh: Any, specs: Any, grads: Any, given: Any, want: Any) -> None:
    """In `jax.jit`."""
    placed = place(given, mesh, specs)
    check("jit", jax.jit(grads).lower(*placed).compile(), placed, want)


def run_in_mesh(mesh: Any, specs: Any, grads: Any, given: Any, want: Any) -> None:
    """Eagerly, and in `jax.jit`, where the mesh is set."""
    placed = place(given, mesh, specs)
    with jax.set_mesh(mesh):
        agree("eagerly in a mesh", grads(*placed), want)
        places = tuple(NamedSharding(mesh, spec) for spec in specs)
        compiled = jax.jit(grads, in_shardings=places).lower(*placed).compile()
    check("jit in a mesh", compiled, placed, want)


def auto() -> None:
    """Axes of the compiler, named by the user, and `jax.shard_map`."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    given = arguments()
    for method in (BPTT(batch_axes="data"), Checkpointed(batch_axes="data")):
        grads = gradients(method)
        run(mesh, BY_DATA, grads, given, wanted())
        if isinstance(method, BPTT):
            run_in_mesh(mesh, BY_DATA, grads, given, wanted())

        def summed(*given: Any, grads: Any = grads) -> Any:
            dparams, dxs = grads(*given)
            return jax.lax.psum(dparams, "data"), dxs

        for check_vma, body in ((True, grads), (False, summed)):
            specs: Any = {"in_specs": BY_DATA, "out_specs": BY_DATA[:2]}
            mapped = jax.jit(jax.shard_map(body, mesh=mesh, check_vma=check_vma, **specs))
            compiled = mapped.lower(*given).compile()
            check(f"shard_map {check_vma}", compiled, place(given, mesh, BY_DATA), wanted())


def explicit() -> None:
    """Axes that the arrays' types tell of."""
    mesh, given = jax.make_mesh((8,), ("data",)), arguments()
    for method in ("checkpointed", "autodiff"):
        run(mesh, BY_DATA, gradients(method), given, wanted())
    given, grads = arguments(LAYERS), gradients("bptt", LAYERS)
    run(mesh, BY_DATA, grads, given, wanted(LAYERS))
    run_in_mesh(mesh, BY_DATA, grads, given, wanted(LAYERS))

    params, xs, _ = given
    want = jaxrnn.trajectory(LAYERS, params, xs)
    placed = place((params, xs), mesh, BY_DATA[:2])
    states, ys = jaxrnn.trajectory(LAYERS, *placed)
    agree("trajectory", (states, ys), want)
    assert jax.typeof(ys).sharding.spec == P(None, "data", None), jax.typeof(ys)
    carry, last = (jax.tree.map(lambda leaf: leaf[-1], of) for of in (states, want[0]))
    assert jax.typeof(carry[0].h).sharding.spec == P("data", None), jax.typeof(carry[0].h)
    _, y = jaxrnn.step(LAYERS, placed[0], carry, placed[1][0])
    assert jax.typeof(y).sharding.spec == P("data", None), jax.typeof(y)
    agree("step", y, jaxrnn.step(LAYERS, params, last, xs[0])[1])

    noisy, key = jaxrnn.Zoneout(Attending(4), h=0.5), jax.random.key(2)
    params, xs = noisy.init(key, 3, jnp.float64), xs[..., :3]
    context = jax.random.normal(key, (xs.shape[1], 5, 3)), jnp.ones((xs.shape[1], 5), bool)
    carry = noisy.initial_carry(params, xs.shape[1:])
    at = place((params, xs, carry, context), mesh, (P(), P(None, "data"), P("data"), P("data")))
    want = jaxrnn.step(noisy, params, carry, xs[0], key=key, context=context)
    got = jaxrnn.step(noisy, at[0], at[2], at[1][0], key=key, context=at[3])
    agree("step with key and context", got, want)
    want = jaxrnn.scan(noisy, params, xs, key=key, context=context)
    agree("scan with key and context", jaxrnn.scan(noisy, *at[:2], key=key, context=at[3]), want)


def pictures() -> None:
    """A convolution is split as any product: no device sees the pictures of another."""
    cell = jaxrnn.ConvGRU(2, 3)
    params, key = cell.init(jax.random.key(0), 1, jnp.float64), jax.random.key(1)
    given = params, jax.random.normal(key, (3, 8, 4, 4, 1), jnp.float64), jnp.arange(8) // 2
    grads = gradients("bptt", cell)
    run(jax.make_mesh((8,), ("data",)), BY_DATA, grads, given, jax.jit(grads)(*given))


def told_by_jit_alone() -> None:
    """The split is invisible when the program is traced. A GPU's plan gathers nothing for all that;
    the sum over devices its compiler takes out of the loop, which a CPU's does not.
    """
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    given, grads = arguments(), gradients(BPTT(platform="gpu"))
    places = tuple(NamedSharding(mesh, spec) for spec in BY_DATA)
    compiled = jax.jit(grads, in_shardings=places).lower(*given).compile()
    placed = place(given, mesh, BY_DATA)
    agree("in_shardings", compiled(*placed), wanted())
    assert not re.search("all-gather|all-to-all|collective-permute", compiled.as_text() or "")


def two_axes() -> None:
    """An axis that does not split the batch, and two batch axes, both split."""
    mesh, given = jax.make_mesh((4, 2), ("data", "model")), arguments()
    grads = gradients("bptt")
    run(mesh, BY_DATA, grads, given, wanted())
    placed = place(given, mesh, BY_DATA)
    alone = place(given, jax.make_mesh((4,), ("data",)), BY_DATA)
    sizes = [temporaries(jax.jit(grads).lower(*where).compile()) for where in (placed, alone)]
    assert sizes[0] <= 1.05 * sizes[1], sizes

    # The compiler's axes: without a name, the numbers of one device; with one, of a mesh without
    # the other axis.
    kinds = (AxisType.Auto, AxisType.Auto)
    placed = place(given, jax.make_mesh((4, 2), ("data", "model"), axis_types=kinds), BY_DATA)
    agree("unnamed", jax.jit(grads)(*placed), wanted())
    named = jax.jit(gradients(BPTT(batch_axes="data"))).lower(*placed).compile()
    check("named", named, placed, wanted())
    assert temporaries(named) <= 1.05 * sizes[1], sizes
    told = "batch_axes names ['rows'], but the axes of the mesh in use are ['data', 'model']"
    with pytest.raises(ValueError, match=re.escape(told)):
        jax.jit(gradients(BPTT(batch_axes="rows")))(*placed)

    def summed(*given: Any) -> Any:
        return jax.lax.psum(grads(*given)[0], "data")

    auto = jax.make_mesh((4, 2), ("data", "model"), axis_types=kinds)
    specs: Any = {"in_specs": BY_DATA, "out_specs": P()}
    for body in (summed, lambda *given: grads(*given)[0]):
        mapped = jax.shard_map(
            body, mesh=auto, axis_names={"data"}, check_vma=body is not summed, **specs
        )
        agree("shard_map over one of two axes", jax.jit(mapped)(*placed), wanted()[0])

    params, xs, lengths = given
    square = params, xs.reshape(300, 4, 4, 4), lengths.reshape(4, 4)
    specs = (P(), P(None, "model", "data"), P("model", "data"))
    of_params, of_xs = wanted()
    run(mesh, specs, grads, square, (of_params, of_xs.reshape(square[1].shape)))


def temporaries(compiled: Any) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


def draws() -> None:
    """The numbers drawn for a sequence do not depend on where it is."""
    cell = jaxrnn.Zoneout(jaxrnn.RecurrentDropout(jaxrnn.LSTM(5), 0.3), h=0.3)
    params = cell.init(jax.random.key(0), 3)
    xs = jax.random.normal(jax.random.key(1), (6, 8, 3))

    def loss(params: Any, xs: Any) -> Any:
        return jnp.sum(jnp.sin(jaxrnn.scan(cell, params, xs, key=jax.random.key(2))[1]))

    grads = jax.jit(jax.grad(loss, (0, 1)))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        got = grads(params, jax.device_put(xs, NamedSharding(mesh, P(None, "data"))))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(grads(params, xs)), strict=True):
        np.testing.assert_allclose(jax.device_get(a), jax.device_get(b), rtol=1e-5, atol=1e-5)


def silent_outputs() -> None:
    """Losses that leave outputs out, in `jax.shard_map`: of the last carry alone, of an attention
    whose keys are large on each device; and of one part of all states.
    """
    cell = jaxrnn.Attention(jaxrnn.GRU(4), "additive", memory=3)
    params, keys = cell.init(jax.random.key(0), 3, jnp.float64), jax.random.split(jax.random.key(1))
    xs = jax.random.normal(keys[0], (6, 16, 3), jnp.float64)
    values = jax.random.normal(keys[1], (16, MOST_NUMBERS_POINTWISE // 32 + 1, 3), jnp.float64)

    def loss(params: Any, xs: Any, values: Any) -> Any:
        carry, _ = jaxrnn.scan(cell, params, xs, context=jaxrnn.Memory(values))
        return jnp.sum(jnp.sin(carry))

    grads, mesh = jax.grad(loss, (0, 1, 2)), jax.make_mesh((2,), ("data",))
    specs: Any = {"in_specs": BY_DATA, "out_specs": BY_DATA}
    given = params, xs, values
    mapped = jax.jit(jax.shard_map(grads, mesh=mesh, **specs))
    agree("last state", mapped(*place(given, mesh, BY_DATA)), jax.jit(grads)(*given))

    params = LAYERS.init(jax.random.key(0), 3, jnp.float64)

    def of_states(params: Any, xs: Any) -> Any:
        return jnp.sum(jnp.sin(jaxrnn.trajectory(LAYERS, params, xs)[0][0].h))

    grads, given = jax.grad(of_states, (0, 1)), (params, xs)
    specs = {"in_specs": BY_DATA[:2], "out_specs": BY_DATA[:2]}
    mapped = jax.jit(jax.shard_map(grads, mesh=mesh, **specs))
    agree("states", mapped(*place(given, mesh, BY_DATA[:2])), jax.jit(grads)(*given))


PROGRAMS = {
    program.__name__: program
    for program in (auto, explicit, pictures, told_by_jit_alone, two_axes, silent_outputs, draws)
}


def main() -> None:
    raised = {}
    for name, program in PROGRAMS.items():
        jax.config.update("jax_enable_x64", program is not draws)
        try:
            program()
        except Exception:
            raised[name] = traceback.format_exc()
    print(json.dumps(raised))


if __name__ == "__main__":
    main()
