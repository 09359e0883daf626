"""Fixed points: their kinds by their eigenvalues, and a table of them."""

import dataclasses

import numpy as np

from jaxrnn.core.cell import Carry
from jaxrnn.core.trees import Tree


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Fixed points, slow points or cycles, sorted by their number of unstable directions.

    All fields are arrays of NumPy. `len(points)` is the number of points. J is the Jacobian of one
    step, or of the `period` steps of a cycle, with respect to the n real numbers of the state.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import fixed_points
    >>> cell = jaxrnn.Elman(1)  # h' = tanh(2 h)
    >>> params = cell.init(jax.random.key(0), in_features=1)._replace(w_h=jnp.array([[2.0]]))
    >>> points = fixed_points(cell, params, jnp.zeros(1), jnp.linspace(-1, 1, 8)[:, None]).fixed
    >>> len(points), points.names, points.unstable.tolist()
    (3, ['sink', 'sink', 'source'], [0, 0, 1])
    """

    carry: Carry
    """The points, `[found, ...]`; for a cycle, one of its states."""

    orbit: Carry
    """The states of each cycle, `[found, period, ...]`."""

    residual: np.ndarray
    """`‖F(h) − h‖`, `[found]`: how far a step moves the state."""

    jacobian: np.ndarray
    """J, `[found, n, n]`."""

    eigenvalues: np.ndarray
    """The eigenvalues of J, complex `[found, n]`, the largest modulus first."""

    kind: np.ndarray
    """`[found]`: "sink" if all |λ| < 1; "source" if all |λ| > 1; "saddle" if some are smaller and
    some larger; "marginal" if some |λ| is 1, for then J does not decide."""

    unstable: np.ndarray
    """The number of eigenvalues with |λ| > 1, `[found]`."""

    spiral: np.ndarray
    """Whether the eigenvalue of the largest modulus belongs to a complex pair, bool `[found]`."""

    time_constants: np.ndarray
    """`−1 / log|λ|`, `[found, n]`: the number of steps in which a disturbance shrinks to 1/e of its
    size; negative if it grows."""

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
        """Return a table with a line for each point."""
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
    """What `fixed_points` finds; `print` shows it as tables.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import fixed_points
    >>> cell = jaxrnn.Elman(1)  # h' = tanh(2 h)
    >>> params = cell.init(jax.random.key(0), in_features=1)._replace(w_h=jnp.array([[2.0]]))
    >>> found = fixed_points(cell, params, jnp.zeros(1), jnp.linspace(-1, 1, 8)[:, None])
    >>> len(found.fixed), len(found.slow), len(found.outliers), found.elsewhere.tolist()
    (3, 0, 0, [])
    """

    fixed: Points
    """Fixed points, or one entry for each cycle of this period and of none that divides it."""

    slow: Points
    """Minima of q that are not fixed points, where the state is slow; 1 is an eigenvalue of J."""

    outliers: Points
    """Fixed and slow points far from the starts."""

    elsewhere: np.ndarray
    """The indices of the starts that led to none of these points. They led to a minimum of q where
    the state is not slow, to a cycle of a smaller period, or nowhere within the allowed steps."""

    period: int

    scale: float
    """The size of the region of the starts; distances are relative to this."""

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
    """Compute the fields of `Points` that follow from Jacobians `[found, n, n]` of `period` steps.

    An |λ| that differs from 1 by less than `marginal` counts as 1.
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
