"""Surnames of twenty countries: one GRU invents them, another tells the country of a name.

    python examples/names.py                                   # trains both in about two minutes
    python examples/names.py --country Finland                 # invents ten
    python examples/names.py --names Kowalska Virtanen         # tells their countries

The first model is one-to-many: the GRU reads the country at every step. The second model is
many-to-one: a bidirectional GRU, of which the last output of each direction is used.
"""

import dataclasses
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from jaxrnn.sequences import last_output, shift
from kit import surnames
from kit.baselines import classify_texts
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.conditioned import LabelConditionedGRU
from kit.confusion import draw_confusion
from kit.files import make_writable
from kit.fitting import fit
from kit.ragged import apply_to_all, training_batches
from kit.surnames import COUNTRIES, LETTERS, LONGEST, Pair, Surnames
from kit.text import ngram_bits
from kit.training import make_adamw

SYMBOLS = "\n" + LETTERS  # a name ends with the first, which is also what the writer reads first
one_hot = partial(jax.nn.one_hot, num_classes=len(SYMBOLS))
LIMITS, BATCH = (7, 10, LONGEST + 1), 128
TITLE = "Held-out surnames: where they are from (rows)\nand where they are taken to be from, in %"
GRAMS = {"analyzer": "char", "ngram_range": (1, 3)}


@dataclasses.dataclass(frozen=True)
class Options:
    """Train on surnames, invent surnames of a country, or tell the countries of some."""

    country: str | None = None
    """Invent surnames of this country with the weights in --out."""
    names: tuple[str, ...] = ()
    """Tell the countries of these surnames with the weights in --out."""
    count: int = 10
    """With --country: how many to invent."""
    temperature: float = 0.8
    """With --country: a temperature below 1 makes likely letters likelier."""
    out: Path = Path("runs/names")
    """Folder for the weights and the picture."""
    hidden: int = 128
    """Units of each GRU."""
    epochs: int = 16
    """Passes over the training names."""
    most: int = 20_000
    """The largest number of names to use, for a quick trial."""
    seed: int = 0
    """Seed of the weights, the order of names, and the invented names."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "count", "hidden", "epochs", "most")
        check_positive(self, "temperature")
        check_seed(self.seed)
        if self.country is not None and self.country not in COUNTRIES:
            raise ValueError(f"--country {self.country} is not one of {', '.join(COUNTRIES)}")


def encode(pair: Pair) -> np.ndarray:
    """Letters and country `[time, 2]`."""
    if other := set(pair.name) - set(LETTERS):
        raise ValueError(f"cannot read {pair.name!r}: no name in training has a {min(other)!r}")
    return np.array([(SYMBOLS.index(letter), pair.country) for letter in pair.name + "\n"])


def nats(cell: Any, params: Any, xs: Any, lengths: Any, key: Any = None) -> jax.Array:
    """What the writer needs for each name `[batch]`, its end included."""
    ids, country = xs[..., 0], xs[0, :, 1]
    read = one_hot(shift(ids, start=0))
    _, logits = jaxrnn.scan(cell, params, read, lengths=lengths, context=country, key=key)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, ids)
    return jnp.sum(each, axis=0, where=jnp.arange(len(ids))[:, None] < lengths)


def judge(cell: Any, params: Any, xs: Any, lengths: Any, key: Any = None) -> jax.Array:
    """How likely each country is for each name: logits `[batch, countries]`."""
    (reader, head), (of_reader, of_head) = cell.cells, params
    k_reader, k_head = (None, None) if key is None else jax.random.split(key)
    _, ys = jaxrnn.scan(reader, of_reader, one_hot(xs[..., 0]), lengths=lengths, key=k_reader)
    return jaxrnn.step(head, of_head, (), last_output(ys, reader, lengths=lengths), key=k_head)[1]


def writer_loss(cell: Any, params: Any, batch: Any, key: jax.Array) -> jax.Array:
    xs, lengths = batch
    return jnp.sum(nats(cell, params, xs, lengths, key)) / jnp.sum(lengths)


def reader_loss(cell: Any, params: Any, batch: Any, key: jax.Array) -> jax.Array:
    xs, lengths = batch
    logits = judge(cell, params, xs, lengths, key)
    return optax.softmax_cross_entropy_with_integer_labels(logits, xs[0, :, 1]).mean()


def each(function: Any, cell: Any, params: Any, pairs: list[Pair]) -> np.ndarray:
    """`nats` or `judge` of many names."""
    run = jax.jit(function, static_argnums=0)
    rows = [encode(pair) for pair in pairs]
    return np.array(apply_to_all(lambda *batch: run(cell, params, *batch), rows, LIMITS, 250))


def bits(cell: Any, params: Any, pairs: list[Pair]) -> float:
    """What the writer needs for each letter."""
    letters = sum(len(pair.name) + 1 for pair in pairs)
    return float(np.sum(each(nats, cell, params, pairs)) / letters / np.log(2))


def right(known: Surnames, cell: Any, params: Any, pairs: list[Pair]) -> float:
    """How many names have the country that the reader thinks likeliest."""
    return surnames.right(known, pairs, np.argmax(each(judge, cell, params, pairs), axis=-1))


def invent(cell: Any, params: Any, countries: Any, o: Options) -> list[str]:
    """A name for each country, each letter read in turn."""

    def write(params: Any, carry: Any, token: jax.Array, *, context: jax.Array) -> Any:
        return jaxrnn.step(cell, params, carry, one_hot(token), context=context)

    start = cell.initial_carry(params, (len(countries), len(SYMBOLS)))
    begin, draw = jnp.zeros((1, len(countries)), int), jaxrnn.streams.Categorical(o.temperature)
    told = {"context": jnp.array(countries), "sample": draw, "key": jax.random.key(o.seed)}
    tokens = jaxrnn.generate(write, params, start, begin, steps=LONGEST, stop=[0], **told).tokens
    return ["".join(SYMBOLS[k] for k in row).strip() for row in tokens.T.tolist()]


def train(o: Options) -> None:
    """Train both, write them, and print what they make of names that they have not seen."""
    known = surnames.load(o.most)
    pairs, choose, held_out = surnames.split(known)
    rows, epoch = [encode(pair) for pair in pairs], max(1, len(pairs) // BATCH)

    def fitted(name: str, cell: Any, loss: Any, score: Any) -> Any:
        batches = (part[:2] for part in training_batches(rows, LIMITS, BATCH, o.seed))
        steps, params = o.epochs * epoch, cell.init(jax.random.key(o.seed), len(SYMBOLS))
        loss, optimizer = partial(loss, cell), make_adamw(3e-3, steps, 50)
        params = fit(loss, params, batches, optimizer, steps, name, score=score, every=epoch)
        jaxrnn.save(o.out / f"{name}.safetensors", cell, params)
        return params

    told = jaxrnn.Dropout(LabelConditionedGRU(jaxrnn.GRU(o.hidden), len(COUNTRIES)), rate=0.1)
    writer = jaxrnn.Readout(told, len(SYMBOLS))
    of_writer = fitted("writer", writer, writer_loss, lambda p: -bits(writer, p, choose))
    both_ways = jaxrnn.Bidirectional(jaxrnn.Dropout(jaxrnn.GRU(o.hidden), rate=0.1))
    reader = jaxrnn.Stack([both_ways, jaxrnn.Dropout(jaxrnn.Dense(len(COUNTRIES)), rate=0.4)])
    of_reader = fitted("reader", reader, reader_loss, lambda p: right(known, reader, p, choose))
    names, countries = zip(*pairs, strict=True)
    most = Counter(countries).most_common(1)[0][0]
    found = np.argmax(each(judge, reader, of_reader, held_out), axis=-1)
    grams = classify_texts(names, countries, [pair.name for pair in held_out], **GRAMS)
    text, other = (np.concatenate([encode(p)[:, 0] for p in part]) for part in (pairs, held_out))
    shares = [surnames.right(known, held_out, k) for k in ([most] * len(held_out), grams, found)]
    print(f"right about the country of {len(held_out):,} held-out names:")
    print(f"  always {COUNTRIES[most]:<28}{shares[0]:6.1%}")
    print(f"  logistic regression on n-grams     {shares[1]:6.1%}")
    print(f"  a GRU in each direction            {shares[2]:6.1%}")
    print("bits for each of their letters:")
    print(f"  all letters alike                  {np.log2(len(SYMBOLS)):6.2f}")
    print(f"  a trigram model                    {ngram_bits(text, other, 3, len(SYMBOLS)):6.2f}")
    print(f"  a GRU that reads the country       {bits(writer, of_writer, held_out):6.2f}")
    new = np.array(invent(writer, of_writer, np.arange(40 * len(COUNTRIES)) // 40, o))
    fresh = [[*dict.fromkeys(n for n in row if n not in known)][:4] for row in new.reshape(-1, 40)]
    truth = [k if k in known[p.name] else p.country for p, k in zip(held_out, found, strict=True)]
    notes = ("Surnames that the other GRU invents\nfor the country of the row", fresh)
    draw_confusion(o.out / "names.png", truth, found, COUNTRIES, TITLE, notes)
    print(o.out / "names.png")


@command(Options)
def main(o: Options) -> None:
    make_writable(o.out)
    if o.names:
        cell, params = jaxrnn.load(o.out / "reader.safetensors")
        logits = each(judge, cell, params, [Pair(name, 0) for name in o.names])
        for name, odds in zip(o.names, np.asarray(jax.nn.softmax(logits)), strict=True):
            best = np.argsort(-odds)[:3]
            print(f"{name:<{LONGEST}}", ", ".join(f"{COUNTRIES[k]} {odds[k]:.0%}" for k in best))
    elif o.country is not None:
        cell, params = jaxrnn.load(o.out / "writer.safetensors", known=[LabelConditionedGRU])
        print(*invent(cell, params, [COUNTRIES.index(o.country)] * o.count, o), sep="\n")
    else:
        train(o)


if __name__ == "__main__":
    main()
