"""Refusals: every message starts with the public function that refuses, the *caller*."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import NoReturn

_SHOWN = 20  # the most names in a message, for a large model has thousands


def refuse(caller: str, reason: str) -> NoReturn:
    """Raise a `ValueError` that says who refuses, and why."""
    raise ValueError(f"{caller}: {reason}")


@contextlib.contextmanager
def said_by(caller: str) -> Iterator[None]:
    """Put the caller's name in front of the message of each `ValueError` in this block."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith(f"{caller}: "):
            raise
        raise ValueError(f"{caller}: {error}") from error


def listed(names: Iterable[str]) -> str:
    """Return names in sorted order as text for a message, of many names the first ones.

    >>> listed("ba"), listed(map(str, range(100, 123)))[-15:]
    ("['a', 'b']", "'119'] (3 more)")
    """
    first, rest = (ordered := sorted(names))[:_SHOWN], len(ordered) - _SHOWN
    return f"{first} ({rest} more)" if rest > 0 else str(first)
