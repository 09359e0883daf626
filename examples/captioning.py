"""Caption pictures of handwritten digits with a CNN of Flax and a GRU, joined in three ways.

    python examples/captioning.py                # trains, scores and draws
    python examples/captioning.py --describe 5   # captions new pictures with those weights

One-to-many: "a red seven above two green threes". The GRU gets the CNN's features as its initial
carry (Vinyals et al. 2015, "Show and tell"), as an input of every step, or by attention to the
places of the picture (Xu et al. 2015, "Show, attend and tell"). All have the same CNN and the same
number of updates. Some test pictures have pairs of digits that no training picture has, and others
a digit in a new colour. No handwritten digit is in both training and test pictures.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from jaxrnn import storage
from kit import captions, digits
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.digits import CANVAS, LONGEST, STOP, WORDS, Scenes
from kit.files import make_writable
from kit.fitting import fit
from kit.training import make_adamw
from kit.watching import Watching

WAYS: tuple[str, ...] = ("start", "every step", "attention")
FEATURES = 64  # of each place of a picture
KINDS = {
    "as in training": digits.is_known,
    "digits not seen together": digits.is_new_company,
    "digits not seen in their colour": digits.is_new,
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Train three captioners and score them on new combinations, or caption with them."""

    describe: int = 0
    """How many new pictures to caption with the weights in --out; trains nothing."""
    pictures: int = 20_000
    """Pictures to train on."""
    hidden: int = 128
    """Units of the GRU."""
    steps: int = 1500
    """Updates of each captioner."""
    batch: int = 64
    """Pictures in an update."""
    learning_rate: float = 4e-3
    """Learning rate of AdamW at the end of the warm-up."""
    asked: int = 1000
    """Pictures of each kind to score on."""
    seed: int = 0
    """Seed of the pictures, the initial weights and the order."""
    out: Path = Path("runs/captioning")
    """Folder for the weights and the picture."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "describe")
        check_at_least(self, 1, "pictures", "hidden", "steps", "batch", "asked")
        check_positive(self, "learning_rate")
        check_seed(self.seed)


class Encoder(nn.Module):
    """What lies in each of 6 x 6 places of pictures: `[*batch, 36, FEATURES]`."""

    @nn.compact
    def __call__(self, images: Any) -> Any:
        xs = images / 64.0
        for features, size, stride in ((32, 4, 2), (64, 3, 1), (64, 3, 2), (FEATURES, 1, 1)):
            xs = nn.relu(nn.Conv(features, (size, size), strides=stride)(xs))
        grid = xs.reshape(*xs.shape[:-3], -1, FEATURES)
        return grid + self.param("where", nn.initializers.normal(0.1), grid.shape[-2:])


class Params(NamedTuple):
    """Parameters of a `Captioner`."""

    encoder: Any
    summary: Any  # of all places, for a GRU that does not choose among them
    decoder: Any


@dataclasses.dataclass(frozen=True)
class Captioner:
    """Says what is in pictures, a word at a time; like a cell, it holds no arrays."""

    way: str  # one of WAYS
    hidden: int

    @property
    def decoder(self) -> Any:
        gru = jaxrnn.GRU(self.hidden, update_bias=1.0)  # at first it keeps what it knows
        attention = jaxrnn.Attention(gru, "additive", memory=FEATURES, attend="after")
        cells = dict(zip(WAYS, (gru, Watching(gru, self.hidden), attention), strict=True))
        return jaxrnn.Readout(cells[self.way], len(WORDS))

    def init(self, key: jax.Array) -> Params:
        k_encoder, k_summary, k_decoder = jax.random.split(key, 3)
        grid, encoder = Encoder().init_with_output(k_encoder, jnp.zeros((CANVAS, CANVAS, 3)))
        summary = nn.Dense(self.hidden).init(k_summary, grid.ravel())
        return Params(encoder, summary, self.decoder.init(k_decoder, len(WORDS)))

    def look(self, params: Params, images: Any) -> tuple[Any, Any]:
        """The carry before the first word, and the context."""
        grid: Any = Encoder().apply(params.encoder, images)
        carry = self.decoder.initial_carry(params.decoder, (len(grid), len(WORDS)))
        if self.way == "attention":
            return carry, jaxrnn.Memory(grid)
        seen: Any = nn.Dense(self.hidden).apply(params.summary, grid.reshape(len(grid), -1))
        return (jnp.tanh(seen), None) if self.way == "start" else (carry, jnp.tanh(seen))

    def step(self, params: Params, carry: Any, word: jax.Array, context: Any = None) -> Any:
        x = jax.nn.one_hot(word, len(WORDS))
        return jaxrnn.step(self.decoder, params.decoder, carry, x, context=context)

    @partial(jax.jit, static_argnums=0)
    def describe(self, params: Params, images: Any) -> jax.Array:
        """Captions `[pictures, LONGEST]`, the likeliest word at each step."""
        carry, context = self.look(params, images)
        how = {"steps": LONGEST, "stop": [STOP], "context": context}
        start = jnp.full((1, len(images)), STOP)
        return jaxrnn.generate(self.step, params, carry, start, **how).tokens.T


def read(said: Any) -> jax.Array:
    """What is read before each word `[time, pictures, len(WORDS)]`."""
    before = jnp.concatenate([jnp.full_like(said[:, :1], STOP), said[:, :-1]], axis=1)
    return jax.nn.one_hot(before.T, len(WORDS))


def mean_loss(model: Captioner, params: Params, batch: Scenes, _: Any) -> jax.Array:
    """Nats per word, the stop included."""
    images, said = batch
    carry, context = model.look(params, images)
    _, logits = jaxrnn.scan(model.decoder, params.decoder, read(said), carry, context=context)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, said.T)
    return jnp.mean(losses, where=jnp.cumsum(said.T == STOP, axis=0) <= 1)


def draw(path: Path, model: Captioner, params: Params, scenes: Scenes) -> None:
    """What it says, and where it looked before it chose each word."""
    said = model.describe(params, scenes.images)
    carry, memory = model.look(params, scenes.images)
    cell, own = model.decoder.cell, params.decoder.inner
    states, _ = jaxrnn.trajectory(cell, own, read(said), carry, context=memory)
    looks = np.asarray(jaxrnn.attention_weights(cell, own, states, memory))
    captions.draw_looks(path, scenes, np.asarray(said), looks)


def score(o: Options) -> None:
    make_writable(o.out)
    hand, others = digits.load()
    known = digits.make_scenes(hand, digits.is_known, o.pictures, o.seed)
    optimizer, trained = make_adamw(o.learning_rate, o.steps, o.steps // 10), {}
    for model in (Captioner(way, o.hidden) for way in WAYS):
        start, some = model.init(jax.random.key(o.seed)), known.batches(o.batch, o.seed)
        trained[model] = fit(partial(mean_loss, model), start, some, optimizer, o.steps, model.way)
    storage.save_tree(o.out / "weights.safetensors", [*trained.values()], tuple(trained))

    rivals = {"most frequent": captions.most_frequent, "nearest picture": captions.nearest}
    methods = {name: partial(rival, known) for name, rival in rivals.items()}
    methods |= {model.way: partial(model.describe, params) for model, params in trained.items()}
    asked = {
        name: digits.make_scenes(others, kind, o.asked, o.seed + 1) for name, kind in KINDS.items()
    }
    captions.compare(methods, asked)
    some = Scenes(*(array[:5] for array in asked["digits not seen together"]))
    draw(o.out / "looks.png", *[*trained.items()][-1], some)
    print(f"{o.out}: weights.safetensors, looks.png")


def describe(o: Options, count: int) -> None:
    """Print what each captioner says of pictures that nobody saw."""
    path, key = o.out / "weights.safetensors", jax.random.key(0)
    params, models = storage.load_tree(path, lambda ms: [m.init(key) for m in ms], [Captioner])
    scenes = digits.make_scenes(digits.load()[1], digits.is_new_company, count, o.seed + 2)
    said = {m.way: m.describe(p, scenes.images) for m, p in zip(models, params, strict=True)}
    for rows in zip(scenes.captions, *map(np.asarray, said.values()), strict=True):
        for name, row in zip(("truth", *said), rows, strict=True):
            print(f"{name:<12}{digits.say(row)}")
    draw(o.out / "described.png", models[-1], params[-1], scenes)


@command(Options)
def main(o: Options) -> None:
    describe(o, o.describe) if o.describe else score(o)


if __name__ == "__main__":
    main()
