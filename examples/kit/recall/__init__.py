"""A symbol, then noise, then the question which one it was: the task, and how it is learned."""
