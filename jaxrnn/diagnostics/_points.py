"""What fixed points are: their kinds by eigenvalues, and a table of them."""

import dataclasses

import numpy as np

from jaxrnn.core.cell import Carry
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Fixed points or slow points, or cycles, those with the fewest unstable directions first; all
    are arrays of NumPy. `len(points)` is their number.

    J is the Jacobian of one step, or of the `period` steps of a cycle, in the n real numbers of the
    state.
    """

    carry: Carry
    """`[found, ...]`; of a cycle, one of its states."""

    orbit: Carry
    """`[found, period, ...]`: the states of each cycle."""

    residual: np.ndarray
    """`‖F(h) − h‖`, `[found]`: how far the state moves in a step."""

    jacobian: np.ndarray
    """J, `[found, n, n]`."""

    eigenvalues: np.ndarray
    """Of J, complex `[found, n]`, the largest modulus first."""

    kind: np.ndarray
    """`[found]`: "sink", all |λ| < 1; "source", all |λ| > 1; "saddle", some of each; "marginal",
    some |λ| is 1, so that these derivatives do not tell."""

    unstable: np.ndarray
    """How many |λ| > 1, `[found]`."""

    spiral: np.ndarray
    """Whether the eigenvalue of the largest modulus is one of a complex pair, bool `[found]`."""

    time_constants: np.ndarray
    """`−1 / log|λ|` in steps, `[found, n]`: after so many a disturbance is 1/e of what it was;
    negative for what grows."""

    input_sensitivity: Tree
    """`∂F/∂x`, in the structure of x, each `[found, n, ...]`."""

    led_to: np.ndarray
    """For each start the number of the point that it led to, or -1, `[starts]`."""

    @property
    def q(self) -> np.ndarray:
        """`½‖F(h) − h‖²`, `[found]`."""
        return self.residual**2 / 2

    @property
    def names(self) -> list[str]:
        """The kinds in words, "saddle, 2 unstable" or "sink, spiral"."""
        named = zip(self.kind, self.unstable, self.spiral, strict=True)
        return [_in_words(str(kind), int(k), bool(spiral)) for kind, k, spiral in named]

    def __len__(self) -> int:
        return len(self.residual)

    def table(self) -> str:
        """A line for each point."""
        names = self.names
        width = max(map(len, (*names, "kind")))
        lines = [f"{'kind':<{width}}  starts     |λ|  time constant  residual"]
        for k, name in enumerate(names):
            lines.append(
                f"{name:<{width}}  {np.sum(self.led_to == k):>6}  "
                f"{abs(self.eigenvalues[k, 0]):6.4f}  {self.time_constants[k, 0]:>13.4g}  "
                f"{self.residual[k]:8.1e}"
            )
        return "\n".join(lines)


def _in_words(kind: str, unstable: int, spiral: bool) -> str:
    words = [kind]
    if unstable and kind in ("saddle", "marginal"):
        words.append(f"{unstable} unstable")
    return ", ".join([*words, "spiral"] if spiral else words)


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPoints:
    """What `fixed_points` finds; `print` shows it as tables."""

    fixed: Points
    """Fixed points, or one entry for each cycle of this period and of none that divides it."""

    slow: Points
    """Minima of q that are no fixed points, where the state is slow. 1 is an eigenvalue there."""

    outliers: Points
    """Fixed and slow points far from the starts."""

    elsewhere: np.ndarray
    """The numbers of the starts that led to none of these: to a minimum of q where the state is not
    slow, to a cycle of a smaller period, or to nothing within the steps allowed."""

    period: int

    scale: float
    """The size of the region of the starts, which distances are relative to."""

    def __str__(self) -> str:
        of = "fixed points" if self.period == 1 else f"cycles of period {self.period}"
        parts = [(of, self.fixed), ("slow points", self.slow), ("outliers", self.outliers)]
        said = [f"{len(points)} {name}\n{points.table()}" for name, points in parts if len(points)]
        if not said:
            said = [f"no {of}"]
        if len(self.elsewhere):
            said.append(f"{len(self.elsewhere)} starts led elsewhere")
        return "\n\n".join(said)


def spectra(jacobians: np.ndarray, period: int, marginal: float) -> dict[str, np.ndarray]:
    """The fields of `Points` that the eigenvalues of Jacobians `[found, n, n]` of `period` steps
    tell; |λ| nearer to 1 than `marginal` is 1.
    """
    values = np.linalg.eigvals(jacobians).astype(complex)
    order = np.argsort(-abs(values), axis=-1, kind="stable")
    values = np.take_along_axis(values, order, axis=-1)
    size = abs(values)
    grows, shrinks = size > 1 + marginal, size < 1 - marginal
    choices = [shrinks.all(-1), grows.all(-1), (grows | shrinks).all(-1)]
    kind = np.select(choices, ["sink", "source", "saddle"], "marginal")
    first = values[:, 0]
    spiral = abs(np.imag(first)) > 1e-9 * abs(first)
    with np.errstate(divide="ignore"):
        constants = -period / np.log(size)
    return {
        "eigenvalues": values,
        "kind": kind,
        "unstable": grows.sum(-1),
        "spiral": spiral,
        "time_constants": constants,
    }
