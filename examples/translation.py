"""Translate the English of 1611 into modern English, with and without attention, and with and
without reversed sources.

    python examples/translation.py                                               # trains four
    python examples/translation.py --translate "Fear not, for I am with thee."    # uses one

Many-to-many: an LSTM reads a verse of the King James Bible. Another LSTM starts from its last state
and writes the verse of the World English Bible. Sutskever, Vinyals & Le (2014) reversed their
sources, so that the words read last are written first. With attention (Luong, Pham & Manning 2015)
the decoder reads a memory of the whole source: the embeddings of its words, and the states of the
encoder. All models get the same number of updates."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from jaxrnn import sequences, storage
from kit import bible
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.fitting import batches, fit
from kit.training import make_adamw
from kit.translations import choose, draw, score, table
from kit.vocabulary import START, STOP, SlotVocabulary

VARIANTS = ("plain", "reversed", "attention", "both")
LONGEST = 20  # words of a source; four more of a translation


@dataclasses.dataclass(frozen=True)
class Options:
    """Train four translators of old English and compare them, or translate with one."""

    translate: str = ""
    """A sentence to translate into modern English; trains nothing."""
    variant: Literal["plain", "reversed", "attention", "both"] = "attention"
    """With --translate: the model to use."""
    beam: int = 5
    """With --translate: the width of the beam search."""
    hidden: int = 160
    """Units of the encoder and of the decoder, and the size of the embeddings."""
    steps: int = 600
    """Updates of each model."""
    batch: int = 64
    """Verses in an update."""
    learning_rate: float = 2e-3
    """Learning rate of AdamW at the end of the warm-up."""
    held_out: int = 1000
    """Verses to score."""
    seed: int = 0
    """Seed of the initial weights and the order of the verses."""
    out: Path = Path("runs/translation")
    """Folder for the weights and the picture."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "beam", "hidden", "steps", "batch", "held_out")
        check_positive(self, "learning_rate")
        check_seed(self.seed)


@dataclasses.dataclass(frozen=True)
class Translator:
    """From words to words; it holds hyperparameters and no arrays."""

    encoder: jaxrnn.Cell
    decoder: jaxrnn.Dropout
    reverse: bool
    vocabulary: SlotVocabulary

    @classmethod
    def build(cls, variant: str, o: Options, words: SlotVocabulary) -> "Translator":
        cell = jaxrnn.LSTM(o.hidden)
        attention = jaxrnn.Attention(cell, "general", memory=2 * o.hidden, attend="after")
        plain = jaxrnn.Readout(cell, o.hidden, "tanh")
        decoder: Any = attention if variant in ("attention", "both") else plain
        reverse = variant in ("reversed", "both")
        return cls(jaxrnn.Dropout(cell, 0.2), jaxrnn.Dropout(decoder, 0.2), reverse, words)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Draw the parameters."""
        k_words, k_encoder, k_decoder = jax.random.split(key, 3)
        size = self.decoder.out_features
        decoder = self.decoder.init(k_decoder, size)
        if self.decoder.takes_context:
            # It begins by writing the word that it looks at, and learns first where to look.
            decoder = decoder._replace(w_c=decoder.w_c + jnp.eye(*decoder.w_c.shape))
        return {
            "words": 0.3 * jax.random.normal(k_words, (len(self.vocabulary), size)),
            "encoder": self.encoder.init(k_encoder, size),
            "decoder": decoder,
            "b": jnp.zeros(len(self.vocabulary)),
        }

    def encode(self, params: Any, source: Any, lengths: Any, key: Any = None) -> tuple[Any, Any]:
        """Read sources `[time, batch]`: the carry in which the decoder starts, and its memory."""
        if self.reverse:
            source = sequences.reverse(source, lengths)
        xs = params["words"][source]
        carry, ys = jaxrnn.scan(self.encoder, params["encoder"], xs, lengths=lengths, key=key)
        if not self.decoder.takes_context:
            return carry, None
        values = jnp.moveaxis(jnp.concatenate([xs, ys], axis=-1), 0, 1)
        valid = jnp.arange(len(xs)) < lengths[:, None]
        start = self.decoder.initial_carry(params["decoder"], xs.shape[1:])
        return start._replace(inner=carry), jaxrnn.Memory(values, valid)

    def logits(self, params: Any, pairs: Any, key: Any = None) -> jax.Array:
        """Of each word of the translations, given those before it: teacher forcing."""
        source, lengths, target, _ = pairs
        keys = (None, None) if key is None else jax.random.split(key)
        carry, memory = self.encode(params, source, lengths, keys[0])
        xs, own = params["words"][sequences.shift(target, START)], params["decoder"]
        _, ys = jaxrnn.scan(self.decoder, own, xs, carry, context=memory, key=keys[1])
        return ys @ params["words"].T + params["b"]

    def step(self, params: Any, carry: Any, word: Any, context: Any = None) -> tuple[Any, Any]:
        """Read one word `[*batch]` each; give the carry and the logits of the next."""
        x = params["words"][word]
        carry, y = jaxrnn.step(self.decoder, params["decoder"], carry, x, context=context)
        return carry, y @ params["words"].T + params["b"]


def mean_loss(model: Translator, params: Any, pairs: Any, key: Any) -> jax.Array:
    """Nats per word, `STOP` included."""
    logits, words = model.logits(params, pairs, key), pairs.targets
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, words)
    return jnp.mean(nats, where=jnp.arange(len(words))[:, None] < pairs.target_lengths)


@partial(jax.jit, static_argnames=("model", "width"))
def search(model: Translator, params: Any, source: Any, lengths: Any, width: int) -> jax.Array:
    """The likeliest words `[LONGEST + 4, batch]`."""
    carry, memory = model.encode(params, source, lengths)
    begin, options = jnp.full((1, len(lengths)), START), {"stop": [STOP], "length_penalty": 1.0}
    options |= {"steps": LONGEST + 4, "width": width, "context": memory}
    return jaxrnn.beam_search(model.step, params, carry, begin, **options).tokens[..., 0]


def translate(model: Translator, params: Any, texts: Sequence[bible.Verse], beam: int) -> list[str]:
    sources, lengths, _, _ = model.vocabulary.encode_pairs([(text, text) for text in texts])
    found = np.asarray(search(model, params, sources, lengths, beam)).T
    words = [model.vocabulary.decode(*pair) for pair in zip(found, texts, strict=True)]
    return [bible.join_words(verse) for verse in words]


def look(model: Translator, params: Any, old: bible.Verse, new: bible.Verse) -> np.ndarray:
    """How much the decoder looks at each word of the source `[new words and STOP, old words]`."""
    source, lengths, target, _ = model.vocabulary.encode_pairs([(old, new)])
    carry, memory = model.encode(params, source, lengths)
    xs = params["words"][sequences.shift(target, START)]
    states, _ = jaxrnn.trajectory(model.decoder, params["decoder"], xs, carry, context=memory)
    cell: Any = model.decoder.cell
    return np.asarray(jaxrnn.attention_weights(cell, params["decoder"], states, memory))[:, 0]


def compare(o: Options) -> None:
    make_writable(o.out)
    pairs, held_out = bible.split(LONGEST, o.held_out)
    words = SlotVocabulary.of((text for pair in pairs for text in pair), least=5)
    encoded, (old, new) = words.encode_pairs(pairs), zip(*held_out, strict=True)
    said, params = {"copy": [bible.join_words(verse) for verse in old]}, {}
    optimizer = make_adamw(o.learning_rate, o.steps, o.steps // 10)
    for name in VARIANTS:
        model, some = Translator.build(name, o, words), batches(encoded, o.batch, o.seed, axis=-1)
        start = model.init(jax.random.key(o.seed))
        params[name] = fit(partial(mean_loss, model), start, some, optimizer, o.steps, name)
        storage.save_tree(o.out / f"{name}.safetensors", params[name], model)
        said[name] = translate(model, params[name], old, o.beam)

    references = [bible.join_words(verse) for verse in new]
    scores = {name: score(texts, references, [*map(len, old)]) for name, texts in said.items()}
    print(f"{len(pairs):,} verses to train on, {len(old):,} held out; {o.out}\n{table(scores)}")
    k = choose(old, said["attention"], references)
    written = bible.split_words(said["attention"][k])
    weights = look(Translator.build("attention", o, words), params["attention"], old[k], written)
    draw(o.out / "attention.png", scores, weights, old[k], [*written, "(end)"])


@command(Options)
def main(o: Options) -> None:
    if not o.translate:
        return compare(o)
    words, path = bible.split_words(o.translate), o.out / f"{o.variant}.safetensors"
    if not 0 < len(words) <= LONGEST:
        raise ValueError(f"--translate takes 1 to {LONGEST} words, not {len(words)}")
    known, key = [Translator, SlotVocabulary], jax.random.key(0)
    params, model = storage.load_tree(path, lambda model: model.init(key), known)
    print(*translate(model, params, [words], o.beam))


if __name__ == "__main__":
    main()
