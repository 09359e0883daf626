"""A step that was not written for jaxrnn, taken apart: its graph, its products, its values."""
