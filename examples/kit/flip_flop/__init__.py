"""The task of `flip_flop.py`, and what is measured around fixed points."""
