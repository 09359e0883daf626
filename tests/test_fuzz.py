"""The fuzzer's cases, a few of each kind, drawn by Hypothesis, which makes a case that breaks a promise small."""

import importlib
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

KINDS = sorted(path.stem for path in (Path(__file__).parent / "fuzz").glob("[a-z]*.py"))


@pytest.mark.parametrize("kind", KINDS)
@given(st.randoms(use_true_random=False))
def test_no_case_breaks_a_promise(kind: str, drawn: random.Random) -> None:
    importlib.import_module(f"fuzz.{kind}").case(drawn)
