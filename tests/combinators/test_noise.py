"""Random draws: the same key gives the same numbers, whatever runs the cell, and nothing is random
without one.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import (
    GRU,
    LSTM,
    Bidirectional,
    CandidateDropout,
    DropConnect,
    Dropout,
    Elman,
    LearnedCarry,
    RecurrentDropout,
    Stack,
    StateNoise,
    Zoneout,
)
from jaxrnn.core.noise import Draws, number
from jaxrnn.methods import BPTT, Checkpointed
from tests.support.helpers import assert_close, assert_equal
from tests.support.papers import sigmoid

KEY = jax.random.key(7)
T, B, IN, H = 4, 4, 3, 5

NOISY = {
    "dropout": Dropout(LSTM(H), 0.4),
    "dropout_locked": Dropout(GRU(H), 0.4, locked=True),
    "dropout_of_layers": Dropout(Stack((Bidirectional(GRU(H)), LSTM(H)), dropout=0.3), 0.3),
    "recurrent_dropout": RecurrentDropout(LSTM(H, projection=3), 0.4),
    "recurrent_dropout_per_step": RecurrentDropout(GRU(H, reset_gate="before"), 0.4, locked=False),
    "recurrent_dropout_per_gate": RecurrentDropout(LSTM(H), 0.4, draws=4),
    "recurrent_dropout_per_gate_of_two_products": RecurrentDropout(
        GRU(H, reset_gate="before"), 0.4, draws=3
    ),
    "candidate_dropout": CandidateDropout(LSTM(H, projection=3), 0.4),
    "candidate_dropout_locked": CandidateDropout(GRU(H, reset_gate="before"), 0.4, locked=True),
    "dropconnect": DropConnect(LSTM(H, projection=3), 0.4),
    "zoneout": Zoneout(LSTM(H), h=0.3, c=0.4),
    "state_noise": StateNoise(GRU(H), 0.3),
    "nested": Zoneout(RecurrentDropout(LearnedCarry(LSTM(H)), 0.3), h=0.2),
}
each_noisy = pytest.mark.parametrize("cell", list(NOISY.values()), ids=list(NOISY))


def setup(
    cell: jaxrnn.Cell, batch: tuple[int, ...] = (B,), dtype: Any = jnp.float32
) -> tuple[Any, jax.Array]:
    params = cell.init(jax.random.key(0), IN, dtype)
    return params, jax.random.normal(jax.random.key(1), (T, *batch, IN), dtype)


def noisy_loss(driver: Any, cell: jaxrnn.Cell, **options: Any) -> Any:
    def loss(params: Any, xs: jax.Array) -> jax.Array:
        carry, ys = driver(cell, params, xs, **options)
        return jnp.sum(jnp.sin(ys)) + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(carry))

    return loss


@each_noisy
@pytest.mark.parametrize("flags", [False, True], ids=["plain", "flags"])
def test_every_driver_draws_the_same(x64, cell, flags):
    """In blocks, rebuilt or kept, each in its direction: values and gradients."""
    params, xs = setup(cell, dtype=jnp.float64)
    options: dict[str, Any] = {}
    if flags:
        reset = np.random.default_rng(0).random((T, B)) < 0.3
        options = {"reset": reset, "lengths": np.array([T, 2, 0, 3]), "reverse": True}
    blocks = BPTT(2, keep="preactivations") if flags else Checkpointed(2)

    @jax.jit  # all in one program, which draws once
    def run(key: Any, *at: Any) -> Any:
        losses = [
            noisy_loss(jaxrnn.scan, cell, key=key, method=method, **options)
            for method in ("autodiff", blocks)
        ]
        unrolled = noisy_loss(jaxrnn.unroll, cell, key=key, **options)(*at)
        return unrolled, [jax.value_and_grad(loss, (0, 1))(*at) for loss in losses]

    unrolled, (wanted, *others) = run(KEY, params, xs)
    for got in others:
        assert_close(got, wanted, 1e-11)
    assert_close(unrolled, wanted[0], 1e-7)  # noise is drawn in float32


@each_noisy
def test_keys_matter_and_their_absence_is_inference(cell):
    params, xs = setup(cell)
    first, again, other, none = (
        jaxrnn.scan(cell, params, xs, key=key)[1] for key in (KEY, KEY, jax.random.key(8), None)
    )
    assert_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first, none)
    assert_equal(none, jaxrnn.scan(cell, params, xs)[1])
    assert_equal(
        first,
        jaxrnn.scan(cell, params, xs, key=jax.random.wrap_key_data(jax.random.key_data(KEY)))[1],
    )


@each_noisy
def test_two_batch_axes_draw_as_one(cell):
    params, xs = setup(cell)
    one = jaxrnn.scan(cell, params, xs, key=KEY)
    two = jaxrnn.scan(cell, params, xs.reshape(T, 2, 2, IN), key=KEY)
    assert_close(
        jax.tree.map(lambda leaf: leaf.reshape(-1), two),
        jax.tree.map(lambda leaf: leaf.reshape(-1), one),
        1e-6,
    )


def test_draws_do_not_depend_on_x64():
    names = ("dropout", "dropconnect", "zoneout", "state_noise")
    setups = {name: setup(NOISY[name]) for name in names}

    @jax.jit
    def outputs() -> dict[str, jax.Array]:
        return {name: jaxrnn.scan(NOISY[name], *setups[name], key=KEY)[1] for name in names}

    with jax.enable_x64(True):
        wide = outputs()
    assert_close(outputs(), wide, 1e-6)


def test_rows_and_steps_differ():
    """Zoneout of a cell that counts: where a unit is kept shows which steps were drawn."""
    ones, cell = jnp.ones((200, 50, 1)), Zoneout(Elman(20, activation="linear"), h=0.3)
    params = jaxrnn.ElmanParams(jnp.ones((1, 20)), jnp.eye(20), jnp.zeros(20))
    counted, _ = jaxrnn.scan(cell, params, ones, key=KEY)
    kept = 1 - np.asarray(counted) / 200
    assert abs(kept.mean() - 0.3) < 0.005
    assert np.unique(np.asarray(counted), axis=0).shape[0] == 50
    states, _ = jaxrnn.trajectory(cell, params, ones, key=KEY)
    moved = np.diff(np.asarray(states), axis=0).reshape(200, -1)
    assert np.unique(moved, axis=0).shape[0] == 200


def test_zoneout_keeps_what_it_draws():
    """Every unit of h and of c is either the last one or the cell's."""
    inner = LSTM(H)
    cell = Zoneout(inner, h=0.5, c=0.5)
    params, xs = setup(cell)
    states, ys = jaxrnn.trajectory(cell, params, xs, key=KEY)
    for t in range(T):
        before = jax.tree.map(lambda leaf, t=t: leaf[t], states)
        fresh, _ = jaxrnn.step(inner, params, before, xs[t])
        for old, new, got in zip(
            before, fresh, jax.tree.map(lambda leaf, t=t: leaf[t + 1], states), strict=True
        ):
            stays, moves = np.isclose(got, old, atol=1e-6), np.isclose(got, new, atol=1e-6)
            assert np.all(stays | moves)
            assert stays.any()
            assert moves.any()
    np.testing.assert_array_equal(states.h[1:], ys)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_locked_draw_lasts_for_a_sequence(impl):
    """A cell that passes its input on shows what was dropped; a reset begins a new sequence, and so
    a new draw.
    """
    key = jax.random.key(7, impl=impl)
    cell, ones = Dropout(Elman(8, activation="linear"), 0.5, locked=True), jnp.ones((T, B, 8))
    params = jaxrnn.ElmanParams(jnp.eye(8), jnp.zeros((8, 8)), jnp.zeros(8))
    _, ys = jaxrnn.scan(cell, params, ones, key=key)
    assert set(np.unique(ys)) == {0.0, 2.0}
    assert np.all(np.asarray(ys) == np.asarray(ys)[:1])
    reset = np.zeros((T, B), bool)
    reset[3] = True
    _, cut = jaxrnn.scan(cell, params, ones, key=key, reset=reset)
    np.testing.assert_array_equal(cut[:3], ys[:3])
    assert np.any(np.asarray(cut[3:]) != np.asarray(ys[3:]))
    assert np.all(np.asarray(cut[3:]) == np.asarray(cut)[3:4])


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_every_kind_of_key_draws_by_number(impl):
    """Under `vmap`, `jax.random` draws for all keys of these kinds from the first alone."""
    cell = Dropout(Zoneout(GRU(H), h=0.3), 0.4)
    params, xs = setup(cell)
    keys = jax.random.split(jax.random.key(7, impl=impl), 2)
    wanted = [jaxrnn.unroll(cell, params, xs, key=key) for key in keys]
    assert not np.allclose(wanted[0][1], wanted[1][1])
    assert_close([jaxrnn.scan(cell, params, xs, key=key) for key in keys], wanted, 1e-6)
    together = jax.vmap(lambda key: jaxrnn.scan(cell, params, xs, key=key))(keys)
    assert_close(together, jax.tree.map(lambda *leaves: np.stack(leaves), *wanted), 1e-6)
    loss = jax.jit(noisy_loss(jaxrnn.scan, cell, key=keys[0]))
    assert_close(jax.value_and_grad(loss)(params, xs)[0], loss(params, xs), 1e-6)


def test_recurrent_dropout_touches_nothing_but_the_product():
    """With all of the state dropped but its weights zero, a GRU is what it was: its own mixing of
    old and new sees the whole state.
    """
    cell = RecurrentDropout(GRU(H), 0.9)
    params, xs = setup(cell)
    params = params._replace(w_h=jnp.zeros_like(params.w_h))
    assert_close(jaxrnn.scan(cell, params, xs, key=KEY), jaxrnn.scan(cell.cell, params, xs), 1e-6)


def lstm_step(
    params: Any, h: np.ndarray, c: np.ndarray, x: np.ndarray, drop_h: Any = 1.0, drop_g: Any = 1.0
) -> tuple[Any, Any]:
    """One step of an LSTM over a batch, with what `h` and `g` are multiplied by; `drop_h` may
    differ from gate to gate.
    """
    w_x, w_h, b = (
        np.split(np.asarray(leaf), 4, axis=-1) for leaf in (params.w_x, params.w_h, params.b)
    )
    i, f, g, o = (
        x @ w_x[k] + (h * np.broadcast_to(drop_h, (4, *h.shape))[k]) @ w_h[k] + b[k]
        for k in range(4)
    )
    c = sigmoid(f) * c + sigmoid(i) * (np.tanh(g) * drop_g)
    return sigmoid(o) * np.tanh(c), c


NOISE_IN_THE_PAPERS = {
    "recurrent_locked": (RecurrentDropout(LSTM(H), 0.4), lambda d: {"drop_h": d / 0.6}),
    "recurrent_per_step": (
        RecurrentDropout(LSTM(H), 0.4, locked=False),
        lambda d: {"drop_h": d / 0.6},
    ),
    "recurrent_per_gate": (RecurrentDropout(LSTM(H), 0.4, draws=4), lambda d: {"drop_h": d / 0.6}),
    "candidate": (CandidateDropout(LSTM(H), 0.4), lambda d: {"drop_g": d[0] / 0.6}),
    "candidate_locked": (
        CandidateDropout(LSTM(H), 0.4, locked=True),
        lambda d: {"drop_g": d[0] / 0.6},
    ),
}


@pytest.mark.parametrize(
    ("cell", "entering"), list(NOISE_IN_THE_PAPERS.values()), ids=list(NOISE_IN_THE_PAPERS)
)
def test_what_is_drawn_enters_as_in_the_papers(x64, cell, entering):
    """The drawn masks put into the papers' equations in NumPy."""
    params, xs = setup(cell, dtype=jnp.float64)
    _, drawn = cell.project(params, xs, Draws(KEY, number((T, B), None))(cell.draw))
    drawn = np.stack(jax.tree.leaves(drawn))  # one for each draw
    h, c, ys = np.zeros((B, H)), np.zeros((B, H)), []
    for t in range(T):
        h, c = lstm_step(params, h, c, np.asarray(xs[t]), **entering(drawn[:, t]))
        ys.append(h)
    carry, got = jaxrnn.scan(cell, params, xs, key=KEY)
    assert_close((tuple(carry), got), ((h, c), np.stack(ys)), 1e-12)


def test_zoneout_and_dropout_as_in_the_papers(x64):
    """Together: the inputs dropped, then some units of h and c kept."""
    inner = Zoneout(LSTM(H), h=0.3, c=0.4)
    cell = Dropout(inner, 0.2)
    params, xs = setup(cell, dtype=jnp.float64)
    draws = Draws(KEY, number((T, B), None))
    survives = np.asarray(
        draws.part(0)(lambda keys: jax.random.bernoulli(keys.step, np.float32(0.8), (IN,)))
    )
    _, kept = inner.project(params, xs, draws.part(1)(inner.draw))
    h, c = np.zeros((B, H)), np.zeros((B, H))
    for t in range(T):
        new_h, new_c = lstm_step(params, h, c, np.asarray(xs[t]) * survives[t] / 0.8)
        h, c = (
            np.where(kept[name][t], old, new)
            for name, old, new in (("h", h, new_h), ("c", c, new_c))
        )
    assert_close(tuple(jaxrnn.scan(cell, params, xs, key=KEY)[0]), (h, c), 1e-12)


def test_candidate_dropout_forgets_nothing():
    """A memory that neither writes nor forgets stays as it was, whatever is dropped."""
    cell = CandidateDropout(LSTM(H), 0.5)
    params, xs = setup(cell)
    gate = jnp.repeat(jnp.array([-100.0, 100.0, 0.0, 0.0]), H)  # i = 0, f = 1
    carry = jaxrnn.LSTMCarry(jnp.ones((B, H)), jnp.full((B, H), 0.7))
    after, _ = jaxrnn.scan(cell, params._replace(b=gate), xs, carry, key=KEY)
    np.testing.assert_array_equal(after.c, carry.c)


def test_dropconnect_drops_recurrent_weights_alone():
    inner = LSTM(H, projection=3)
    params, xs = setup(inner)
    zeroed = params._replace(w_h=jnp.zeros_like(params.w_h))
    assert_close(
        jaxrnn.scan(DropConnect(inner, 0.5), zeroed, xs, key=KEY),
        jaxrnn.scan(inner, zeroed, xs),
        1e-6,
    )


def test_dropout_between_layers_is_not_below_the_first():
    cell = Stack((Elman(H), Elman(H)), dropout=0.5)
    params, xs = setup(cell)
    (first, _), _ = jaxrnn.scan(cell, params, xs, key=KEY)
    (plain, _), _ = jaxrnn.scan(cell, params, xs)
    assert_equal(first, plain)


def test_arrays_of_numpy_without_jit():
    """Inputs and a carry that no `jax.jit` has made JAX's."""
    params, xs = setup(Zoneout(GRU(H), h=0.3))
    params, xs, carry = jax.tree.map(np.asarray, (params, xs[:1], jnp.ones((B, H))))
    dropped, zoned = Dropout(GRU(H), 0.4), Zoneout(GRU(H), h=0.3)

    def run() -> Any:
        return (
            jaxrnn.step(dropped, params, carry, xs[0], key=KEY),
            jaxrnn.scan(zoned, params, xs, carry),
        )

    wanted = run()
    with jax.disable_jit():
        assert_close(run(), wanted, 1e-6)


def test_a_step_draws_too():
    cell = Zoneout(GRU(H), h=0.5)
    params, xs = setup(cell)
    carry = jnp.ones((B, H))
    draws = [
        jaxrnn.step(cell, params, carry, xs[0], key=jax.random.key(seed))[1] for seed in (0, 0, 1)
    ]
    assert_equal(draws[0], draws[1])
    assert not np.allclose(draws[0], draws[2])


def test_no_mask_is_kept():
    """The engine's temporaries with zoneout are those without, but for what a block draws."""

    def temporaries(cell: jaxrnn.Cell) -> int:
        params, xs = cell.init(jax.random.key(0), 16), jnp.ones((1024, 8, 16))
        loss = noisy_loss(jaxrnn.scan, cell, key=KEY)
        analysis = jax.jit(jax.grad(loss, (0, 1))).lower(params, xs).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporaries(Zoneout(LSTM(64), h=0.1, c=0.1)) < 1.35 * temporaries(LSTM(64))


def attending(cell: jaxrnn.Cell) -> jaxrnn.Cell:
    return jaxrnn.Attention(cell, memory=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dropout(LSTM(4), 1.0), r"rate is 1.0, expected a rate in \[0, 1\)"),
        (lambda: CandidateDropout(Elman(4), 0.5), r"Elman has no candidate_activation"),
        (lambda: CandidateDropout(LSTM(4), -0.5), r"rate is -0.5"),
        (lambda: Zoneout(LSTM(4), h=-0.1), r"h is -0.1"),
        (lambda: Zoneout(GRU(4), c=0.1), r"c is 0.1, but the carry of GRU has no c"),
        (
            lambda: Zoneout(attending(jaxrnn.Residual(GRU(5))), c=0.1).init(KEY, 3),
            r"c is 0.1, but the carry of Attention has no c",
        ),
        (lambda: Zoneout(Stack((GRU(4),)), h=0.1), r"made of cells"),
        (lambda: LearnedCarry(Bidirectional(GRU(4))), r"made of cells"),
        (lambda: StateNoise(GRU(4), 0.0), r"scale is 0.0, expected a positive number"),
        (lambda: RecurrentDropout(GRU(4), 0.1, draws=0), r"draws is 0"),
        (
            lambda: Stack((GRU(4), jaxrnn.Residual(GRU(5)))),
            r"Residual: GRU returns 5 features for an input of 4, expected equal sizes",
        ),
        (
            lambda: jaxrnn.Highway(GRU(4)).init(KEY, 3),
            r"Highway: GRU returns 4 features for an input of 3, expected equal sizes",
        ),
        (lambda: Stack.repeat(GRU(4), 0), r"Stack: layers is 0"),
        (lambda: Stack.repeat(GRU(4), 2, connection="skip"), r"connection is 'skip'"),  # type: ignore[arg-type]
        (lambda: LSTM(4, projection=5), r"projection is 5, expected at most hidden, 4"),
        (lambda: LSTM(4, clip=-1.0), r"clip is -1.0, expected a positive number"),
        (lambda: LSTM(4, layer_norm=True), r"layer_norm is True"),  # type: ignore[arg-type]
        (lambda: GRU(4, clip=0), r"clip is 0"),
        (lambda: jaxrnn.MGU(4, form="other"), r"form is 'other'"),  # type: ignore[arg-type]
    ],
)
def test_bad_combinations_are_refused_when_built(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("draws", [2, 5])
def test_a_draw_for_each_gate(draws):
    cell = RecurrentDropout(LSTM(4), 0.1, draws=draws)
    params, xs = setup(cell)
    with pytest.raises(ValueError, match=rf"draws is {draws}, expected 1, or 4, the number of ga"):
        jaxrnn.scan(cell, params, xs, key=KEY)


@pytest.mark.parametrize(
    "key", [3, jnp.zeros(3), jax.random.split(KEY)], ids=["int", "floats", "several"]
)
def test_what_is_no_key_is_refused(key):
    cell = Zoneout(GRU(4), h=0.1)
    params, xs = setup(cell)
    with pytest.raises(TypeError, match="expected one key such as"):
        jaxrnn.scan(cell, params, xs, key=key)
