"""The cost of truncated BPTT: the bias of short windows on the adding problem, and the results of
training with them.

    python examples/truncation_bias.py

The adding problem (Hochreiter & Schmidhuber 1997, experiment 4) as an endless stream: sequences of
100 to 110 pairs, each a number in [-1, 1] and a marker. Two pairs in the first half are marked. The
network must tell the sum of their numbers at the last pair, and nowhere else. An answer is right
within 0.04 of the target 0.5 + sum / 4. The constant answer 0.5 is right in 15% of the cases.

`jaxrnn.streams.tbptt` reads chunks of k1 steps, and its gradients reach k2 steps back from the end
of a chunk. The borders of chunks fall anywhere in a sequence. So in expectation, the contribution
of a step that lies `lag` steps before the question has the weight

    P(lag is reached) = clip((k2 - lag) / k1, 0, 1)

In full BPTT its weight is 1. One gradient, split by lag, therefore gives the bias for every window
at once. Only the gradient of the cell is biased, not that of the readout. The relative error is
‖g - full‖ / ‖full‖ over all parameters of the cell.

Training uses windows of several lengths on the same stream, so shorter windows make more updates.
The gated cells start with biases for this length of memory (Chrono). The Elman cell's gradient
vanishes by itself. So short windows hardly bias it, but it learns with no window: a small bias does
not mean that a window is long enough.

This needs `pip install "jaxrnn[examples]"`. The picture (bias.png) and the table (table.txt) are
written to `--out`."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.lines import Line2D
from tqdm import tqdm

import jaxrnn
from jaxrnn.diagnostics import gradient_by_step
from jaxrnn.streams import tbptt
from kit import plots
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable

Params = dict[str, Any]

RIGHT = 0.04  # how near an answer must be to the target
MEASURED = 512  # sequences, for the bias
HELD_OUT = (40, 50)  # questions in each of how many streams, for the score
COLORS = {"at initialisation": plots.BLUE, "after training": plots.RED}
STYLES: dict[int, Literal["-", "--"]] = {1: "-", 2: "--"}  # by windows, k2 / k1
LABELS = {1: "k1 = k2", 2: "k1 = k2 / 2, overlapping"}
CHANCE = 1 - (1 - 2 * RIGHT) ** 2  # right answers of who always says 0.5


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure the bias of truncated gradients on the adding problem, and train with windows of
    several lengths.
    """

    length: int = 100
    """T: sequences have T to 1.1 T pairs."""
    hidden: int = 32
    """Units."""
    windows: tuple[int, ...] = (50, 100, 200)
    """k2 of the trained windows, even; each is run with k1 = k2, and with k1 = k2 / 2, overlapping.
    """
    steps: int = 30_000
    """Steps of each stream in training."""
    batch: int = 32
    """Streams in a batch."""
    learning_rate: float = 0.01
    """Learning rate of Adam, after clipping by the global norm to 1."""
    seed: int = 0
    """Seed of the initial weights and the streams."""
    out: Path = Path("runs/truncation_bias")
    """Folder for the picture and the table."""

    def __post_init__(self) -> None:
        check_at_least(self, 20, "length")
        check_at_least(self, 1, "hidden", "batch", "steps")
        if not self.windows or any(k < 2 or k % 2 or k > self.steps for k in self.windows):
            raise ValueError(
                f"--windows must be even and between 2 and --steps {self.steps}, not "
                f"{' '.join(map(str, self.windows))}"
            )
        check_positive(self, "learning_rate")
        check_seed(self.seed)


class Sequences(NamedTuple):
    """Sequences of the adding problem, `...` any number of axes."""

    pairs: Array  # [..., longest, 2]: a number and a marker; meaningless after the sequence's end
    steps: Array  # [...]
    target: Array  # [...]


class Stream(NamedTuple):
    """Sequences one after the other, `[time, batch]`."""

    pairs: Array  # [time, batch, 2]
    reset: Array  # where a sequence begins
    asked: Array  # where it ends
    target: Array  # what is then asked


def adding_problem(key: Array, length: int, shape: tuple[int, ...]) -> Sequences:
    """Draw sequences as Hochreiter & Schmidhuber do: one of the first ten pairs is marked, then one
    of the first T/2 - 1 others.
    """
    longest = length + length // 10
    of_numbers, of_steps, of_first, of_second = jax.random.split(key, 4)
    numbers = jax.random.uniform(of_numbers, (*shape, longest), minval=-1.0, maxval=1.0)
    steps = jax.random.randint(of_steps, shape, length, longest + 1)
    first = jax.random.randint(of_first, shape, 0, 10)
    second = jax.random.randint(of_second, shape, 0, length // 2 - 1)
    second += second >= first
    place = jnp.arange(longest)
    marked = (place == first[..., None]) | (place == second[..., None])
    ends = (place == 0) | (place == steps[..., None] - 1)
    markers = jnp.where(ends, -1.0, jnp.where(marked, 1.0, 0.0))
    # the first pair counts as zero, even if it was drawn
    total = jnp.sum(numbers * (markers == 1.0), axis=-1)
    return Sequences(jnp.stack([numbers, markers], axis=-1), steps, 0.5 + total / 4)


@partial(jax.jit, static_argnums=(1, 2, 3))
def adding_stream(key: Array, length: int, time: int, batch: int) -> Stream:
    """Draw streams; each begins somewhere within a sequence, about which nothing is asked."""
    of_sequences, of_offset = jax.random.split(key)
    sequences = adding_problem(of_sequences, length, (batch, time // length + 2))
    offset = jax.random.randint(of_offset, (batch, 1), 0, length)
    ends = jnp.cumsum(sequences.steps, axis=1) - offset
    t = jnp.arange(time)
    # of the sequence in which each step lies, [time, batch]
    number = jnp.sum(t[:, None, None] >= ends, axis=-1)
    stream = jnp.arange(batch)
    place = t[:, None] - (ends - sequences.steps)[stream, number]
    asked = (place == sequences.steps[stream, number] - 1) & (number > 0)
    return Stream(
        sequences.pairs[stream, number, place], place == 0, asked, sequences.target[stream, number]
    )


@dataclasses.dataclass(frozen=True)
class Adder:
    """A cell, and a readout of its output that answers."""

    cell: jaxrnn.Cell

    def init(self, key: Array, dtype: Any = jnp.float32) -> Params:
        """Draw the parameters; the readout starts out with the mean of the targets."""
        of_cell, of_readout = jax.random.split(key)
        hidden = self.cell.out_features
        w = jax.random.normal(of_readout, (hidden,), dtype) / hidden**0.5
        return {"rnn": self.cell.init(of_cell, 2, dtype), "w": w, "b": jnp.full((), 0.5, dtype)}

    def errors(self, params: Params, carry: Any, stream: Stream) -> tuple[Any, Array]:
        """The carry after the stream, and what the answer at each step differs by; zero where
        nothing is asked.
        """
        carry, ys = jaxrnn.scan(self.cell, params["rnn"], stream.pairs, carry, reset=stream.reset)
        return carry, jnp.where(stream.asked, ys @ params["w"] + params["b"] - stream.target, 0.0)

    def score(self, params: Params, stream: Stream) -> Array:
        """The share of right answers."""
        errors = self.errors(params, None, stream)[1]
        return jnp.sum((jnp.abs(errors) < RIGHT) & stream.asked) / jnp.sum(stream.asked)

    def trainer(
        self, optimizer: optax.GradientTransformation, windows: int, length: int
    ) -> tbptt.Trainer:
        """Its loss is the squared error per question, where a question is expected every 1.05
        `length` steps.
        """

        def loss(params: Params, carry: Any, chunk: Stream, key: Array | None) -> tuple[Array, Any]:
            del key
            carry, errors = self.errors(params, carry, chunk)
            return jnp.mean(errors**2) * (1.05 * length), carry

        return tbptt.Trainer(loss, optimizer, windows)

    def gradient_by_lag(self, params: Params, sequences: Sequences) -> Array:
        """The gradient of the mean squared error in the cell's parameters, `[longest, all of
        them]`.

        Row `lag` comes through their use `lag` steps before the question; the sum of all rows is
        the full gradient."""
        longest = sequences.pairs.shape[-2]
        # all sequences end at the last step
        place = jnp.arange(longest)[:, None] - (longest - sequences.steps)
        # what stands before a sequence is cut off where it begins
        pairs = sequences.pairs[jnp.arange(len(sequences.steps)), place]

        def loss(_: Any, ys: Array) -> Array:
            return jnp.mean((ys[-1] @ params["w"] + params["b"] - sequences.target) ** 2)

        begins = place == 0
        gradient = gradient_by_step(loss, self.cell, params["rnn"], pairs, reset=begins)
        return jnp.concatenate(
            [leaf.reshape(longest, -1) for leaf in jax.tree.leaves(gradient)], axis=-1
        )[::-1]


def truncated(by_lag: np.ndarray, k1: int, k2: int) -> np.ndarray:
    """The expected gradient of windows: what lies `lag` steps back counts as often as a window
    reaches it.
    """
    return np.clip((k2 - np.arange(len(by_lag))) / k1, 0, 1) @ by_lag


def bias(by_lag: np.ndarray, k1: int, k2: int) -> tuple[float, float]:
    """Relative error and cosine of the expected gradient of windows against the full one."""
    gradient, full = truncated(by_lag, k1, k2), by_lag.sum(axis=0)
    size = np.linalg.norm(full)
    cosine = gradient @ full / (np.linalg.norm(gradient) * size)
    return float(np.linalg.norm(gradient - full) / size), float(cosine)


class Study(NamedTuple):
    """What was measured with one cell."""

    by_lag: dict[str, np.ndarray]  # the gradient at each stage
    score: dict[tuple[int, int], float]  # the share of right answers, by windows and k2


def cells(options: Options) -> dict[str, Adder]:
    """The three cells, ready to remember for the length of a sequence."""
    chrono = jaxrnn.initializers.Chrono(options.length + options.length // 10)
    built = {
        "Elman": jaxrnn.Elman(options.hidden),
        "LSTM": jaxrnn.LSTM(options.hidden, forget_bias=chrono),
        "GRU": jaxrnn.GRU(options.hidden, update_bias=chrono),
    }
    return {name: Adder(cell) for name, cell in built.items()}


def train(model: Adder, options: Options, stream: Stream, windows: int, k2: int) -> Params:
    """Read the stream once, with gradients that reach k2 steps back from the end of each chunk of
    k2 / windows.
    """
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(options.learning_rate))
    trainer = model.trainer(optimizer, windows, options.length)
    chunks = list(tbptt.chunks(stream, k2 // windows))
    params = model.init(jax.random.key(options.seed))
    state = trainer.init(
        params, model.cell.initial_carry(params["rnn"], (options.batch, 2)), chunk=chunks[0]
    )
    for chunk in chunks:
        state, _ = trainer.step(state, chunk)
    return jax.block_until_ready(state.params)


def train_all(
    options: Options, models: dict[str, Adder], stream: Stream
) -> dict[tuple[str, int, int], Params]:
    """Train every cell with every window, two at a time where there are two cores."""
    runs = [
        (name, windows, k2)
        for k2 in sorted(options.windows, reverse=True)
        for windows in STYLES
        for name in models
    ]

    def run(key: tuple[str, int, int]) -> Params:
        name, windows, k2 = key
        trained = train(models[name], options, stream, windows, k2)
        bar.update()
        return trained

    bar = tqdm(total=len(runs), unit="run", dynamic_ncols=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        return dict(zip(runs, pool.map(run, runs), strict=True))


def measure(options: Options) -> dict[str, Study]:
    """Train, then measure what came out: gradients at both stages, and scores."""
    of_stream, of_held_out, of_measured = jax.random.split(jax.random.key(options.seed), 3)
    stream = adding_stream(of_stream, options.length, options.steps, options.batch)
    held_out = adding_stream(of_held_out, options.length, HELD_OUT[0] * options.length, HELD_OUT[1])
    sequences = adding_problem(of_measured, options.length, (MEASURED,))
    models, studies = cells(options), {}
    trained = train_all(options, models, stream)
    for name, model in models.items():
        score, by_lag = jax.jit(model.score), jax.jit(model.gradient_by_lag)
        fresh = model.init(jax.random.key(options.seed))
        longest = trained[name, max(STYLES), max(options.windows)]
        gradients = {
            stage: np.asarray(by_lag(params, sequences), np.float64)
            for stage, params in zip(COLORS, (fresh, longest), strict=True)
        }
        own = {run[1:]: params for run, params in trained.items() if run[0] == name}
        scores = {run: float(score(params, held_out)) for run, params in own.items()}
        studies[name] = Study(gradients, scores)
    return studies


def table(options: Options, studies: dict[str, Study]) -> str:
    """Relative error and cosine at both stages, and the share of right answers."""
    columns = [f"{what} {stage}" for stage in COLORS for what in ("error", "cosine")]
    header = f"{'':<7}{'k1':>5}{'k2':>5}" + "".join(f"{column:>28}" for column in columns)
    lines = [header + f"{'right answers':>16}"]
    for name, study in studies.items():
        for windows in STYLES:
            for k2 in sorted(options.windows):
                k1 = k2 // windows
                both = (bias(by_lag, k1, k2) for by_lag in study.by_lag.values())
                values = "".join(f"{value:>28.3f}" for pair in both for value in pair)
                score = study.score[windows, k2]
                lines.append(f"{name:<7}{k1:>5}{k2:>5}{values}{score:>16.1%}")
    return "\n".join(lines)


def plot_cell(column: Any, options: Options, study: Study, reach: range) -> None:
    """One cell: below each other the error, the cosine, and what training reached."""
    for windows, style in STYLES.items():
        for stage, by_lag in study.by_lag.items():
            curves = np.array([bias(by_lag, k2 // windows, k2) for k2 in reach])
            for axes, curve in zip(column, curves.T, strict=False):
                axes.plot(reach, curve, style, color=COLORS[stage], linewidth=1.5)
        points = sorted((k2, score) for (w, k2), score in study.score.items() if w == windows)
        dots = {"color": "#444444", "marker": "o", "markersize": 4, "linewidth": 1.5}
        column[2].plot(*zip(*points, strict=True), style, **dots)
    for axes in column:  # where the marks lie
        axes.axvspan(options.length / 2, options.length * 1.1, color="#f0ead8", zorder=0, lw=0)
    column[2].axhline(CHANCE, color="#888888", linewidth=1, linestyle=plots.DOTTED)
    column[2].set_xlabel("k2, steps")


def plot(path: Path, options: Options, studies: dict[str, Study]) -> None:
    """A column for each cell."""
    figure, grid = plots.make_grid(3, len(studies), size=(1 + 3.2 * len(studies), 7.5))
    reach = range(2, 2 * max(*options.windows, options.length) + 1, 2)
    for column, (name, study) in zip(grid.T, studies.items(), strict=True):
        column[0].set_title(name)
        plot_cell(column, options, study, reach)
    error, cosine, right = grid[:, 0]
    error.set(ylabel="relative error", xscale="log", ylim=(0, None))
    ticks = [k for k in (5, 10, 20, 50, 100, 200, 400, 800) if k <= reach[-1]]
    error.set_xticks(ticks, [str(k) for k in ticks])
    error.minorticks_off()
    cosine.set_ylabel("cosine with full gradient")
    right.set(ylabel="right answers", ylim=(0, 1.02))
    right.text(reach[0], CHANCE + 0.02, "always 0.5", color=plots.GREY, fontsize=8)
    stages = [Line2D([], [], color=color, label=stage) for stage, color in COLORS.items()]
    styles = [
        Line2D([], [], color="#444444", linestyle=style, label=LABELS[windows])
        for windows, style in STYLES.items()
    ]
    figure.legend(handles=stages + styles, loc="outside lower center", ncols=4, frameon=False)
    title = f"Truncated gradients on the adding problem, T = {options.length}"
    figure.suptitle(f"{title}; shaded: where the marks lie", fontsize=11)
    plots.save(figure, path)


@command(Options)
def main(options: Options) -> None:
    make_writable(options.out)
    studies = measure(options)
    text = table(options, studies)
    (options.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    plot(options.out / "bias.png", options, studies)
    print(f"{text}\n{options.out}: bias.png, table.txt")


if __name__ == "__main__":
    main()
