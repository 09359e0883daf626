"""How fast and how lean jaxrnn is, beside the other libraries: `python -m benchmarks --help`."""
