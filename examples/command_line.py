"""The command line of the examples: tyro reads the flags, and whatever is wrong is one line on
stderr with exit status 2.
"""

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
    """Read a dataclass of options from the command line; its `__post_init__` raises ValueError for
    a value out of range.
    """
    console = io.StringIO()
    try:
        with contextlib.redirect_stderr(console):
            return tyro.cli(options, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stopped:
        if stopped.code != 2:
            raise  # --help
        fail(f"{_first_paragraph(console.getvalue())} (see --help)")


def check_at_least(options: object, least: int, *names: str) -> None:
    """Refuse a smaller number."""
    for name in names:
        if getattr(options, name) < least:
            raise ValueError(f"--{name} must be at least {least}, not {getattr(options, name)}")


def check_positive(options: object, name: str) -> None:
    """Refuse a number that is not positive, or not finite."""
    if not 0 < getattr(options, name) < float("inf"):
        raise ValueError(
            f"--{name.replace('_', '-')} must be positive, not {getattr(options, name)}"
        )


def check_seed(seed: int) -> None:
    """Refuse what `jax.random.key` would not take."""
    if not 0 <= seed < 2**31:
        raise ValueError(f"--seed must be between 0 and {2**31 - 1}, not {seed}")


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
