"""torch's weights, both ways."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.convert import carry_from_torch, carry_to_torch, from_torch, to_torch
from tests.support.conversions import random_like
from tests.support.helpers import assert_close

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


def run_torch(module: Any, xs: np.ndarray, start: Any) -> tuple[Any, Any]:
    """Its outputs and final states on ragged sequences, from the states `start`."""
    with torch.no_grad():
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            torch.from_numpy(xs), LENGTHS, enforce_sorted=False
        )
        ys, states = module(packed, jax.tree.map(torch.from_numpy, start))
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=TIME)
    return ys.numpy(), states


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("kind", "options"), list(MODULES.values()), ids=list(MODULES))
def test_every_option(kind, options, layers, bidirectional, bias, dtype, request):
    """The same outputs and final states from torch's weights and states in jaxrnn, and from them
    again in a new module of torch.
    """
    if dtype == "float64":
        request.getfixturevalue("x64")
    torch.manual_seed(0)

    def build() -> Any:
        make = getattr(torch.nn, kind)
        return make(
            FEATURES,
            HIDDEN,
            layers,
            bias=bias,
            bidirectional=bidirectional,
            dtype=getattr(torch, dtype),
            **options,
        )

    theirs, xs = (
        build(),
        np.random.default_rng(0).normal(size=(TIME, BATCH, FEATURES)).astype(dtype),
    )
    nonlinearity = options.get("nonlinearity", "tanh")
    state_dict = {f"model.rnn.{name}": tensor for name, tensor in theirs.state_dict().items()} | {
        "model.head": 1
    }
    cell, params = from_torch(state_dict, "model.rnn.", nonlinearity=nonlinearity)
    start = random_like(cell.initial_carry(params, (BATCH, FEATURES)), dtype)
    wanted = run_torch(theirs, xs, carry_to_torch(cell, start))
    carry, ys = jaxrnn.scan(cell, params, xs, start, lengths=np.array(LENGTHS))
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert_close((ys, carry), (wanted[0], carry_from_torch(cell, wanted[1])), tolerance)
    assert_close(carry_to_torch(cell, carry), wanted[1], tolerance)

    again = build()
    again.load_state_dict(
        {name: torch.from_numpy(array) for name, array in to_torch(cell, params).items()}
    )
    assert_close(run_torch(again, xs, carry_to_torch(cell, start)), wanted, tolerance)


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
    theirs.load_state_dict(
        {
            name: torch.from_numpy(array)
            for name, array in to_torch(cell, params, cell_module=True).items()
        }
    )


def test_bfloat16_tensors_keep_their_bits():
    cell = jaxrnn.Stack.repeat(jaxrnn.LSTM(HIDDEN, projection=2), 2, bidirectional=True)
    params = cell.init(jax.random.key(0), FEATURES, jnp.bfloat16)
    tensors = {
        name: torch.from_dlpack(jnp.asarray(array))
        for name, array in to_torch(cell, params).items()
    }
    assert {str(t.dtype) for t in tensors.values()} == {"torch.bfloat16"}
    module = torch.nn.LSTM(
        FEATURES, HIDDEN, 2, bidirectional=True, proj_size=2, dtype=torch.bfloat16
    )
    module.load_state_dict(tensors)
    again, read = from_torch(module.state_dict())
    assert again == cell
    assert jax.tree.all(
        jax.tree.map(lambda a, b: a.dtype == b.dtype and bool(jnp.all(a == b)), read, params)
    )


def shaped(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: np.ones(shape, "f") for name, shape in shapes.items()}


RNN = shaped(weight_ih_l0=(3, 2), weight_hh_l0=(3, 3))
LSTM = shaped(weight_ih_l0=(12, 2), weight_hh_l0=(12, 3), bias_ih_l0=(12,), bias_hh_l0=(12,))
MISTAKES: dict[str, Any] = {
    "upper layer": (
        RNN | shaped(weight_ih_l1=(9, 99), weight_hh_l1=(9, 3)),
        r"weight_ih_l1 has shape \(9, 99\), expected \(3, 3\)",
    ),
    "other kind above": (
        RNN | shaped(weight_ih_l1=(9, 3), weight_hh_l1=(9, 3)),
        r"weight_ih_l1 has shape \(9, 3\), expected \(3, 3\)",
    ),
    "above two directions": (
        RNN
        | shaped(weight_ih_l0_reverse=(3, 2), weight_hh_l0_reverse=(3, 3))
        | shaped(weight_ih_l1=(3, 3), weight_hh_l1=(3, 3))
        | shaped(weight_ih_l1_reverse=(3, 6), weight_hh_l1_reverse=(3, 3)),
        r"weight_ih_l1 has shape \(3, 3\), expected \(3, 6\)",
    ),
    "narrower direction": (
        RNN | shaped(weight_ih_l0_reverse=(2, 2), weight_hh_l0_reverse=(2, 2)),
        r"weight_ih_l0_reverse has shape \(2, 2\), expected \(3, 2\)",
    ),
    "no direction above": (
        RNN
        | shaped(weight_ih_l0_reverse=(3, 2), weight_hh_l0_reverse=(3, 3))
        | shaped(weight_ih_l1=(3, 6), weight_hh_l1=(3, 3)),
        "weight_ih_l1_reverse is missing",
    ),
    "no state": (
        shaped(weight_ih_l0=(12, 2), weight_hh_l0=(12, 0)),
        r"weight_hh_l0 has shape \(12, 0\), expected \[gates \* hidden, state\], none of them 0",
    ),
    "one axis": (
        shaped(weight_ih_l0=(12,), weight_hh_l0=(12, 3)),
        r"weight_ih_l0 has shape \(12,\), expected \[gates \* hidden, in\]",
    ),
    "None": (LSTM | {"weight_hh_l0": None}, "weight_hh_l0 is None, expected an array"),
    "rows": (
        shaped(weight_ih_l0=(6, 2), weight_hh_l0=(6, 3)),
        "weight_hh_l0 has a state of 3 for 6 rows, expected 1, 3 or 4 times as many",
    ),
    "one bias": (
        {name: array for name, array in LSTM.items() if name != "bias_ih_l0"},
        r"bias_ih_l0 is missing; there are \['bias_hh_l0', 'weight_hh_l0', 'weight_ih_l0'\]",
    ),
    "projection": (
        LSTM | shaped(weight_hr_l0=(2, 3)),
        r"weight_hr_l0 has shape \(2, 3\), expected \(3, 3\)",
    ),
    "dtypes": (
        LSTM | {"bias_hh_l0": np.ones(12, np.float16)},
        "bias_hh_l0 has dtype float16, expected float32, that of weight_ih_l0; cast one of them",
    ),
    "gap": (
        RNN | shaped(weight_ih_l2=(3, 3), weight_hh_l2=(3, 3)),
        r"unexpected \['weight_hh_l2', ",
    ),
    "prefix": (
        {
            f"{part}.{name}": array
            for part in ("encoder.rnn", "decoder")
            for name, array in RNN.items()
        },
        r"weight_ih_l0 is missing; .*; it is there with prefix='encoder\.rnn\.' or 'decoder\.'$",
    ),
    "prefix of a cell": (
        {f"encoder.rnn.{name}": array for name, array in RNN.items()}
        | {f"decoder.{name.removesuffix('_l0')}": array for name, array in RNN.items()},
        r"weight_ih_l0 is missing; .*; it is there with prefix='encoder\.rnn\.' or 'decoder\.'$",
    ),
    "module": (
        torch.nn.RNN(2, 3),
        r"the argument is a RNN, expected a dictionary .*\.state_dict\(\)",
    ),
}


@pytest.mark.parametrize(("state_dict", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(state_dict, message):
    with pytest.raises((ValueError, TypeError), match=f"^from_torch: {message}"):
        from_torch(state_dict)


def test_only_an_rnn_has_a_nonlinearity():
    with pytest.raises(ValueError, match="nonlinearity is 'relu', which only an"):
        from_torch(LSTM, nonlinearity="relu")
