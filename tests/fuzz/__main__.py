"""Draw cases for some time, or one case again from its seed."""

import collections
import dataclasses
import importlib
import random
import sys
import time
import traceback
from pathlib import Path

import jax
import tyro

from tests import conftest  # noqa: F401  # sets what the tests set

KINDS = tuple(
    sorted({path.stem for path in Path(__file__).parent.glob("[a-z]*.py")} - {"test_fuzz"})
)
CLEAR_EVERY = 25  # cases: a process can hold only so many compiled programs


@dataclasses.dataclass(frozen=True)
class Options:
    """Draw cases and hold jaxrnn to what it promises of them; the exit status is 1 if one was found
    that breaks a promise.
    """

    seconds: float = 60.0
    """How long to draw cases of all kinds together."""
    kinds: tuple[str, ...] = KINDS
    """Which kinds of cases."""
    seed: int | None = None
    """Of the first case; the next ones count up from it. Drawn, and printed, if left out."""
    cases: int | None = None
    """Stop after so many cases of each kind. 1 tries the case of one seed again."""


def main(options: Options) -> int:
    """Take the kinds in turn."""
    if unknown := set(options.kinds) - set(KINDS):
        print(
            f"fuzz: there is no kind {sorted(unknown)}, expected some of {list(KINDS)}",
            file=sys.stderr,
        )
        return 2
    first = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    print(f"seed {first}")
    kinds = {kind: importlib.import_module(f"tests.fuzz.{kind}").case for kind in options.kinds}
    outcomes = {kind: collections.Counter[str]() for kind in kinds}
    finds, until, number = 0, time.monotonic() + options.seconds, 0
    while time.monotonic() < until and (options.cases is None or number < options.cases):
        for kind, case in kinds.items():
            try:
                outcomes[kind][case(random.Random(first + number))] += 1
            except Exception:  # whatever it is, it was not what was promised
                finds += 1
                print(
                    f"FOUND: python -m tests.fuzz --kinds {kind} --seed {first + number} --cases 1"
                )
                traceback.print_exc(limit=-3, file=sys.stdout)
        number += 1
        if number % CLEAR_EVERY == 0:
            jax.clear_caches()
    for kind, counter in outcomes.items():
        print(
            f"{kind}: {counter.total()} cases,",
            ", ".join(f"{count} {outcome}" for outcome, count in counter.most_common()),
        )
    print(f"{finds} finds")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, prog="python -m tests.fuzz")))
