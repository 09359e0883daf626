"""Pictures of what `jaxrnn.diagnostics` finds, by matplotlib, which is imported when one is drawn.

Every function draws on the axes that it is given, or on new ones, and returns them.
"""

from jaxrnn.diagnostics.pictures.flow import flow_curves, flow_map, singular_values
from jaxrnn.diagnostics.pictures.gates import gates_over_text, saturated_units

__all__ = ["flow_curves", "flow_map", "gates_over_text", "saturated_units", "singular_values"]
