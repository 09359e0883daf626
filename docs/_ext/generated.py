"""Pages that are made from the code: the API, one page for each module, and one for each cell."""

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MODULES = {
    "jaxrnn": "Drivers and contract",
    "jaxrnn.cells": "Cells",
    "jaxrnn.combinators": "Combinators",
    "jaxrnn.methods": "Methods",
    "jaxrnn.sequences": "Sequences",
    "jaxrnn.streams": "Streams",
    "jaxrnn.streams.tbptt": "Truncated BPTT",
    "jaxrnn.diagnostics": "Diagnostics",
    "jaxrnn.diagnostics.pictures": "Pictures",
    "jaxrnn.linen": "Flax linen",
    "jaxrnn.nnx": "Flax NNX",
    "jaxrnn.foreign": "Foreign step functions",
    "jaxrnn.convert": "Exchange of weights",
    "jaxrnn.storage": "Files",
    "jaxrnn.labels": "Labels",
    "jaxrnn.constraints": "Constraints",
    "jaxrnn.activations": "Activations",
    "jaxrnn.initializers": "Initialisers",
    "jaxrnn.testing": "Tests of your own cells",
}
"""Every public module, in the order of the site."""


PAGE = """{title}
{line}

.. currentmodule:: {name}

.. automodule:: {name}
   :no-members:
   :no-index:

.. autosummary::
   :toctree: {name}
   :nosignatures:

{listed}
"""


def setup(app: "Sphinx") -> dict[str, bool]:
    """Write the pages before Sphinx looks for them."""
    app.connect("config-inited", lambda app, config: write(Path(app.srcdir)))
    return {"parallel_read_safe": True}


def write(docs: Path) -> None:
    """Write `docs/api/*.rst`."""
    folder = docs / "api"
    folder.mkdir(exist_ok=True)
    names = [name.replace("jaxrnn.", "") for name in MODULES]
    toc = "\n".join(f"   {name}" for name in names)
    index = f"API\n===\n\n.. toctree::\n   :maxdepth: 1\n\n{toc}\n"
    _write(folder / "index.rst", index)
    for name, title in MODULES.items():
        _write(folder / f"{name.replace('jaxrnn.', '')}.rst", _page(name, title))


def _page(name: str, title: str) -> str:
    module = importlib.import_module(name)
    listed = "\n".join(f"   {entry}" for entry in public(module))
    return PAGE.format(title=title, line="=" * len(title), name=name, listed=listed)


def public(module: ModuleType) -> list[str]:
    """The names of a module that have a page there; `jaxrnn` leaves to its submodules what they
    list, and submodules.
    """
    names = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    if module.__name__ != "jaxrnn":
        return sorted(names, key=str.lower)
    elsewhere = {
        name
        for other in MODULES
        if other != "jaxrnn"
        for name in importlib.import_module(other).__all__
    }
    return sorted((name for name in names if name not in elsewhere), key=str.lower)


def _write(path: Path, text: str) -> None:
    """Leave a page alone that says this already: Sphinx then need not read it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
