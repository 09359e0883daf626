"""What the examples share: the command line, files, data, training, checkpoints, pictures."""
