"""Exploding gradients, and what clipping by the global norm does about them, on a task that
diverges without it.

    python examples/exploding_gradients.py
    python examples/exploding_gradients.py --activation tanh --learning-rates 0.1 --updates 2000

The temporal order problem (Hochreiter & Schmidhuber 1997, experiment 6a), one of the pathological
tasks of Pascanu, Mikolov & Bengio (On the difficulty of training recurrent neural networks, 2013),
with their 50 hidden units, batches of 20 and norm of 1. Two of a sequence's random symbols matter,
each an A or a B. The network must name their order at the end: AA, AB, BA or BB.

The network is the IRNN of Le, Jaitly & Hinton (2015). Its states are not bounded, so it shows the
explosions that tanh hides by saturating. All runs use plain gradient descent. Runs with and without
clipping share initial weights, batches and learning rates. A run counts as

    diverged   if its loss is ever not finite, or above 100 ln 4, a hundred times that of guessing
    solved     if at most 1% of 1,000 new sequences are wrong at the end, as in Pascanu et al.

With the default settings, a rate of 0.0003 is small enough for these gradients: no run diverges
either way, and half of the runs without clipping solve the task. At ten times that rate, nine of
ten diverge without clipping. With clipping none diverges, even at a hundred times the rate, and all
ten solve the task. So a small rate helps, too, but clipping needs no search for the right rate.

This needs `pip install "jaxrnn[examples]"`. The picture (curves.png) and the table (table.txt) are
written to `--out`."""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.lines import Line2D

import jaxrnn
from jaxrnn.streams import tbptt
from kit import plots
from kit.command_line import check_at_least, check_positive, command
from kit.files import make_writable

SYMBOLS, ORDERS = 6, 4  # A, B and four that mean nothing; AA, BA, AB, BB
GUESSING = math.log(ORDERS)
DIVERGED = 100 * GUESSING
HELD_OUT = 1000
COLORS = {"with": plots.BLUE, "without": plots.RED}


@dataclasses.dataclass(frozen=True)
class Options:
    """Count the runs that diverge and those that solve the temporal order problem, with clipping
    and without.
    """

    length: int = 50
    """Symbols in a sequence."""
    activation: Literal["relu", "tanh"] = "relu"
    """With relu, recurrent weights start as the identity; with tanh, orthogonal times 1.2."""
    hidden: int = 50
    """Units."""
    learning_rates: tuple[float, ...] = (0.0003, 0.003, 0.03)
    """Learning rates of gradient descent; all seeds are run with each."""
    norm: float = 1.0
    """The global norm to which gradients are clipped."""
    seeds: int = 10
    """Runs that differ in their initial weights and batches."""
    updates: int = 1500
    """Per run."""
    batch: int = 20
    """Sequences per update."""
    out: Path = Path("runs/exploding_gradients")
    """Folder for the picture and the table."""

    def __post_init__(self) -> None:
        check_at_least(self, 10, "length")
        check_at_least(self, 1, "hidden", "seeds", "updates", "batch")
        check_positive(self, "learning_rates", "norm")


class Sequences(NamedTuple):
    """A batch of the temporal order problem."""

    symbols: Array  # [time, batch], 0 for A, 1 for B, 2 to 5 for the others
    order: Array  # [batch]: the first one that counts plus twice the second


def temporal_order(key: Array, length: int, batch: int) -> Sequences:
    """Draw sequences, with A or B in the second and in the sixth tenth of each, as at 10 to 20 and
    at 50 to 60 of 100.
    """
    of_symbols, of_places, of_marks = jax.random.split(key, 3)
    tenth = length // 10
    symbols = jax.random.randint(of_symbols, (length, batch), 2, SYMBOLS)
    places = jnp.array([[tenth], [5 * tenth]]) + jax.random.randint(of_places, (2, batch), 0, tenth)
    marks = jax.random.randint(of_marks, (2, batch), 0, 2)
    return Sequences(symbols.at[places, jnp.arange(batch)].set(marks), marks[0] + 2 * marks[1])


class Model(NamedTuple):
    """An Elman network, whose last state tells the order."""

    cell: jaxrnn.Elman

    @classmethod
    def build(cls, options: Options) -> "Model":
        """The network that the options name."""
        w_h = (
            jaxrnn.initializers.Identity()
            if options.activation == "relu"
            else jaxrnn.initializers.Orthogonal(1.2)
        )
        return cls(jaxrnn.Elman(options.hidden, activation=options.activation, w_h_init=w_h))

    def init(self, key: Array) -> dict[str, Any]:
        """Draw the parameters."""
        of_cell, of_readout = jax.random.split(key)
        readout = 0.1 * jax.random.normal(of_readout, (self.cell.hidden, ORDERS))
        return {"rnn": self.cell.init(of_cell, SYMBOLS), "w": readout, "b": jnp.zeros(ORDERS)}

    def logits(self, params: dict[str, Any], symbols: Array) -> Array:
        """`[batch, 4]`."""
        last, _ = jaxrnn.scan(self.cell, params["rnn"], jax.nn.one_hot(symbols, SYMBOLS))
        return last @ params["w"] + params["b"]

    def loss(
        self, params: dict[str, Any], carry: tuple[()], chunk: Sequences, key: Array | None
    ) -> tuple[Array, tuple[()]]:
        """Cross entropy in nats. A chunk holds whole sequences: there is no carry to hand on."""
        del key
        logits = self.logits(params, chunk.symbols)
        return optax.softmax_cross_entropy_with_integer_labels(logits, chunk.order).mean(), carry


class Result(NamedTuple):
    """Runs, `[learning rates, seeds]` each."""

    loss: Array  # [..., updates]
    gradient_norm: Array  # [..., updates], before clipping
    skipped: Array  # updates whose gradient was not finite
    accuracy: Array  # on sequences not seen before

    def diverged(self) -> np.ndarray:
        """Which runs diverged."""
        # a loss that is NaN is not below anything
        return ~np.all(np.asarray(self.loss) <= DIVERGED, axis=-1)

    def solved(self) -> np.ndarray:
        """Which runs solved the task."""
        return np.asarray(self.accuracy) >= 0.99


def descend(options: Options, clip: bool) -> Result:
    """Train all learning rates and seeds side by side, in one program."""
    model = Model.build(options)
    clipping = optax.clip_by_global_norm(options.norm) if clip else optax.identity()
    # kept in the state, so that runs may differ in it
    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.0)
    trainer = tbptt.Trainer(model.loss, optax.chain(clipping, sgd))
    draw = partial(temporal_order, length=options.length)

    def run(learning_rate: Array, seed: Array) -> Result:
        of_params, of_batches, of_test = jax.random.split(jax.random.key(seed), 3)

        def update(state: tbptt.State, number: Array) -> tuple[tbptt.State, tbptt.Report]:
            return trainer.step(
                state, draw(jax.random.fold_in(of_batches, number), batch=options.batch)
            )

        state = trainer.init(model.init(of_params), ())
        state = state._replace(
            optimizer=optax.tree.set(state.optimizer, learning_rate=learning_rate)
        )
        state, report = jax.lax.scan(update, state, jnp.arange(options.updates))
        test = draw(of_test, batch=HELD_OUT)
        logits = model.logits(state.params, test.symbols)
        right = jnp.all(jnp.isfinite(logits), axis=-1) & (jnp.argmax(logits, axis=-1) == test.order)
        return Result(report.loss, report.gradient_norm, report.skipped[-1], jnp.mean(right))

    over_seeds = jax.vmap(run, in_axes=(None, 0))
    return jax.jit(jax.vmap(over_seeds, in_axes=(0, None)))(
        jnp.array(options.learning_rates), jnp.arange(options.seeds)
    )


def table(options: Options, results: dict[str, Result]) -> str:
    """How many runs diverged, how many solved the task."""
    header = f"{'learning rate':>13}  {'clipping':<9}{'diverged':>9}{'solved':>8}"
    lines = [f"{header}{'accuracy':>10}{'largest norm':>14}{'skipped':>9}"]
    for k, rate in enumerate(options.learning_rates):
        for name, result in results.items():
            diverged, solved = (int(runs[k].sum()) for runs in (result.diverged(), result.solved()))
            accuracy = float(np.median(result.accuracy[k]))
            norm = float(np.fmax.reduce(result.gradient_norm[k], axis=None))
            counts = f"{diverged:>6}/{options.seeds:<2}{solved:>5}/{options.seeds:<2}"
            rest = f"{accuracy:>10.2f}{norm:>14.1e}{int(result.skipped[k].sum()):>9}"
            lines.append(f"{rate:>13g}  {name:<9}{counts}{rest}")
    return "\n".join(lines)


def plot_rate(losses: Any, norms: Any, k: int, options: Options, results: Any) -> None:
    """One learning rate: the losses and gradient norms of all runs."""
    counts = "\n".join(
        f"{name} clipping: {int(result.diverged()[k].sum())} diverged, "
        f"{int(result.solved()[k].sum())} solved"
        for name, result in results.items()
    )
    losses.set_title(f"learning rate {options.learning_rates[k]:g}\n{counts}", fontsize=9)
    marks = (losses, GUESSING, plots.DASHED), (losses, DIVERGED, plots.DOTTED)
    for axes, level, style in (*marks, (norms, options.norm, plots.DASHED)):
        axes.axhline(level, color=plots.GREY, linewidth=1, linestyle=style, zorder=4)
    updates = np.arange(1, options.updates + 1)
    for name, result in reversed(results.items()):
        for axes, curves in ((losses, result.loss[k]), (norms, result.gradient_norm[k])):
            finite = np.where(np.isfinite(curves), curves, np.nan)
            axes.plot(updates, finite.T, color=COLORS[name], linewidth=0.6, alpha=0.6)
    norms.set(xscale="log", xlabel="update")


def plot(path: Path, options: Options, results: dict[str, Result]) -> None:
    """Loss and gradient norm of every run, a column for each learning rate."""
    columns = len(options.learning_rates)
    figure, grid = plots.make_grid(2, columns, size=(1.5 + 3.2 * columns, 5.6))
    for k, (losses, norms) in enumerate(grid.T):
        plot_rate(losses, norms, k, options, results)
    left, below = grid[:, 0]
    left.set(yscale="log", ylabel="loss, nats", ylim=(1e-4, None))
    below.set(yscale="log", ylabel="gradient norm, before clipping", ylim=(1e-4, None))
    across = {"transform": left.get_yaxis_transform(), "fontsize": 8}
    left.text(0.02, GUESSING / 3, "guessing", va="top", **across)
    left.text(0.02, DIVERGED * 2, "diverged", va="bottom", **across)
    lines = [
        Line2D([], [], color=color, label=f"{name} clipping") for name, color in COLORS.items()
    ]
    below.legend(handles=lines, frameon=False, fontsize=8, loc="upper left")
    task = f"Temporal order problem, {options.length} steps"
    figure.suptitle(f"{task}, {options.seeds} seeds: every run")
    plots.save(figure, path)


@command(Options)
def main(options: Options) -> None:
    make_writable(options.out)
    results = {name: descend(options, clip=name == "with") for name in COLORS}
    text = table(options, results)
    (options.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    plot(options.out / "curves.png", options, results)
    print(
        f"{text}\nnorms: the largest before clipping; skipped: updates of all seeds whose", end=" "
    )
    print("gradient, or its norm, was not finite")
    print(f"{options.out}: curves.png, table.txt")


if __name__ == "__main__":
    main()
