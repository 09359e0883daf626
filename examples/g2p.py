"""Convert spelling to phonemes with the trained GRU encoder-decoder of the package g2p-en, loaded
by `jaxrnn.convert.from_torch`.

    python examples/g2p.py hello world                 # hello HH EH1 L OW0, and so on
    python examples/g2p.py --file words.txt --beam 5   # all words of a file, by beam search
    python examples/g2p.py --check                     # compare with the package's NumPy code
    python examples/g2p.py --finetune                  # train for a few minutes on CMUdict
    python examples/g2p.py hello --weights runs/g2p.safetensors
"""

import dataclasses
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from tqdm import tqdm

import g2p_model
from g2p_model import PAD, G2PModel, G2PParams, encode_phonemes, encode_word
from jaxrnn import sequences
from kit import cmudict
from kit.cmudict import Phonemes
from kit.command_line import check_at_least, check_positive, command
from kit.files import make_writable, read_text
from kit.training import make_adamw

HELD_OUT = 5000  # words of CMUdict that no training here sees
CHECKED = 1000  # the first of them
ROUNDS = 3  # of --check: all sides take turns, and the fastest round of each counts
# in training, words and phonemes are padded to one of these lengths: few programs, little padding
LIMITS = (8, 11, 16)
Pair = tuple[str, Phonemes]


@dataclasses.dataclass(frozen=True)
class Options:
    """Convert words to phonemes, compare with g2p-en's own code, or train further."""

    words: tyro.conf.Positional[tuple[str, ...]] = ()
    """Words to convert."""
    file: Path | None = None
    """A UTF-8 file with more words."""
    beam: int = 1
    """The width of the beam search; 1 is greedy."""
    weights: Path | None = None
    """The weights that --finetune wrote; by default, those of g2p-en."""
    check: bool = False
    """Compare with g2p-en's own code on words of CMUdict."""
    finetune: bool = False
    """Train further on CMUdict, and score before and after."""
    out: Path = Path("runs/g2p.safetensors")
    """With --finetune: the file for the weights."""
    steps: int = 1800
    """With --finetune: the number of updates."""
    batch: int = 128
    """With --finetune: words in each update."""
    learning_rate: float = 2e-4
    """With --finetune: learning rate of AdamW at the end of the warm-up."""
    seed: int = 0
    """With --finetune: seed of the order of the words."""

    def __post_init__(self) -> None:
        if (bool(self.words) or self.file is not None) + self.check + self.finetune != 1:
            raise ValueError(
                "expected words, --file, --check or --finetune, and one of these things at a time"
            )
        check_at_least(self, 1, "beam", "steps", "batch")
        check_positive(self, "learning_rate")
        check_at_least(self, 0, "seed")


def clean(word: str) -> str:
    """A word in lower case and without accents; ValueError if something else than a to z and
    apostrophes is left.
    """
    letters = "".join(
        c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn"
    ).replace("’", "'")
    if not cmudict.is_word(letters):
        raise ValueError(
            f"cannot spell {word!r}: expected the letters a to z, with accents or without, and "
            "apostrophes"
        )
    return letters


def spell(options: Options) -> None:
    """Print each word and its phonemes, a line each, as CMUdict does."""
    words = [*options.words, *(read_text(options.file).split() if options.file else ())]
    if not words:
        raise ValueError(f"{options.file} holds no words")
    cleaned = [clean(word) for word in words]
    answers = g2p_model.spell(*g2p_model.load(options.weights), cleaned, options.beam)
    for word, phonemes in zip(words, answers, strict=True):
        print(word, *phonemes)


def package_code(arrays: dict[str, np.ndarray]) -> Callable[[str], Phonemes]:
    """The way from a word to phonemes by the NumPy code of g2p-en itself, with weights by the names
    of its attributes.
    """
    # What it imports serves whole sentences, and asks the network for data; a single word needs
    # none of it.
    unneeded = ("nltk", "nltk.corpus", "nltk.tokenize", "inflect")
    with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in unneeded}):
        from g2p_en import G2p
    package: Any = G2p()
    for name, array in arrays.items():
        setattr(package, name, array)
    return lambda word: tuple(package.predict(word))


def check(options: Options) -> None:
    """Print how often g2p-en's own code gives the same phonemes, how often CMUdict has them, and
    how long each side takes.
    """
    dictionary = cmudict.load()
    words = cmudict.split(dictionary, HELD_OUT)[1][:CHECKED]
    model, params = g2p_model.load(options.weights)
    by_package = package_code(g2p_model.to_arrays(model, params))
    sides: dict[str, Callable[[], list[Phonemes]]] = {
        "g2p-en's own code": lambda: [by_package(word) for word in words],
        "jaxrnn": lambda: g2p_model.spell(model, params, words),
    }
    if options.beam > 1:
        sides[f"jaxrnn, {options.beam} beams"] = lambda: g2p_model.spell(
            model, params, words, options.beam
        )
    answers: dict[str, list[Phonemes]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(1 + ROUNDS):
        for name, side in sides.items():
            began = time.perf_counter()
            answers[name] = side()
            seconds[name].append(time.perf_counter() - began)

    same = sum(
        ours == theirs
        for ours, theirs in zip(answers["jaxrnn"], answers["g2p-en's own code"], strict=True)
    )
    print(f"{len(words):,} words of CMUdict, {same:,} of them with identical phonemes:")
    for name, (first, *others) in seconds.items():
        exact = cmudict.exact_matches(dictionary, words, answers[name]) / len(words)
        print(
            f"  {name:<18}{min(others):6.2f} s ({first:.2f} s the first time){exact:7.1%} as in "
            "CMUdict"
        )


def batches(pairs: Sequence[Pair], batch: int, seed: int) -> Iterator[np.ndarray]:
    """Letters and phonemes `[time, batch, 2]` of words of similar length, one epoch after the
    other; the longest are left out.
    """
    encoded = [(encode_word(word), encode_phonemes(phonemes)) for word, phonemes in pairs]
    both = [sequences.pad(pair).xs for pair in encoded if max(map(len, pair)) <= LIMITS[-1]]
    parts = [part.xs for part in sequences.bucket(both, LIMITS)]
    draw = np.random.default_rng(seed)
    while True:
        rounds = [(xs, draw.permutation(xs.shape[1])) for xs in parts]
        epoch = [
            xs[:, order[k : k + batch]]
            for xs, order in rounds
            for k in range(0, len(order) - batch + 1, batch)
        ]
        if not epoch:
            raise ValueError(f"too few words for batches of {batch}")
        draw.shuffle(epoch)
        yield from epoch


def mean_loss(
    model: G2PModel, params: G2PParams, letters: jax.Array, phonemes: jax.Array
) -> jax.Array:
    """Nats per phoneme, `STOP` included."""
    losses = optax.softmax_cross_entropy_with_integer_labels(
        model.scan(params, letters, phonemes), phonemes
    )
    return jnp.mean(losses, where=phonemes != PAD)


def train(model: G2PModel, params: G2PParams, pairs: Sequence[Pair], options: Options) -> G2PParams:
    """Teacher forcing on pairs of a word and its phonemes; FloatingPointError if it diverges."""
    optimizer = make_adamw(options.learning_rate, options.steps, max(1, options.steps // 20))

    @jax.jit
    def step(params: G2PParams, state: Any, both: jax.Array) -> tuple[Any, Any, jax.Array]:
        loss, gradient = jax.value_and_grad(
            lambda p: mean_loss(model, p, both[..., 0], both[..., 1])
        )(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    state, recent = optimizer.init(params), []
    with tqdm(
        islice(batches(pairs, options.batch, options.seed), options.steps),
        total=options.steps,
        unit="step",
    ) as bar:
        for both in bar:
            params, state, loss = step(params, state, both)
            if not np.isfinite(loss):
                raise FloatingPointError(
                    f"training diverged: --learning-rate {options.learning_rate} is too high"
                )
            recent = [*recent[-49:], float(loss)]
            bar.set_postfix_str(f"{np.mean(recent):.3f} nats/phoneme", refresh=False)
    return params


def finetune(options: Options) -> None:
    """Train on what is not held out, write the weights, and print the exact matches of what is held
    out.
    """
    if options.out.exists():
        raise ValueError(f"{options.out} exists already: choose another --out")
    make_writable(options.out.parent)
    dictionary = cmudict.load()
    trained_on, held_out = cmudict.split(dictionary, HELD_OUT)
    model, before = g2p_model.load(options.weights)
    began = time.perf_counter()
    after = train(model, before, [(word, dictionary[word][0]) for word in trained_on], options)
    seconds = time.perf_counter() - began
    g2p_model.save(options.out, model, after)

    print(f"Exact matches with CMUdict among {len(held_out):,} held-out words:")
    for label, params in (("before", before), ("after", after)):
        matches = cmudict.exact_matches(
            dictionary, held_out, g2p_model.spell(model, params, held_out, options.beam)
        )
        print(f"  {label:<8}{matches / len(held_out):6.1%}")
    print(
        "This training did not use these words. That of g2p-en, which also used CMUdict, may have "
        "used any of them."
    )
    print(f"{options.steps:,} steps in {seconds:,.0f} s. {options.out}")


@command(Options)
def main(options: Options) -> None:
    (check if options.check else finetune if options.finetune else spell)(options)


if __name__ == "__main__":
    main()
