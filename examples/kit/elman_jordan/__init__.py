"""The task of `elman_jordan.py`, a counter, and its table and picture."""
