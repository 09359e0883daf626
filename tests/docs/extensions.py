"""The site's extensions, which stand beside its pages and need no Sphinx to be imported."""

import importlib
import sys
from types import ModuleType

from tests.docs.blocks import ROOT


def extension(name: str) -> ModuleType:
    """A module of `docs/_ext`."""
    sys.path.insert(0, str(ROOT / "docs/_ext"))
    try:
        return importlib.import_module(name)
    finally:
        del sys.path[0]
