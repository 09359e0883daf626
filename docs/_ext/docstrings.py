"""Docstrings as Sphinx wants them: indented blocks are equations or code, `equations` in sentences
are mathematics, `|` tables are tables.
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import equations

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SECTIONS = re.compile(r"(Args|Returns|Raises|Yields|Attributes|Example|Examples):$")
SPAN = re.compile(r"(?<![`:])`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
"""Between two backticks, on one line or two."""


def setup(app: "Sphinx") -> dict[str, bool]:
    """Before napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", _rewrite, priority=400)
    return {"parallel_read_safe": True}


def _rewrite(
    app: "Sphinx", what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    try:
        lines[:] = rewritten(lines)
    except ValueError as error:
        raise ValueError(f"the docstring of {name}: {error}") from error


def rewritten(lines: list[str]) -> list[str]:
    """The lines of a docstring in reStructuredText."""
    return [*_tables(_blocks(_spans(lines)))]


def _spans(lines: list[str]) -> list[str]:
    """Equations within sentences."""

    def role(span: re.Match[str]) -> str:
        return f":math:`{equations.inline(span[1])}`" if equations.is_equation(span[1]) else span[0]

    return SPAN.sub(role, "\n".join(lines)).split("\n")


def _blocks(lines: list[str]) -> Iterator[str]:
    """Say what a block is that is indented and stands outside the sections; elsewhere `|` is no
    substitution.
    """
    block: list[str] = []
    in_section = False
    for k, line in enumerate([*lines, ""]):
        if line and not line.startswith(" "):
            in_section = bool(SECTIONS.match(line))
        begins = line.startswith("    ") and not (k and lines[k - 1].strip())
        if not in_section and (begins or (block and line.startswith("    "))):
            block.append(line)
            continue
        yield from _directive(block)
        block = []
        yield line if line.startswith("| ") else line.replace("|", r"\|")


def _directive(block: list[str]) -> Iterator[str]:
    """A paragraph that is indented: equations, if one has a sign of mathematics, or text."""
    if any(map(equations.is_equation, block)):
        latex = equations.block(block).splitlines()
        yield from (".. math::", "", *(f"    {line}" for line in latex))
    elif block:
        yield from (".. code-block:: text", "", *block)


def _tables(lines: Iterable[str]) -> Iterator[str]:
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
