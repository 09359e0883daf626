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


def torchs(
    layer: Any, xs: np.ndarray, states: list[np.ndarray], lengths: Any, cotangents: Any
) -> tuple[Any, Any]:
    """The same of torch's layer; with lengths, of a packed sequence."""
    x, *start = (torch.tensor(a, requires_grad=True) for a in (xs, *states))
    given = tuple(start) if len(start) > 1 else start[0]
    if lengths is None:
        ys, last = layer(x, given)
    else:
        pack = partial(torch.nn.utils.rnn.pack_padded_sequence, enforce_sorted=False)
        packed, last = layer(pack(x, torch.tensor(lengths)), given)
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(packed)
    last = list(last) if len(start) > 1 else [last]
    dys, dlast = cotangents
    torch.autograd.backward([ys, *last], [torch.tensor(d) for d in (dys, *dlast)])
    weights = {name: p.grad for name, p in layer.named_parameters()}
    found = (ys, last), (weights, x.grad, [s.grad for s in start])
    return jax.tree.map(lambda t: t.detach().numpy(), found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both_ways"])
@pytest.mark.parametrize("packed", [False, True], ids=["full", "lengths"])
@pytest.mark.parametrize("dtype", ["float32", "float64"], indirect=True)
def test_values_and_gradients_are_torchs(kind, layers, bidirectional, packed, dtype):
    make, options, cell = KINDS[kind]
    torch.manual_seed(layers)
    options = options | {"num_layers": layers, "bidirectional": bidirectional}
    layer = make(FEATURES, HIDDEN, dtype=getattr(torch, dtype), **options)
    rng = np.random.default_rng(layers)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype)

    ways, out = 1 + bidirectional, cell.out_features
    sizes = (out, HIDDEN) if isinstance(cell, jaxrnn.LSTM) else (out,)
    xs, states = draw(TIME, BATCH, FEATURES), [draw(layers * ways, BATCH, n) for n in sizes]
    cotangents = draw(TIME, BATCH, ways * out), [draw(*state.shape) for state in states]
    lengths = np.array([TIME, 2, 4]) if packed else np.full(BATCH, TIME)

    expected = torchs(layer, xs, states, lengths if packed else None, cotangents)
    arguments = {name: t.detach().numpy() for name, t in layer.named_parameters()}, xs, states
    got = values_and_gradients(cell, layers, bidirectional, arguments, lengths, cotangents)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True)
    for (path, a), b in pairs:
        error = np.linalg.norm(np.asarray(a) - b) / max(np.linalg.norm(b), 1e-6)
        name = jax.tree_util.keystr(path)
        assert error <= (1e-5 if dtype == "float32" else 1e-10), f"{name}: {error:.1e}"
