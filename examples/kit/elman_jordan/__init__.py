"""What `elman_jordan.py` needs beside its networks: the counter, and the picture."""
