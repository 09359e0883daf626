"""Programs compiled ahead for accelerators that are not here, and counted: `python -m
benchmarks.ahead --help`.
"""
