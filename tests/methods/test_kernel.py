"""The loop as one kernel, interpreted: numbers and gradients, and what it refuses."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

import jaxrnn
from jaxrnn.methods import BPTT
from tests.support.helpers import assert_close, perturb
from tests.support.user_cells import Plain, draw

KERNEL = BPTT(kernel="pallas")
CELLS = {
    "elman": jaxrnn.Elman(16, activation="softsign", clip=0.8),
    "lstm": jaxrnn.LSTM(16),
    "lstm_options": jaxrnn.LSTM(16, peepholes=True, coupled=True, cell_clip=0.5),
    "gru": jaxrnn.GRU(16),
    "gru_no_bias": jaxrnn.GRU(16, bias=False),
    "stack": jaxrnn.Stack([jaxrnn.Bidirectional(jaxrnn.GRU(16)), jaxrnn.LSTM(32)]),
    "learned_carry": jaxrnn.LearnedCarry(jaxrnn.GRU(16)),
}
FLAGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all, reverse": {
        "lengths": np.array([5, 4, 0]),
        "mask": np.arange(15).reshape(5, 3) % 4 != 1,
        "reset": np.arange(15).reshape(5, 3) % 5 == 2,
        "reverse": True,
    },
}


def setup(cell: jaxrnn.Cell, *batch: int) -> tuple[Any, jax.Array]:
    params = perturb(cell.init(jax.random.key(0), 3), 0.2, seed=1)
    return params, jax.random.normal(jax.random.key(1), (5, *batch, 3))


def loss(cell: jaxrnn.Cell, flags: Any, method: Any, params: Any, xs: Any, carry: Any) -> Any:
    carry, ys = jaxrnn.scan(cell, params, xs, carry, method=method, **flags)
    return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize("name", CELLS)
def test_gradients(name: str, flags: dict[str, Any]) -> None:
    """Those of JAX's own derivative, in parameters, inputs and the first carry."""
    cell = CELLS[name]
    params, xs = setup(cell, 3)
    carry = perturb(cell.initial_carry(params, (3, 3)), 0.5, seed=2)
    got, wanted = (
        jax.jit(jax.value_and_grad(partial(loss, cell, flags, method), (0, 1, 2)))(
            params, xs, carry
        )
        for method in (KERNEL, "autodiff")
    )
    assert_close(got, wanted, 1e-5)


@pytest.mark.parametrize("batch", [(), (17,), (2, 2)], ids=str)
def test_any_batch(batch: tuple[int, ...]) -> None:
    """Rows fill programs of sixteen; a trajectory is every carry."""
    cell = CELLS["lstm"]
    params, xs = setup(cell, *batch)
    got = jaxrnn.trajectory(cell, params, xs, method=KERNEL)
    assert_close(got, jaxrnn.trajectory(cell, params, xs, method="autodiff"), 1e-5)


@pytest.mark.parametrize("steps", [(0, 3), (5, 0)], ids=["no step", "no row"])
def test_nothing_to_do(steps: tuple[int, int]) -> None:
    cell = CELLS["gru"]
    params, _ = setup(cell, 1)
    carry, ys = jaxrnn.scan(cell, params, jnp.zeros((*steps, 3)), method=KERNEL)
    assert (carry.shape, ys.shape) == ((steps[1], 16), (*steps, 16))


def test_draws_and_strict_promotion() -> None:
    """Inputs are a pytree then, of which some are integers."""
    cell = jaxrnn.Zoneout(jaxrnn.LSTM(16), h=0.3, c=0.2)
    params, xs = setup(cell, 3)
    flags = FLAGS["all, reverse"] | {"key": jax.random.key(2)}
    with jax.numpy_dtype_promotion("strict"):
        got, wanted = (
            jax.grad(partial(loss, cell, flags, method))(params, xs, None)
            for method in (KERNEL, "autodiff")
        )
    assert_close(got, wanted, 1e-5)


def test_rows_that_fill_up_a_program_do_no_harm() -> None:
    """They are no worse than those of the batch: of zeros, this one's gradient would be NaN."""
    cell = jaxrnn.Elman(16, activation=jnp.sqrt, bias=False)
    params = jax.tree.map(jnp.ones_like, cell.init(jax.random.key(0), 3))
    gradient = jax.grad(partial(loss, cell, {}, KERNEL))(params, jnp.ones((5, 3, 3)), None)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_bfloat16() -> None:
    """Multiplied as it is, carried in float32."""
    cell = CELLS["gru"]
    params, xs = jax.tree.map(lambda a: a.astype(jnp.bfloat16), setup(cell, 3))
    carry, ys = jaxrnn.scan(cell, params, xs, method=KERNEL)
    assert (carry.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)
    assert_close(carry, jaxrnn.scan(cell, params, xs, method="autodiff")[0], 1e-2)


def test_it_lowers_for_a_gpu() -> None:
    """A training step is two kernels, and no loop."""
    cell, form = CELLS["lstm"], jax.ShapeDtypeStruct((5, 16, 3), jnp.float32)
    params = cell.init(jax.random.key(0), 3)
    method = BPTT(kernel="pallas", platform="gpu")
    step = jax.jit(jax.grad(partial(loss, cell, {}, method, carry=None)))
    with use_abstract_mesh(H100):
        program = export.export(step, platforms=["cuda"], disabled_checks=[TRITON])(params, form)
    text = str(program.mlir_module())
    assert text.count("gpu$xla.gpu.triton") == 2
    assert "stablehlo.while" not in text


# a JAX from 0.12 on wants to know which GPU
H100 = AbstractMesh((), (), abstract_device=AbstractDevice("NVIDIA H100 80GB HBM3", None, "cuda"))
TRITON = export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")


class Seen(Plain):
    """Adds a function of its state to the product, too."""

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        return draw(key, dtype, w_x=(in_features, n), w_h=(n, n), p=(n,))

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (z,) = affine((u + params["p"] * carry,), carry, params["w_h"])
        h = jnp.tanh(z)
        return h, h


class Twice(Seen):
    """Uses its weight pointwise, too."""

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (z,) = affine((u,), carry, params["w_h"])
        h = jnp.tanh(z + params["w_h"][0])
        return h, h


class Counting(Seen):
    """Counts its steps."""

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return super().initial_carry(params, input_shape), jnp.zeros(input_shape[:-1], jnp.int32)

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (z,) = affine((u,), carry[0], params["w_h"])
        h = jnp.tanh(z)
        return (h, carry[1] + 1), h


@pytest.mark.parametrize("options", [{"block": 4}, {"keep": "carries"}, {"platform": "any"}])
def test_options_that_would_say_nothing(options: Any) -> None:
    with pytest.raises(ValueError, match='kernel="pallas" has no blocks'):
        BPTT(kernel="pallas", **options)


def test_a_kernel_that_is_none() -> None:
    with pytest.raises(ValueError, match="kernel is 'cuda', expected one of"):
        BPTT(kernel="cuda")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (jaxrnn.GRU(16, reset_gate="before"), 'GRU: kernel="pallas" runs cells whose step has one'),
        (jaxrnn.LSTM(16, projection=16), 'LSTM: kernel="pallas" runs cells whose step has one'),
        (jaxrnn.GRU(16, layer_norm=True), 'GRU: kernel="pallas" runs cells whose step has one'),
        (Seen(16), 'Seen: kernel="pallas" runs cells whose step has one'),
        (Twice(16), 'Twice: kernel="pallas" runs cells whose step has one'),
        (Counting(16), 'Counting: kernel="pallas" runs cells whose step has one'),
        (jaxrnn.Elman(24), "needs a state whose size is a power of two from 16 on, got 24"),
        (jaxrnn.LSTM(256), r"at most 196608 bytes; that of shape \(256, 1024\) and float32 has"),
    ],
    ids=["products", "weights", "norm", "part", "pointwise", "integers", "odd size", "large"],
)
def test_what_is_refused(cell: jaxrnn.Cell, message: str) -> None:
    params, xs = setup(cell, 2)
    with pytest.raises(ValueError, match=message):
        jaxrnn.scan(cell, params, xs, method=KERNEL)
