"""torch's weights, both ways."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

import jaxrnn
from jaxrnn.convert import from_torch, to_torch

torch = pytest.importorskip("torch", reason="needs torch: `make oracle-test` installs it")

TIME, BATCH, FEATURES, HIDDEN = 6, 4, 3, 5
LENGTHS = [6, 2, 4, 1]
MODULES = {
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "lstm_projection": ("LSTM", {"proj_size": 2}),
    "gru": ("GRU", {}),
}


def run_torch(module: Any, xs: np.ndarray) -> tuple[Any, Any]:
    """Its outputs and final states on ragged sequences, `[layers * directions, batch, size]` each."""
    with torch.no_grad():
        packed = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(xs), LENGTHS, enforce_sorted=False)
        ys, states = module(packed)
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=TIME)
    return ys.numpy(), [s.numpy() for s in (states if isinstance(states, tuple) else (states,))]


def rows_of(carry: Any) -> list[np.ndarray]:
    """jaxrnn's carry in torch's form."""
    single = [c if isinstance(c, jaxrnn.LSTMCarry) else (c,) for c in jax.tree.leaves(carry, is_leaf=lambda c: hasattr(c, "c"))]
    return [np.stack(rows) for rows in zip(*single, strict=True)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("kind", "options"), list(MODULES.values()), ids=list(MODULES))
def test_every_option(kind, options, layers, bidirectional, bias, dtype, request):
    """The same outputs and final states from torch's weights in jaxrnn, and from them again in a new module of torch."""
    if dtype == "float64":
        request.getfixturevalue("x64")
    torch.manual_seed(0)

    def build() -> Any:
        make = getattr(torch.nn, kind)
        return make(FEATURES, HIDDEN, layers, bias=bias, bidirectional=bidirectional, dtype=getattr(torch, dtype), **options)

    theirs, xs = build(), np.random.default_rng(0).normal(size=(TIME, BATCH, FEATURES)).astype(dtype)
    wanted = run_torch(theirs, xs)
    nonlinearity = options.get("nonlinearity", "tanh")
    state_dict = {f"model.rnn.{name}": tensor for name, tensor in theirs.state_dict().items()} | {"model.head": 1}
    cell, params = from_torch(state_dict, "model.rnn.", nonlinearity=nonlinearity)
    carry, ys = jaxrnn.scan(cell, params, xs, lengths=np.array(LENGTHS))
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert_close((ys, rows_of(carry)), wanted, tolerance)

    again = build()
    again.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(cell, params).items()})
    assert_close(run_torch(again, xs), wanted, tolerance)


@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_single_steps(kind):
    torch.manual_seed(0)
    theirs, x = getattr(torch.nn, kind)(FEATURES, HIDDEN), np.ones((BATCH, FEATURES), np.float32)
    cell, params = from_torch(theirs.state_dict())
    carry, _ = jaxrnn.step(cell, params, cell.initial_carry(params, (BATCH, FEATURES)), x)
    with torch.no_grad():
        states = theirs(torch.from_numpy(x))
    wanted = [s.numpy() for s in (states if isinstance(states, tuple) else (states,))]
    assert_close(jax.tree.leaves(carry), wanted, 1e-6)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(cell, params, cell_module=True).items()})


def test_bfloat16_tensors_keep_their_bits():
    cell = jaxrnn.Stack.repeat(jaxrnn.LSTM(HIDDEN, projection=2), 2, bidirectional=True)
    params = cell.init(jax.random.key(0), FEATURES, jnp.bfloat16)
    tensors = {name: torch.from_dlpack(jnp.asarray(array)) for name, array in to_torch(cell, params).items()}
    assert {str(t.dtype) for t in tensors.values()} == {"torch.bfloat16"}
    module = torch.nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True, proj_size=2, dtype=torch.bfloat16)
    module.load_state_dict(tensors)
    again, read = from_torch(module.state_dict())
    assert again == cell
    assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and bool(jnp.all(a == b)), read, params))
