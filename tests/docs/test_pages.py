"""The Python blocks of the pages under `docs/` run, those of one page in one namespace."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))


def run_blocks(page: Path) -> dict[str, Any]:
    """Run the blocks of a page, and return what they define."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks(page: Path) -> None:
    run_blocks(page)
