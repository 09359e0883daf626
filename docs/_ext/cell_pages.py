"""One page for each cell, from its docstring, its parameters, and the tests' list of references."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sphinx.application import Sphinx

import jaxrnn
from jaxrnn import convert
from tests.support import reference
from tests.support.helpers import make_params, make_xs
from tests.support.specs import SPECS, Spec

IN, HIDDEN = 7, 11
"""Sizes of the tables: primes, so that a shape tells what it is made of."""

CELLS: dict[str, jaxrnn.Cell] = {
    "Elman": jaxrnn.Elman(HIDDEN),
    "Jordan": jaxrnn.Jordan(HIDDEN, features=13),
    "LSTM": jaxrnn.LSTM(HIDDEN),
    "GRU": jaxrnn.GRU(HIDDEN),
    "MGU": jaxrnn.MGU(HIDDEN),
    "ConvLSTM": jaxrnn.ConvLSTM(HIDDEN, 3),
    "ConvGRU": jaxrnn.ConvGRU(HIDDEN, 3),
    "STLSTM": jaxrnn.STLSTM(HIDDEN, 3, layers=2),
}
"""Those that have a page. Cells of pictures are asked about pictures of 5 by 5."""

FRAMEWORKS: dict[str, Callable[..., Any]] = {
    "PyTorch": convert.to_torch,
    "Keras": convert.to_keras,
    "Flax": convert.to_flax,
    "Haiku": convert.to_haiku,
    "Equinox": convert.to_equinox,
    "ONNX": convert.to_onnx,
    "cuDNN": convert.to_cudnn,
}


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages before Sphinx looks for them."""
    app.connect("config-inited", lambda app, config: write(Path(app.srcdir)))
    return {"parallel_read_safe": True}


def write(docs: Path) -> None:
    """Write `docs/cells/*.md`."""
    folder = docs / "cells"
    folder.mkdir(exist_ok=True)
    pages = {name.lower(): "\n".join(_page(name, cell)) for name, cell in CELLS.items()}
    pages["index"] = "\n".join(["# Cells", "", "```{toctree}", *pages, "```"])
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _page(name: str, cell: jaxrnn.Cell) -> Iterator[str]:
    yield from (
        f"# {name}",
        "",
        "```{eval-rst}",
        f".. autoclass:: jaxrnn.{name}",
        "   :no-index:",
        "```",
        "",
    )
    yield from ("## Parameters", "", *_parameters(cell), "")
    yield from ("## Fidelity", "", *_fidelity(type(cell)), "")
    yield from ("## Weights of other frameworks", "", *_exchange(cell), "")
    yield from ("## Cost", "", *_cost(cell), "")


def _parameters(cell: jaxrnn.Cell) -> Iterator[str]:
    """Names, shapes and roles."""
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), IN))
    roles = dict(_named(cell.labels(params)))
    yield from ("| parameter | shape | role |", "| --- | --- | --- |")
    for name, leaf in _named(params):
        yield f"| `{name}` | `[{', '.join(map(_symbol, leaf.shape))}]` | {roles[name]} |"
    options = [f.name for f in dataclasses.fields(cell) if f.name.endswith(("_init", "_bias"))]
    drawn = ", ".join(f"`{name}={getattr(cell, name)!r}`" for name in options)
    yield from ("", f"Drawn by default with {drawn}.")


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path).lstrip("."), leaf) for path, leaf in leaves]


def _symbol(size: int) -> str:
    """`44` is `4 hidden`."""
    for base, word in ((HIDDEN, "hidden"), (IN, "in"), (13, "features")):
        if size % base == 0:
            return word if size == base else f"{size // base} {word}"
    return str(size)


def _fidelity(kind: type) -> Iterator[str]:
    """The distance from the paper's equations, written in NumPy in double precision."""
    yield from (
        "Largest distance of an output from the paper's equations, written out in NumPy in double",
        "precision, over six steps of random numbers (computed when this page was made):",
        "",
        "| cell | in float64 | in float32 |",
        "| --- | --- | --- |",
    )
    for spec in SPECS:
        if type(spec.cell) is kind and not spec.runs_as:
            errors = [_error(spec, dtype) for dtype in ("float64", "float32")]
            yield f"| `{spec.cell!r}` | {errors[0]:.0e} | {errors[1]:.0e} |"


def _error(spec: Spec, dtype: str) -> float:
    with jax.enable_x64(True):
        params, xs = make_params(spec, dtype), make_xs(spec, dtype=dtype)
        _, ys = jaxrnn.scan(spec.cell, params, xs)
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, xs))
        _, expected = reference.run(spec.reference, *wide)
        return float(np.max(np.abs(np.asarray(ys, np.float64) - expected)))


def _exchange(cell: jaxrnn.Cell) -> Iterator[str]:
    """Which frameworks can hold it, found by asking the converters."""
    params = cell.init(jax.random.key(0), IN)
    held = []
    for name, convert_to in FRAMEWORKS.items():
        try:
            convert_to(cell, params)
        except (TypeError, ValueError):
            continue
        held.append(name)
    if held:
        yield f"As it stands here, `jaxrnn.convert` writes it for {', '.join(held)}."
    else:
        yield "No framework that `jaxrnn.convert` knows has it."


def _cost(cell: jaxrnn.Cell) -> Iterator[str]:
    """Numbers of parameters and of the carry."""
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), IN))
    space = (5,) * (cell.feature_axes - 1)
    carry = jax.eval_shape(
        lambda: cell.initial_carry(cell.init(jax.random.key(0), IN), (*space, IN))
    )
    where = " for a picture of 5 by 5" if space else ""
    yield (
        f"With {IN} features in and {HIDDEN} units: {_count(params)} parameters, and "
        f"{_count(carry)} numbers carried by each sequence{where}."
    )


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
