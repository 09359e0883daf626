"""What both Flax homes share."""
