"""How gradients, recurrent weights and gates change while a network is trained."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np
from jax import Array

from jaxrnn.core.call import Flags
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import check_count, check_size
from jaxrnn.core.trees import Tree
from jaxrnn.diagnostics.gates import Saturation, gate_values, saturation
from jaxrnn.diagnostics.gradient_flow import by_distance, gradient_flow
from jaxrnn.diagnostics.spectral_radii import Spectrum, spectral_radii


class Snapshot(NamedTuple):
    """The measurements of one `snapshot`: a pytree of arrays.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import snapshot
    >>> cell = jaxrnn.Elman(4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> found = snapshot(lambda _, ys: jnp.sum(ys[-1]), cell, params, jnp.ones((7, 2, 3)))
    >>> found.loss.shape, found.norms.shape, list(found.spectra), found.gates
    ((), (8,), ['w_h'], None)
    """

    loss: Array
    norms: Array
    """`‖∂L/∂carry‖ [time + 1]`, entry d of the carry d steps before the last one, a mean over
    sequences."""

    spectra: dict[str, Spectrum]
    """Of every recurrent weight, as `spectral_radii` gives them."""

    gates: Saturation | None
    """How often gates are shut or open; None where there are none to see."""


def snapshot(
    loss: Callable[[Any, Any], Array],
    cell: Cell,
    params: Params,
    xs: Tree,
    carry: Carry = None,
    **flags: Unpack[Flags],
) -> Snapshot:
    """Measure a network once: `gradient_flow`, `spectral_radii` and, if it has gates, `saturation`.

    Take a loss that reads only the last output. A loss of all outputs sends a gradient to every
    step, and so does not show how far back gradients reach. The network runs as in inference.

    Args:
        loss: a function `loss(carry, ys)` of what `jaxrnn.scan` returns, with one number as result.
        cell, params, xs, carry, flags: as for `jaxrnn.scan`; a few sequences suffice.

    Raises:
        ValueError, TypeError: as `jaxrnn.scan`; or the loss is not one real number.
        NotImplementedError: as `spectral_radii`.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import snapshot
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> def loss(carry, ys):
    ...     return jnp.sum(ys[-1])
    >>> found = snapshot(loss, cell, cell.init(jax.random.key(0), in_features=3), xs)
    >>> found.norms.shape, list(found.spectra), len(found.gates.low)
    ((8,), ['w_h'], 2)
    """
    flow = gradient_flow(loss, cell, params, xs, carry, **flags)
    norms = by_distance(flow.total(), flags.get("lengths"))
    gates = gate_values(cell, params, xs, carry, **flags) if cell.causal else ()
    found = saturation(gates) if gates else None
    return Snapshot(flow.loss, norms, spectral_radii(cell, params), found)


@dataclasses.dataclass
class Recorder:
    """Takes and keeps a `Snapshot` every few steps of training.

    Call it in the training loop, before each update. It takes a snapshot at every multiple of
    `every`. `tbptt.Trainer` donates its state, so pass `state.params` and `state.carry` before you
    call `trainer.step`.

    A snapshot of the whole batch costs as much as two updates, one of a quarter of the sequences
    0.9 of an update. With `every=100` these are 2 % and 0.9 % of the time of training. (Measured as
    processor time on CPU, with an LSTM of 256 units and 32 sequences of 128 characters: an update
    takes 64 ms, the snapshots 129 to 137 ms and 52 to 55 ms, of which spectral radii take 27 ms.)

    Args:
        look: a function `look(*arguments) -> Snapshot` of the arguments that the loop passes; it is
            compiled once for each shape.
        every: the number of steps from one snapshot to the next; the first is at step 0.

    Raises:
        ValueError: `every` is not a positive integer.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import Recorder, snapshot
    >>> cell, xs = jaxrnn.Elman(4), jax.random.normal(jax.random.key(1), (20, 8, 1))
    >>> def look(params, xs):
    ...     return snapshot(lambda carry, ys: jnp.mean((ys[-1] - xs[0]) ** 2), cell, params, xs)
    >>> recorder, params = Recorder(look, every=2), cell.init(jax.random.key(0), in_features=1)
    >>> for step in range(4):
    ...     recorder(step, params, xs)
    ...     params = jax.tree.map(lambda leaf: 0.9 * leaf, params)  # an update
    >>> recorder.steps, recorder.norms().shape
    ([0, 2], (2, 21))
    >>> print(recorder.table(distances=(0, 10)).splitlines()[0])
    step    loss  gradient 0 back  gradient 10 back  radius w_h
    """

    look: Callable[..., Snapshot]
    every: int = 100
    steps: list[int] = dataclasses.field(default_factory=list)
    """The steps that were looked at."""
    snapshots: list[Snapshot] = dataclasses.field(default_factory=list)
    """What was found, in NumPy's arrays."""

    def __post_init__(self) -> None:
        self.every = check_size(self, "every", self.every)
        self.look = jax.jit(self.look)

    def __call__(self, step: int, *arguments: Any) -> None:
        """Take a snapshot if `step` is a multiple of `every`."""
        if step % self.every == 0:
            self.snapshots.append(jax.device_get(self.look(*arguments)))
            self.steps.append(step)

    def norms(self) -> np.ndarray:
        """Return the gradient norms of all snapshots, `[looks, time + 1]`; `flow_map` draws them.

        Raises:
            ValueError: the sequences of the snapshots differ in length.
        """
        lengths = sorted({len(found.norms) - 1 for found in self.snapshots})
        if len(lengths) > 1:
            raise ValueError(
                f"Recorder.norms: sequences have {lengths} steps, expected one length; hand over "
                "sequences that are equally long"
            )
        return np.array([found.norms for found in self.snapshots])

    def table(self, distances: Sequence[int] = (0, 10, 100)) -> str:
        """Return a table of all snapshots in plain text.

        Its columns are the loss, the gradient norm at some distances from the end, the spectral
        radius of each recurrent weight (a number for each gate), and the shares of shut and open
        gates.

        Args:
            distances: the distances, in steps. A column stays empty if sequences are shorter.

        Raises:
            ValueError: a distance is not an integer, 0 or above.
        """
        distances = [check_count("Recorder.table", "a distance", d) for d in distances]
        rows = [_row(*pair, distances) for pair in zip(self.steps, self.snapshots, strict=True)]
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [names, *([row.get(name, "") for name in names] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [map(str.rjust, line, widths) for line in cells]
        return "\n".join("  ".join(line).rstrip() for line in lines)


def _row(step: int, found: Snapshot, distances: Sequence[int]) -> dict[str, str]:
    """Return one line of the table, by column."""
    row = {"step": str(step), "loss": f"{found.loss:.4f}"}
    for distance in distances:
        reached = distance < len(found.norms)
        row[f"gradient {distance} back"] = f"{found.norms[distance]:.1e}" if reached else ""
    for name, spectrum in found.spectra.items():
        row[f"radius {name}"] = " ".join(f"{radius:.2f}" for radius in spectrum.radius)
    if found.gates is not None:
        row["shut"], row["open"] = (f"{float(share):.1%}" for share in found.gates.shares())
    return row
