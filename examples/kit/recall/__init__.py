"""The recall task: a symbol, then noise, then the question which symbol it was."""
