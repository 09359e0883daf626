"""Pictures of what `jaxrnn.diagnostics` finds, by matplotlib, which is imported when one is drawn.

Every function draws on the axes that it is given, or on new ones, and returns them.
"""

__all__: list[str] = []
