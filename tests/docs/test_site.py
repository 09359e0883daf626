"""The site has a page for every public name. `make docs` checks that links and pictures resolve."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import jaxrnn
from tests.docs.blocks import ROOT
from tests.docs.extensions import extension

generated = extension("generated")


def public_modules() -> list[str]:
    """Those whose names, and whose packages' names, do not say that they are private, and that say
    what they offer.
    """
    found = pkgutil.walk_packages(jaxrnn.__path__, "jaxrnn.")
    names = [found.name for found in found]
    return [name for name in names if hasattr(importlib.import_module(name), "__all__")]


def page_of(value: object) -> set[str]:
    """The modules whose page has this."""
    return {
        module
        for module in generated.MODULES
        for name in generated.public(importlib.import_module(module))
        if getattr(importlib.import_module(module), name) is value
    }


@pytest.mark.parametrize("module", ["jaxrnn", *public_modules()])
def test_every_public_name_has_a_page(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        value = getattr(loaded, name)
        assert isinstance(value, ModuleType) or page_of(value), f"{module}.{name}"


def test_every_guide_is_in_the_contents() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or f"\n{page.stem}\n" in index, page.name
