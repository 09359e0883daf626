"""Restore capitals and punctuation in plain words, with a Flax model that has a bidirectional GRU
and gives every word a tag.

    python examples/tagging.py                                  # trains for about two minutes
    python examples/tagging.py --text "where are you going he asked i am going to egypt"

The words are those of the World English Bible. The second command restores a text of yours with the
weights of the first.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
import jaxrnn.linen
from jaxrnn import storage
from kit import passages, plots
from kit.baselines import fit_back_off
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.fitting import fit
from kit.marked_text import COLUMNS, write_words
from kit.passages import LONGEST, TAGS, Passage, cut, f1, put_together, take_apart, thin
from kit.ragged import apply_to_all, training_batches
from kit.symbols import UNKNOWN, Symbols
from kit.training import make_adamw

BATCH, LIMITS = 32, (LONGEST,)
NAMES = {",": "comma", ".": "full stop", ";": "semicolon", ":": "colon", "?": "question\nmark"}
NAMES |= {"!": "exclamation\nmark", "all": "all of\nthese"}
CONTEXTS = (range(-1, 2), range(0, 2), range(0, 1))  # of the table: neighbours that count


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a tagger that restores capitals and punctuation, or restore a text with it."""

    text: str | None = None
    """A text to restore with the weights in --out."""
    out: Path = Path("runs/tagging")
    """The folder for weights and the picture."""
    hidden: int = 128
    """Units of the GRU in each direction."""
    epochs: int = 8
    """Passes over the training passages."""
    learning_rate: float = 3e-3
    """Learning rate of AdamW at the end of the warm-up."""
    passages: int = 20_000
    """The largest number of passages to train on, and to score."""
    seed: int = 0
    """Seed of the initial weights, the order of the passages and dropout."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "epochs")
        check_at_least(self, BATCH, "passages")
        check_positive(self, "learning_rate")
        check_seed(self.seed)


class Tagger(nn.Module):
    """Logits of each word's tag `[time, batch, TAGS]` for the numbers of words `[time, batch]`."""

    words: int
    hidden: int

    @nn.compact
    def __call__(self, ids: jax.Array, lengths: jax.Array, deterministic: bool = True) -> jax.Array:
        dropout = nn.Dropout(0.3, deterministic=deterministic)
        xs = dropout(nn.Embed(self.words, 64)(ids))
        cell = jaxrnn.Bidirectional(jaxrnn.GRU(self.hidden))
        _, ys = jaxrnn.linen.RNN(cell, time_major=True)(xs, lengths=lengths)
        return nn.Dense(TAGS)(dropout(ys))


@dataclasses.dataclass(frozen=True)
class About:
    """What has to be known besides the variables."""

    words: Symbols
    hidden: int

    @property
    def model(self) -> Tagger:
        return Tagger(self.words.size, self.hidden)

    def init(self, seed: int = 0) -> Any:
        ids, lengths = jnp.zeros((LONGEST, 1), int), jnp.ones(1, int)
        return self.model.init(jax.random.key(seed), ids, lengths)


def train(about: About, trained_on: list[Passage], choose: list[Passage], o: Options) -> Any:
    """The variables of the epoch that was best on passages that it was not trained on."""
    rows = [np.stack([about.words.encode(p.words), p.tags], axis=-1) for p in trained_on]

    def loss(variables: Any, batch: Any, key: jax.Array) -> jax.Array:
        xs, lengths = batch
        k_words, k_dropout = jax.random.split(key)
        unknown = jax.random.bernoulli(k_words, 0.05, xs.shape[:2])  # new books have new words
        ids, rngs = jnp.where(unknown, UNKNOWN, xs[..., 0]), {"dropout": k_dropout}
        logits: Any = about.model.apply(variables, ids, lengths, deterministic=False, rngs=rngs)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, xs[..., 1])
        return jnp.mean(each, where=jnp.arange(len(xs))[:, None] < lengths)

    epoch = max(1, len(rows) // BATCH)
    return fit(
        loss,
        about.init(o.seed),
        (part[:2] for part in training_batches(rows, LIMITS, BATCH, o.seed)),
        make_adamw(o.learning_rate, o.epochs * epoch, 50),
        o.epochs * epoch,
        score=lambda variables: f1(choose, tag(about, variables, choose))["all"],
        every=epoch,
    )


@partial(jax.jit, static_argnums=0)
def likeliest(about: About, variables: Any, ids: Any, lengths: Any) -> jax.Array:
    """Tags `[batch, time]`."""
    logits: Any = about.model.apply(variables, ids, lengths)
    return jnp.argmax(logits, axis=-1).T


def tag(about: About, variables: Any, texts: list[Passage]) -> list[np.ndarray]:
    """The likeliest tag of each word."""
    ids = [about.words.encode(passage.words) for passage in texts]
    found = apply_to_all(lambda *batch: likeliest(about, variables, *batch), ids, LIMITS, 64)
    return [tags[: len(passage.words)] for tags, passage in zip(found, texts, strict=True)]


def draw(path: Path, scores: dict[str, dict[str, float]], text: Passage, found: Any) -> None:
    """A passage as it was read and as it was restored, and bars for each kind of thing."""
    figure, ((page,),) = plots.make_grid(size=(9, 8))
    bars = page.inset_axes((0.07, 0.06, 0.93, 0.3))
    truth, restored = put_together(*text), put_together(text.words, found)
    plain = text.words
    below = write_words(page, 0, "What the tagger reads", plain, plain, plain)
    heading = (
        "What it writes (blue: restored; red: not as in the book, which has what stands below)"
    )
    below = write_words(page, below, heading, restored, truth, plain)
    page.set(xlim=(0, COLUMNS), ylim=(below / 0.58, -1))
    page.axis("off")
    names = [*next(iter(scores.values()))]
    for k, (who, of) in enumerate(scores.items()):
        places = np.arange(len(names)) + 0.27 * (k - 1)
        color = (plots.GREY, "#a9a9a9", plots.BLUE)[k]
        bars.bar(places, [100 * of[name] for name in names], width=0.25, label=who, color=color)
    bars.set_xticks(range(len(names)), [NAMES.get(name, name) for name in names])
    bars.set(ylabel="restored (F1, %)", ylim=(0, 100), title="Whole books that it never read")
    bars.legend(frameon=False)
    plots.save(figure, path)


@command(Options)
def main(o: Options) -> None:
    make_writable(o.out)
    weights = o.out / "weights.safetensors"
    if o.text is not None:
        variables, about = storage.load_tree(weights, About.init, known=[About, Symbols])
        if not (pieces := cut(take_apart(o.text))):
            raise ValueError(f"--text {o.text!r} has no words")
        tagged = zip(pieces, tag(about, variables, pieces), strict=True)
        words = [put_together(piece.words, tags) for piece, tags in tagged]
        return print(*(word for piece in words for word in piece))
    trained_on, choose, held_out = (thin(part, o.passages) for part in passages.load())
    about = About(Symbols.of((p.words for p in trained_on), least=2), o.hidden)
    variables = train(about, trained_on, choose, o)
    storage.save_tree(weights, variables, about)
    answers = {"most frequent tag of the word": fit_back_off(trained_on, CONTEXTS[-1:])}
    answers["of the word between its neighbours"] = fit_back_off(trained_on, CONTEXTS)
    found: dict[str, Any] = {
        who: [guess(p.words) for p in held_out] for who, guess in answers.items()
    }
    found["GRU in each direction"] = tag(about, variables, held_out)
    truth = np.concatenate([p.tags for p in held_out])
    print(f"{len(truth):,} words of held-out books:        words right   marks and capitals (F1)")
    print(f"  leave them as they are              {np.mean(truth == 0):12.1%}{0:12.1%}")
    for who, tags in found.items():
        share = np.mean(np.concatenate(tags) == truth)
        print(f"  {who:<36}{share:12.1%}{f1(held_out, tags)['all']:12.1%}")
    right = [np.mean(t == p.tags) for t, p in zip(found[who], held_out, strict=True)]
    longest = max(len(p.words) for p in held_out)
    whole = [k for k, p in enumerate(held_out) if len(p.words) == longest]
    typical = sorted(whole, key=lambda k: right[k])[len(whole) // 2]
    scores = {who: f1(held_out, tags) for who, tags in found.items()}
    draw(o.out / "tagging.png", scores, held_out[typical], found[who][typical])
    print(o.out / "tagging.png")


if __name__ == "__main__":
    main()
