"""See through time: what gradients and states do on their way through a recurrence.

The state is the whole carry of any cell, combinator or stack, the user's own included.

| question | function |
| --- | --- |
| how far back does my loss's gradient reach? | `gradient_flow` |
| what does the state at t do to the last one? | `jacobian_flow` |
| where does the state come to rest, or go round? | `fixed_points`, from `sample_states` |
"""

from jaxrnn.diagnostics._points import FixedPoints, Points
from jaxrnn.diagnostics.fixed_points import fixed_points
from jaxrnn.diagnostics.gradient_flow import GradientFlow, gradient_flow
from jaxrnn.diagnostics.jacobian_flow import JacobianFlow, jacobian_flow
from jaxrnn.diagnostics.sample_states import sample_states

__all__ = [
    "FixedPoints",
    "GradientFlow",
    "JacobianFlow",
    "Points",
    "fixed_points",
    "gradient_flow",
    "jacobian_flow",
    "sample_states",
]
