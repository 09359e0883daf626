"""Step functions that know nothing of jaxrnn, and Flax's cells, against Flax's own RNN: values,
gradients, products, memory.
"""

import copy
import pickle
from functools import cache, partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.foreign import FunctionCell
from jaxrnn.testing import check_cell
from tests.support.conversions import random_like, random_params
from tests.support.helpers import DRIVERS, assert_close

T, B, IN, H = 6, 3, 4, 5
XS = random_like(np.zeros((T, B, IN)))
LINEN = [nn.LSTMCell(H), nn.OptimizedLSTMCell(H), nn.GRUCell(H), nn.MGUCell(H), nn.SimpleCell(H)]
NNX = [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell]


def by_name(value):
    return type(value).__name__ if isinstance(value, nn.Module) else value.__name__


@pytest.mark.parametrize("module", LINEN, ids=by_name)
@pytest.mark.parametrize(
    "driver", ["bptt", "carries_in_blocks", "preactivations_in_blocks", "checkpointed_in_blocks"]
)
def test_linen_cells_give_what_flaxs_rnn_gives(module, driver):
    cell, (params, wanted) = jaxrnn.linen.as_cell(module), flaxs(module)

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def got(p: Any, x: Any) -> Any:
        return jnp.sum(jnp.sin(DRIVERS[driver](cell, p, x)[1]))

    assert_close(got(params, XS), wanted, 1e-5)


@cache
def flaxs(module: nn.RNNCellBase) -> tuple[Any, Any]:
    """Parameters, and the loss and the gradients of Flax's RNN, once for all drivers."""
    params = random_params(jaxrnn.linen.as_cell(module), in_features=IN)

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1))
    def loss(p: Any, x: Any) -> Any:
        ys: Any = nn.RNN(module, time_major=True).apply({"params": {"cell": p}}, x)
        return jnp.sum(jnp.sin(ys))

    return params, loss(params, XS)


@pytest.mark.parametrize("make", NNX, ids=by_name)
def test_nnx_cells_give_what_flaxs_rnn_gives(make):
    module = make(IN, H, rngs=nnx.Rngs(0))
    cell, params = jaxrnn.nnx.as_cell(module), nnx.state(module, nnx.Param)
    carry, ys = jaxrnn.scan(cell, params, XS)
    np.testing.assert_allclose(ys, rnn_of(module), atol=1e-6)
    lengths = np.array([T, 2, 4])
    _, ragged = jaxrnn.scan(cell, params, XS, lengths=lengths)
    np.testing.assert_allclose(np.asarray(ragged)[:2], np.asarray(ys)[:2], atol=1e-6)
    assert not np.any(np.asarray(ragged)[2:, 1])
    assert jax.tree.leaves(carry)[0].shape == (B, H)


def rnn_of(module: Any) -> Any:
    """The outputs of Flax's RNN, as one program."""
    return nnx.jit(lambda rnn, xs: rnn(xs))(nnx.RNN(module, time_major=True), XS)


def linen_gru(hidden=H):
    return jaxrnn.linen.as_cell(nn.GRUCell(hidden, activation_fn=nn.relu))


def nnx_gru(hidden=H):
    return jaxrnn.nnx.as_cell(nnx.GRUCell(IN, hidden, activation_fn=jax.nn.relu, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("make", [linen_gru, nnx_gru])
def test_equal_modules_make_equal_cells(make):
    cell = make()
    for same in (make(), pickle.loads(pickle.dumps(cell)), copy.deepcopy(cell)):
        assert same == cell
        assert hash(same) == hash(cell)
    assert make(H + 1) != cell


class Counted(nnx.SimpleCell):
    """It counts how often it is traced."""

    traced = 0

    def __call__(self, carry, inputs):
        type(self).traced += 1
        return super().__call__(carry, inputs)


def test_equal_cells_of_nnx_are_traced_once():
    """Whatever the values of the modules' parameters are."""
    modules = [Counted(IN, H, rngs=nnx.Rngs(seed)) for seed in (0, 1)]
    jaxrnn.scan(jaxrnn.nnx.as_cell(modules[0]), nnx.state(modules[0], nnx.Param), XS)
    cell, before = jaxrnn.nnx.as_cell(modules[1]), Counted.traced
    _, ys = jaxrnn.scan(cell, nnx.state(modules[1], nnx.Param), XS)
    assert Counted.traced == before
    np.testing.assert_allclose(ys, rnn_of(modules[1]), atol=1e-6)


class CountedLinen(nn.SimpleCell):
    """It counts how often it is traced."""

    features: int = H
    traced: ClassVar[int] = 0

    @nn.compact
    def __call__(self, carry, inputs):
        type(self).traced += 1
        return super().__call__(carry, inputs)


def test_equal_cells_of_linen_are_traced_once():
    first, second = (jaxrnn.linen.as_cell(CountedLinen()) for _ in range(2))
    params = first.init(jax.random.key(0), IN)
    jaxrnn.scan(first, params, XS)
    before = CountedLinen.traced
    jaxrnn.scan(second, params, XS)
    assert CountedLinen.traced == before


def test_both_homes_make_the_same_kind_of_cell():
    """From a module; each draws its layers' parameters from their own keys."""
    for cell in (linen_gru(), nnx_gru()):
        assert type(cell) is FunctionCell
        assert cell.out_features == H
        first, second = jaxrnn.Stack.repeat(cell, 2).init(jax.random.key(0), H)
        drawn = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
        assert [a.shape for a, b in drawn if a.ndim == 2 and np.allclose(a, b)] == []


def test_parameters_of_a_module_may_be_mapped():
    """Two sets of parameters at once, as an ensemble has them."""
    modules = [nnx.SimpleCell(IN, H, rngs=nnx.Rngs(seed)) for seed in (0, 1)]
    cell, states = jaxrnn.nnx.as_cell(modules[0]), [nnx.state(m, nnx.Param) for m in modules]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    got = jax.vmap(lambda state: jaxrnn.scan(cell, state, XS)[1])(stacked)
    np.testing.assert_allclose(
        got, [jaxrnn.scan(cell, state, XS)[1] for state in states], atol=1e-6
    )


def test_a_cell_of_nnx_draws_its_parameters():
    """From its key, for an input of any size, as the module's constructor does."""
    ones = partial(nnx.SimpleCell, hidden_features=H, recurrent_kernel_init=nnx.initializers.ones)
    for cell in (nnx_gru(), jaxrnn.nnx.as_cell(ones)):
        params = jaxrnn.Stack.repeat(cell, 2).init(jax.random.key(0), H)
        first, second = map(nnx.to_pure_dict, params)
        assert not np.allclose(first["dense_i"]["kernel"], second["dense_i"]["kernel"])
    assert np.all(first["dense_h"]["kernel"] == 1)
    assert first["dense_i"]["kernel"].shape == (H, H)
    assert jaxrnn.nnx.as_cell(ones) == jaxrnn.nnx.as_cell(partial(ones))


class Counting(nn.RNNCellBase):
    """Its carry is a state and an integer."""

    @nn.compact
    def __call__(self, carry, inputs):
        h, n = carry
        h = nn.tanh(nn.Dense(H)(inputs) + nn.Dense(H)(h))
        return (h, n + 1), h

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        batch = input_shape[:-1]
        return jnp.zeros((*batch, H), jnp.bfloat16), jnp.zeros(batch, jnp.int32)

    @property
    def num_feature_axes(self):
        return 1


def test_a_carry_keeps_its_dtypes():
    cell = jaxrnn.linen.as_cell(Counting())
    (h, n), _ = jaxrnn.scan(cell, cell.init(jax.random.key(0), IN), XS)
    assert (h.dtype, n.dtype) == (jnp.float32, jnp.int32)
    assert np.all(n == T)


HALF = [
    jaxrnn.linen.as_cell(nn.SimpleCell(H, dtype=jnp.bfloat16)),
    jaxrnn.nnx.as_cell(partial(nnx.SimpleCell, hidden_features=H, dtype=jnp.bfloat16)),
]


@pytest.mark.parametrize("cell", HALF, ids=["linen", "nnx"])
def test_a_half_cell_carries_in_float32(cell):
    half = cell.init(jax.random.key(0), IN, jnp.bfloat16)
    h, ys = jax.eval_shape(lambda: jaxrnn.scan(cell, half, XS.astype(jnp.bfloat16)))
    assert (h.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)


@pytest.mark.parametrize("wide", ["module", "params"])
def test_a_double_cell_carries_in_float64(wide):
    """If the module says so, and if its parameters are."""
    with jax.enable_x64():
        kind = jnp.float64 if wide == "module" else jnp.float32
        modules = [
            jaxrnn.linen.as_cell(nn.GRUCell(H, param_dtype=kind)),
            jaxrnn.nnx.as_cell(nnx.GRUCell(IN, H, param_dtype=kind, rngs=nnx.Rngs(0))),
        ]
        for cell in modules:
            params = cell.init(jax.random.key(0), IN, jnp.float64)
            h, ys = jax.eval_shape(partial(jaxrnn.scan, cell), params, XS.astype(jnp.float64))
            assert (h.dtype, ys.dtype) == (jnp.float64, jnp.float64)


def _step(params, h, x):
    a = jnp.einsum("...i,ij->...j", x, params["w"]) + jnp.matmul(h, params["v"])
    b = 0.5 + (h @ params["u"] + x[..., :1])
    h = jnp.tanh(a) * jax.nn.sigmoid(b @ params["v"]) + 0.1 * x[..., :1]
    return h, h + x[..., :1]


def make_params(key, in_features, dtype):
    w, v, u = (
        0.5 * jax.random.normal(k, (n, H))
        for k, n in zip(jax.random.split(key, 3), (in_features, H, H), strict=True)
    )
    return {"w": w.astype(dtype), "v": v.astype(dtype), "u": u.astype(dtype)}


def make_carry(params, input_shape):
    del params
    return jnp.zeros((*input_shape[:-1], H))


FUNCTION = FunctionCell(_step, make_params, make_carry, H)


def test_a_function_keeps_the_contract():
    """Products inside nested functions, one that depends on another, an input that is used beside
    the carry. JAX may check what is traced and computed.
    """
    with jax.debug_nans(True):
        check_cell(FUNCTION)
    params = jax.eval_shape(partial(FUNCTION.init, in_features=3), jax.random.key(0))
    with jax.enable_checks(True):
        jax.eval_shape(FUNCTION.project, params, jax.ShapeDtypeStruct((2, 3), np.float32))


@pytest.mark.parametrize("ordered", [False, True])
def test_debug_prints_print(ordered, capfd):
    """Once per step in its order, of the carry, of the input alone, and of nothing."""

    def step(params: Any, h: Any, x: Any) -> Any:
        jax.debug.print("h {}", h[0, 0], ordered=ordered)
        jax.debug.print("x {}", x[0, 0], ordered=ordered)
        jax.debug.print("tick", ordered=ordered)
        return h + 1.0, h

    cell = FunctionCell(step, make_params, make_carry, H)
    params, xs = cell.init(jax.random.key(0), IN), jnp.full((2, B, IN), 7.0)
    for method in ("bptt", "checkpointed", "autodiff"):
        jax.block_until_ready(jaxrnn.scan(cell, params, xs, method=method))
        jax.effects_barrier()
        lines = capfd.readouterr().out.splitlines()
        wanted = ["h 0.0", "x 7.0", "tick", "h 1.0", "x 7.0", "tick"]
        if ordered:
            assert lines[-len(wanted) :] == wanted
        else:
            assert not [line for line in wanted if lines.count(line) < wanted.count(line)]


def test_what_cannot_be_a_cell_is_refused():
    with pytest.raises(TypeError, match=r"expected a function \("):
        FunctionCell(_step, None, make_carry, H)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a flax.linen.RNNCellBase"):
        jaxrnn.linen.as_cell(nn.Dense(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"module is a Linear, expected a flax.nnx.RNNCellBase"):
        jaxrnn.nnx.as_cell(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"module builds a Linear, expected a flax.nnx.RNNCellBa"):
        jaxrnn.nnx.as_cell(partial(nnx.Linear, out_features=3))  # type: ignore[arg-type]
    noisy: Any = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
    noisy.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"GRUCell holds \['dropout.rngs.count', .*\], expected"):
        jaxrnn.nnx.as_cell(noisy)
    labelled = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0), kernel_metadata={"label": "input"})
    with pytest.raises(TypeError, match=r"cannot be built .* functools.partial\(GRUCell, ...\)"):
        jaxrnn.nnx.as_cell(labelled)
    unhashable: Any = [1]
    with pytest.raises(TypeError, match=r"as_cell: bias_init of GRUCell is \[1\], expected"):
        jaxrnn.nnx.as_cell(partial(nnx.GRUCell, hidden_features=4, bias_init=unhashable))

    @jax.jit
    def closing_over(v):
        def step(params: Any, h: Any, x: Any) -> Any:
            h = jnp.tanh(h @ v + x @ params["w"])
            return h, h

        cell = FunctionCell(step, make_params, make_carry, H)
        return jaxrnn.scan(cell, FUNCTION.init(jax.random.key(0), IN), XS)[1]

    with pytest.raises(TypeError, match="closes over a value that is being traced"):
        closing_over(jnp.eye(H))
