"""What everything stands on: the contract of cells, their products, walks, draws and checks."""
