"""How gradients and states evolve over the time steps of a recurrence.

The state is the whole carry. Every function takes any cell, combinator or stack, also your own.

| question | function |
| --- | --- |
| how far back does the gradient of my loss reach? | `gradient_flow`, `by_distance` |
| which time steps does the gradient of the parameters come from? | `gradient_by_step` |
| how does a change of the state at step t change the last state? | `jacobian_flow` |
| do nearby states diverge, or converge? | `lyapunov` |
| where are the fixed points and cycles of the state? | `fixed_points`, from `sample_states` |
| how much does a recurrent weight enlarge the state? | `spectral_radii` |
| are gates open, shut, or saturated? | `gate_values`, `saturation` |
| how does all that change while I train? | `Recorder`, `snapshot` |
| where are the fixed points and cycles of a map of the line? | `iterate_map`, `map_cycles` |

`jaxrnn.diagnostics.pictures` draws the results.
"""

from jaxrnn.diagnostics import pictures
from jaxrnn.diagnostics._points import FixedPoints, Points
from jaxrnn.diagnostics.fixed_points import fixed_points
from jaxrnn.diagnostics.gates import Saturation, gate_values, saturation
from jaxrnn.diagnostics.gradient_by_step import gradient_by_step
from jaxrnn.diagnostics.gradient_flow import GradientFlow, by_distance, gradient_flow
from jaxrnn.diagnostics.jacobian_flow import JacobianFlow, jacobian_flow
from jaxrnn.diagnostics.lyapunov import Lyapunov, lyapunov
from jaxrnn.diagnostics.maps import Cycle, iterate_map, map_cycles
from jaxrnn.diagnostics.recording import Recorder, Snapshot, snapshot
from jaxrnn.diagnostics.sample_states import sample_states
from jaxrnn.diagnostics.spectral_radii import Spectrum, spectral_radii

__all__ = [
    "Cycle",
    "FixedPoints",
    "GradientFlow",
    "JacobianFlow",
    "Lyapunov",
    "Points",
    "Recorder",
    "Saturation",
    "Snapshot",
    "Spectrum",
    "by_distance",
    "fixed_points",
    "gate_values",
    "gradient_by_step",
    "gradient_flow",
    "iterate_map",
    "jacobian_flow",
    "lyapunov",
    "map_cycles",
    "pictures",
    "sample_states",
    "saturation",
    "snapshot",
    "spectral_radii",
]
