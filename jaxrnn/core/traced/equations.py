"""A single equation of a jaxpr: what it calls, and its results."""

from collections.abc import Collection, Sequence
from typing import Any

from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

INLINABLE = frozenset({"jit", "pjit", "closed_call"})
"""Primitives that may be replaced by the equations of the jaxpr among their parameters."""

CALLS = INLINABLE | {"custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}
"""Primitives that compute what that jaxpr does. Some have a derivative of their own. The last two
are `jax.checkpoint` in different versions of JAX."""


def callee(equation: JaxprEqn, calls: Collection[str] = CALLS) -> ClosedJaxpr | None:
    """Return the jaxpr that an equation calls. It is None if the equation is not such a call."""
    if equation.primitive.name not in calls:
        return None
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    if isinstance(inner, ClosedJaxpr):
        return inner
    return ClosedJaxpr(inner, ()) if isinstance(inner, Jaxpr) else None


def run_alone(equation: JaxprEqn, inputs: Sequence[Any], debug_info: Any) -> Sequence[Array]:
    """Run one equation unchanged, and return its results.

    Args:
        equation: the equation.
        inputs: the values of all its inputs, literals among them.
        debug_info: that of its jaxpr.
    """
    pairs = zip(equation.invars, inputs, strict=True)
    given = {atom: value for atom, value in pairs if not isinstance(atom, Literal)}
    unnamed = debug_info._replace(
        arg_names=("",) * len(given), result_paths=("",) * len(equation.outvars)
    )  # jax_enable_checks counts them
    alone = Jaxpr((), list(given), equation.outvars, [equation], debug_info=unnamed)
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*given.values())
