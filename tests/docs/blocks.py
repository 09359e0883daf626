"""The Python blocks of the README and of the pages under `docs/` run, as `make doctest` does: those
of one page in one namespace; those that need another framework by themselves, in
`test_coming_from.py`. What other tests ask more of runs there. Notebooks run when `make docs`
builds the site, which fails where one does.
"""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ("torch", "keras", "haiku", "equinox")


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def framework(block: str) -> str:
    """The one that a block imports beside jaxrnn and Flax, or nothing."""
    return next(
        (name for name in FRAMEWORKS if re.search(rf"^import {name}\b", block, re.MULTILINE)), ""
    )


def run_blocks(page: Path) -> dict[str, Any]:
    """Run the blocks of a page, and return what they define."""
    own = [block for block in blocks(page) if not framework(block)]
    assert own
    names: dict[str, Any] = {"__name__": page.stem}
    for block in own:
        exec(compile(block, page.name, "exec"), names)
    return names


ELSEWHERE = ("coming_from.md", "generation.md")
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if page.name not in ELSEWHERE and blocks(page)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks(page: Path) -> None:
    run_blocks(page)
