"""The command line of the examples.

tyro reads the flags. An error becomes one line on stderr, and the exit status is 2.
"""

import contextlib
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol, TypeVar

import tyro

Options = TypeVar("Options")


class Main(Protocol):
    """The entry point of a script. Without `argv` it reads the flags of the process."""

    def __call__(self, argv: Sequence[str] | None = None) -> None: ...


def command(options: type[Options], hint: str = "") -> Callable[[Callable[[Options], None]], Main]:
    """Decorate a function of options, which becomes the `main` of a script.

    The function may raise ValueError for a wrong file or flag, OSError for a file, and
    FloatingPointError if training diverges. Other errors keep their traceback.

    Args:
        options: the dataclass of the options, one field for each flag. Its `__post_init__` raises
            ValueError for a value out of range.
        hint: what to do after an interrupt, or if a file could not be written.
    """

    def decorate(work: Callable[[Options], None]) -> Main:
        @functools.wraps(work)
        def main(argv: Sequence[str] | None = None) -> None:
            given, after = parse(options, argv), f"; {hint}" if hint else ""
            try:
                work(given)
                sys.stdout.flush()
            except (ValueError, FloatingPointError) as error:
                fail(error)
            except BrokenPipeError:  # as in `sample.py ... | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            except OSError as error:
                fail(f"{error.filename or 'file'}: {error.strerror or error}{after}")
            except KeyboardInterrupt:
                print(f"interrupted{after}", file=sys.stderr)
                raise SystemExit(130) from None

        return main

    return decorate


def fail(message: object) -> NoReturn:
    """Print an error in one line, and exit with status 2."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


def parse(options: type[Options], argv: Sequence[str] | None = None) -> Options:
    """Read a dataclass of options from the command line."""
    console = io.StringIO()
    try:
        with contextlib.redirect_stderr(console):
            return tyro.cli(options, args=argv, config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as stopped:
        if stopped.code != 2:
            raise  # as after --help
        fail(f"{_first_paragraph(console.getvalue())} (see --help)")


def check_at_least(options: object, least: int, *names: str) -> None:
    """Refuse options of these names that are below `least`."""
    for name in names:
        if getattr(options, name) < least:
            given = getattr(options, name)
            raise ValueError(f"{_flag(name)} must be at least {least}, not {given}")


def check_positive(options: object, *names: str) -> None:
    """Refuse options of these names that are not positive and finite: numbers, or tuples of them.

    An empty tuple is refused, too.
    """
    for name in names:
        given = getattr(options, name)
        numbers = given if isinstance(given, tuple) else (given,)
        if not numbers or not all(0 < number < float("inf") for number in numbers):
            said = " ".join(map(str, numbers)) or "nothing"
            raise ValueError(f"{_flag(name)} must be positive, not {said}")


def _flag(name: str) -> str:
    """Return the flag of an option, as the command line spells it."""
    return f"--{name.replace('_', '-')}"


def check_seed(seed: int) -> None:
    """Refuse a seed that NumPy or a compiled `jax.random.key` does not take."""
    if not 0 <= seed < 2**31:
        raise ValueError(f"--seed must be between 0 and {2**31 - 1}, not {seed}")


def _first_paragraph(box: str) -> str:
    """Return the first paragraph in tyro's frame as one line, without colours."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines():
        line = line.strip("│ ")
        if line.startswith("─"):
            break
        if not line.startswith("╭"):
            lines.append(line)
    return " ".join(lines)
