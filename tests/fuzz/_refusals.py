"""What a refusal must be: of a documented type, in the name of who refuses, and of what."""

from collections.abc import Callable, Iterable
from typing import Any


def unless_refused(call: Callable[[], Any], source: str, names: Iterable[str], what: str) -> Any:
    """What the call returns; None if it refuses as it should.

    Args:
        call: what may refuse.
        source: the function that is called.
        names: of what was damaged; the message has one of them, if there are any.
        what: the damage, for the message of a find.
    """
    try:
        return call()
    except Exception as caught:
        error = caught
    assert type(error) in (ValueError, TypeError), f"{what}: {error!r} is of no documented type"
    message, names = str(error), [*names]
    assert message.startswith(f"{source}: "), f"{what}: {error!r} does not name {source}"
    named = not names or any(name in message for name in names)
    assert named, f"{what}: {error!r} names none of {names}"
    return None
