"""What is installed works: a cell runs, is saved and loaded, and imports no other framework."""

import sys
import tempfile

import jax
import jax.numpy as jnp

import jaxrnn

cell = jaxrnn.LSTM(4)
params = cell.init(jax.random.key(0), in_features=3)
carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
assert ys.shape == (7, 2, 4), ys.shape
with tempfile.TemporaryDirectory() as folder:
    jaxrnn.save(f"{folder}/lstm.safetensors", cell, params)
    assert jaxrnn.load(f"{folder}/lstm.safetensors")[0] == cell
assert "flax" not in sys.modules
print(f"jaxrnn {jaxrnn.__version__} in {jaxrnn.__file__}: works with jax {jax.__version__}")
