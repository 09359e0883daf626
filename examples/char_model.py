"""The model of `char_lm.py`: a stack of jaxrnn cells between an embedding and a softmax."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxrnn
from jaxrnn import storage
from jaxrnn.streams import Categorical
from kit.symbols import UNKNOWN
from kit.text import encode


class CharParams(NamedTuple):
    """Parameters of `CharModel`."""

    embedding: jax.Array  # [symbols, embedding]
    rnn: Any  # the stack's
    w: jax.Array  # [hidden, symbols]
    b: jax.Array  # [symbols]


@dataclasses.dataclass(frozen=True)
class CharModel:
    """Predicts the next character from all before it; it holds hyperparameters and no arrays."""

    rnn: jaxrnn.Stack
    # sorted; character k has the number k + 1, and number 0 stands for every other character
    alphabet: str
    embedding: int = 64

    @classmethod
    def build(cls, cell: str, hidden: int, layers: int, alphabet: str) -> "CharModel":
        """A stack of equal layers."""
        return cls(jaxrnn.Stack([getattr(jaxrnn, cell)(hidden)] * layers), alphabet)

    @property
    def symbols(self) -> int:
        """How many different characters are predicted, the unknown one included."""
        return len(self.alphabet) + 1

    def init(self, key: jax.Array) -> CharParams:
        """Draw the parameters."""
        k_embedding, k_rnn, k_w = jax.random.split(key, 3)
        return CharParams(
            embedding=jax.random.normal(k_embedding, (self.symbols, self.embedding)),
            rnn=self.rnn.init(k_rnn, self.embedding),
            w=jax.nn.initializers.lecun_normal()(k_w, (self.rnn.out_features, self.symbols)),
            b=jnp.zeros(self.symbols),
        )

    def initial_carry(self, params: CharParams, batch: tuple[int, ...]) -> Any:
        """The carry before the first character of each stream."""
        return self.rnn.initial_carry(params.rnn, (*batch, self.embedding))

    def scan(self, params: CharParams, carry: Any, ids: jax.Array) -> tuple[Any, jax.Array]:
        """Read characters `[time, *batch]`; give the carry and the logits `[time, *batch, symbols]`
        of each next one.
        """
        carry, ys = jaxrnn.scan(self.rnn, params.rnn, params.embedding[ids], carry)
        return carry, ys @ params.w + params.b

    def loss(self, params: CharParams, carry: Any, chunk: Any, key: Any) -> tuple[jax.Array, Any]:
        """The mean cross-entropy in nats of a chunk `(inputs, targets)`, `[time, *batch]` both, and
        the carry after it.
        """
        inputs, targets = chunk
        carry, logits = self.scan(params, carry, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), carry

    def step(self, params: CharParams, carry: Any, ids: jax.Array) -> tuple[Any, jax.Array]:
        """Read one character `[*batch]`; give the carry and the logits of the next."""
        carry, y = jaxrnn.step(self.rnn, params.rnn, carry, params.embedding[ids])
        return carry, y @ params.w + params.b

    def step_to_known(self, params: CharParams, carry: Any, ids: Any) -> tuple[Any, jax.Array]:
        """Like `step`, but the next character is one of the alphabet."""
        carry, logits = self.step(params, carry, ids)
        return carry, logits.at[..., UNKNOWN].set(-jnp.inf)

    def write(
        self, params: CharParams, length: int, temperature: float, seed: int = 0, prompt: str = ""
    ) -> str:
        """Read the prompt, then write text: each character that is drawn is read in turn."""
        start, key = self.initial_carry(params, ()), jax.random.key(seed)
        read, draw = jnp.array(self.encode(prompt)), Categorical(temperature)
        step = self.step_to_known
        out = jaxrnn.generate(step, params, start, read, steps=length, sample=draw, key=key)
        return "".join(self.alphabet[i - 1] for i in out.tokens)

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's characters, after the end of the line before it."""
        return encode(self.alphabet, "\n" + text).tolist()


def load(path: Path) -> tuple[CharModel, CharParams]:
    """What `char_lm.py` saved; ValueError if it is something else."""
    key = jax.random.key(0)
    params, model = storage.load_tree(path, lambda model: model.init(key), known=[CharModel])
    return model, params
