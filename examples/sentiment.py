"""Classify film reviews as praise or blame, by the mean output of a GRU over all words.

    python examples/sentiment.py                              # trains for about two minutes
    python examples/sentiment.py --text "Not bad at all, but the ending is a waste of time."

The second command scores a sentence with the weights of the first, and draws the GRU's state.
"""

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

import jaxrnn
from jaxrnn import storage
from kit import plots, reviews
from kit.baselines import classify_texts
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.fitting import fit
from kit.ragged import apply_to_all, training_batches
from kit.reviews import Reviews
from kit.symbols import UNKNOWN, Symbols
from kit.training import make_adamw

LIMITS = (60, 120, 180, 240, 320, 400)  # reviews are padded to these; the longest lose their start
EMBEDDING, BATCH, EPOCHS = 64, 64, 4
EXAMPLE = "The first hour is wonderful, and I loved the music, but the ending is a waste of time."


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a GRU on film reviews, or score a sentence with it."""

    text: str | None = None
    """A sentence to score with the weights in --out."""
    out: Path = Path("runs/sentiment")
    """The folder for weights and pictures."""
    hidden: int = 64
    """Units of the GRU."""
    learning_rate: float = 2e-3
    """Learning rate of AdamW at the end of the warm-up."""
    reviews: int = 25_000
    """The largest number of reviews to train on, and to score."""
    seed: int = 0
    """Seed of the initial weights, the order of the reviews and dropout."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden")
        check_at_least(self, 400, "reviews")
        check_positive(self, "learning_rate")
        check_seed(self.seed)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads reviews: an embedding of words, a GRU, and one number that is made of its state."""

    words: Symbols
    cell: jaxrnn.Cell

    @classmethod
    def build(cls, words: Symbols, hidden: int) -> "Reader":
        layers = [jaxrnn.Dropout(jaxrnn.GRU(hidden), rate=0.5), jaxrnn.Dense(1)]
        return cls(words, jaxrnn.Stack(layers, dropout=0.5))

    def init(self, key: jax.Array) -> dict[str, Any]:
        k_words, k_cell = jax.random.split(key)
        words = 0.1 * jax.random.normal(k_words, (self.words.size, EMBEDDING))
        return {"words": words, "cell": self.cell.init(k_cell, EMBEDDING)}

    def encode(self, text: str) -> np.ndarray:
        return self.words.encode(tokens(text))[-LIMITS[-1] :]

    def verdict(
        self, params: Any, ids: ArrayLike, lengths: ArrayLike, key: jax.Array | None = None
    ) -> jax.Array:
        """Log-odds of praise `[batch]`, for words `[time, batch]`."""
        xs = params["words"][jnp.asarray(ids)]
        _, opinions = jaxrnn.scan(self.cell, params["cell"], xs, lengths=lengths, key=key)
        return jaxrnn.sequences.mean_output(opinions, lengths=lengths)[:, 0]


_verdict = jax.jit(Reader.verdict, static_argnums=0)


def tokens(text: str) -> list[str]:
    """Words in lower case, and the marks that end sentences or parts of them."""
    return re.findall(r"[a-z]+(?:'[a-z]+)?|[.,:;!?]", text.lower().replace("<br />", " "))


def train(model: Reader, train: Reviews, choose: Reviews, options: Options) -> Any:
    """The parameters of the epoch that was best on reviews that it was not trained on."""
    texts = [model.encode(text) for text in train.texts]

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        ids, lengths, labels = batch
        k_words, k_cell = jax.random.split(key)  # every fifth word is made unknown
        ids = jnp.where(jax.random.bernoulli(k_words, 0.2, ids.shape), UNKNOWN, ids)
        logits = model.verdict(params, ids, lengths, k_cell)
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean()

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        for part in training_batches(texts, LIMITS, BATCH, options.seed):
            yield part.xs, part.lengths, train.labels[part.places].astype(np.float32)

    epoch = max(1, len(texts) // BATCH)
    return fit(
        loss,
        model.init(jax.random.key(options.seed)),
        batches(),
        make_adamw(options.learning_rate, EPOCHS * epoch, 50),
        EPOCHS * epoch,
        score=lambda params: accuracy(model, params, choose),
        every=epoch,
    )


def accuracy(model: Reader, params: Any, scored: Reviews) -> float:
    """How many reviews are taken for what they are."""
    texts = [model.encode(text) for text in scored.texts]
    found = apply_to_all(lambda *batch: _verdict(model, params, *batch), texts, LIMITS, 250)
    return float(np.mean((np.array(found) > 0) == scored.labels))


def show(model: Reader, params: Any, text: str, path: Path) -> None:
    """Print and draw how a text is read: the opinion after each word, and the verdict so far."""
    words = tokens(text)
    if not words:
        raise ValueError(f"--text {text!r} has no words")
    xs = params["words"][model.words.encode(words)]
    states, opinions = jaxrnn.trajectory(model.cell, params["cell"], xs)
    opinions = np.asarray(opinions)[:, 0]
    shares = np.asarray(states[0][1:] * params["cell"][1].w_x[:, 0])  # they add up to the opinion
    verdicts = 1 / (1 + np.exp(-np.cumsum(opinions) / np.arange(1, len(words) + 1)))
    half = max(10, (shutil.get_terminal_size().columns - 36) // 2)
    for word, opinion, verdict in zip(words, opinions, verdicts, strict=True):
        bar = "█" * round(half * min(abs(opinion) / np.abs(opinions).max(), 1))
        left, right = ("", bar) if opinion > 0 else (bar, "")
        print(f"{word:>16} {left:>{half}}|{right:<{half}} {opinion:+5.1f}{verdict:6.0%}")
    print(f"{'praise' if verdicts[-1] > 0.5 else 'blame'}, {verdicts[-1]:.0%} praise. {path}")
    draw(path, words, opinions, verdicts, shares)


def draw(
    path: Path, words: list[str], opinions: np.ndarray, verdicts: np.ndarray, shares: np.ndarray
) -> None:
    """The opinion after each word, the verdict so far, and what each unit adds to the opinion."""
    figure, grid = plots.make_grid(3, 1, size=(max(8, 0.4 * len(words) + 1.5), 6.5))
    (above, middle, below), steps = grid[:, 0], np.arange(len(words))
    above.bar(steps, opinions, color=[plots.BLUE if y > 0 else plots.RED for y in opinions])
    above.axhline(0, color=plots.GREY, linewidth=1)
    above.set(
        ylabel="opinion\n(log-odds)",
        title="How a GRU reads, word by word: blue is praise, red is blame",
    )
    middle.plot(steps, 100 * verdicts, color=plots.GREY, marker="o", markersize=4)
    middle.axhline(50, color=plots.GREY, linewidth=1, linestyle=plots.DASHED)
    middle.set(ylabel="praise, mean\nso far (%)", ylim=(-4, 104))
    order, limit = np.argsort(shares[-1]), np.abs(shares).max()
    below.imshow(shares[:, order].T, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit)
    below.set(ylabel=f"the {len(order)} units\nof its state", yticks=[])
    below.set_xticks(steps, words, rotation=60, ha="right", rotation_mode="anchor")
    plots.save(figure, path)


@command(Options)
def main(options: Options) -> None:
    weights, picture = options.out / "weights.safetensors", options.out / "sentence.png"
    make_writable(options.out)
    if options.text is not None:
        params, model = storage.load_tree(
            weights, lambda model: model.init(jax.random.key(0)), known=[Reader, Symbols]
        )
        return show(model, params, options.text, picture)
    trained_on, choose, held_out = reviews.split(reviews.load(options.reviews))
    words = Symbols.of((tokens(text) for text in trained_on.texts), least=10)
    model = Reader.build(words, options.hidden)
    params = train(model, trained_on, choose, options)
    storage.save_tree(weights, params, model)
    bag = classify_texts(*trained_on, held_out.texts)
    print(f"right on {len(held_out.texts):,} held-out reviews:")
    print(f"  always praise                   {np.mean(held_out.labels):6.1%}")
    print(f"  logistic regression on tf-idf   {np.mean(bag == held_out.labels):6.1%}")
    print(f"  the GRU                         {accuracy(model, params, held_out):6.1%}\n")
    show(model, params, EXAMPLE, picture)


if __name__ == "__main__":
    main()
