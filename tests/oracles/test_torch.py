"""PyTorch as an oracle: values and every gradient of its recurrent layers."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn

torch = pytest.importorskip("torch", reason="needs torch: `make oracle-test` installs it")

KINDS = {
    "rnn_tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}, jaxrnn.Elman(5)),
    "rnn_relu": (torch.nn.RNN, {"nonlinearity": "relu"}, jaxrnn.Elman(5, activation="relu")),
    "lstm": (torch.nn.LSTM, {}, jaxrnn.LSTM(5)),
    "lstm_projection": (torch.nn.LSTM, {"proj_size": 3}, jaxrnn.LSTM(5, projection=3)),
    "gru": (torch.nn.GRU, {}, jaxrnn.GRU(5)),
}
TIME, BATCH, FEATURES, HIDDEN = 6, 3, 4, 5


def to_params(cell: jaxrnn.Cell, tensors: dict[str, Any], suffix: str) -> Any:
    """One layer and direction: torch's transposes, and the sum of its two biases; a GRU keeps the
    candidate's apart.
    """
    w_x, w_h = (tensors[f"weight_{part}_{suffix}"].T for part in ("ih", "hh"))
    b_x, b_h = (tensors[f"bias_{part}_{suffix}"] for part in ("ih", "hh"))
    if isinstance(cell, jaxrnn.GRU):
        return jaxrnn.GRUParams(
            w_x,
            w_h,
            b_x + jnp.concatenate([b_h[: 2 * HIDDEN], jnp.zeros(HIDDEN, b_h.dtype)]),
            b_h[2 * HIDDEN :],
        )
    if isinstance(cell, jaxrnn.LSTM):
        return jaxrnn.LSTMParams(
            w_x, w_h, b_x + b_h, w_r=tensors[f"weight_hr_{suffix}"].T if cell.projection else None
        )
    return jaxrnn.ElmanParams(w_x, w_h, b_x + b_h)


def build(cell: jaxrnn.Cell, layers: int, bidirectional: bool) -> jaxrnn.Cell:
    return jaxrnn.Stack.repeat(cell, layers, bidirectional=bidirectional)


def all_params(cell: jaxrnn.Cell, tensors: dict[str, Any], layers: int, bidirectional: bool) -> Any:
    def layer(k: int) -> Any:
        forward = to_params(cell, tensors, f"l{k}")
        return (
            jaxrnn.BidirectionalParams(forward, to_params(cell, tensors, f"l{k}_reverse"))
            if bidirectional
            else forward
        )

    return tuple(layer(k) for k in range(layers))


def all_carries(cell: jaxrnn.Cell, states: list[Any], layers: int, bidirectional: bool) -> Any:
    def one(row: int) -> Any:
        return (
            jaxrnn.LSTMCarry(states[0][row], states[1][row])
            if isinstance(cell, jaxrnn.LSTM)
            else states[0][row]
        )

    ways = 1 + bidirectional
    pairs = [[one(ways * k + way) for way in range(ways)] for k in range(layers)]
    return tuple(jaxrnn.BidirectionalCarry(*pair) if bidirectional else pair[0] for pair in pairs)


def rows(carry: Any) -> list[Any]:
    """Torch's `[layers * ways, batch, hidden]`, one array per kind of state."""
    singles = jax.tree.leaves(carry, is_leaf=lambda c: isinstance(c, jaxrnn.LSTMCarry))
    if isinstance(singles[0], jaxrnn.LSTMCarry):
        return [jnp.stack([c.h for c in singles]), jnp.stack([c.c for c in singles])]
    return [jnp.stack(singles)]


@partial(jax.jit, static_argnums=(0, 1, 2))
def values_and_gradients(
    cell: jaxrnn.Cell,
    layers: int,
    bidirectional: bool,
    arguments: tuple[dict[str, Any], Any, list[Any]],
    lengths: Any,
    cotangents: Any,
) -> tuple[Any, Any]:
    """`(ys, last states)` of jaxrnn, and the gradients of the arguments; one program for all
    lengths.
    """

    def ours(tensors: dict[str, Any], xs: Any, states: list[Any]) -> tuple[Any, Any]:
        model = build(cell, layers, bidirectional)
        params = all_params(cell, tensors, layers, bidirectional)
        start = all_carries(cell, states, layers, bidirectional)
        carry, ys = jaxrnn.scan(model, params, xs, start, lengths=lengths)
        return ys, rows(carry)

    outputs, pull = jax.vjp(ours, *arguments)
    return outputs, pull(cotangents)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both_ways"])
@pytest.mark.parametrize("packed", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients_are_torchs(request, kind, layers, bidirectional, packed, dtype):
    if dtype == "float64":
        request.getfixturevalue("x64")
    make, options, cell = KINDS[kind]
    torch.manual_seed(layers)
    layer = make(
        FEATURES,
        HIDDEN,
        num_layers=layers,
        bidirectional=bidirectional,
        dtype=getattr(torch, dtype),
        **options,
    )
    rng = np.random.default_rng(layers)
    ways = 1 + bidirectional
    lengths = np.array([TIME, 2, 4]) if packed else np.full(BATCH, TIME)

    def tensor(*shape: int) -> Any:
        return torch.tensor(rng.normal(size=shape), dtype=getattr(torch, dtype), requires_grad=True)

    xs = tensor(TIME, BATCH, FEATURES)
    lstm, out = isinstance(cell, jaxrnn.LSTM), cell.out_features
    states = [tensor(layers * ways, BATCH, size) for size in ((out, HIDDEN) if lstm else (out,))]
    dys, dstates = (
        rng.normal(size=(TIME, BATCH, ways * out)),
        [rng.normal(size=s.shape) for s in states],
    )

    inputs = (
        torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(lengths), enforce_sorted=False)
        if packed
        else xs
    )
    ys, last = layer(inputs, tuple(states) if lstm else states[0])
    ys = torch.nn.utils.rnn.pad_packed_sequence(ys)[0] if packed else ys
    last = list(last) if lstm else [last]
    total = (ys * torch.tensor(dys, dtype=ys.dtype)).sum()
    total = total + sum(
        (s * torch.tensor(d, dtype=s.dtype)).sum() for s, d in zip(last, dstates, strict=True)
    )
    total.backward()

    arguments = (
        {name: t.detach().numpy() for name, t in layer.named_parameters()},
        xs.detach().numpy(),
        [s.detach().numpy() for s in states],
    )

    cotangents = (dys.astype(dtype), [d.astype(dtype) for d in dstates])
    (our_ys, our_last), grads = values_and_gradients(
        cell, layers, bidirectional, arguments, lengths, cotangents
    )

    expected = [
        ys,
        *last,
        *(p.grad for p in layer.parameters()),
        xs.grad,
        *(s.grad for s in states),
    ]
    names = [name for name, _ in layer.named_parameters()]
    got = [our_ys, *our_last, *(grads[0][name] for name in names), grads[1], *grads[2]]
    for name, a, b in zip(
        ["ys", *["carry"] * len(last), *names, "xs", *["state"] * len(states)],
        got,
        expected,
        strict=True,
    ):
        b = b.detach().numpy()
        error = np.linalg.norm(np.asarray(a) - b) / max(np.linalg.norm(b), 1e-6)
        assert error <= (1e-5 if dtype == "float32" else 1e-10), f"{name}: {error:.1e}"
