"""Predict the next word, as the keyboard of a phone does, with an LSTM on Shakespeare's plays.

    python examples/next_word.py                                # trains, scores, draws
    python examples/next_word.py --complete "to be, or not"     # then completes a sentence

The text is the speeches of the plays, in lower case; a punctuation mark is a word, too. Every tenth
play is held out. The embedding of words is also the output matrix (Press & Wolf 2017). A softmax of
all 10,000 words would cost more than the rest of training. So training takes only the commonest
words and a sample of the others (Jean et al. 2015). Scores are those of the whole vocabulary."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jaxrnn
from jaxrnn.storage import load_tree, save_tree
from jaxrnn.streams import tbptt
from kit import text as texts
from kit import words
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.guesses import draw_guesses
from kit.sampled_softmax import sampled_nats
from kit.scores import NGram, nats_and_ranks, score
from kit.symbols import UNKNOWN
from kit.training import make_adamw
from kit.words import SPEECH, Guess, Vocabulary

WEIGHTS = "weights.safetensors"
NGRAMS = {"unigram": 1, "bigram": 2, "trigram": 3}
CONTEXTS = 1, 2, 4, 8, 16, 32, 64  # how many words are read before one is guessed
SENTENCES = "the course of true love never did run smooth", "i have had a most rare vision."


@dataclasses.dataclass(frozen=True)
class Options:
    """Train a model that predicts the next word, or complete a sentence with it."""

    complete: str | None = None
    """The beginning of a sentence: print the likeliest next words, and train nothing."""
    vocabulary: int = 10_000
    """The size of the vocabulary: the commonest words."""
    hidden: int = 256
    """Units of the LSTM, and the size of the embedding."""
    dropout: float = 0.3
    """The rate of dropout before and after the LSTM."""
    steps: int = 2400
    """Updates."""
    batch: int = 64
    """Parallel streams of text."""
    chunk: int = 32
    """Words of each stream in an update; gradients reach no further back."""
    learning_rate: float = 4e-3
    """Learning rate of AdamW at the end of the warm-up."""
    limit: int = 1_000_000
    """The largest number of words to train on, and to score."""
    seed: int = 0
    """Seed of the initial weights and of all random numbers of training."""
    out: Path = Path("runs/next_word")
    """Folder for the weights and the picture."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "hidden", "steps", "batch", "chunk")
        check_at_least(self, 100, "vocabulary", "limit")
        check_positive(self, "learning_rate")
        check_seed(self.seed)


class Params(NamedTuple):
    """Parameters of `WordModel`."""

    vectors: jax.Array  # [symbols, features], of words as they are read and as they are guessed
    b: jax.Array  # [symbols]
    rnn: Any


@dataclasses.dataclass(frozen=True)
class WordModel:
    """Tells the next word from all before it."""

    rnn: jaxrnn.Cell
    symbols: int

    def init(self, key: jax.Array) -> Params:
        size, (k_vectors, k_rnn) = self.rnn.out_features, jax.random.split(key)
        vectors = jax.random.normal(k_vectors, (self.symbols, size)) / size**0.5
        return Params(vectors, jnp.zeros(self.symbols), self.rnn.init(k_rnn, size))

    def initial_carry(self, params: Params, batch: tuple[int, ...]) -> Any:
        return self.rnn.initial_carry(params.rnn, (*batch, self.rnn.out_features))

    def read(self, params: Params, carry: Any, ids: Any, key: Any = None) -> tuple[Any, jax.Array]:
        """Read words `[time, *batch]`: the carry, and the features that tell each next word."""
        xs = params.vectors[ids] * self.rnn.out_features**0.5  # of unit variance at first
        return jaxrnn.scan(self.rnn, params.rnn, xs, carry, key=key)

    def scan(self, params: Params, carry: Any, ids: Any) -> tuple[Any, jax.Array]:
        """Read words: the carry, and the logits `[time, *batch, symbols]` of each next one."""
        carry, ys = self.read(params, carry, ids)
        return carry, ys @ params.vectors.T + params.b

    def step(self, params: Params, carry: Any, ids: jax.Array) -> tuple[Any, jax.Array]:
        """Read one word; the next one is not the unknown one."""
        carry, logits = self.scan(params, carry, ids[None])
        return carry, logits[0].at[..., UNKNOWN].set(-jnp.inf)


def train(model: WordModel, ids: np.ndarray, o: Options) -> Params:
    sizes = {"common": min(1000, model.symbols // 2), "sample": min(500, model.symbols // 2)}

    def loss(params: Params, carry: Any, chunk: Any, key: Any) -> tuple[jax.Array, Any]:
        (inputs, targets), (k_dropout, k_sample) = chunk, jax.random.split(key)
        carry, ys = model.read(params, carry, inputs, k_dropout)
        nats = sampled_nats(params.vectors, params.b, ys, targets, k_sample, **sizes)
        return nats.mean(), carry

    adamw = make_adamw(o.learning_rate, o.steps, o.steps // 10 + 1, b2=0.99)
    trainer, key = tbptt.Trainer(loss, adamw), jax.random.key(o.seed)
    params, recent = model.init(key), []
    state = trainer.init(params, model.initial_carry(params, (o.batch,)), key)
    with tqdm(range(o.steps), unit="step") as bar:
        for step in bar:
            state, report = trainer.step(state, texts.training_chunk(ids, step, o.batch, o.chunk))
            if report.skipped:
                raise FloatingPointError("training diverged: try a lower --learning-rate")
            recent = [*recent[-49:], float(report.loss)]
            bar.set_postfix_str(f"perplexity about {np.exp(np.mean(recent)):.0f}", refresh=False)
    return state.params


def by_context(model: WordModel, params: Params, ids: np.ndarray) -> dict[int, float]:
    """Perplexity of 2,000 words of a text, by how many words before each are read."""
    found, places = {}, np.linspace(max(CONTEXTS), len(ids) - 1, 2000).astype(int)
    for n in CONTEXTS:
        before = ids[places - np.arange(n, 0, -1)[:, None]]
        carry, _ = model.read(params, model.initial_carry(params, places.shape), before[:-1])
        _, (nats, _) = nats_and_ranks(model, params, carry, before[-1:], ids[places][None])
        found[n] = float(np.exp(nats.mean()))
    return found


def evaluate(o: Options) -> None:
    make_writable(o.out)
    text, held_out = (words.split(words.spoken(t))[: o.limit] for t in texts.load_plays()[:2])
    vocabulary = Vocabulary.of([text], most=o.vocabulary - 1)
    seen, asked = vocabulary.encode(text), vocabulary.encode(held_out)
    layers: list[jaxrnn.Cell] = [jaxrnn.LSTM(o.hidden), jaxrnn.Dense(o.hidden)]
    stack = jaxrnn.Stack([jaxrnn.Dropout(layer, o.dropout) for layer in layers])
    model = WordModel(stack, vocabulary.size)
    params = train(model, seen, o)
    save_tree(o.out / WEIGHTS, params, (model, " ".join(vocabulary.known)))

    scores = {name: NGram(seen, n, model.symbols).score(asked) for name, n in NGRAMS.items()}
    scores["LSTM"] = score(model, params, asked, vocabulary.encode([SPEECH])[0])
    print(f"{len(asked):,} held-out words, {np.mean(asked == UNKNOWN):.1%} of them unknown:")
    for name, found in scores.items():
        print(f"  {name:<10}{found}")
    shown, context = show(model, params, vocabulary, held_out), by_context(model, params, asked)
    draw_guesses(o.out / "guesses.png", shown, context, scores)
    print(f"{o.out}: {WEIGHTS}, guesses.png")


def show(model: WordModel, params: Params, vocabulary: Vocabulary, text: Any) -> list[list[Guess]]:
    """What seemed likely at each word of the sentences to show, where the text has them."""
    ids, shown = vocabulary.encode(text), []
    for place, sentence in words.find(text, SENTENCES):
        read = ids[max(0, place - 100) : place + len(sentence)]
        _, logits = model.scan(params, model.initial_carry(params, ()), read)
        after = jax.nn.softmax(logits[-len(sentence) - 1 : -1])
        shown.append([vocabulary.guess(*pair) for pair in zip(after, sentence, strict=True)])
    return shown


def complete(o: Options, text: str) -> None:
    """Print the likeliest next words, and the likeliest ends of the sentence."""
    load = partial(load_tree, like=lambda saved: saved[0].init(jax.random.key(0)))
    params, (model, known) = load(o.out / WEIGHTS, known=[WordModel])
    vocabulary, start = Vocabulary(tuple(known.split())), model.initial_carry(params, ())
    read = vocabulary.encode([SPEECH, *words.split(text)])
    _, logits = model.scan(params, start, read)
    for word, probability in vocabulary.likeliest(jax.nn.softmax(logits[-1])):
        print(f"{probability:6.1%}  {word}")
    stop, search = vocabulary.encode(words.ENDS).tolist(), partial(jaxrnn.beam_search, model.step)
    found = search(params, start, read, steps=12, width=20, stop=stop, length_penalty=1.0, best=3)
    for tokens, length in zip(found.tokens.T, found.lengths, strict=True):
        print(words.join([text, *vocabulary.decode(tokens[:length])]))


@command(Options)
def main(o: Options) -> None:
    evaluate(o) if o.complete is None else complete(o, o.complete)


if __name__ == "__main__":
    main()
