"""Surnames of twenty countries in Latin letters, from the package `faker`.

The files of the package are parsed, not imported.
"""

import ast
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kit.files import package_file, read_text

LOCALES = {
    "Croatia": "hr_HR",
    "Czechia": "cs_CZ",
    "England": "en_GB",
    "Estonia": "et_EE",
    "Finland": "fi_FI",
    "France": "fr_FR",
    "Germany": "de_DE",
    "Ghana": "tw_GH",
    "India": "en_IN",
    "Indonesia": "id_ID",
    "Ireland": "ga_IE",
    "Italy": "it_IT",
    "Kenya": "en_KE",
    "Latvia": "lv_LV",
    "Netherlands": "nl_NL",
    "Poland": "pl_PL",
    "Slovakia": "sk_SK",
    "Spain": "es_ES",
    "Sweden": "sv_SE",
    "Uzbekistan": "uz_UZ",
}
COUNTRIES = tuple(LOCALES)
LONGEST = 20  # characters of a name
LETTERS = (
    " ',-‘’ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    "ÁÅÉÍÓÕÖÚßàáäåçèéêëìíîñòóôõöùúüýĀāąĆćČčĎďĐđēęěģīķļĽľŁłńņňŘřŚśŠšŤťūůźŻżŽžɔε"
)
Surnames = dict[str, list[int]]
"""Each surname, and the countries that have it, as indices into `COUNTRIES`."""


class Pair(NamedTuple):
    """A name, and the index of a country that has it."""

    name: str
    country: int


def load(most: int = 10**6) -> Surnames:
    """Load the 16,877 surnames of at most `LONGEST` characters, or a random `most` of them.

    The random choice is always the same.
    """
    surnames: Surnames = {}
    for number, locale in enumerate(LOCALES.values()):
        path = package_file("faker", f"faker/providers/person/{locale}/__init__.py")
        for name in sorted(_read(path)):
            if len(name) <= LONGEST:
                surnames.setdefault(name, []).append(number)
    order = np.random.default_rng(0).permutation(len(surnames))[:most]
    names = [*surnames]
    return {names[k]: surnames[names[k]] for k in sorted(order)}


def _read(path: Path) -> set[str]:
    """Return the strings in all assignments to names that contain `last_names`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(read_text(path))):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if "last_names" in getattr(target, "id", ""):
                words = (w.value for w in ast.walk(node.value) if isinstance(w, ast.Constant))
                found |= {word for word in words if isinstance(word, str)}
    return found


def split(surnames: Surnames) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Split surnames into 80 % for training, 5 % for validation and 15 % for the test.

    Names that begin with the same five letters, apart from accents, are in one part. A model that
    was trained on Novák is therefore not tested on Nováková. A name of several countries is in the
    training part once for each, and in the others with its first country.
    """
    families: dict[str, list[str]] = {}
    for name in surnames:
        letters = unicodedata.normalize("NFD", name.lower()).encode("ascii", "ignore")[:5]
        families.setdefault(letters.decode(), []).append(name)
    order = np.random.default_rng(0).permutation(sorted(families))
    cuts = [len(order) * 80 // 100, len(order) * 85 // 100]
    train, *others = (
        [name for family in part for name in families[family]] for part in np.split(order, cuts)
    )
    choose, held_out = ([Pair(name, surnames[name][0]) for name in names] for names in others)
    return [Pair(name, k) for name in train for k in surnames[name]], choose, held_out


def right(surnames: Surnames, pairs: Sequence[Pair], countries: Iterable[int]) -> float:
    """Return the share of names for which the predicted country is one of theirs."""
    return float(np.mean([k in surnames[p.name] for p, k in zip(pairs, countries, strict=True)]))
