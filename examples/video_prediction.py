"""Predict frames of moving digits: ConvLSTM, ConvGRU and PredRNN with equally many parameters.

    python examples/video_prediction.py             # trains, scores and draws
    python examples/video_prediction.py --watch 5   # predicts new clips with those weights

Two handwritten digits move on straight lines and bounce off the walls. A network reads ten frames
and predicts the next ten. Its state has the shape of a picture, too. After the tenth frame it reads
its own predictions. In a ConvLSTM (Shi et al. 2015) and a ConvGRU (Ballas et al. 2016), each layer
has a memory of its own. PredRNN (Wang et al. 2017) has a second memory, which passes through all
layers, and from the top layer to the lowest layer of the next step.

A network that reads only true frames in training fails when it reads its own predictions. Scheduled
sampling (Bengio et al. 2015) prepares it for them. After the first ten frames, a random draw for
each clip and step decides whether it reads the true or the predicted frame. The probability of the
true frame falls during training. No handwritten digit is in both training and test clips."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn import storage
from kit import digits
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.fitting import fit
from kit.training import count_parameters, make_adamw
from kit.video import pictures
from kit.video.metrics import baselines, compare
from kit.video.motion import AHEAD, GIVEN, clips

PATCH = 4  # pixels across and down that are the channels of one place, as in PredRNN
LAYERS, KERNEL = 2, 3
FADE = 0.3  # of the updates, until no frame is given any more
WIDTHS = {"ConvLSTM": 1.0, "ConvGRU": 1.15, "PredRNN": 0.68}  # of as many parameters
ASKED, WATCHED = 10_000, 20_000  # seeds, of the clips that are scored on, and of new ones


@dataclasses.dataclass(frozen=True)
class Options:
    """Train three networks to predict frames, and score them, or predict new clips."""

    watch: int = 0
    """How many new clips to predict with the weights in --out; trains nothing."""
    hidden: int = 18
    """Channels of the ConvLSTM's layers; the others have as many parameters."""
    steps: int = 2000
    """Updates of each network."""
    batch: int = 8
    """Clips in an update."""
    learning_rate: float = 2e-2
    """Learning rate of AdamW at the end of the warm-up."""
    asked: int = 500
    """Clips to score on."""
    seed: int = 0
    """Seed of the clips and the initial weights; with --watch, of the new clips."""
    out: Path = Path("runs/video_prediction")
    """Folder for the weights and the pictures."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "watch")
        check_at_least(self, 1, "hidden", "steps", "batch", "asked")
        check_positive(self, "learning_rate")
        check_seed(self.seed)


def network(name: str, hidden: int) -> jaxrnn.Cell:
    """From the patches of a frame to those of the next one."""
    if name == "PredRNN":
        layers: Any = jaxrnn.STLSTM(hidden, KERNEL, layers=LAYERS)
    else:
        cell = jaxrnn.ConvLSTM if name == "ConvLSTM" else jaxrnn.ConvGRU
        layers = jaxrnn.Stack.repeat(cell(hidden, KERNEL), LAYERS)
    return jaxrnn.Readout(layers, PATCH**2)


def channels(hidden: int) -> dict[str, int]:
    return {name: round(width * hidden) for name, width in WIDTHS.items()}


@partial(jax.jit, static_argnums=(0, 1))
def init(name: str, hidden: int, seed: int = 0) -> Any:
    return network(name, hidden).init(jax.random.key(seed), PATCH**2)


def to_patches(frames: Any) -> jax.Array:
    """`[..., height, width]` to `[..., rows, columns, PATCH * PATCH]`."""
    *lead, height, width = frames.shape
    rows, columns = height // PATCH, width // PATCH
    cut = jnp.reshape(frames, (*lead, rows, PATCH, columns, PATCH))
    return jnp.swapaxes(cut, -2, -3).reshape(*lead, rows, columns, PATCH**2)


def to_frames(patches: jax.Array) -> jax.Array:
    """The way back."""
    *lead, rows, columns, _ = patches.shape
    cut = patches.reshape(*lead, rows, columns, PATCH, PATCH)
    return jnp.swapaxes(cut, -2, -3).reshape(*lead, rows * PATCH, columns * PATCH)


def predict(cell: jaxrnn.Cell, params: Any, frames: Any, given: jax.Array) -> jax.Array:
    """All frames but the first, each from what was read before: ten true frames, then those that
    are `given [AHEAD - 1, clips]`, and in place of the others its own, through which gradients go.
    """
    xs = to_patches(frames)
    carry, ys = jaxrnn.scan(cell, params, xs[:GIVEN])

    def read(before: Any, coming: Any) -> tuple[Any, jax.Array]:
        (carry, own), (true, is_given) = before, coming
        x = jnp.where(is_given[:, None, None, None], true, own)
        carry, y = jaxrnn.step(cell, params, carry, x)
        return (carry, y), y

    _, ahead = jax.lax.scan(read, (carry, ys[-1]), (xs[GIVEN:-1], given))
    return to_frames(jnp.concatenate([ys, ahead]))


class Lesson(NamedTuple):
    """What an update learns from."""

    frames: np.ndarray  # [GIVEN + AHEAD, clips, height, width]
    share: np.floating  # of the later frames, how many are given


def lessons(images: np.ndarray, o: Options) -> Iterator[Lesson]:
    """New clips for each update; the share that is given goes down to none."""
    for step, frames in enumerate(clips(images, o.batch, o.seed)):
        yield Lesson(frames, np.float32(max(0, 1 - step / (FADE * o.steps))))


def mean_error(cell: jaxrnn.Cell, params: Any, lesson: Lesson, key: jax.Array) -> jax.Array:
    """Summed over the pixels of a frame, averaged over frames and clips."""
    frames, share = lesson
    given = jax.random.bernoulli(key, share, (AHEAD - 1, frames.shape[1]))
    wrong = predict(cell, params, frames, given) - frames[1:]
    return jnp.mean(jnp.sum(jnp.square(wrong), axis=(-2, -1)))


@partial(jax.jit, static_argnums=0)
def look_ahead(cell: jaxrnn.Cell, params: Any, frames: Any) -> jax.Array:
    """The frames after the first `GIVEN`, of which alone it sees something."""
    given = jnp.zeros((AHEAD - 1, frames.shape[1]), bool)
    return jnp.clip(predict(cell, params, frames, given)[-AHEAD:], 0, 1)


def draw(path: Path, frames: np.ndarray, found: dict[str, np.ndarray]) -> None:
    pictures.draw_strips(path.with_suffix(".png"), frames, found)
    pictures.animate(path.with_suffix(".gif"), frames, found)
    print(f"{path}.png and .gif")


def train(o: Options) -> None:
    make_writable(o.out)
    hand, others = digits.load()
    asked = next(clips(others.images, o.asked, ASKED))
    found = baselines(asked, next(clips(hand.images, 1000, ASKED)))
    optimizer = make_adamw(o.learning_rate, o.steps, o.steps // 10, b2=0.99)
    sizes, trained = channels(o.hidden), {}
    for name, hidden in sizes.items():
        cell, start = network(name, hidden), init(name, hidden, o.seed)
        loss = partial(mean_error, cell)
        trained[name] = fit(loss, start, lessons(hand.images, o), optimizer, o.steps, name)
        found[name] = np.asarray(look_ahead(cell, trained[name], asked))
        print(f"{name}: {hidden} channels, {count_parameters(start):,} parameters")
    storage.save_tree(o.out / "weights.safetensors", trained, sizes)
    compare(asked, found)
    draw(o.out / "video_prediction", asked, found)


def watch(o: Options) -> None:
    """Score and draw new clips, by the weights of a run before."""

    def shapes(sizes: dict[str, int]) -> Any:
        return {name: init(name, hidden) for name, hidden in sizes.items()}

    trained, sizes = storage.load_tree(o.out / "weights.safetensors", shapes)
    hand, others = digits.load()
    frames = next(clips(others.images, o.watch, WATCHED + o.seed))
    found = baselines(frames, next(clips(hand.images, 1000, ASKED)))
    for name, hidden in sizes.items():
        found[name] = np.asarray(look_ahead(network(name, hidden), trained[name], frames))
    compare(frames, found)
    draw(o.out / "watched", frames, found)


@command(Options)
def main(o: Options) -> None:
    watch(o) if o.watch else train(o)


if __name__ == "__main__":
    main()
