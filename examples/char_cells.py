"""Elman, GRU and LSTM models of Shakespeare with equally many parameters: accuracy and memory.

    python examples/char_cells.py
    python examples/char_cells.py --write GRU     # then writes text with one of them

Gates cost time: an LSTM multiplies by four matrices where an Elman network has one. So the networks
are compared after equally many updates and after equal time. Each is as wide as makes their numbers
of parameters equal.

Memory is measured where a held-out play repeats a string of six characters that is not in the
training text, such as a name. The next character is the same as the first time. A network that
remembers the first time can predict it. The longer ago that was, the less often it does."""

import bisect
import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from tqdm import tqdm

import jaxrnn
from char_model import CharModel
from jaxrnn import storage
from jaxrnn.streams import tbptt
from kit import plots
from kit import text as texts
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.forgetting import RANGES, accuracy_by_distance, correct_guesses, find_repeats
from kit.training import bits_per_symbol, count_parameters

COLORS = {"Elman": "#999999", "GRU": "#3b78b8", "LSTM": "#c8442c"}
STREAMS = 16  # of held-out text, for what is forgotten


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare three recurrent networks as models of text."""

    write: str | None = None
    """Write text with this network and the weights of an earlier run."""
    hidden: int = 160
    """Units of the LSTM; the others have as many parameters."""
    updates: int = 4_000
    """The number of updates after which they are compared."""
    seconds: float = 60.0
    """The seconds of training after which they are compared."""
    batch: int = 32
    """Streams of text in a batch."""
    chunk: int = 64
    """Characters of each stream in an update."""
    learning_rate: float = 3e-3
    """Learning rate of Adam."""
    seed: int = 0
    """Seed of the initial weights."""
    every: int = 100
    """Updates between validations."""
    out: Path = Path("runs/char_cells")
    """Folder for the picture and the weights."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "updates", "batch", "chunk", "every")
        check_positive(self, "seconds", "learning_rate")
        check_seed(self.seed)
        if self.write not in (None, *COLORS):
            raise ValueError(f"--write must be one of {', '.join(COLORS)}, not {self.write}")


class Row(NamedTuple):
    """Where a network stands."""

    update: int
    seconds: float
    bits: float  # per character of the validation text


def models(hidden: int, alphabet: str) -> dict[str, CharModel]:
    """Each as wide as makes it as large as the LSTM."""

    def size(cell: str, width: int) -> int:
        model = CharModel.build(cell, width, 1, alphabet)
        return count_parameters(jax.eval_shape(model.init, jax.random.key(0)))

    target, widths, made = size("LSTM", hidden), range(hidden, 4 * hidden), {}
    for cell in COLORS:
        place = bisect.bisect_left(widths, target, key=partial(size, cell))
        made[cell] = CharModel.build(cell, widths[place], 1, alphabet)
    return made


def train(model: CharModel, corpus: texts.Corpus, o: Options, name: str) -> tuple[Any, list[Row]]:
    """The weights at the end, and what was reached on the way."""
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(o.learning_rate))
    trainer = tbptt.Trainer(model.loss, clipped)

    def start() -> tbptt.State:
        params = model.init(jax.random.key(o.seed))
        return trainer.init(params, model.initial_carry(params, (o.batch,)))

    first = texts.training_chunk(corpus.train, 0, o.batch, o.chunk)
    jax.block_until_ready(trainer.step(start(), first))  # compiled before time is taken
    state = start()
    seen = texts.evaluation_chunks(corpus.validation, 1, o.batch, o.chunk)
    rows, seconds, done = [], 0.0, 0
    with tqdm(desc=name, unit="step") as bar:
        while done < o.updates or seconds < o.seconds:
            began = time.perf_counter()
            for update in range(done, done + o.every):
                chunk = texts.training_chunk(corpus.train, update, o.batch, o.chunk)
                state, report = trainer.step(state, chunk)
            jax.block_until_ready(state)
            seconds += time.perf_counter() - began
            if not np.isfinite(report.loss):
                raise FloatingPointError("training diverged: try a lower --learning-rate")
            done += o.every
            rows.append(Row(done, seconds, bits_per_symbol(model, state.params, seen)))
            bar.set_postfix_str(f"{rows[-1].bits:.3f} bits/char", refresh=False)
            bar.update(o.every)
    return state.params, rows


def compare(o: Options) -> None:
    make_writable(o.out)
    corpus = texts.Corpus.load()
    cells = models(o.hidden, corpus.alphabet)
    symbols = next(iter(cells.values())).symbols
    held_out = texts.evaluation_chunks(corpus.held_out, 1, 32, 256)
    streams = corpus.held_out[: len(corpus.held_out) // STREAMS * STREAMS].reshape(STREAMS, -1).T
    repeats = find_repeats(corpus.train, streams, symbols)
    trigram = texts.ngram_bits(corpus.train, corpus.held_out, 3, symbols)
    print(f"trigram: {trigram:.3f} bits/char; {len(repeats.time):,} repeats")
    weights, curves, kept = {}, {}, {}
    for name, model in cells.items():
        weights[name], rows = train(model, corpus, o, name)
        curves[name] = rows
        right = correct_guesses(model, weights[name], streams)
        kept[name] = accuracy_by_distance(right, repeats)
        at_updates = next(row for row in rows if row.update >= o.updates)
        in_time = [row for row in rows if row.seconds <= o.seconds][-1:] or rows[:1]
        bits = bits_per_symbol(model, weights[name], held_out)
        print(
            f"{name}-{model.rnn.out_features}, {count_parameters(weights[name]):,} parameters: "
            f"validation {at_updates.bits:.3f} after {at_updates.update} updates, "
            f"{in_time[0].bits:.3f} after {o.seconds:g} s ({in_time[0].update} updates); "
            f"held out at the end {bits:.3f}"
        )
    storage.save_tree(o.out / "weights.safetensors", weights, cells)
    draw(o.out / "char_cells.png", curves, kept, trigram)
    print(f"{o.out}: weights.safetensors, char_cells.png")


def draw(path: Path, curves: dict[str, list[Row]], kept: dict[str, Any], trigram: float) -> None:
    figure, ((updates, seconds, memory),) = plots.make_grid(1, 3, size=(14, 4.2), share=False)
    for name, rows in curves.items():
        bits = [row.bits for row in rows]
        updates.plot([row.update for row in rows], bits, color=COLORS[name], label=name)
        seconds.plot([row.seconds for row in rows], bits, color=COLORS[name])
        memory.plot(range(len(RANGES)), 100 * kept[name], "o-", color=COLORS[name])
    for axes, what in ((updates, "updates"), (seconds, "seconds of training")):
        axes.axhline(trigram, color=plots.GREY, linestyle=plots.DOTTED)
        axes.set(xlabel=what, ylabel="bits per character", ylim=(1.9, 3.2))
    updates.set_title("as many parameters, as many updates")
    seconds.set_title("as many parameters, as much time")
    updates.legend(frameon=False)
    memory.set_xticks(range(len(RANGES)), RANGES, rotation=25, ha="right")
    memory.set(
        title="right guesses after a new context,\nthe second time it stands there",
        xlabel="characters since the first time",
        ylabel="%",
    )
    plots.save(figure, path)


def write(o: Options, name: str) -> None:
    """Print what a network writes."""

    def shapes(cells: dict[str, CharModel]) -> Any:
        return {name: model.init(jax.random.key(0)) for name, model in cells.items()}

    path, known = o.out / "weights.safetensors", [CharModel, jaxrnn.Stack]
    weights, cells = storage.load_tree(path, shapes, known=known)
    print(cells[name].write(weights[name], 500, temperature=0.7, seed=o.seed))


@command(Options)
def main(o: Options) -> None:
    compare(o) if o.write is None else write(o, o.write)


if __name__ == "__main__":
    main()
