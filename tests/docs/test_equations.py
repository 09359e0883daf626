"""What docstrings say in Unicode, the site says in LaTeX, and nothing is lost on the way."""

import importlib
import inspect
import re
import unicodedata
from collections.abc import Iterator

import pytest

from tests.docs.extensions import extension

equations, docstrings, generated = map(extension, ("equations", "docstrings", "generated"))


@pytest.mark.parametrize(
    ("source", "latex"),
    [
        ("x_t W_x + h_{t-1} W_h + b", r"x_{t}\,W_{x} + h_{t - 1}\,W_{h} + b"),
        ("f ⊙ c_{t-1} + i' ⊙ g'", r"f \odot c_{t - 1} + i' \odot g'"),
        ("σ(h * W_xf) for each gate", r"\sigma (h \ast W_{xf})\ \text{for each gate}"),
        (
            "o ⊙ tanh([c_t; m_new] W_l)",
            r"o \odot \operatorname{tanh}([c_{t};m_{\text{new}}]\,W_{l})",
        ),
        ("cell(x)_t", r"\operatorname{cell}(x)_{t}"),
        ("rate h_{t-1}", r"\text{rate}\ h_{t - 1}"),
        ("LN(z) ⊙ gain_hn", r"\operatorname{LN}(z) \odot \text{gain}_{hn}"),
        ("h̃_t + ȳ_t", r"{\tilde{h}{}}_{t} + {\bar{y}{}}_{t}"),
        ("½‖F(h) − h‖²", r"\tfrac{1}{2} {\lVert F(h) - h\rVert}^{2}"),
        ("‖W^k‖^(1/k)", r"{\lVert W^{k}\rVert}^{1/k}"),
        ("ρ(WᵀW)^½", r"\rho (W^{\top}W)^{\frac{1}{2}}"),
        ("|cos(Δc A, Δm A)|", r"{\lvert \operatorname{cos}(\Delta c\,A,\Delta m\,A)\rvert}"),
        ("Σ_t ∂L/∂θ_t", r"\sum _{t}\,\partial L/\partial \theta _{t}"),
        ("J_T J_{T-1} ⋯ J_{t+1}", r"J_{T}\,J_{T - 1} \,\cdots\, J_{t + 1}"),
    ],
)
def test_notation(source: str, latex: str) -> None:
    assert equations.inline(source) == latex


def test_a_block_is_aligned_and_its_notes_stand_beside() -> None:
    lines = [
        "    r, z = σ(x_t W_x)",
        '    n   = tanh(x_t)       reset_gate="after"',
        "    h_t = z,    y_t = h_t",
    ]
    assert equations.block(lines).splitlines() == [
        r"r,z & = \sigma (x_{t}\,W_{x}) \\",
        r"""n & = \operatorname{tanh}(x_{t}) &  & \text{reset_gate="after"} \\""",
        r"h_{t} & = z \\",
        r"y_{t} & = h_{t}",
    ]
    assert equations.block(["GRU:  d_t  becomes  z,   d ~ Bernoulli(rate)"]).splitlines() == [
        r"\text{GRU} \colon\  d_{t} & \ \text{becomes}\  z \\",
        r"d & \ \sim\  \operatorname{Bernoulli}(\text{rate})",
    ]
    alone = equations.block(["f = Σ_t g_t,    where t is a step"])
    assert alone == r"f = \sum _{t}\,g_{t} \qquad \text{where}\ t\ \text{is a step}"


@pytest.mark.parametrize("source", ["h_t = W @ x", "‖h_t", "h_t │ x"])
def test_what_it_does_not_know_it_refuses(source: str) -> None:
    with pytest.raises(ValueError, match="not"):
        equations.inline(source)


@pytest.mark.parametrize(
    "code",
    [
        "arrays = to_torch(cell, params)",
        "w_x [*kernel, in, gates * hidden]",
        "LSTMParams(w_x, w_h, b)",
        "xs",
        "B  [directions, 2 * gates * hidden], two halves that are added",
        "return_sequences=False",
    ],
)
def test_code_is_no_equation(code: str) -> None:
    assert not equations.is_equation(code)


def docstrings_of_the_site() -> Iterator[tuple[str, str]]:
    for module in map(importlib.import_module, generated.MODULES):
        yield module.__name__, inspect.getdoc(module) or ""
        for name in generated.public(module):
            value = getattr(module, name)
            yield name, inspect.getdoc(value) or ""
            if inspect.isclass(value):
                for method, member in inspect.getmembers(value, inspect.isroutine):
                    if not method.startswith("_"):
                        yield f"{name}.{method}", inspect.getdoc(member) or ""


def test_no_equation_of_the_site_loses_a_sign() -> None:
    """LaTeX read back is what the docstring says."""
    read = 0
    for name, text in docstrings_of_the_site():
        lines = docstrings.rewritten(text.splitlines())
        page = "\n".join(lines)
        found = re.findall(r":math:`([^`]*)`", page)
        for block in re.findall(r"^\.\. math::\n\n((?:    .*\n?)+)", page, re.MULTILINE):
            found += block.strip().split("\\\\\n")
        said = squeezed(text)
        for latex in found:
            for part in re.split(r" &  & |\\qquad", latex):
                assert squeezed(read_back(part)) in said, (name, part)
                read += 1
    assert read > 100


@pytest.mark.parametrize(
    "name", ["Elman", "Jordan", "LSTM", "GRU", "MGU", "ConvLSTM", "ConvGRU", "STLSTM"]
)
def test_every_page_of_a_cell_shows_its_equations(name: str) -> None:
    cell = getattr(importlib.import_module("jaxrnn"), name)
    lines = docstrings.rewritten((inspect.getdoc(cell) or "").splitlines())
    assert ".. math::" in lines
    outside = [line for line in lines if not line.startswith("    ") and ":math:" not in line]
    assert not [line for line in outside if re.search(r"[⊙σ]\(|_\{t-1\}| ⊙ ", line)]


def test_mathml_sets_subscripts_and_primes_beside_letters() -> None:
    pytest.importorskip("docutils")
    pytest.importorskip("sphinx")
    mathml = extension("mathml").mathml
    tilde = mathml(equations.inline("h̃_t = f'"))
    assert "<msub>" in tilde
    assert "under" not in tilde
    assert "<mi>′</mi>" in tilde


COMMANDS = {
    "odot": "⊙", "circ": "∘", "ast": "*", "cdot": "·", "cdots": "⋯", "ldots": "…", "sim": "~",
    "colon": ":", "lVert": "‖", "rVert": "‖", "lvert": "|", "rvert": "|", "top": "ᵀ", "sum": "Σ",
    "partial": "∂", "pm": "±", "times": "×", "tilde": "\u0303", "bar": "\u0304",
}  # fmt: skip


def read_back(latex: str) -> str:
    """An equation in Unicode, its spaces aside."""
    latex = re.sub(r"\\(tilde|bar)\{(\w)\}", lambda m: m[2] + COMMANDS[m[1]], latex)
    latex = re.sub(r"\\[tf]?t?frac\{1\}\{2\}", "½", latex)
    latex = re.sub(r"\\(?:text|operatorname)\{([^}]*)\}", r"\1", latex)
    latex = re.sub(r"\\(?:qquad\b|[ ,\\])", "", latex)
    return re.sub(r"\\([A-Za-z]+)", _command, latex).replace("&", "")


def _command(found: re.Match[str]) -> str:
    name = found[1]
    if name in COMMANDS:
        return COMMANDS[name]
    greek = name.removeprefix("var").replace("lambda", "lamda").upper()
    return unicodedata.lookup(f"GREEK {'SMALL' if name.islower() else 'CAPITAL'} LETTER {greek}")


def squeezed(text: str) -> str:
    """Its letters and signs: no spaces, no braces, one way to write each."""
    text = unicodedata.normalize("NFD", text).replace("...", "⋯").replace("−", "-")
    text = re.sub(r"\^\(([^)]*)\)", r"^\1", text).replace("²", "^2").replace("ᵀ", "^ᵀ")
    return re.sub(r"\^\^", "^", re.sub(r"[\s{}`]", "", text))
