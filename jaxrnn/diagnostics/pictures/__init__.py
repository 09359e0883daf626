"""Pictures of what `jaxrnn.diagnostics` finds, by matplotlib, which is imported when one is drawn.

Every function draws on the axes that it is given, or on new ones, and returns them.
"""

from jaxrnn.diagnostics.pictures.eigenvalues import eigenvalues
from jaxrnn.diagnostics.pictures.phase import phase_portrait

__all__ = ["eigenvalues", "phase_portrait"]
