"""The encoder-decoder of `g2p.py`: one GRU reads the letters of a word, another goes on from its
state and writes phonemes.
"""

import dataclasses
import string
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

import jaxrnn
from jaxrnn import sequences
from jaxrnn.convert import from_torch, to_torch
from jaxrnn.storage import write_whole
from kit.cmudict import Phonemes
from kit.files import package_file

PAD, UNKNOWN = 0, 1  # among letters and phonemes
END = 2  # after the last letter
START, STOP = 2, 3  # before the first phoneme and after the last
LETTERS = ("<pad>", "<unk>", "</s>", *string.ascii_lowercase)
VOWELS = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]
PLOSIVES = ["B", "CH", "D", "G", "JH", "K", "P", "T"]
CONTINUANTS = ["DH", "F", "HH", "L", "M", "N", "NG", "R", "S", "SH", "TH", "V", "W", "Y", "Z", "ZH"]
STRESSED = [vowel + stress for vowel in VOWELS for stress in "012"]  # not, primarily, secondarily
# With a bare UW, as the weights have it.
PHONEMES = ("<pad>", "<unk>", "<s>", "</s>", *sorted([*STRESSED, "UW", *PLOSIVES, *CONTINUANTS]))

_LETTER_NUMBERS = {letter: number for number, letter in enumerate(LETTERS)}
_PHONEME_NUMBERS = {phoneme: number for number, phoneme in enumerate(PHONEMES)}
LONGEST = 20  # phonemes of a word at most, as in g2p-en
BATCH = 1000  # words in one call: bounds the memory that a long list needs


def encode_word(word: str) -> np.ndarray:
    """The letters of a word and `END` as numbers; the apostrophe is unknown, as it was when the
    weights were trained.
    """
    return np.array([*(_LETTER_NUMBERS.get(letter, UNKNOWN) for letter in word), END], np.int32)


def encode_words(words: Iterable[str]) -> np.ndarray:
    """Words side by side `[time, words]`, padded with `PAD`."""
    return sequences.pad([encode_word(word) for word in words]).xs


def encode_phonemes(phonemes: Phonemes) -> np.ndarray:
    """Phonemes and `STOP` as numbers."""
    return np.array([*(_PHONEME_NUMBERS[phoneme] for phoneme in phonemes), STOP], np.int32)


def decode_phonemes(numbers: Iterable[int]) -> Phonemes:
    """Phonemes up to the first `STOP`, or to the end."""
    phonemes = []
    for number in numbers:
        if number == STOP:
            break
        phonemes.append(PHONEMES[number])
    return tuple(phonemes)


class G2PParams(NamedTuple):
    """Parameters of `G2PModel`."""

    letters: jax.Array  # [letters, features], the embedding
    encoder: Any  # the cell's
    phonemes: jax.Array  # [phonemes, features], the embedding
    decoder: Any  # the cell's
    w: jax.Array  # [hidden, phonemes]
    b: jax.Array  # [phonemes]


@dataclasses.dataclass(frozen=True)
class G2PModel:
    """From letters to phonemes; like a cell, it holds hyperparameters and no arrays."""

    encoder: jaxrnn.Cell
    decoder: jaxrnn.Cell  # its carry has the form of the encoder's, in whose last it starts

    def encode(self, params: G2PParams, letters: jax.Array) -> Any:
        """Read words `[time, words]`, padded with `PAD`; give the carry after each last letter."""
        lengths = jnp.sum(letters != PAD, axis=0)
        return jaxrnn.scan(self.encoder, params.encoder, params.letters[letters], lengths=lengths)[
            0
        ]

    def scan(self, params: G2PParams, letters: jax.Array, phonemes: jax.Array) -> jax.Array:
        """The logits `[time, words, phonemes]` of each phoneme, given those before it: teacher
        forcing.
        """
        carry = self.encode(params, letters)
        before = jnp.concatenate([jnp.full_like(phonemes[:1], START), phonemes[:-1]])
        _, ys = jaxrnn.scan(self.decoder, params.decoder, params.phonemes[before], carry)
        return ys @ params.w + params.b

    def step(self, params: G2PParams, carry: Any, phonemes: jax.Array) -> tuple[Any, jax.Array]:
        """Read one phoneme `[*batch]` each; give the carry and the logits of the next."""
        carry, y = jaxrnn.step(self.decoder, params.decoder, carry, params.phonemes[phonemes])
        return carry, y @ params.w + params.b


@partial(jax.jit, static_argnames=("model", "beams", "longest", "best"))
def search(
    model: G2PModel,
    params: G2PParams,
    letters: jax.Array,
    beams: int,
    longest: int = LONGEST,
    best: int = 1,
) -> jaxrnn.Beams:
    """The likeliest phonemes `[longest, words, best]`, `STOP` again after `STOP`, and their
    log-probabilities.
    """
    carry, start = model.encode(params, letters), jnp.full((1, *letters.shape[1:]), START)
    sizes = {"steps": longest, "width": beams, "best": best}
    return jaxrnn.beam_search(model.step, params, carry, start, stop=[STOP], **sizes)


@partial(jax.jit, static_argnames=("model", "beams"))
def decode(model: G2PModel, params: G2PParams, letters: jax.Array, beams: int) -> jax.Array:
    """Phonemes `[words, LONGEST]`, greedily if there is one beam."""
    if beams > 1:
        return search(model, params, letters, beams).tokens[..., 0].T
    carry, start = model.encode(params, letters), jnp.full((1, *letters.shape[1:]), START)
    return jaxrnn.generate(model.step, params, carry, start, steps=LONGEST, stop=[STOP]).tokens.T


def spell(
    model: G2PModel, params: G2PParams, words: Sequence[str], beams: int = 1
) -> list[Phonemes]:
    """The phonemes of each word, all of them (or `BATCH` at a time) in one call."""
    letters = encode_words(words)
    parts = [
        decode(model, params, letters[:, k : k + BATCH], beams) for k in range(0, len(words), BATCH)
    ]
    return [decode_phonemes(row) for part in parts for row in np.asarray(part)]


# Weights are kept as g2p-en keeps them, whether in its file or in one of ours: its names, torch's
# layout.

# g2p-en's name: torch's
_CELL_ARRAYS = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> tuple[G2PModel, G2PParams]:
    """The model whose weights these are; ValueError if they are something else's."""
    features = np.size(arrays.get("fc_w", ())) // len(PHONEMES)
    if {name: array.shape for name, array in arrays.items()} != _shapes(features):
        raise ValueError("its arrays do not have the names and shapes of the weights of g2p-en")
    (encoder, enc), (decoder, dec) = (
        from_torch({theirs: arrays[f"{part}_{name}"] for name, theirs in _CELL_ARRAYS.items()})
        for part in ("enc", "dec")
    )
    enc_emb, dec_emb, fc_w, fc_b = (
        jnp.asarray(arrays[name]) for name in ("enc_emb", "dec_emb", "fc_w", "fc_b")
    )
    return G2PModel(encoder, decoder), G2PParams(enc_emb, enc, dec_emb, dec, fc_w.T, fc_b)


def to_arrays(model: G2PModel, params: G2PParams) -> dict[str, np.ndarray]:
    """The inverse: arrays that g2p-en's own code computes with just as well."""
    arrays = {
        "enc_emb": params.letters,
        "dec_emb": params.phonemes,
        "fc_w": params.w.T,
        "fc_b": params.b,
    }
    for part, cell, p in (
        ("enc", model.encoder, params.encoder),
        ("dec", model.decoder, params.decoder),
    ):
        state_dict = to_torch(cell, p, cell_module=True)
        arrays |= {f"{part}_{name}": state_dict[theirs] for name, theirs in _CELL_ARRAYS.items()}
    # safetensors writes the buffer as it lies
    return {name: np.array(array, order="C") for name, array in arrays.items()}


def _shapes(features: int) -> dict[str, tuple[int, ...]]:
    """Of all arrays; the embeddings are as wide as the states."""
    cell = {
        "w_ih": (3 * features, features),
        "w_hh": (3 * features, features),
        "b_ih": (3 * features,),
        "b_hh": (3 * features,),
    }
    cells = {f"{part}_{name}": shape for part in ("enc", "dec") for name, shape in cell.items()}
    rows = {"enc_emb": len(LETTERS), "dec_emb": len(PHONEMES), "fc_w": len(PHONEMES)}
    return {
        **cells,
        **{name: (count, features) for name, count in rows.items()},
        "fc_b": (len(PHONEMES),),
    }


def load(path: Path | None = None) -> tuple[G2PModel, G2PParams]:
    """The weights that g2p-en brings, or a file that `save` wrote; ValueError if it is something
    else.
    """
    if path is None:
        with np.load(package_file("g2p-en", "g2p_en/checkpoint20.npz"), allow_pickle=False) as file:
            return from_arrays(dict(file))
    try:
        return from_arrays(safetensors.numpy.load_file(path))
    except (OSError, safetensors.SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def save(path: Path, model: G2PModel, params: G2PParams) -> None:
    """Write the weights to a safetensors file, whole or not at all."""
    write_whole(path, safetensors.numpy.save(to_arrays(model, params)))
