"""Long dependencies: identity recurrent weights (IRNN), compared with tanh, LSTM and GRU.

    python examples/irnn.py              # trains, prints, draws
    python examples/irnn.py --read 3     # then reads a held-out digit pixel by pixel

The gradient at a distant step contains ∂h_T/∂h_t, a product of one matrix for each step. With tanh
units and the usual random weights it vanishes within some dozens of steps. The IRNN (Le, Jaitly &
Hinton 2015, "A simple way to initialize recurrent networks of rectified linear units") starts with
rectified linear units and the identity matrix. So a unit passes on its value and its gradient.

There are two tasks. The adding problem asks for the sum of the two marked numbers out of 100. In
the other task a network reads the 64 pixels of a handwritten digit one by one, in order or in one
random order. Each network is trained with several learning rates in parallel, under one `vmap`. The
rate is chosen on validation data, and the result of that rate on held-out data is printed."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn import storage
from jaxrnn.initializers import Identity
from jaxrnn.sequences import last_output
from kit import plots
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.fitting import batches, fit, side_by_side
from kit.memory import (
    ADDING,
    DIGITS,
    LENGTH,
    Data,
    Task,
    baselines,
    digits,
    format_score,
    gradient_flow,
    losses,
    make_tasks,
    score,
)

COLORS = ("#999999", "#3b78b8", "#c8442c", "#3f8f4f", "#8a5fb0")


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare recurrent networks on two tasks with long sequences."""

    read: int | None = None
    """The number of a held-out digit to read, pixel by pixel; trains nothing."""
    hidden: int = 64
    """Units of each network."""
    steps: int = 600
    """Updates on each task."""
    batch: int = 64
    """Sequences in an update."""
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Adam's learning rates, of which the validation chooses one."""
    seed: int = 0
    """For the data, the initial weights and the order of the sequences."""
    out: Path = Path("runs/irnn")
    """Folder for the picture and the weights."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "steps", "batch")
        check_positive(self, "rates")
        check_seed(self.seed)


def small(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """How the IRNN's input weights are drawn; Le et al. have 0.001, and train for much longer."""
    return 0.1 * jax.random.normal(key, shape, dtype)


def networks(hidden: int) -> dict[str, jaxrnn.Cell]:
    """What is compared, each of the same width."""
    return {
        "tanh": jaxrnn.Elman(hidden, w_h_init="lecun_normal"),
        "tanh, orthogonal": jaxrnn.Elman(hidden),
        "IRNN": jaxrnn.Elman(hidden, activation="relu", w_h_init=Identity(), w_x_init=small),
        "LSTM": jaxrnn.LSTM(hidden),
        "GRU": jaxrnn.GRU(hidden),
    }


def answer(cell: jaxrnn.Cell, params: Any, xs: Any) -> jax.Array:
    """`[sequences, classes]`, from the output at the end of the sequence."""
    return last_output(jaxrnn.scan(cell, params, jnp.swapaxes(xs, 0, 1))[1], cell)


@partial(jax.jit, static_argnums=0)
def scores(cell: jaxrnn.Cell, several: Any, data: Data) -> jax.Array:
    """Of each set of parameters."""
    return jax.vmap(lambda params: score(answer(cell, params, data.xs), data.targets))(several)


def train(cell: jaxrnn.Cell, task: Task, o: Options, name: str) -> tuple[Any, float]:
    """The parameters of the rate that validates best, and their score on what was held out."""
    start = cell.init(jax.random.key(o.seed), task.train.xs.shape[-1])
    several = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(o.rates)), start)

    def loss(several: Any, data: Data, _: jax.Array) -> jax.Array:
        each = jax.vmap(lambda p: jnp.mean(losses(answer(cell, p, data.xs), data.targets)))
        return jnp.nansum(each(several)) / len(o.rates)  # a rate too high takes no other along

    some = batches(task.train, o.batch, o.seed, axis=0)
    several = fit(loss, several, some, side_by_side(o.rates), o.steps, name)
    best = int(jnp.nanargmax(scores(cell, several, task.validation)))
    params = jax.tree.map(lambda leaf: leaf[best : best + 1], several)
    (found,) = scores(cell, params, task.held_out)
    print(f"{name}: rate {o.rates[best]:g}, held out {format_score(task, float(found))}")
    return jax.tree.map(lambda leaf: leaf[0], params), float(found)


def compare(o: Options) -> None:
    make_writable(o.out)
    tasks, cells, results, weights = make_tasks(o.seed), networks(o.hidden), {}, {}
    others = {name: baselines(task) for name, task in tasks.items()}
    for task_name, task in tasks.items():
        for name, other in others[task_name].items():
            print(f"{task_name}, {name}: {format_score(task, other)}")
        for name, cell in cells.items():
            whole = jaxrnn.Readout(cell, task.classes)
            params, results[task_name, name] = train(whole, task, o, f"{task_name}, {name}")
            if task_name == DIGITS:
                weights[name] = params
    storage.save_tree(o.out / "weights.safetensors", weights, {"hidden": o.hidden, "seed": o.seed})
    draw(o, tasks, cells, results, others)
    print(f"{o.out}: weights.safetensors, irnn.png")


def draw(
    o: Options,
    tasks: dict[str, Task],
    cells: dict[str, jaxrnn.Cell],
    results: dict[tuple[str, str], float],
    others: dict[str, dict[str, float]],
) -> None:
    """How the gradient fares at the start, beside what came of it."""
    figure, ((flow, *panels),) = plots.make_grid(1, 4, size=(15, 4), share=False)
    for (name, cell), color in zip(cells.items(), COLORS, strict=True):
        norms = gradient_flow(cell, tasks[ADDING], o.seed)
        flow.semilogy(np.arange(1, LENGTH + 1), norms, color=color, label=name)
    flow.set(title="gradient before training", xlabel="steps back", ylabel="size of ∂h_T / ∂h_t")
    flow.set_ylim(1e-8, 1e3)
    flow.legend(frameon=False, fontsize=8)
    for axes, (task_name, task) in zip(panels, tasks.items(), strict=True):
        found = [abs(results[task_name, name]) for name in cells]
        bars = axes.bar(range(len(cells)), found, color=COLORS)
        said = [f"{score:.3f}" if task.classes == 1 else f"{score:.0%}" for score in found]
        axes.bar_label(bars, said, fontsize=8)
        for name, other in others[task_name].items():
            axes.axhline(abs(other), color=plots.GREY, linestyle=plots.DASHED, linewidth=1)
            axes.text(len(cells) - 0.5, abs(other), name, fontsize=7, ha="right", va="bottom")
        axes.set_xticks(range(len(cells)), [*cells], rotation=35, ha="right", fontsize=8)
        measure = "right answers" if task.classes > 1 else "squared error, lower is better"
        axes.set(title=f"{task_name}\n{measure}")
    plots.save(figure, o.out / "irnn.png")


def read(o: Options, number: int) -> None:
    """Show a held-out digit, and what each network takes it for as the rows come in."""
    weights, kept = storage.load_tree(o.out / "weights.safetensors", shapes)
    data = digits(kept["seed"], permuted=False).held_out
    if not 0 <= number < len(data.targets):
        raise ValueError(f"--read must be between 0 and {len(data.targets) - 1}, not {number}")
    pixels = data.xs[number]
    print(f"a {data.targets[number]}; the answers after each row:")
    print(" " * 18 + "".join(f"{name:>18}" for name in weights))
    guesses = {}
    for name, cell in networks(kept["hidden"]).items():
        _, ys = jaxrnn.scan(jaxrnn.Readout(cell, 10), weights[name], pixels)
        guesses[name] = jax.nn.softmax(ys)[7::8]
    for row, shades in enumerate(pixels.reshape(8, 8)):
        line = "".join(" .:-=+*#%@"[int(9 * shade)] * 2 for shade in shades)
        said = (guess[row] for guess in guesses.values())
        print(line + "  " + "".join(f"{f'{p.argmax()} ({p.max():.0%})':>18}" for p in said))


def shapes(kept: dict[str, int]) -> Any:
    """What the file of weights holds."""
    return {
        name: jaxrnn.Readout(cell, 10).init(jax.random.key(0), 1)
        for name, cell in networks(kept["hidden"]).items()
    }


@command(Options)
def main(o: Options) -> None:
    compare(o) if o.read is None else read(o, o.read)


if __name__ == "__main__":
    main()
