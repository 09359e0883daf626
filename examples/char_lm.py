"""Train a character language model on Shakespeare, by truncated back-propagation through time.

    python examples/char_lm.py --out runs/demo               # an LSTM on the plays: three minutes
    python examples/char_lm.py --out runs/demo --resume      # continue, or show a finished run
    python examples/char_lm.py --out runs/mine --text FILE --cell GRU --hidden 128 --layers 2
    python examples/sample.py runs/demo/weights.safetensors  # write text

The weights, the curves, two samples and the checkpoints are written to `--out`. The text is a ring,
which `--batch` streams read from evenly spaced places. Every step reads the next `--chunk`
characters of each stream, starting from the last carry of the step before. Truncated means that
gradients flow through these characters alone."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

from char_model import CharModel
from jaxrnn.storage import save_tree, write_whole
from jaxrnn.streams import tbptt
from kit import text as texts
from kit.checkpoints import Checkpoint, Checkpoints, open_run
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.plots import draw_curves
from kit.training import bits_per_symbol, make_adamw

PRODUCTS = WEIGHTS, CURVES, SAMPLES = "weights.safetensors", "curves.png", "samples.txt"
VALIDATION = 4  # chunks of every held-out stream that are scored during training; in the end, all


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a character language model on Shakespeare's plays or on a text of your own."""

    cell: Literal["Elman", "LSTM", "GRU"] = "LSTM"
    """The kind of cell."""
    hidden: int = 256
    """Units per layer."""
    layers: int = 1
    """The number of layers of that cell."""
    steps: int = 1200
    """Training steps, each one update."""
    batch: int = 64
    """Parallel streams of text."""
    chunk: int = 64
    """Characters of each stream per step; gradients reach no further back."""
    text: Path | None = None
    """Your own UTF-8 text, whose last tenth is held out; by default, every tenth play is."""
    out: Path = Path("runs/char_lm")
    """Folder for the weights, the curves, the samples and the checkpoints."""
    resume: bool = False
    """Continue from the last checkpoint in --out; start anew if there is none."""
    learning_rate: float = 4e-3
    """Learning rate of AdamW at the end of the warm-up."""
    seed: int = 0
    """Seed of the initial weights and the samples."""
    every: int = 50
    """Steps from one checkpoint to the next; each also validates."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "layers", "steps", "batch", "chunk", "every")
        check_positive(self, "learning_rate")
        check_seed(self.seed)

    def identity(self, text: texts.Text) -> dict[str, Any]:
        """What decides the weights: a run is resumed with these and no others."""
        names = ("cell", "hidden", "layers", "steps", "batch", "chunk", "learning_rate", "seed")
        flags = {f"--{name.replace('_', '-')}": getattr(self, name) for name in names}
        return {**flags, "text": text.digest()}


def make_trainer(model: CharModel, options: Options) -> tbptt.Trainer:
    """An update of the model from each chunk `(inputs, targets)`, `[chunk, batch]` both."""
    peak, warm_up = options.learning_rate, max(1, min(100, options.steps // 10))
    adamw = make_adamw(peak, options.steps, warm_up, start=peak / warm_up, b2=0.99)
    return tbptt.Trainer(model.loss, adamw)


class Run:
    """One run: its options, text and model, and what trains it."""

    def __init__(self, options: Options, text: texts.Text) -> None:
        self.options, self.text = options, text
        alphabet = texts.find_alphabet(text.train)
        self.train_ids, self.test_ids = (texts.encode(alphabet, part) for part in text[:2])
        self.model = CharModel.build(options.cell, options.hidden, options.layers, alphabet)
        self.trainer = make_trainer(self.model, options)
        sizes = (self.model.encode("")[0], options.batch, options.chunk)
        self.held_out = texts.evaluation_chunks(self.test_ids, *sizes)
        self.validation = texts.Chunks(*(array[:VALIDATION] for array in self.held_out))

    def initial_state(self) -> tbptt.State:
        """Fresh weights, and a zero carry for every stream."""
        params = self.model.init(jax.random.key(self.options.seed))
        return self.trainer.init(params, self.model.initial_carry(params, (self.options.batch,)))

    def start(self, checkpoints: Checkpoints) -> Checkpoint:
        """The last checkpoint of this run, or its beginning."""
        run, shapes = self.options.identity(self.text), jax.eval_shape(self.initial_state)
        last = checkpoints.restore(shapes, run) if self.options.resume else None
        fresh = {"run": run, "rows": [], "seconds": 0.0}
        return last or Checkpoint(0, jax.jit(self.initial_state)(), fresh)

    def train(self, checkpoints: Checkpoints, last: Checkpoint) -> Checkpoint:
        """Train to the end, with a validation and a checkpoint every so many steps."""
        steps, every = self.options.steps, self.options.every
        with tqdm(total=steps, initial=last.step, unit="step", dynamic_ncols=True) as bar:
            while last.step < steps:
                last = self._train_until(min((last.step // every + 1) * every, steps), last, bar)
                checkpoints.save(last)
        return last

    def _train_until(self, until: int, last: Checkpoint, bar: tqdm) -> Checkpoint:
        options, (first, state, record) = self.options, last
        rows, began, bits = record["rows"], time.perf_counter(), []
        validation = f"{rows[-1]['validation']:.3f}" if rows else "-"
        for step in range(first, until):
            chunk = texts.training_chunk(self.train_ids, step, options.batch, options.chunk)
            state, report = self.trainer.step(state, chunk)
            if report.skipped:
                flag = f"--learning-rate {options.learning_rate}"
                raise FloatingPointError(f"training diverged at step {step}: {flag} is too high")
            bits.append(float(report.loss) / math.log(2))
            speed = len(bits) * options.batch * options.chunk / (time.perf_counter() - began)
            told = f"{np.mean(bits[-10:]):.3f} bits/char, validation {validation}, "
            told += f"gradient {report.gradient_norm:.2f}, {speed:,.0f} chars/s"
            bar.set_postfix_str(told, refresh=False)
            bar.update()
        scored = bits_per_symbol(self.model, state.params, self.validation)
        row = {"step": until, "training": float(np.mean(bits)), "validation": scored}
        seconds = record["seconds"] + time.perf_counter() - began
        return Checkpoint(until, state, {**record, "rows": [*rows, row], "seconds": seconds})

    def finish(self, last: Checkpoint) -> None:
        """Score all held-out text, then write and print the weights, the curves and the samples."""
        options, params, rows = self.options, last.state.params, last.record["rows"]
        layers = f" × {options.layers}" if options.layers > 1 else ""
        name, on = f"{options.cell}-{options.hidden}{layers}", self.text.held_out_name
        bits = bits_per_symbol(self.model, params, self.held_out)
        counted = (self.train_ids, self.test_ids)
        baselines = {
            "unigram": texts.ngram_bits(*counted, 1, self.model.symbols),
            "trigram": texts.ngram_bits(*counted, 3, self.model.symbols),
            **texts.compressed_bits(self.text.held_out),
        }
        save_tree(options.out / WEIGHTS, params, self.model)
        draw_curves(
            options.out / CURVES,
            [row["step"] for row in rows],
            {curve: [row[curve] for row in rows] for curve in ("training", "validation")},
            baselines,
            title=f"{name}, {options.steps:,} steps: {bits:.2f} bits per character on {on}",
            ylabel="bits per character",
        )
        samples = "".join(
            f"--- temperature {t} ---\n{self.model.write(params, 500, t, options.seed)}\n\n"
            for t in (0.5, 1.0)
        )
        write_whole(options.out / SAMPLES, samples.encode())

        size, seconds = len(self.text.held_out), last.record["seconds"]
        print(f"\n{samples}Bits per character of {size:,} held-out characters ({on}):")
        for label, value in sorted({name: bits, **baselines}.items(), key=lambda item: item[1]):
            print(f"  {label:<12}{value:6.3f}")
        speed = options.steps * options.batch * options.chunk / seconds
        took = f"{options.steps:,} steps in {seconds:,.0f} s"
        print(f"{took}, validations and checkpoints included: {speed:,.0f} characters/s.")
        print(f"{options.out}: {', '.join(PRODUCTS)}")


@command(Options, hint="the same command with --resume goes on from the last checkpoint")
def main(options: Options) -> None:
    text = texts.load_file(options.text) if options.text else texts.load_plays()
    texts.check_length(text, options.batch, options.chunk)
    checkpoints = open_run(options.out, PRODUCTS, options.resume)
    run = Run(options, text)
    run.finish(run.train(checkpoints, run.start(checkpoints)))


if __name__ == "__main__":
    main()
