"""Jordan's and Elman's networks, the first recurrent ones: what each can and cannot remember.

    python examples/elman_jordan.py

Elman's network (1990, "Finding structure in time") reads its own hidden units of the last step,
Jordan's (1986, "Attractor dynamics and parallelism in a connectionist sequential machine") its own
output. They read random bits and count the ones, modulo 4. The target shows the count

    always             so the last output holds all that must be remembered;
    when it changes    so the last output may be "nothing", but an earlier one holds the count;
    when asked         so no output holds the ones that were counted since the last question.

With teacher forcing, Jordan's network reads the right output of the last step in place of its own,
so no step waits for another. But its answer is then a function of that output and the input. No
weights can exceed the best such function, whose score is counted. A decaying context,
s_t = μ s_{t-1} + y_{t-1}, depends on all earlier outputs, and moves the limit to the best function
of these.

Trained on its own outputs, which are real numbers, the network has no such limit: it can store the
count in small deviations from the target. Rounding the outputs removes them.
"""

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from jaxrnn.cells import Taught
from jaxrnn.sequences import shift
from kit.command_line import check_at_least, check_positive, command
from kit.elman_jordan import counter
from kit.elman_jordan.counter import DISPLAYS, OUTPUTS, Sequences
from kit.elman_jordan.picture import Found, draw, table
from kit.files import make_writable

HELD_OUT = 1000  # sequences
ELMAN, TAUGHT, CONTEXT, ALONE = (
    "Elman", "Jordan, taught", "Jordan with context, taught", "Jordan, trained alone"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare Elman's network and Jordan's on a counter with three kinds of targets."""

    hidden: int = 32
    """Units of each network."""
    decay: float = 0.5
    """Decay of Jordan's context."""
    length: int = 32
    """Steps of a sequence in training; held-out ones have twice as many."""
    updates: int = 4_000
    """Updates of each network."""
    batch: int = 32
    """Sequences in an update."""
    learning_rate: float = 3e-3
    """Learning rate of Adam."""
    seeds: int = 5
    """Runs that differ in their initial weights and sequences."""
    out: Path = Path("runs/elman_jordan")
    """Folder for the picture and the table."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "length", "updates", "batch", "seeds")
        check_positive(self, "learning_rate")


def networks(o: Options) -> dict[str, Any]:
    """What is trained."""
    jordan = partial(jaxrnn.Jordan, o.hidden, features=OUTPUTS)
    return {
        ELMAN: jaxrnn.Readout(jaxrnn.Elman(o.hidden), OUTPUTS),
        TAUGHT: jordan(teacher=True),
        CONTEXT: jordan(teacher=True, decay=o.decay),
        ALONE: jordan(),
    }


def rounded(y: jax.Array) -> jax.Array:
    """One for the largest output, zero for the others."""
    return jax.nn.one_hot(jnp.argmax(y, axis=-1), OUTPUTS, dtype=y.dtype)


def runs(cells: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    """What is scored: which network was trained, and as what it runs; Jordan's also on their own
    outputs, rounded.
    """
    rows = {}
    for name, cell in cells.items():
        rows[name] = name, cell
        if isinstance(cell, jaxrnn.Jordan):
            alone = dataclasses.replace(cell, teacher=False, output_activation=rounded)
            rows[f"{name}, {'then alone' if cell.teacher else 'rounded'}"] = name, alone
    return rows


def run(cell: Any, params: Any, data: Sequences) -> jax.Array:
    """What it says `[time, batch, OUTPUTS]`; a teacher tells it the right outputs."""
    taught = getattr(cell, "teacher", False)
    xs = Taught(data.xs, shift(data.targets, 0.0)) if taught else data.xs
    return jaxrnn.scan(cell, params, xs)[1]


@partial(jax.jit, static_argnums=(0, 1))
def train(cell: Any, o: Options, displays: jax.Array, seeds: jax.Array) -> tuple[Any, jax.Array]:
    """Parameters, and squared errors `[displays, seeds, updates]`, all of them side by side."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(o.learning_rate))

    def loss(params: Any, data: Sequences) -> jax.Array:
        return jnp.mean(jnp.sum(jnp.square(run(cell, params, data) - data.targets), axis=-1))

    def one(display: jax.Array, seed: jax.Array) -> tuple[Any, jax.Array]:
        of_params, of_data = jax.random.split(jax.random.key(seed))

        def update(state: Any, number: jax.Array) -> tuple[Any, jax.Array]:
            params, moments = state
            data = counter.draw(display, jax.random.fold_in(of_data, number), o.length, o.batch)
            error, gradient = jax.value_and_grad(loss)(params, data)
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), moments), error

        params = cell.init(of_params, in_features=2)
        state = params, optimizer.init(params)
        (params, _), errors = jax.lax.scan(update, state, jnp.arange(o.updates))
        return params, errors

    over_seeds = jax.vmap(one, in_axes=(None, 0))
    return jax.vmap(over_seeds, in_axes=(0, None))(displays, seeds)


@partial(jax.jit, static_argnums=0)
def say(cell: Any, params: Any, data: Sequences) -> jax.Array:
    """What all of them say on held-out sequences `[displays, seeds, time, batch, OUTPUTS]`."""
    over_seeds = jax.vmap(partial(run, cell), in_axes=(0, None))
    return jax.vmap(over_seeds)(params, data)


def study(o: Options) -> list[Found]:
    """Train all networks, and run them on sequences that are new, and longer; for each display."""
    cells, displays, seeds = networks(o), jnp.arange(len(DISPLAYS)), jnp.arange(o.seeds)
    params, errors, spent = {}, {}, {}
    for name, cell in cells.items():
        program = train.lower(cell, o, displays, seeds).compile()
        began = time.process_time()  # without compiling
        params[name], errors[name] = jax.block_until_ready(program(displays, seeds))
        spent[name] = 1000 * (time.process_time() - began) / errors[name].size
        if not np.all(np.isfinite(errors[name])):
            raise FloatingPointError("training diverged: try a lower --learning-rate")
        print(f"{name}: {spent[name]:.3f} ms of processor time for an update", flush=True)
    new = partial(counter.draw, key=jax.random.key(o.seeds), length=2 * o.length, batch=HELD_OUT)
    data = jax.vmap(new)(displays)
    said = {row: np.asarray(say(cell, params[k], data)) for row, (k, cell) in runs(cells).items()}

    def found(k: int) -> Found:
        own = jax.tree.map(lambda array: np.asarray(array[k]), data)
        told, wrong = ({name: each[k] for name, each in all_.items()} for all_ in (said, errors))
        last, every = counter.limit_of_last_output(own), counter.limit_of_all_outputs(k, own)
        return Found(own, told, {TAUGHT: last, CONTEXT: every}, wrong, spent)

    return [found(k) for k in range(len(DISPLAYS))]


@command(Options)
def main(o: Options) -> None:
    make_writable(o.out)
    found = study(o)
    text = table(found)
    (o.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    draw(o.out / "elman_jordan.png", found, leaky=ALONE)
    print(f"{text}\n{o.out}: elman_jordan.png, table.txt")


if __name__ == "__main__":
    main()
