"""Attention, and `vmap` over rows or parameters, beside the same written by hand in `lax.scan`.

    python -m benchmarks.by_hand

Each comparison is one training step: outputs, and the gradients of parameters, inputs and memory.
First all sides must agree; then they take turns, and the minimum over rounds counts.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

import jaxrnn
from benchmarks.measure import Program, compiled, take_turns

TOLERANCE = 1e-3  # of float32, relative to the largest number of an array

Loss = Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Programs that compute the same; the first is jaxrnn's, the last one written by hand."""

    name: str
    losses: dict[str, Loss]
    arguments: tuple[Any, ...]

    def programs(self) -> dict[str, Program]:
        """The training steps.

        Raises:
            ValueError: they do not agree.
        """
        wanted = tuple(range(len(self.arguments)))
        programs = {
            side: compiled(jax.value_and_grad(loss, wanted), *self.arguments)
            for side, loss in self.losses.items()
        }
        first, *others = [jax.tree.leaves(program.call()) for program in programs.values()]
        for side, other in zip([*programs][1:], others, strict=True):
            off = max(map(_distance, other, first))
            if not off < TOLERANCE:
                raise ValueError(f"{self.name}: {side} is off by {off:.1e}, not below {TOLERANCE}")
        return programs


def _distance(a: Array, b: Array) -> float:
    return float(jnp.abs(a - b).max() / (jnp.abs(b).max() + 1e-30))


def lstm(params: Any, carry: tuple[Array, Array], z: Array) -> tuple[Array, Array]:
    """One step, from its gates before the recurrent product."""
    h, c = carry
    i, f, g, o = jnp.split(z + h @ params.w_h, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def lstm_by_hand(params: Any, xs: Array) -> Array:
    """The outputs of an LSTM, with its input product before the loop."""

    def body(carry: tuple[Array, Array], z: Array) -> tuple[tuple[Array, Array], Array]:
        carry = lstm(params, carry, z)
        return carry, carry[0]

    start = jnp.zeros((*xs.shape[1:-1], params.w_h.shape[0]))
    return lax.scan(body, (start, start), xs @ params.w_x + params.b)[1]


def attention_by_hand(params: Any, xs: Array, memory: Array) -> Array:
    """The outputs of an LSTM that attends before each step, by the dot product if its score has no
    parameters, else additively.
    """
    cell, score = params.inner, params.score
    keys = memory if score is None else memory @ score.w_k + score.b

    def body(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        h, _ = carry
        if score is None:
            scores = jnp.einsum("bn,bpn->bp", h, keys)
        else:
            scores = jnp.tanh((h @ score.w_q)[:, None] + keys) @ score.v
        seen = jnp.einsum("bp,bpn->bn", jax.nn.softmax(scores), memory)
        z = jnp.concatenate([x, seen], axis=-1) @ cell.w_x + cell.b
        carry = lstm(cell, carry, z)
        return carry, carry[0]

    start = jnp.zeros((xs.shape[1], cell.w_h.shape[0]))
    return lax.scan(body, (start, start), xs)[1]


def attention(score: str, batch: int, time: int, places: int, hidden: int) -> Comparison:
    """A decoder that looks at a memory."""
    cell = jaxrnn.Attention(jaxrnn.LSTM(hidden), score)
    xs = _normal(1, time, batch, hidden)
    memory = _normal(2, batch, places, hidden)

    def ours(params: Any, xs: Array, memory: Array) -> Array:
        return _energy(jaxrnn.scan(cell, params, xs, context=jaxrnn.Memory(memory))[1])

    def by_hand(params: Any, xs: Array, memory: Array) -> Array:
        return _energy(attention_by_hand(params, xs, memory))

    params = cell.init(jax.random.key(0), hidden)
    name = f"attention, {score}, batch {batch}, {time} steps, {places} places, hidden {hidden}"
    return Comparison(name, {"jaxrnn": ours, "by hand": by_hand}, (params, xs, memory))


def mapped(batch: int, time: int, hidden: int) -> Comparison:
    """Rows under `vmap`, and the same as a batch axis."""
    cell = jaxrnn.LSTM(hidden)
    params, xs = cell.init(jax.random.key(0), hidden), _normal(1, time, batch, hidden)

    def run(params: Any, xs: Array) -> Array:
        return jaxrnn.scan(cell, params, xs)[1]

    def over_rows(run: Callable[[Any, Array], Array]) -> Loss:
        return lambda params, xs: _energy(jax.vmap(run, (None, 1), 1)(params, xs))

    sides = {
        "jaxrnn": over_rows(run),
        "batch axis": lambda params, xs: _energy(run(params, xs)),
        "by hand": over_rows(lstm_by_hand),
    }
    return Comparison(f"vmap over {batch} rows, {time} steps, hidden {hidden}", sides, (params, xs))


def models(count: int, batch: int, time: int, hidden: int) -> Comparison:
    """Many models under `vmap`."""
    cell = jaxrnn.LSTM(hidden)
    keys = jax.random.split(jax.random.key(0), count)
    params = jax.vmap(lambda key: cell.init(key, hidden))(keys)
    xs = _normal(1, count, time, batch, hidden)

    def over_models(run: Callable[[Any, Array], Array]) -> Loss:
        return lambda params, xs: _energy(jax.vmap(run)(params, xs))

    sides = {
        "jaxrnn": over_models(lambda params, xs: jaxrnn.scan(cell, params, xs)[1]),
        "by hand": over_models(lstm_by_hand),
    }
    name = f"vmap over {count} models, batch {batch}, {time} steps, hidden {hidden}"
    return Comparison(name, sides, (params, xs))


def _energy(ys: Array) -> Array:
    return jnp.mean(jnp.square(ys))


def _normal(seed: int, *shape: int) -> Array:
    return jax.random.normal(jax.random.key(seed), shape)


def comparisons() -> Iterator[Comparison]:
    """All, at the sizes that are reported."""
    for score in ("dot", "additive"):
        yield attention(score, batch=32, time=60, places=60, hidden=256)
    for batch, time, hidden in ((32, 128, 128), (64, 64, 256)):
        yield mapped(batch, time, hidden)
    yield models(8, batch=16, time=64, hidden=128)


def main() -> None:
    for comparison in comparisons():
        programs = comparison.programs()
        times = take_turns({side: program.call for side, program in programs.items()}, seconds=8)
        print(comparison.name)
        hand, hand_bytes = times["by hand"]["min"], programs["by hand"].temp_bytes or 1
        for side, program in programs.items():
            fastest, temporaries = times[side]["min"], program.temp_bytes or 0
            print(
                f"  {side:<12}{fastest:>8.1f} ms{hand / fastest:>7.2f} times as fast as by hand"
                f"{temporaries / 2**20:>9.1f} MiB{temporaries / hand_bytes:>7.2f} of its memory"
            )


if __name__ == "__main__":
    main()
