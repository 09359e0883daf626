"""Streams in slots: each gets what it would get alone, whatever the others do."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.streams.slots import Slots, _advance
from tests.support.helpers import assert_close, assert_equal, cut, make_params, make_xs
from tests.support.specs import BY_ID, some
from tests.support.user_cells import Attending

pytestmark = pytest.mark.usefixtures("x64")

CHUNK, SIZE = 2, 3


def first(xs: Any) -> Any:
    """One step's input of one stream."""
    return jax.tree.map(lambda leaf: leaf[0], xs)


def make_slots(spec: Any, params: Any, **options: Any) -> Slots:
    return Slots(spec.cell, params, SIZE, first(make_xs(spec, (1,))), chunk=CHUNK, **options)


@some(
    "elman_tanh",
    "lstm_all",
    "gru_before",
    "stack_connected",
    "learned_carry",
    "dropped",
    "user_decaying",
    "user_clockwork",
    "user_ring",
    "user_fast_weights",
)
def test_pieces_of_any_size_equal_one_scan(spec):
    """Three streams in pieces of 0 to 4 steps; one joins late, one restarts, one moves to another
    server half-way.
    """
    params = make_params(spec)
    streams = {
        name: make_xs(spec, (7,), seed=seed) for seed, name in enumerate(("ann", "ben", "cid"))
    }
    wanted = {name: jaxrnn.scan(spec.cell, params, xs)[1] for name, xs in streams.items()}
    slots = make_slots(spec, params)
    slots.join("ann")
    slots.join("ben")
    got = [slots.advance({"ann": cut(streams["ann"], 0, 3), "ben": cut(streams["ben"], 3, 7)})]
    slots.restart("ben")
    slots.join("cid")
    got.append(slots.advance({"ben": cut(streams["ben"], 0, 1), "cid": cut(streams["cid"], 0, 4)}))
    carry = slots.leave("cid")
    got.append(slots.advance({"ben": cut(streams["ben"], 1, 2), "ann": cut(streams["ann"], 3, 3)}))
    other = make_slots(spec, params)
    other.join("ann")
    other.join("cid", carry)
    got.append(other.advance({"cid": cut(streams["cid"], 4, 7)}))
    got.append(slots.advance({"ann": cut(streams["ann"], 3, 7), "ben": cut(streams["ben"], 2, 7)}))
    got[0].pop("ben")  # before its restart
    for name in streams:
        pieces = [part[name] for part in got if name in part]
        assert_close(
            jax.tree.map(lambda *parts: np.concatenate(parts), *pieces), wanted[name], 1e-12
        )


def test_one_program():
    """Whoever comes and goes, with however many steps."""
    spec = BY_ID["lstm"]
    slots = make_slots(spec, make_params(spec))
    slots.join("first")
    slots.advance({"first": make_xs(spec, (1,))})
    program: Any = _advance
    programs = program._cache_size()
    for k in range(6):
        slots.join(k)
        slots.advance({"first": make_xs(spec, (k,)), k: make_xs(spec, (3,))})
        slots.restart("first")
        slots.leave(k)
    assert program._cache_size() == programs
    assert slots.streams == ("first",)


def test_a_slot_keeps_nothing_of_the_stream_before():
    spec = BY_ID["gru_before"]
    params, xs = make_params(spec), make_xs(spec, (4,))
    slots = make_slots(spec, params)
    slots.join("nan")
    slots.advance({"nan": np.full_like(xs, np.nan)})
    slots.leave("nan")
    slots.join("next")
    assert_equal(slots.leave("next"), spec.cell.initial_carry(params, xs.shape[1:]))
    slots.join("next")
    assert_close(slots.advance({"next": xs})["next"], jaxrnn.scan(spec.cell, params, xs)[1], 1e-12)


@dataclasses.dataclass(frozen=True)
class Cached(jaxrnn.Elman):
    """A cell whose initial carry others hold, too."""

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        """Once made, always the same."""
        return HELD.setdefault(input_shape, super().initial_carry(params, input_shape))


HELD: dict[tuple[int, ...], Any] = {}


def test_what_a_user_holds_stays():
    """The carry of all slots, one that a stream brings, and what the cell gives. What a stream
    takes along is its own.
    """
    cell, xs = Cached(4), np.ones((3, 3))
    slots = Slots(cell, cell.init(jax.random.key(0), 3), SIZE, xs[0])
    at_first = slots.carry
    slots.join("ann")
    slots.advance({"ann": xs})
    held, left = slots.carry, slots.leave("ann")
    before = np.array(held)
    slots.join("ben", left)
    slots.advance({"ben": xs})
    assert np.array_equal(held, before)
    assert np.array_equal(left, before[0])
    assert not np.any(at_first)
    assert not any(leaf.is_deleted() for leaf in HELD.values())
    slots.join("cid")
    slots.leave("cid").delete()  # as a program does that it is donated to
    slots.join("cid")
    assert not np.any(slots.leave("cid"))
    with pytest.raises(AttributeError):
        slots.carry = held  # type: ignore[misc]


def test_many_threads():
    """Each gets what it would get alone."""
    spec = BY_ID["lstm"]
    params, xs = make_params(spec), make_xs(spec, (6,))
    wanted = jaxrnn.scan(spec.cell, params, xs)[1]
    slots = make_slots(spec, params)

    def serve(name: str) -> list[Any]:
        got = []
        for _ in range(20):
            slots.join(name)
            got.append([slots.advance({name: xs[:3]})[name], slots.advance({name: xs[3:]})[name]])
            slots.join(name + " moved", slots.leave(name))
            assert not jnp.any(jnp.isnan(slots.carry.h))
            slots.leave(name + " moved")
        return got

    with ThreadPoolExecutor(SIZE) as pool:
        for got in pool.map(serve, ["ann", "ben", "cid"]):
            for pieces in got:
                assert_close(np.concatenate(pieces), wanted, 1e-12)


@dataclasses.dataclass(frozen=True)
class Sum(jaxrnn.Cell):
    """Adds up its input."""

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        return jnp.zeros((in_features, 0), dtype)

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return jnp.zeros(input_shape, jnp.float32)

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        return carry + u, carry + u

    @property
    def out_features(self) -> int:
        return 1


def test_threads_in_any_order():
    """Each thread makes random calls for a pair of streams of its own, which it advances together.
    It finds what its own calls alone explain, and whoever looks finds both of a pair equal.
    """
    pairs = 4
    slots = Slots(Sum(), jnp.zeros((1, 0)), 2 * pairs, np.zeros(1, np.float32), chunk=2)
    done = threading.Event()

    def serve(number: int) -> None:
        rng = np.random.default_rng(number)
        pair, total, kept = [f"{number} a", f"{number} b"], 0.0, None
        places: list[int] = []
        for _ in range(60):
            steps = int(rng.integers(1, 6))
            xs = np.full((steps, 1), number + 1.0, np.float32)
            call = rng.integers(5)
            if not places:  # with the carry that it left with, or anew
                total = total if kept and call > 1 else 0.0
                places = [slots.join(n, kept[n] if kept and total else None) for n in pair]
            elif call < 2:
                ys = slots.advance(dict.fromkeys(pair, xs))
                total += (number + 1.0) * steps
                assert [float(ys[name][-1, 0]) for name in pair] == [total, total]
            elif call == 2:
                whole, lengths = np.zeros((3, 2 * pairs, 1)), np.zeros(2 * pairs, int)
                whole[:, places], lengths[places] = number + 1.0, 2
                ys = slots.advance_array(whole, lengths)
                total += (number + 1.0) * 2
                assert ys[:, places, 0].tolist() == [[total - number - 1] * 2, [total] * 2, [0, 0]]
            elif call == 3:
                assert set(pair) <= set(slots.streams)
                kept = {name: slots.leave(name) for name in pair}
                assert {float(kept[name][0]) for name in pair} == {total}
                places = []
            else:
                for name in pair:
                    slots.restart(name)
                total = 0.0

    def look() -> None:
        while not done.is_set():
            assert np.all(np.asarray(slots.carry) >= 0)

    with ThreadPoolExecutor(pairs + 1) as pool:
        watcher = pool.submit(look)
        served = [pool.submit(serve, number) for number in range(pairs)]
        try:
            for each in served:
                each.result()
        finally:
            done.set()
        watcher.result()


def test_an_advance_takes_effect_as_a_whole():
    """Whoever looks meanwhile never finds one stream ahead of the other, nor half a call."""
    slots = Slots(Sum(), jnp.zeros((1, 0)), 2, np.zeros(1, np.float32))
    slots.join("a")
    slots.join("b")
    xs, seen, done = np.ones((4, 1), np.float32), set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            a, b = np.asarray(slots.carry)[:, 0].tolist()
            assert a == b
            seen.add(a)

    slots.advance({"a": xs, "b": xs})  # after this they are no longer fresh
    with ThreadPoolExecutor(1) as pool:
        watcher, advances = pool.submit(look), 1
        while advances < 51 or (len(seen) < 2 and not watcher.done()):
            slots.advance({"a": xs, "b": xs})
            advances += 1
        done.set()
        watcher.result()
    assert seen <= set(range(4, 4 * advances + 1, 4))
    assert len(seen) > 1


def test_one_array_for_all():
    """As `advance` with a dictionary; a stream between two others has left."""
    spec = BY_ID["lstm"]
    params, xs = make_params(spec), np.array(make_xs(spec, (7, SIZE)))
    slots = make_slots(spec, params)
    places = {name: slots.join(name) for name in ("ann", "gone", "cid")}
    assert sorted(places.values()) == [0, 1, 2]
    slots.leave("gone")
    ann, gone, cid = places.values()
    xs[:, gone] = np.nan
    whole = slots.advance_array(xs[:3])
    part = slots.advance_array(xs[3:], np.array([2, 0, 4])[np.argsort([ann, gone, cid])])
    for place, length in ((ann, 2), (cid, 4)):
        wanted = jaxrnn.scan(spec.cell, params, xs[: 3 + length, place])[1]
        assert_close(whole[:, place], wanted[:3], 1e-12)
        assert_close(part[:length, place], wanted[3:], 1e-12)
        assert not np.any(part[length:, place])
    assert not np.any(whole[:, gone])
    wanted = jaxrnn.scan(spec.cell, params, np.concatenate([xs[:5, ann], xs[:1, ann]]))[1]
    assert_close(slots.advance({"ann": xs[:1, ann]})["ann"], wanted[5:], 1e-12)


def test_each_stream_looks_at_its_own_context():
    """Whoever had the slot before it."""
    cell, rng = Attending(4), np.random.default_rng(0)
    params, xs = cell.init(jax.random.key(0), 3, jnp.float64), rng.normal(size=(6, 3))
    memory = {name: rng.normal(size=(2, 3)) for name in ("ann", "ben", "cid")}
    contexts = {name: (each, np.array([True, name != "ben"])) for name, each in memory.items()}
    wanted = {name: jaxrnn.scan(cell, params, xs, context=own)[1] for name, own in contexts.items()}
    slots = Slots(cell, params, 2, xs[0], chunk=3)
    with pytest.raises(ValueError, match=r"no stream has a context; .*join\(name, context="):
        slots.advance_array(np.zeros((3, 2, 3)))
    for name in ("ann", "ben"):
        slots.join(name, context=contexts[name])
    first = slots.advance({"ann": xs, "ben": xs[:2]})
    assert_close(first, {"ann": wanted["ann"], "ben": wanted["ben"][:2]}, 1e-12)
    slots.leave("ann")
    with pytest.raises(ValueError, match="Attending takes a context, but 'cid' has none"):
        slots.join("cid")
    with pytest.raises(ValueError, match=r"context is .*, expected the form of one stream's"):
        slots.join("cid", context=(memory["cid"][:1], np.ones(1, bool)))
    slots.join("cid", context=contexts["cid"])
    second = slots.advance({"cid": xs, "ben": xs[2:]})
    assert_close(second, {"cid": wanted["cid"], "ben": wanted["ben"][2:]}, 1e-12)
    plain = Slots(jaxrnn.GRU(4), jaxrnn.GRU(4).init(jax.random.key(0), 3), 2, xs[0])
    with pytest.raises(ValueError, match="GRU takes no context, but 'ann' has one; leave it"):
        plain.join("ann", context=np.ones(2))
    assert (plain.streams, slots.streams) == ((), ("ben", "cid"))


LSTM, TWO, ALL = BY_ID["lstm"], np.ones((2, 3)), np.ones((2, 3, 3))
MISTAKES = {
    "joined": (
        lambda s: s.join("ann"),
        r"'ann' has joined already; to start it again, use restart\('ann'\)",
    ),
    "absent": (lambda s: s.leave("ben"), "there is no stream 'ben'; let it join first"),
    "absent too": (lambda s: s.advance({"ann": TWO, "ben": TWO}), "there is no stream 'ben'"),
    "features": (
        lambda s: s.advance({"ann": np.ones((2, 4))}),
        r"the input of 'ann' has shape \(2, 4\), expected \('steps', 3\)",
    ),
    "no steps": (
        lambda s: s.advance({"ann": np.ones(())}),
        r"has shape \(\), expected \('steps', 3\)",
    ),
    "unbatched": (
        lambda s: s.advance_array(TWO),
        r"xs has shape \(2, 3\), expected \('time', 3, 3\)",
    ),
    "two lengths": (
        lambda s: s.advance_array(ALL, [1, 1]),
        r"lengths has shape \(2,\), expected \[size\] = \(3,\)",
    ),
    "too long": (
        lambda s: s.advance_array(ALL, [3, 0, 0]),
        "lengths go from 0 to 3, expected 0 to 2",
    ),
    "nobody": (
        lambda s: s.advance_array(ALL, [1, 2, 0]),
        r"lengths\[1\] is 2, but no stream has this slot; set it to 0",
    ),
    "floats": (
        lambda s: s.advance_array(ALL, np.ones(3)),
        "lengths has dtype float64, expected integers",
    ),
    "carry": (
        lambda s: s.join("ben", np.ones(4)),
        r"carry is .*, expected the form of one stream's, LSTMCarry",
    ),
    "full": (
        lambda s: [s.join(k) for k in range(3)],
        "all 3 slots are taken; let a stream leave, or make size larger",
    ),
    "size": (lambda s: one_slot(size=0), "size is 0, expected a positive integer"),
    "chunk": (lambda s: one_slot(chunk=0), "chunk is 0, expected a positive integer"),
    "a number": (lambda s: one_slot(x=1.0), r"x has shape \(\), expected"),
    "wider": (lambda s: one_slot(x=np.ones(5)), r"w_x has shape \(3, 16\), expected \(5, 16\)"),
    "whole sequences": (
        lambda s: one_slot(jaxrnn.Bidirectional(LSTM.cell)),
        "Bidirectional needs the whole sequence, so it has no stream",
    ),
}


def one_slot(cell: Any = LSTM.cell, size: int = 1, x: Any = TWO[0], **options: Any) -> Slots:
    return Slots(cell, make_params(LSTM), size, x, **options)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    call, message = MISTAKES[name]
    kind = TypeError if name in ("floats", "whole sequences") else ValueError
    slots = make_slots(LSTM, make_params(LSTM))
    slots.join("ann")
    before = jax.tree.map(np.asarray, slots.carry)
    with pytest.raises(kind, match=message):
        call(slots)
    assert_equal(jax.tree.map(np.asarray, slots.carry), before)


def test_what_would_be_rounded_is_refused():
    """The first context that fits the cell says what those of others are."""
    cell = Attending(3)
    params = cell.init(jax.random.key(0), 3)
    slots = Slots(cell, params, 2, jnp.zeros(3, jnp.float32))
    places = np.ones(4, bool)
    with pytest.raises((TypeError, ValueError)):
        slots.join("wide", context=(np.ones((4, 5), np.float32), places))
    slots.join("ann", context=(np.ones((4, 3), np.float32), places))
    with pytest.raises(TypeError, match="context has dtype int32, expected float32"):
        slots.join("ben", context=(np.ones((4, 3), np.int32), places))
    plain = Slots(jaxrnn.GRU(4), jaxrnn.GRU(4).init(jax.random.key(0), 3), 2, jnp.zeros(3))
    with pytest.raises(TypeError, match="carry has dtype complex"):
        plain.join("ann", np.ones(4) + 0.5j)
    with pytest.raises(ValueError, match=r"xs has shape None, expected \('time', 2, 3\)"):
        plain.advance_array(None)
    slot = plain.join("ann", np.ones(4, np.float32))
    plain.leave("ann")
    assert plain.join("ben") == slot
    assert not np.any(plain.carry[slot])
