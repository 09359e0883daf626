"""The README's Python blocks run, one after the other, and what they compare agrees."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

README = Path(__file__).parents[2] / "README.md"
FRAMEWORKS = ("torch", "keras", "haiku")


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def framework(block: str) -> str:
    """The one that a block imports beside jaxrnn, or nothing."""
    return next(
        (name for name in FRAMEWORKS if re.search(rf"^import {name}\b", block, re.MULTILINE)), ""
    )


def test_blocks_without_another_framework():
    """In one namespace, for later ones go on from earlier ones."""
    names: dict[str, Any] = {"__name__": "readme"}
    own = [block for block in blocks() if not framework(block)]
    assert len(own) > 5
    for block in own:
        exec(compile(block, "README.md", "exec"), names)
    np.testing.assert_allclose(names["ours"], names["theirs"], atol=1e-5)  # Flax


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_coming_from(name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}: `make oracle-test` installs it")
    (block,) = [block for block in blocks() if framework(block) == name]
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    theirs = names["theirs"].detach() if name == "torch" else names["theirs"]
    np.testing.assert_allclose(names["ours"], np.asarray(theirs), atol=1e-5)
