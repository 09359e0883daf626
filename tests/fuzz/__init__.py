"""A fuzzer: it draws cases, each from a seed, and holds jaxrnn to what it promises of them (`python
-m tests.fuzz --help`).

A kind of case is a module of this folder with `case(random) -> outcome`. It draws one case from a
`random.Random`, tries it, and returns a word that is counted ("equal", "refused", ...), or raises
an AssertionError that says what is wrong. Hypothesis runs the same function with a `Random` whose
choices it can make smaller (`tests/test_fuzz.py`)."""
