"""PyTorch as an oracle: PredRNN as its published code computes it, values and every gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.cells import decoupling_loss
from jaxrnn.cells.st_lstm import Norm, STLSTMCarry, STLSTMLayer
from tests.support.conversions import random_like
from tests.support.helpers import assert_close

torch = pytest.importorskip("torch", reason="needs torch: `make oracle-test` installs it")
nn = torch.nn

TIME, BATCH, FEATURES, HIDDEN, LAYERS, SPACE = 4, 2, 3, 2, 3, (4, 5)


class SpatioTemporalLSTMCell(nn.Module):
    """Wang et al. (2017); pictures have their channels first."""

    def __init__(self, features: int, kernel: int, normal: bool):
        super().__init__()

        def convolution(channels: int, gates: int) -> Any:
            rows = gates * HIDDEN
            conv = nn.Conv2d(channels, rows, kernel, padding=kernel // 2, bias=False)
            return nn.Sequential(conv, *([nn.LayerNorm([rows, *SPACE])] if normal else []))

        self.conv_x = convolution(features, 7)
        self.conv_h = convolution(HIDDEN, 4)
        self.conv_m = convolution(HIDDEN, 3)
        self.conv_o = convolution(2 * HIDDEN, 1)
        self.conv_last = nn.Conv2d(2 * HIDDEN, HIDDEN, 1, bias=False)

    def forward(self, x: Any, h: Any, c: Any, m: Any) -> tuple[Any, ...]:
        i_x, f_x, g_x, i_x_m, f_x_m, g_x_m, o_x = torch.chunk(self.conv_x(x), 7, dim=1)
        i_h, f_h, g_h, o_h = torch.chunk(self.conv_h(h), 4, dim=1)
        i_m, f_m, g_m = torch.chunk(self.conv_m(m), 3, dim=1)
        delta_c = torch.sigmoid(i_x + i_h) * torch.tanh(g_x + g_h)
        c = torch.sigmoid(f_x + f_h + 1.0) * c + delta_c
        delta_m = torch.sigmoid(i_x_m + i_m) * torch.tanh(g_x_m + g_m)
        m = torch.sigmoid(f_x_m + f_m + 1.0) * m + delta_m
        mem = torch.cat([c, m], dim=1)
        o = torch.sigmoid(o_x + o_h + self.conv_o(mem))
        h = o * torch.tanh(self.conv_last(mem))
        return h, c, m, delta_c, delta_m


class PredRNN(nn.Module):
    """The memory m climbs through the layers, and from the top at one step to the bottom at the
    next. The adapter is that of PredRNN-V2 (Wang et al. 2023).
    """

    def __init__(self, kernel: int, normal: bool):
        super().__init__()
        self.cell_list = nn.ModuleList(
            SpatioTemporalLSTMCell(FEATURES if k == 0 else HIDDEN, kernel, normal)
            for k in range(LAYERS)
        )
        self.adapter = nn.Conv2d(HIDDEN, HIDDEN, 1, bias=False)

    def forward(self, xs: Any, h: Any, c: Any, m: Any) -> tuple[Any, ...]:
        """The outputs, the last states, and the decoupling loss."""
        h, c, ys, losses = [*h], [*c], [], []
        for x in xs:
            for k, cell in enumerate(self.cell_list):
                h[k], c[k], m, *deltas = cell(x if k == 0 else h[k - 1], h[k], c[k], m)
                rows = [
                    nn.functional.normalize(self.adapter(delta).flatten(start_dim=2), dim=2)
                    for delta in deltas
                ]
                cosines = torch.cosine_similarity(rows[0], rows[1], dim=2)
                losses.append(torch.mean(torch.abs(cosines)))
            ys.append(h[-1])
        return torch.stack(ys), (h, c, m), torch.mean(torch.stack(losses))


def last(array: np.ndarray) -> np.ndarray:
    """A picture with its channels last."""
    return np.moveaxis(array, -3, -1)


def to_params(arrays: dict[str, np.ndarray], of: Any) -> tuple[STLSTMLayer, ...]:
    """Torch's weights, or their gradients, as jaxrnn has them. `of` makes one gain or bias for each
    channel, as ours are, of one for each position and channel.
    """

    def kernel(name: str) -> np.ndarray:
        return arrays[f"{name}.weight"].transpose(2, 3, 1, 0)

    def layer(k: int) -> STLSTMLayer:
        names = {letter: f"cell_list.{k}.conv_{letter}" for letter in "xhmo"}
        norms: Any = {
            f"norm_{letter}": Norm(of(arrays[f"{name}.1.weight"]), of(arrays[f"{name}.1.bias"]))
            for letter, name in names.items()
            if f"{name}.1.weight" in arrays
        }
        weights = {f"w_{letter}": kernel(f"{name}.0") for letter, name in names.items()}
        return STLSTMLayer(**weights, w_l=kernel(f"cell_list.{k}.conv_last")[0, 0], **norms)

    return tuple(map(layer, range(LAYERS)))


def build(kernel: int, normal: bool, dtype: Any) -> Any:
    """The network, random everywhere; gains and biases are alike at all positions."""
    torch.manual_seed(0)
    model = PredRNN(kernel, normal).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 3:
                drawn = torch.randn(len(parameter), 1, 1, dtype=dtype) / 2 + ("weight" in name)
                parameter.copy_(drawn.expand_as(parameter))
    return model


def arrays_of(model: Any, what: Any) -> dict[str, np.ndarray]:
    return {name: what(tensor).detach().numpy() for name, tensor in model.named_parameters()}


each_network = pytest.mark.parametrize(("kernel", "normal"), [(3, False), (5, True)], ids=str)
each_precision = pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)], indirect=["dtype"]
)


@each_precision
@each_network
def test_values_and_gradients_are_predrnns(kernel, normal, dtype, tolerance):
    """From states that are not zero, with random cotangents on the outputs and on all states."""
    model = build(kernel, normal, getattr(torch, dtype))
    cell = jaxrnn.STLSTM(HIDDEN, kernel, layers=LAYERS, layer_norm=normal)
    params = to_params(arrays_of(model, lambda tensor: tensor), lambda array: array[:, 0, 0])
    xs = random_like(np.zeros((TIME, BATCH, *SPACE, FEATURES)), dtype)
    state = jnp.zeros((BATCH, *SPACE, HIDDEN))
    start = random_like(STLSTMCarry((state,) * LAYERS, (state,) * LAYERS, state), dtype, seed=1)
    outputs, pull = jax.vjp(lambda *args: jaxrnn.scan(cell, *args), params, xs, start)
    cotangents = random_like(outputs, dtype, seed=2)

    def tensor(array: Any) -> Any:
        return torch.tensor(np.moveaxis(np.asarray(array), -1, -3).copy(), requires_grad=True)

    theirs, states = tensor(xs), jax.tree.map(tensor, start)
    ys, after, _ = model(theirs, *states)
    given = [*after[0], *after[1], after[2], ys]
    torch.autograd.backward(given, [*map(tensor, jax.tree.leaves(cotangents))])

    def numpy(tree: Any) -> Any:
        return [last(leaf.detach().numpy()) for leaf in jax.tree.leaves(tree)]

    grads = to_params(
        arrays_of(model, lambda p: torch.zeros_like(p) if p.grad is None else p.grad),
        lambda array: array.sum(axis=(1, 2)),
    )
    assert_close(outputs, (*numpy(after), *numpy(ys)), tolerance)
    wanted = (grads, numpy(theirs.grad), numpy([leaf.grad for leaf in jax.tree.leaves(states)]))
    assert_close(pull(cotangents), wanted, 10 * tolerance)


@each_precision
@each_network
def test_decoupling_loss_is_that_of_predrnn_v2(kernel, normal, dtype, tolerance):
    """And its gradients by all weights, through the states, and by the adapter."""
    model = build(kernel, normal, getattr(torch, dtype))
    cell = jaxrnn.STLSTM(HIDDEN, kernel, layers=LAYERS, layer_norm=normal)
    arrays = arrays_of(model, lambda tensor: tensor)
    params = to_params(arrays, lambda array: array[:, 0, 0])
    xs = random_like(np.zeros((TIME, BATCH, *SPACE, FEATURES)), dtype)

    def loss(params: Any, adapter: Any) -> jax.Array:
        states, _ = jaxrnn.trajectory(cell, params, xs)
        return decoupling_loss(cell, params, xs, states, adapter)

    adapter = jnp.asarray(arrays["adapter.weight"][:, :, 0, 0].T)
    value, grads = jax.value_and_grad(loss, (0, 1))(params, adapter)
    zero = torch.zeros(BATCH, HIDDEN, *SPACE, dtype=getattr(torch, dtype))
    theirs = torch.tensor(np.moveaxis(np.asarray(xs), -1, -3).copy())
    _, _, wanted = model(theirs, [zero] * LAYERS, [zero] * LAYERS, zero)
    wanted.backward()
    theirs = arrays_of(model, lambda p: torch.zeros_like(p) if p.grad is None else p.grad)
    wanted_grads = (
        to_params(theirs, lambda array: array.sum(axis=(1, 2))),
        theirs["adapter.weight"][:, :, 0, 0].T,
    )
    assert_close(value, wanted.detach().numpy(), tolerance)
    assert_close(grads, wanted_grads, 10 * tolerance)
