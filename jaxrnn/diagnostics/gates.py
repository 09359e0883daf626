"""The values of gates, and how often they are saturated."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Literal, Var

from jaxrnn.core.call import Flags
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.traced.equations import callee, run_alone
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import StepFlags, select
from jaxrnn.diagnostics._state import drive, flat, step_map


class Saturation(NamedTuple):
    """The shares of steps at which gates are nearly shut (low) or open (high), `[units]` each.

    >>> import jax.numpy as jnp
    >>> from jaxrnn.diagnostics import saturation
    >>> found = saturation([jnp.array([[0.05, 0.95], [0.5, 0.99]])])
    >>> [share.item() for share in found.shares()]
    [0.25, 0.5]
    """

    low: tuple[Array, ...]
    high: tuple[Array, ...]

    def shares(self) -> tuple[Array, Array]:
        """Average both shares over all units of all gates."""
        low, high = (jnp.mean(jnp.concatenate(of_units)) for of_units in self)
        return low, high


def gate_values(
    cell: Cell, params: Params, xs: Tree, carry: Carry = None, **flags: Unpack[Flags]
) -> tuple[Array, ...]:
    """Compute the value of every gate at every step, `[time, *batch, units]` each.

    A gate is the output of a logistic sigmoid within a step, so after peepholes, normalisation and
    clipping. This also finds the gates of your own cells and of Flax's (`as_cell`). Gates come in
    the order in which the step computes them: f, i, o for an `LSTM`, f, o for a `coupled` one; r, z
    for a `GRU`; f for an `MGU`; layer after layer for a `Stack`. An `Elman` has none: `()`. Gates
    with another activation (`HardSigmoid`) are not found, nor sigmoids in a loop or a condition
    inside the step.

    Args:
        cell, params, xs, carry, flags: as for `jaxrnn.scan`. A masked step has no gates: its values
            are NaN. Time is in the order in which it is walked.

    Raises:
        ValueError, TypeError: as `jaxrnn.scan`; or the cell has no single step.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import gate_values, saturation
    >>> cell, xs = jaxrnn.LSTM(4, forget_bias=5.0), jnp.ones((7, 2, 3))
    >>> f, i, o = gate_values(cell, cell.init(jax.random.key(0), in_features=3), xs)
    >>> f.shape, bool(jnp.all(f > 0.9))
    ((7, 2, 4), True)
    >>> saturation((f,)).high[0].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    way = drive("gate_values", cell, params, xs, carry, **flags)
    rows, context = len(way.batch), flags.get("context")

    def at(before: Carry, x: Tree, flags_t: StepFlags) -> list[Array]:
        after = step_map(cell, params, before, x, flags_t, context)
        vectors = flat(before, rows)
        closed = jax.make_jaxpr(after)(vectors)
        return _evaluated(closed, [vectors])[1]

    gates = jax.vmap(at)(way.before(), way.xs, way.flags)
    if way.flags.valid is None:
        return tuple(gates)
    return tuple(select(way.flags.valid, gate, jnp.full_like(gate, jnp.nan)) for gate in gates)


def saturation(gates: Sequence[Array], margin: float = 0.1) -> Saturation:
    """Compute how often each unit's gate is below `margin`, and above 1 - `margin`.

    A gate that is always open or shut has no effect and hardly learns: the slope of its sigmoid is
    at most margin (1 - margin). Karpathy, Johnson & Fei-Fei (2015) call such gates left-saturated
    and right-saturated, with a margin of 0.1.

    Args:
        gates: the gates `[..., units]` that `gate_values` returns; NaN does not count.
        margin: the distance from 0 or 1 within which a gate counts, between 0 and 1/2.

    Raises:
        ValueError: the margin is not between 0 and 1/2.

    >>> import jax.numpy as jnp
    >>> from jaxrnn.diagnostics import saturation
    >>> found = saturation([jnp.array([[0.05, 0.95], [0.5, 0.99]])])
    >>> found.low[0].tolist(), found.high[0].tolist()
    ([0.5, 0.0], [0.0, 1.0])
    """
    if not 0 < margin < 0.5:
        raise ValueError(f"saturation: margin is {margin}, expected a number between 0 and 0.5")

    def share(near: Array, gate: Array) -> Array:
        axes = tuple(range(gate.ndim - 1))
        return jnp.mean(near, axis=axes, where=~jnp.isnan(gate), dtype=jnp.float32)

    low = tuple(share(gate < margin, gate) for gate in gates)
    return Saturation(low, tuple(share(gate > 1 - margin, gate) for gate in gates))


def _evaluated(closed: ClosedJaxpr, inputs: Sequence[Any]) -> tuple[list[Array], list[Array]]:
    """Return the outputs of a jaxpr, and the values of all sigmoids in it."""
    jaxpr = closed.jaxpr
    values: dict[Var, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= zip(jaxpr.invars, inputs, strict=True)
    found: list[Array] = []

    def read(atom: Var | Literal) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        if inner := callee(equation):
            outputs, more = _evaluated(inner, given)
            found += more
        else:
            outputs = run_alone(equation, given, jaxpr.debug_info)
            if equation.primitive.name == "logistic":
                found += outputs
        values |= zip(equation.outvars, outputs, strict=True)
    return [read(atom) for atom in jaxpr.outvars], found
