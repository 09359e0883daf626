"""The command line of the examples: tyro reads the flags, and whatever is wrong is one line on stderr with exit status 2."""

import contextlib
import io
import re
import sys
from typing import NoReturn, TypeVar

import tyro

Options = TypeVar("Options")


def fail(message: object) -> NoReturn:
    """Say in one line what is wrong, and exit with status 2."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


def parse(options: type[Options], argv: list[str] | None = None) -> Options:
    """Read a dataclass of options from the command line; its `__post_init__` raises ValueError for a value out of range."""
    console = io.StringIO()
    try:
        with contextlib.redirect_stderr(console):
            return tyro.cli(options, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stopped:
        if stopped.code != 2:
            raise  # --help
        fail(f"{_first_paragraph(console.getvalue())} (see --help)")


def _first_paragraph(box: str) -> str:
    """What tyro says inside its frame, up to the first rule."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines():
        line = line.strip("│ ")
        if line.startswith("─"):
            break
        if not line.startswith("╭"):
            lines.append(line)
    return " ".join(lines)
