"""Streams in slots: each gets what it would get alone, whatever the others do."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.streams.slots import Slots, _advance
from tests.support.helpers import assert_close, assert_equal, cut, make_params, make_xs
from tests.support.specs import BY_ID, every_causal

pytestmark = pytest.mark.usefixtures("x64")

CHUNK, SIZE = 2, 3


def first(xs: Any) -> Any:
    """One step's input of one stream."""
    return jax.tree.map(lambda leaf: leaf[0], xs)


def make_slots(spec: Any, params: Any, **options: Any) -> Slots:
    return Slots(spec.cell, params, SIZE, first(make_xs(spec, (1,))), chunk=CHUNK, **options)


@every_causal
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
    """The carry of all slots, one that a stream brings, and what the cell gives."""
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


def test_mistakes():
    spec = BY_ID["lstm"]
    params = make_params(spec)
    slots = make_slots(spec, params)
    slots.join("ann")
    before = jax.tree.map(np.asarray, slots.carry)
    for call, message in (
        (
            lambda: slots.join("ann"),
            r"'ann' has joined already; to begin it anew, use restart\('ann'\)",
        ),
        (lambda: slots.leave("ben"), "there is no stream 'ben'; let it join first"),
        (
            lambda: slots.advance({"ann": np.ones((2, 3)), "ben": np.ones((2, 3))}),
            "there is no stream 'ben'",
        ),
        (
            lambda: slots.advance({"ann": np.ones((2, 4))}),
            r"the input of 'ann' has shape \(2, 4\), expected \('steps', 3\)",
        ),
        (lambda: slots.advance({"ann": np.ones(())}), r"has shape \(\), expected \('steps', 3\)"),
        (
            lambda: slots.join("ben", jnp.ones(4)),
            r"carry is .*, expected the form of one stream's, LSTMCarry",
        ),
        (
            lambda: [slots.join(k) for k in range(3)],
            "all 3 slots are taken; let a stream leave, or make more",
        ),
        (lambda: Slots(spec.cell, params, 0, np.ones(3)), "size is 0, expected a positive integer"),
        (
            lambda: Slots(spec.cell, params, 1, np.ones(3), chunk=0),
            "chunk is 0, expected a positive integer",
        ),
        (lambda: Slots(spec.cell, params, 1, 1.0), r"x has shape \(\), expected"),
        (
            lambda: Slots(spec.cell, params, 1, np.ones(5)),
            r"w_x has shape \(3, 16\), expected \(5, 16\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert_equal(jax.tree.map(np.asarray, slots.carry), before)
    both = jaxrnn.Bidirectional(jaxrnn.GRU(4))
    with pytest.raises(
        TypeError, match="Bidirectional needs the whole sequence, so it has no stream"
    ):
        Slots(both, both.init(jax.random.key(0), 3), 1, np.ones(3))
