"""Print the oldest versions that `pyproject.toml` allows, as pip takes them."""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
pinned = [entry.replace(">=", "==") for entry in project["dependencies"]]
jax = next(entry for entry in pinned if entry.startswith("jax=="))
print(*pinned, jax.replace("jax==", "jaxlib=="))
