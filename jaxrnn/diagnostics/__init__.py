"""See through time: what gradients and states do on their way through a recurrence.

The state is the whole carry of any cell, combinator or stack, the user's own included.

| question | function |
| --- | --- |
| how far back does my loss's gradient reach? | `gradient_flow` |
| what does the state at t do to the last one? | `jacobian_flow` |
| do nearby states part, or meet? | `lyapunov` |
| where does a map of the line stay, and what does it draw there? | `iterate_map`, `map_cycles` |
"""

from jaxrnn.diagnostics.gradient_flow import GradientFlow, gradient_flow
from jaxrnn.diagnostics.jacobian_flow import JacobianFlow, jacobian_flow
from jaxrnn.diagnostics.lyapunov import Lyapunov, lyapunov
from jaxrnn.diagnostics.maps import Cycle, iterate_map, map_cycles

__all__ = [
    "Cycle",
    "GradientFlow",
    "JacobianFlow",
    "Lyapunov",
    "gradient_flow",
    "iterate_map",
    "jacobian_flow",
    "lyapunov",
    "map_cycles",
]
