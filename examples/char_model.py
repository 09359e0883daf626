"""The character model of `char_lm.py` and `sample.py`: a stack of jaxrnn cells between an embedding
and a softmax.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from char_data import UNKNOWN, encode

import jaxrnn
from jaxrnn.storage import write_whole
from jaxrnn.streams.generation import Categorical

CELLS = {"Elman": jaxrnn.Elman, "LSTM": jaxrnn.LSTM, "GRU": jaxrnn.GRU}
# one key: safetensors writes several in random order, and equal runs should give equal files
METADATA = "jaxrnn_char_lm"


class CharParams(NamedTuple):
    """Parameters of `CharModel`."""

    embedding: jax.Array  # [symbols, embedding]
    rnn: Any  # the stack's
    w: jax.Array  # [hidden, symbols]
    b: jax.Array  # [symbols]


@dataclasses.dataclass(frozen=True)
class CharModel:
    """Predicts the next character from all before it; like a cell, it holds hyperparameters and no
    arrays.
    """

    rnn: jaxrnn.Stack
    # sorted; character k has the number k + 1, and number 0 stands for every other character
    alphabet: str
    embedding: int = 64

    @classmethod
    def build(cls, cell: str, hidden: int, layers: int, alphabet: str) -> "CharModel":
        """A stack of equal layers."""
        return cls(jaxrnn.Stack([CELLS[cell](hidden)] * layers), alphabet)

    @property
    def symbols(self) -> int:
        """How many different characters are predicted, the unknown one included."""
        return len(self.alphabet) + 1

    @property
    def start(self) -> int:
        """What is read before the first character of a text: the end of a line."""
        return int(encode(self.alphabet, "\n")[0])

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

    def step(self, params: CharParams, carry: Any, ids: jax.Array) -> tuple[Any, jax.Array]:
        """Read one character `[*batch]`; give the carry and the logits of the next."""
        carry, y = jaxrnn.step(self.rnn, params.rnn, carry, params.embedding[ids])
        return carry, y @ params.w + params.b

    def step_to_known(
        self, params: CharParams, carry: Any, ids: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Like `step`, but the next character is one of the alphabet."""
        carry, logits = self.step(params, carry, ids)
        return carry, logits.at[..., UNKNOWN].set(-jnp.inf)


def write(
    model: CharModel,
    params: CharParams,
    length: int,
    temperature: float,
    seed: int = 0,
    prompt: str = "",
) -> str:
    """Read the prompt, then write text: each character that is drawn is read in turn."""
    read = jnp.array([model.start, *encode(model.alphabet, prompt)])
    sample, key, carry = (
        Categorical(temperature),
        jax.random.key(seed),
        model.initial_carry(params, ()),
    )
    written = jaxrnn.generate(
        model.step_to_known, params, carry, read, steps=length, sample=sample, key=key
    )
    return "".join(model.alphabet[i - 1] for i in written.tokens)


def save(path: Path, model: CharModel, params: CharParams) -> None:
    """Write weights and hyperparameters to one safetensors file, whole or not at all."""
    layers: Any = model.rnn.cells
    cells = [{"cell": type(cell).__name__, **dataclasses.asdict(cell)} for cell in layers]
    settings = json.dumps(
        {"cells": cells, "embedding": model.embedding, "alphabet": model.alphabet}
    )
    tensors = {name: np.asarray(leaf) for name, leaf in _named(params).items()}
    write_whole(path, safetensors.numpy.save(tensors, metadata={METADATA: settings}))


def load(path: Path) -> tuple[CharModel, CharParams]:
    """Read what `save` wrote; ValueError if it is something else."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if METADATA not in metadata:
                raise ValueError("no model of char_lm.py")
            model = _model(json.loads(metadata[METADATA]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    expected = jax.eval_shape(model.init, jax.random.key(0))
    shapes = {name: leaf.shape for name, leaf in _named(expected).items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise ValueError(
            f"cannot read {path}: the weights do not fit the cells that its metadata names"
        )
    return model, jax.tree.unflatten(
        jax.tree.structure(expected), [jnp.asarray(tensors[name]) for name in shapes]
    )


def _model(settings: dict[str, Any]) -> CharModel:
    cells = [CELLS[cell.pop("cell")](**cell) for cell in settings["cells"]]
    return CharModel(jaxrnn.Stack(cells), settings["alphabet"], settings["embedding"])


def _named(params: Any) -> dict[str, Any]:
    """The leaves by name: `rnn.0.w_x`, say, in the order of the tree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree.leaves_with_path(params)
    }
