"""The base of all other packages: the contract of cells, their products, walks, draws, checks."""
