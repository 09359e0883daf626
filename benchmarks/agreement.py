"""Before anything is timed: do all sides compute the same?"""

from collections.abc import Mapping

import jax
import numpy as np
from numpy.typing import ArrayLike

import jaxrnn
from benchmarks.measure import training_step
from benchmarks.sides import Problem, Results, Side, reference_params, scan_apply
from jaxrnn.core.trees import Tree

TOLERANCE = {"cpu": 1e-4}
LOOSE = 2e-2  # accelerators multiply float32 in fewer bits
COMPARED = ("w_x", "w_h", "b")


class Disagreement(Exception):
    """A side computes something else; the message names it."""


def check(problem: Problem, sides: Mapping[str, Side], results: Mapping[str, Results]) -> None:
    """Compare each side's outputs and gradients with JAX's derivative of the jaxrnn cell that it
    claims to be.

    Raises:
        Disagreement: naming every side that is off, with what and by how much.
    """
    allowed = tolerance()
    references = {problem.cell: results["autodiff"]} if "autodiff" in results else {}
    wrong = []
    for name, side in sides.items():
        cell = side.cell or problem.cell
        if cell not in references:
            references[cell] = _reference(cell, reference_params(side, problem), problem)
        expected = _arrays(references[cell])
        errors = {
            what: distance(array, expected[what]) for what, array in _arrays(results[name]).items()
        }
        wrong += [
            f"{name} in {what} by {error:.1e}"
            for what, error in errors.items()
            if not error <= allowed
        ]
    if wrong:
        where = f"{problem.kind} {problem.shape.label}"
        raise Disagreement(
            f"{where}: sides disagree, relative to the norm (allowed {allowed:g}): "
            + "; ".join(wrong)
        )


def tolerance() -> float:
    """How far sides may be apart, relative to the norm."""
    return TOLERANCE.get(jax.default_backend(), LOOSE)


def distance(given: ArrayLike, expected: ArrayLike) -> float:
    """The norm of the difference relative to the norm; infinite if the shapes differ."""
    got, want = np.asarray(given, np.float32), np.asarray(expected, np.float32)
    if got.shape != want.shape:
        return float("inf")
    return float(np.linalg.norm(got - want) / max(float(np.linalg.norm(want)), 1e-30))


def _reference(cell: jaxrnn.Cell, params: Tree, problem: Problem) -> Results:
    ys, (dparams, dxs) = jax.jit(training_step(scan_apply(cell, "autodiff")))(
        params, problem.xs, problem.dys
    )
    return Results(ys, dparams, dxs)


def _arrays(results: Results) -> dict[str, ArrayLike]:
    gradients = {f"the gradient of {name}": getattr(results.dparams, name) for name in COMPARED}
    return {"the outputs": results.ys, "the gradient of xs": results.dxs, **gradients}
