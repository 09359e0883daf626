"""Plots of the results of `jaxrnn.diagnostics`, by matplotlib.

matplotlib is imported when the first picture is drawn. Every function draws on the axes that it is
given, or on new ones, and returns them.
"""

from jaxrnn.diagnostics.pictures.eigenvalues import eigenvalues
from jaxrnn.diagnostics.pictures.flow import flow_curves, flow_map, singular_values
from jaxrnn.diagnostics.pictures.gates import gates_over_text, saturated_units
from jaxrnn.diagnostics.pictures.maps import cobweb, map_orbits, map_phase
from jaxrnn.diagnostics.pictures.phase import phase_portrait
from jaxrnn.diagnostics.pictures.spectra import lyapunov_history, lyapunov_spectrum

__all__ = [
    "cobweb",
    "eigenvalues",
    "flow_curves",
    "flow_map",
    "gates_over_text",
    "lyapunov_history",
    "lyapunov_spectrum",
    "map_orbits",
    "map_phase",
    "phase_portrait",
    "saturated_units",
    "singular_values",
]
