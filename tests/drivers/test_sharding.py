"""A batch that is split over devices: the numbers of one device, and no collective within a loop
over time.

In processes of their own, for they need eight CPU devices.
"""

import os
import subprocess
import sys
import textwrap

import pytest

COMMON = """
    import re, sys
    import jax, jax.numpy as jnp, jaxrnn
    from jaxrnn import methods
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

    jax.config.update("jax_enable_x64", True)
    cell = jaxrnn.Stack((jaxrnn.LSTM(6), jaxrnn.GRU(5)))
    params = cell.init(jax.random.key(0), 4, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (300, 16, 4), jnp.float64)
    lengths = 20 * jnp.arange(16)

    def collectives_in_loops(program):
        computation, found = "", []
        for line in program.splitlines():
            if re.match(r"(ENTRY )?%?[\\w.-]+ \\(.*{$", line):
                computation = line
            if re.search(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\\(", line):
                found.append(computation)
        assert found, "a sum over devices is expected"
        return [name for name in found if not name.startswith("ENTRY")]

    def agree(name, got, want):
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert jnp.linalg.norm(jax.device_get(a) - b) <= 1e-12 * jnp.linalg.norm(b), name

    def check(name, compiled, arguments, want):
        agree(name, compiled(*arguments), want)
        assert not collectives_in_loops(compiled.as_text()), name

    def gradients(method):
        def loss(params, xs, lengths):
            carry, ys = jaxrnn.scan(cell, params, xs, lengths=lengths, method=method)
            return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf ** 2) for leaf in jax.tree.leaves(carry))
        return jax.grad(loss, (0, 1))

    def run(mesh, specs, grads, want):
        places = tuple(NamedSharding(mesh, spec) for spec in specs)
        placed = jax.device_put((params, xs, lengths), places)
        check("jit", jax.jit(grads).lower(*placed).compile(), placed, want)
        with jax.set_mesh(mesh):
            agree("eagerly in a mesh", grads(*placed), want)
            compiled = jax.jit(grads, in_shardings=places).lower(*placed).compile()
        check("jit in a mesh", compiled, placed, want)
"""

AUTO = """
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    specs = (P(), P(None, "data"), P("data"))
    for method in (methods.BPTT(batch_axes="data"), methods.Checkpointed(batch_axes="data")):
        grads = gradients(method)
        want = jax.jit(grads)(params, xs, lengths)
        run(mesh, specs, grads, want)

        def summed(params, xs, lengths):
            dparams, dxs = grads(params, xs, lengths)
            return jax.lax.psum(dparams, "data"), dxs

        for check_vma, body in ((True, grads), (False, summed)):
            mapped = jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=specs[:2], check_vma=check_vma)
            places = tuple(NamedSharding(mesh, spec) for spec in specs)
            placed = jax.device_put((params, xs, lengths), places)
            check(f"shard_map {check_vma}", jax.jit(mapped).lower(params, xs, lengths).compile(), placed, want)
"""

EXPLICIT = """
    mesh = jax.make_mesh((8,), ("data",))
    specs = (P(), P(None, "data"), P("data"))
    for method in ("bptt", "checkpointed", "autodiff"):
        grads = gradients(method)
        run(mesh, specs, grads, jax.jit(grads)(params, xs, lengths))

    placed = jax.device_put((params, xs), tuple(NamedSharding(mesh, spec) for spec in specs[:2]))
    states, ys = jaxrnn.trajectory(cell, *placed)
    agree("trajectory", (states, ys), jaxrnn.trajectory(cell, params, xs))
    assert jax.typeof(ys).sharding.spec == P(None, "data", None), jax.typeof(ys)
    carry = jax.tree.map(lambda leaf: leaf[-1], states)
    assert jax.typeof(carry[0].h).sharding.spec == P("data", None), jax.typeof(carry[0].h)
    carry, y = jaxrnn.step(cell, placed[0], carry, placed[1][0])
    assert jax.typeof(y).sharding.spec == P("data", None), jax.typeof(y)
    agree("step", y, jaxrnn.step(cell, params, jax.tree.map(lambda leaf: leaf[-1], jaxrnn.trajectory(cell, params, xs)[0]), xs[0])[1])
"""

# Axes that do not split the batch, and two batch axes, both split.
TWO_AXES = """
    mesh = jax.make_mesh((4, 2), ("data", "model"))
    specs = (P(), P(None, "data"), P("data"))
    grads = gradients("bptt")
    want = jax.jit(grads)(params, xs, lengths)
    run(mesh, specs, grads, want)
    places = tuple(NamedSharding(mesh, spec) for spec in specs)
    placed = jax.device_put((params, xs, lengths), places)
    smaller = jax.make_mesh((4,), ("data",))
    alone = jax.device_put((params, xs, lengths), tuple(NamedSharding(smaller, spec) for spec in specs))
    sizes = [jax.jit(grads).lower(*given).compile().memory_analysis().temp_size_in_bytes for given in (placed, alone)]
    assert sizes[0] <= 1.05 * sizes[1], sizes

    # the compiler's axes: without a name, the numbers of one device; with one, of a mesh without the other axis
    auto = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    placed = jax.device_put((params, xs, lengths), tuple(NamedSharding(auto, spec) for spec in specs))
    agree("unnamed", jax.jit(grads)(*placed), want)
    named = jax.jit(gradients(methods.BPTT(batch_axes="data"))).lower(*placed).compile()
    check("named", named, placed, want)
    assert named.memory_analysis().temp_size_in_bytes <= 1.05 * sizes[1], sizes
    try:
        jax.jit(gradients(methods.BPTT(batch_axes="rows")))(*placed)
    except ValueError as error:
        assert "batch_axes names ['rows'], but the axes of the mesh in use are ['data', 'model']" in str(error)
    else:
        raise AssertionError("no axis has that name")

    xs, lengths = xs.reshape(300, 4, 4, 4), lengths.reshape(4, 4)
    run(mesh, (P(), P(None, "model", "data"), P("model", "data")), grads, jax.jit(grads)(params, xs, lengths))
"""


@pytest.mark.parametrize(
    "program", [AUTO, EXPLICIT, TWO_AXES], ids=["auto", "explicit", "two_axes"]
)
def test_sharded_batches_agree_and_sum_over_devices_once(program):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", textwrap.dedent(COMMON) + textwrap.dedent(program)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
