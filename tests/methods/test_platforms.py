"""Plans for platforms that are not here: their numbers, on a CPU, and which one a program holds."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export

import jaxrnn
from jaxrnn.methods import BPTT, Checkpointed
from jaxrnn.methods.bptt.platforms import GPU
from tests.support.helpers import assert_close, make_flags, make_params, make_xs
from tests.support.specs import Spec, some


def loss(cell: jaxrnn.Cell, method: Any, params: Any, xs: Any, flags: Any) -> jax.Array:
    carry, ys = jaxrnn.scan(cell, params, xs, method=method, **flags)
    return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))


@some("elman_tanh")
def test_gradients(spec: Spec, x64: None) -> None:
    """In two blocks of eleven steps: a turn of eight, and a rest of three."""
    assert GPU.unroll == 8
    check_gradients(spec, BPTT(11, platform="gpu"), time=22)


@some("lstm_all", "gru_before", "conv_lstm", "stack_with_both")
def test_gradients_in_short_turns(spec: Spec, x64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two blocks of three steps: a turn of two, and a rest of one, which compile sooner."""
    monkeypatch.setattr(GPU, "unroll", 2)
    check_gradients(spec, BPTT(3, platform="gpu"), time=6)


@some("lstm_all", "stack_with_both")
def test_gradients_of_a_program_for_any_platform(spec: Spec, x64: None) -> None:
    check_gradients(spec, BPTT(platform="any"), time=6)


def check_gradients(spec: Spec, method: BPTT, time: int) -> None:
    """Those of JAX's own derivative, with all flags."""
    params, xs, flags = make_params(spec), make_xs(spec, (time, 2)), make_flags((time, 2))
    got, wanted = (
        jax.jit(jax.value_and_grad(partial(loss, spec.cell, m)))(params, xs, flags)
        for m in (method, "autodiff")
    )
    assert_close(got, wanted, 1e-10)


@pytest.mark.parametrize("method", [BPTT, Checkpointed])
def test_a_program_for_any_platform_holds_the_plan_of_each(method: Any) -> None:
    """What is lowered for one platform is as what was planned for it alone, and one file
    for several gives the same numbers.
    """
    cell, form = jaxrnn.LSTM(4), jax.ShapeDtypeStruct((64, 2, 3), jnp.float32)
    params = cell.init(jax.random.key(0), 3)

    def program(planned: Any, *platforms: str) -> export.Exported:
        run = jax.jit(jax.grad(partial(loss, cell, method(platform=planned), flags={})))
        return export.export(run, platforms=platforms)(params, form)

    def steps(program: export.Exported) -> int:
        """How many loops and calls of functions are written out. Products that nothing needs may
        be, too, until XLA drops them.
        """
        text = str(program.mlir_module())
        return text.count("stablehlo.while") + text.count("call @")

    for planned, platform in (("cpu", "cpu"), ("gpu", "cuda"), ("gpu", "rocm"), ("tpu", "tpu")):
        assert steps(program("any", platform)) == steps(program(planned, platform))
    short, long = (str(program(planned, "cuda").mlir_module()) for planned in ("cpu", "gpu"))
    assert len(long) > 1.2 * len(short)  # eight steps are written out
    whole = export.deserialize(program("any", "cpu", "cuda", "tpu").serialize())
    xs = jax.random.normal(jax.random.key(1), form.shape)
    expected = jax.grad(partial(loss, cell, "autodiff", flags={}))(params, xs)
    assert_close(whole.call(params, xs), expected, 1e-5)


def test_an_unknown_platform_is_refused() -> None:
    with pytest.raises(ValueError, match="platform is 'metal', expected one of"):
        BPTT(platform="metal")  # type: ignore[arg-type]
