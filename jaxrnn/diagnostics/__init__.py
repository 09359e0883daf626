"""See through time: what gradients and states do on their way through a recurrence.

The state is the whole carry of any cell, combinator or stack, the user's own included.

| question | function |
| --- | --- |
| how far back does my loss's gradient reach? | `gradient_flow`, `by_distance` |
| which steps does a gradient of the parameters come from? | `gradient_by_step` |
| what does the state at t do to the last one? | `jacobian_flow` |
| do nearby states part, or meet? | `lyapunov` |
| where does the state come to rest, or go round? | `fixed_points`, from `sample_states` |
| how much does a recurrent weight stretch the state? | `spectral_radii` |
| are gates open, shut, or stuck there? | `gate_values`, `saturation` |
| how does all that change while I train? | `Recorder`, `snapshot` |
| where does a map of the line stay, and what does it draw there? | `iterate_map`, `map_cycles` |

`jaxrnn.diagnostics.pictures` draws what they find.
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
