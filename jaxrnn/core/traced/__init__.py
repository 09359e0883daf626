"""A function taken apart, so that its products go through `affine`: its graph, products, values."""
