"""Docstrings as Sphinx wants them: indented blocks are equations or code, `|` tables are tables."""

import re
from collections.abc import Iterator

from sphinx.application import Sphinx

SECTIONS = re.compile(r"(Args|Returns|Raises|Yields|Attributes|Example|Examples):$")


def setup(app: Sphinx) -> dict[str, bool]:
    """Before napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", _rewrite, priority=400)
    return {"parallel_read_safe": True}


def _rewrite(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    lines[:] = [*_tables(_literal(lines))]


def _literal(lines: list[str]) -> Iterator[str]:
    """Say that a block is code if it is indented and stands outside the sections; elsewhere `|` is
    no substitution.
    """
    in_section = in_block = False
    for k, line in enumerate(lines):
        before = lines[k - 1] if k else ""
        if line and not line.startswith(" "):
            in_section, in_block = bool(SECTIONS.match(line)), False
        begins = line.startswith("    ") and not before.strip() and not in_block
        if begins and not in_section:
            in_block = True
            yield from (".. code-block:: text", "")
        yield line if in_block or line.startswith("| ") else line.replace("|", r"\|")


def _tables(lines: Iterator[str]) -> Iterator[str]:
    """Turn tables of Markdown into list tables."""
    table: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("| "):
            table.append([cell.strip() for cell in line.strip().strip("|").split("|")])
            continue
        if table:
            yield from _list_table([row for row in table if set("".join(row)) - {"-", " "}])
            table = []
        yield line


def _list_table(rows: list[list[str]]) -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "")
    for row in rows:
        for k, cell in enumerate(row):
            yield f"   {'* -' if k == 0 else '  -'} {cell}"
    yield ""
