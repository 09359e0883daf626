"""The stages beside the recurrence: what is read off the outputs, and the context of a cell."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.methods import BPTT, Checkpointed
from jaxrnn.testing import check_cell
from tests.support.helpers import assert_close
from tests.support.user_cells import Attending, times

T, B, IN, H, PLACES = 4, 3, 4, 4, 6
KEY = jax.random.key(0)
METHODS = {
    "bptt": BPTT(2),
    "checkpointed": Checkpointed(2),
    "autodiff": "autodiff",
}


def memory(places: int = PLACES) -> Any:
    """A memory, and which of its places hold something: of each row one more."""
    valid = jnp.arange(places) <= jnp.arange(B)[:, None]
    return jax.random.normal(jax.random.key(7), (B, places, IN)), valid


def inputs() -> Any:
    return jax.random.normal(jax.random.key(1), (T, B, IN))


def gradients(driver: Any, cell: Any, **flags: Any) -> Any:
    """Outputs, and the gradients of parameters, inputs, carry and context."""
    params, xs = cell.init(KEY, IN), inputs()
    carry = jax.tree.map(lambda c: c + 0.1, cell.initial_carry(params, (B, IN)))
    keys, valid = memory()

    def loss(params: Any, xs: Any, carry: Any, keys: Any) -> Any:
        out = driver(cell, params, xs, carry, context=(keys, valid), **flags)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out)), out

    return jax.jit(jax.grad(loss, (0, 1, 2, 3), has_aux=True))(params, xs, carry, keys)


CELLS = {
    "alone": Attending(H),
    "stack": jaxrnn.Stack([jaxrnn.GRU(IN), Attending(H)]),
    "both": jaxrnn.Bidirectional(Attending(H)),
    "wrapped": jaxrnn.Zoneout(Attending(H), h=0.3),
    "learned_carry": jaxrnn.LearnedCarry(Attending(H)),
}
FLAGS = {
    "lengths": np.array([4, 3, 0]),
    "mask": np.arange(T * B).reshape(T, B) % 4 > 0,
    "reset": np.arange(T * B).reshape(T, B) % 5 == 2,
}


@pytest.mark.parametrize("name", list(CELLS))
def test_context_reaches_every_step(name: str) -> None:
    """Values and gradients as of `unroll`, with all flags and draws; alone, by all methods."""
    cell, reverse = CELLS[name], name in ("stack", "wrapped")
    flags = {**FLAGS, "reverse": reverse, "key": jax.random.key(3)}
    expected = gradients(jaxrnn.unroll, cell, **flags)
    for method in METHODS.values() if name == "alone" else ("bptt",):
        got = gradients(partial(jaxrnn.scan, method=method), cell, **flags)
        assert_close(got, expected, 1e-5)
        assert np.any(np.asarray(got[0][3]))


def test_context_of_single_steps() -> None:
    cell = Attending(H)
    params, xs = cell.init(KEY, IN), inputs()
    carry = cell.initial_carry(params, (B, IN))
    ys = []
    for x in xs:
        carry, y = jaxrnn.step(cell, params, carry, x, context=memory())
        ys.append(y)
    expected = jaxrnn.scan(cell, params, xs, context=memory())
    assert_close((carry, jnp.stack(ys)), expected, 1e-5)
    states, _ = jaxrnn.trajectory(cell, params, xs, context=memory())
    assert_close(states[-1], expected[0], 1e-5)


def test_a_map_over_contexts() -> None:
    """One sequence with each of several memories."""
    cell = Attending(H)
    params, x = cell.init(KEY, IN), inputs()[:, 0]
    keys, valid = memory()
    run = lambda keys, valid: jaxrnn.scan(cell, params, x, context=(keys, valid))[1]  # noqa: E731
    expected = [run(keys[b], valid[b]) for b in range(B)]
    assert_close(jax.vmap(run)(keys, valid), jnp.stack(expected), 1e-5)


@pytest.mark.parametrize("method", list(METHODS))
def test_one_copy_of_the_context(method: str) -> None:
    """No array of the program holds a memory for every step."""
    cell, places = Attending(H), 50
    params, xs = cell.init(KEY, IN), inputs()

    def loss(params: Any, keys: Any) -> Any:
        context = (keys, memory(places)[1])
        return jaxrnn.scan(cell, params, xs, context=context, method=METHODS[method])[1].sum()

    text = jax.jit(jax.grad(loss, (0, 1))).lower(params, memory(places)[0]).as_text()
    assert f"{B}x{places}x{H}x" in text
    assert not [n for n in (2, T) if f"<{n}x{B}x{places}x{H}x" in text]


def test_homes_pass_it_on() -> None:
    xs = jnp.moveaxis(inputs(), 0, 1)
    rnn = jaxrnn.linen.RNN(Attending(H))
    variables = rnn.init(KEY, xs, context=memory())
    outputs: Any = rnn.apply(variables, xs, context=memory())
    carry, ys = outputs
    expected = jaxrnn.scan(Attending(H), variables["params"], inputs(), context=memory())
    assert_close((carry, jnp.moveaxis(ys, 1, 0)), expected, 1e-6)
    ours = jaxrnn.nnx.RNN(Attending(H), in_features=IN, rngs=nnx.Rngs(0))
    assert ours(xs, context=memory())[1].shape == (B, T, H)


def test_a_context_that_does_not_fit_is_refused() -> None:
    cell = Attending(H)
    params, xs = cell.init(KEY, IN), inputs()
    with pytest.raises(ValueError, match=r"Attending: .*takes a context.*pass context="):
        jaxrnn.scan(cell, params, xs)
    gru = jaxrnn.GRU(H)
    with pytest.raises(ValueError, match=r"GRU: context= is given, but neither.*leave it out"):
        jaxrnn.scan(gru, gru.init(KEY, IN), xs, context=memory())
    with pytest.raises(ValueError, match=r"context\[0\] has shape \(2, 6, 4\).*\[\*batch\] = \(3,"):
        jaxrnn.scan(cell, params, xs, context=(memory()[0][:2], memory()[1]))
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'contxt'.*'context'"):
        jaxrnn.scan(cell, params, xs, contxt=memory())  # type: ignore[call-arg]


@dataclasses.dataclass(frozen=True)
class Oscillators(jaxrnn.LinearCell):
    """A complex state, read as `Re(h) W_o`; its numbers are kept as two real ones."""

    hidden: int

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        k_x, k_a = jax.random.split(key)
        w_x = jax.random.normal(k_x, (in_features, self.hidden), dtype)
        return {"w_x": w_x, "phase": jax.random.normal(k_a, (self.hidden,), dtype)}

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return jnp.zeros((*input_shape[:-1], self.hidden), jnp.complex64)

    def project(self, params: Any, xs: Any) -> Any:
        return times(xs, params["w_x"]).astype(jnp.complex64)

    def coefficients(self, params: Any, u: Any) -> Any:
        return 0.9 * jnp.exp(1j * params["phase"].astype(jnp.complex64)), u

    def read(self, params: Any, ys: Any, xs: Any) -> Any:
        del params, xs
        return jnp.real(ys)

    @property
    def out_features(self) -> int:
        return self.hidden


@pytest.mark.parametrize("method", list(METHODS))
def test_complex_states_are_read_as_real_outputs(method: str) -> None:
    cell, xs = Oscillators(H), inputs()
    params = cell.init(KEY, IN)

    def loss(driver: Any, params: Any, xs: Any) -> Any:
        carry, ys = driver(cell, params, xs, **FLAGS)
        assert ys.dtype == jnp.float32
        return jnp.sum(jnp.sin(ys)) + jnp.sum(jnp.abs(carry) ** 2)

    drivers = (partial(jaxrnn.scan, method=METHODS[method]), jaxrnn.unroll)
    got, expected = (
        jax.jit(jax.value_and_grad(partial(loss, driver), (0, 1)))(params, xs) for driver in drivers
    )
    assert_close(got, expected, 1e-5)
    h, ys = np.zeros((B, H), complex), []
    for x in np.asarray(xs, float):
        h = 0.9 * np.exp(1j * np.asarray(params["phase"], float)) * h + x @ np.asarray(
            params["w_x"]
        )
        ys.append(h.real)
    assert_close(jaxrnn.scan(cell, params, xs)[1], np.stack(ys), 1e-5)


def test_roles_are_what_a_cell_says() -> None:
    cell = jaxrnn.Stack([jaxrnn.Highway(jaxrnn.GRU(IN)), jaxrnn.Bidirectional(jaxrnn.LSTM(H))])
    params = cell.init(KEY, IN)
    roles = jaxrnn.labels(cell, params)
    assert jax.tree.structure(roles) == jax.tree.structure(params)
    assert roles[0].w_t == "highway"
    assert roles[1].backward.w_h == "recurrent"
    assert cell.in_features(params) == IN
    assert Attending(H).labels(Attending(H).init(KEY, IN))["w_k"] == "other"
    for made in (*CELLS.values(), jaxrnn.Stack([jaxrnn.LSTM(3)], dense=True)):
        assert made.in_features(made.init(KEY, IN)) == IN


@dataclasses.dataclass(frozen=True)
class OwnMatrix(jaxrnn.ContextCell):
    """Each row multiplies its state by a matrix of its own."""

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        return {"w_x": jax.random.normal(key, (in_features, H), dtype)}

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return jnp.zeros((*input_shape[:-1], H))

    def project(self, params: Any, xs: Any) -> Any:
        return times(xs, params["w_x"])

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        h = jnp.tanh(u + affine(None, carry[..., None, :], params.context)[..., 0, :])
        return h, h

    @property
    def out_features(self) -> int:
        return H


@pytest.mark.parametrize("method", list(METHODS))
def test_a_weight_for_each_row(method: str) -> None:
    """As many rows as units, where a mistake in axes would not show in shapes."""
    cell, context = OwnMatrix(), jax.random.normal(KEY, (H, H, H))
    params, xs = cell.init(KEY, IN), jax.random.normal(KEY, (T, H, IN))

    def loss(driver: Any, params: Any, context: Any) -> Any:
        return jnp.sum(jnp.sin(driver(cell, params, xs, context=context)[1]))

    drivers = (partial(jaxrnn.scan, method=METHODS[method]), jaxrnn.unroll)
    got, expected = (
        jax.jit(jax.value_and_grad(partial(loss, driver), (0, 1)))(params, context)
        for driver in drivers
    )
    assert_close(got, expected, 1e-5)


def test_a_context_is_checked_by_check_cell() -> None:
    def context(key: Any, batch: tuple[int, ...]) -> Any:
        return jax.random.normal(key, (*batch, PLACES, IN)), jnp.ones((*batch, PLACES), bool)

    check_cell(Attending(H), IN, context=context)
    with pytest.raises(AssertionError, match=r"drivers, .*ValueError: Attending: .*a context"):
        check_cell(Attending(H), IN)


def test_where_no_context_can_be_given() -> None:
    cell = jaxrnn.Stack([Attending(H)])
    params, x = cell.init(KEY, IN), inputs()[0]
    carry = cell.initial_carry(params, x.shape)
    held: Any = jaxrnn.WithContext(params, memory())
    expected = jaxrnn.step(cell, params, carry, x, context=memory())
    assert_close(cell.step(held, carry, x), expected, 1e-6)
    with pytest.raises(ValueError, match="Attending takes a context, and got none"):
        cell.step(params, carry, x)
    with pytest.raises(TypeError, match="Attending takes a context, which Flax cannot pass to it"):
        jaxrnn.linen.RNNCell(Attending(H))
    with pytest.raises(ValueError, match="RecurrentDropout: cell is a Attending, which takes"):
        jaxrnn.RecurrentDropout(Attending(H), 0.5)


def test_messages_name_the_cell_itself() -> None:
    @dataclasses.dataclass(frozen=True)
    class Grows(Attending):
        def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
            return jnp.concatenate([carry, u]), u

    cell = Grows(H)
    with pytest.raises(TypeError, match=r"^Grows\.step was given the carry"):
        jaxrnn.scan(cell, cell.init(KEY, IN), inputs(), context=memory())
    rnn, xs = jaxrnn.linen.RNN(jaxrnn.GRU(H)), inputs()
    flags: Any = {"seq_lengths": jnp.full(B, T)}
    with pytest.raises(TypeError, match=r"jaxrnn.linen.RNN got an unexpected .*'seq_lengths'"):
        rnn.init(KEY, xs, **flags)


def test_run_belongs_to_composites() -> None:
    with pytest.raises(TypeError, match=r"Runs defines run, .*derive it from jaxrnn.Composite"):

        class Runs(jaxrnn.Elman):
            def run(self, params: Any, xs: Any, carry: Any, runner: Any) -> Any: ...


@pytest.mark.parametrize("carried", ["float32", "complex64"])
def test_linear_cells_keep_the_dtype_rule(carried: str) -> None:
    """Narrow coefficients under strict promotion; a coefficient that is one number for all."""

    @dataclasses.dataclass(frozen=True)
    class Sum(jaxrnn.LinearCell):
        def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
            return jnp.ones(in_features, dtype)

        def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
            return {"h": jnp.zeros(input_shape, carried)}

        def coefficients(self, params: Any, u: Any) -> Any:
            return jnp.bfloat16(0.5), {"h": params * u}

        def read(self, params: Any, ys: Any, xs: Any) -> Any:
            return jnp.real(ys["h"])

        @property
        def out_features(self) -> int:
            return IN

    xs = jnp.ones((2, B, IN), jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"):
        carry, ys = jaxrnn.scan(Sum(), jnp.ones(IN, jnp.bfloat16), xs)
    assert carry["h"].dtype == carried
    assert ys.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(ys[:, 0, 0], float), [1, 1.5])
