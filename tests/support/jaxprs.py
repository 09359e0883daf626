"""What programs are made of, for tests that count it."""

from collections.abc import Iterator
from typing import Any

from jax.extend.core import Jaxpr, jaxprs_in_params


def equations(jaxpr: Jaxpr, depth: int = 0) -> Iterator[tuple[int, Any]]:
    """Every equation of a program, each with the number of loops that it stands in."""
    for equation in jaxpr.eqns:
        yield depth, equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner, depth + (equation.primitive.name == "scan"))
