"""What the examples share: the command line, files, data, checkpoints, pictures, environments."""
