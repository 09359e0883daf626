"""`docs/coming_from.md` says how another library is left behind: both sides agree."""

import importlib.util
from typing import Any

import numpy as np
import pytest

from tests.docs.blocks import FRAMEWORKS, ROOT, blocks, framework, run_blocks

PAGE = ROOT / "docs" / "coming_from.md"


def test_flax() -> None:
    names = run_blocks(PAGE)
    np.testing.assert_allclose(names["ours"], names["theirs"], atol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}: `make oracle-test` installs it")
    (block,) = [block for block in blocks(PAGE) if framework(block) == name]
    names: dict[str, Any] = {}
    exec(compile(block, PAGE.name, "exec"), names)
    theirs = names["theirs"].detach() if name == "torch" else names["theirs"]
    np.testing.assert_allclose(names["ours"], np.asarray(theirs), atol=1e-5)
