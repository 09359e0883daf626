"""Equations of docstrings, which are plain Unicode there, as LaTeX.

Letters, subscripts, primes and accents are as in the papers; words are upright. A word before a
parenthesis is a function. One space between two factors is a product, two spaces and more separate
equations, and an equation from a note about it.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

SIGN = re.compile(r"[Α-Ωα-ω⊙∘∂‖ᵀ½\u0303\u0304]|_\{|\b[A-Za-z]_t\b|\bW_|^[a-z](?: [-+=] [a-z\d])+$")
"""What every equation has, and no code."""

TOKEN = re.compile(
    r"""(?P<space>\ +)
    | (?P<code>(?:\w+=)?"[^"]*")
    | (?P<function>[A-Za-z]{2,}(?=\())
    | (?P<words>[A-Za-z]{2,}(?:,?\ (?:a\ )?[A-Za-z]{2,}(?![A-Za-z(_]))*)
    | (?P<letter>[A-Za-zα-ωΓΔΘΛΦΨΩ½][\u0303\u0304]?)
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<lower>_\{[^{}]*\}|_\w+)
    | (?P<upper>\^\([^()]*\)|\^\w+|[ᵀ²'])
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<bar>[|‖])
    | (?P<prefix>[Σ∂])
    | (?P<relation>[=~])
    | (?P<operator>\.\.\.|.)""",
    re.VERBOSE,
)

LETTERS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "θ": "theta",
    "κ": "kappa", "λ": "lambda", "μ": "mu", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "varphi",
    "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Φ": "Phi",
    "Ψ": "Psi", "Ω": "Omega", "Σ": "sum", "∂": "partial", "½": "tfrac{1}{2}",
}  # fmt: skip
OPERATORS = {
    **{char: char for char in "+-/,;."},
    **{"*": r"\ast", "⊙": r"\odot", "∘": r"\circ", "·": r"\cdot", "×": r"\times", "±": r"\pm"},
    **{"...": r"\,\cdots\,", "⋯": r"\,\cdots\,", "…": r"\ldots", ":": r"\colon\ ", "−": "-"},
    **{"=": "=", "~": r"\sim"},
}
RELATIONS = {"=": "=", "~": r"\ \sim\ ", "becomes": r"\ \text{becomes}\ ", "": ""}
ACCENTS = {"\u0303": r"\tilde", "\u0304": r"\bar"}
UPPER = {"ᵀ": r"\top", "²": "2", "½": r"\frac{1}{2}"}
BARS = {"|": (r"{\lvert ", r"\rvert}"), "‖": (r"{\lVert ", r"\rVert}")}

FACTORS = {"words", "function", "letter", "number", "prefix", "open", "code"}
"""What a product may go on with."""

ENDS = {"words", "letter", "number", "lower", "upper", "close", "code"}
"""What the factor before it may end with."""


def is_equation(text: str) -> bool:
    """Whether this has a sign of mathematics."""
    return bool(SIGN.search(unicodedata.normalize("NFD", text)))


def inline(text: str) -> str:
    """An equation within a sentence."""
    return "".join(_latex(" ".join(text.split()))).strip()


def block(lines: Iterable[str]) -> str:
    """Equations below each other, aligned at their first relation, notes in a column beside."""
    rows: list[list[str]] = []
    for line in lines:
        rows += _rows(line)
    if len(rows) == 1:
        return r" \qquad ".join(map(inline, rows[0]))
    return " \\\\\n".join(_row(*row) for row in rows)


def _rows(line: str) -> Iterator[list[str]]:
    """Every equation of a line, each followed by its notes."""
    line = re.sub(r" +(=|~|becomes) +", r" \1 ", line.strip())
    row: list[str] = []
    for piece in re.split(r",? {2,}", line):
        if row and row[-1].endswith(":"):
            row[-1] += f" {piece}"
        elif row and _relation(piece):
            yield row
            row = [piece]
        else:
            row.append(piece)
    yield row


def _row(equation: str, *notes: str) -> str:
    relation = _relation(equation)
    left, right = equation.split(relation, 1) if relation else ("", equation)
    cells = [inline(left), f"{RELATIONS[relation.strip()]} {inline(right)}".strip()]
    for note in notes:
        cells += ["", inline(note)]
    return " & ".join(cells)


def _relation(equation: str) -> str:
    """The first one, with the spaces around."""
    found = re.search(r" (=|~|becomes) ", equation)
    return found[0] if found else ""


def _latex(text: str) -> Iterator[str]:
    """Token by token: what is written side by side stays so."""
    before, spaced, open_bars = "", False, set[str]()
    for found in TOKEN.finditer(unicodedata.normalize("NFD", text)):
        kind, token = str(found.lastgroup), found[0]
        if kind == "space":
            spaced = True
            continue
        if kind == "bar":
            open_bars ^= {token}
            kind = "open" if token in open_bars else "close"
        if spaced and before in ENDS and kind in FACTORS:
            yield r"\ " if "words" in (before, kind) else r"\,"
        yield _token(kind, token)
        before, spaced = kind, False
    if open_bars:
        raise ValueError(f"{text!r} has a bar that is not closed")


def _token(kind: str, token: str) -> str:
    match kind:
        case "words" | "code":
            return _text(token)
        case "function":
            return rf"\operatorname{{{token}}}"
        case "letter" | "prefix":
            letter, *accent = token
            latex = f"\\{LETTERS[letter]} " if letter in LETTERS else letter
            # the empty group keeps docutils from setting a subscript below the letter
            return f"{{{ACCENTS[accent[0]]}{{{latex.strip()}}}{{}}}}" if accent else latex
        case "lower":
            return f"_{{{_index(token[1:].strip('{}'))}}}"
        case "upper":
            inner = token.lstrip("^").strip("()")
            return token if token == "'" else f"^{{{UPPER.get(inner) or inline(inner)}}}"
        case "open" | "close" if token in BARS:
            return BARS[token][kind == "close"]
        case "operator" | "relation":
            if token not in OPERATORS:
                raise ValueError(f"{token!r} is not known to docs/_ext/equations.py")
            return token if token in ",;./" else f" {OPERATORS[token]} "
    return token


def _index(name: str) -> str:
    """Up to two letters are indices, more are a name."""
    if re.fullmatch("[a-z]+", name):
        return name if len(name) < 3 else _text(name)
    return inline(name)


def _text(words: str) -> str:
    return rf"\text{{{words}}}"
