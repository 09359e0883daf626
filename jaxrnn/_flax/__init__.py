"""What `jaxrnn.linen` and `jaxrnn.nnx` share. "Home" stands for either of the two."""
