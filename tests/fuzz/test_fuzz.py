"""The fuzzer's cases, a few of each kind, drawn by Hypothesis, which makes a case that breaks a
promise small.
"""

import importlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

KINDS = sorted(
    path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "test_fuzz"
)
FEWER = {"programs": 3}
"""Examples of a kind whose cases compile for seconds; `python -m tests.fuzz` draws many."""


@pytest.mark.parametrize("kind", KINDS)
def test_no_case_breaks_a_promise(kind: str) -> None:
    case = importlib.import_module(f"tests.fuzz.{kind}").case

    @settings(max_examples=FEWER.get(kind, settings.default.max_examples))  # type: ignore[union-attr]
    @given(st.randoms(use_true_random=False))
    def run(drawn: random.Random) -> None:
        case(drawn)

    run()
