"""The sides of cells whose state is a picture.

Written by hand, in JAX or PyTorch, there are two forms. One convolves the inputs of all steps
before the loop. The other, "together", does so step by step: an LSTM then has one convolution,
`[x_t; h_{t-1}] * [W_x; W_h]`. Now this, now that is faster."""

import importlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid

from benchmarks.peers import (
    OWN,
    TWO_DEVICES,
    Makers,
    TorchSide,
    keras_layers,
    keras_side,
    torch_on_cpu,
)
from benchmarks.sides import JaxSide, Missing, Problem, own, own_on_two_devices
from jaxrnn.core.trees import Tree


def plain(problem: Problem, together: bool = False) -> JaxSide:
    """`lax.scan` around XLA's own convolution, with JAX's derivative."""
    return JaxSide(partial(_PLAIN[problem.kind], problem.shape.hidden, together))


def _plain_lstm(hidden: int, together: bool, params: Tree, xs: Array) -> Array:
    w = jnp.concatenate([params.w_x, params.w_h], axis=-2)

    def body(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = carry
        if together:
            z = _convolve(jnp.concatenate([x, h], axis=-1), w) + params.b
        else:
            z = x + _convolve(h, params.w_h)
        i, f, g, o = jnp.split(z, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((*xs.shape[1:-1], hidden))
    inputs = xs if together else _project(params, xs)
    return jax.lax.scan(body, (zeros, zeros), inputs)[1]


def _plain_gru(hidden: int, together: bool, params: Tree, xs: Array) -> Array:
    def body(h: Array, x: Array) -> tuple[Array, Array]:
        u = _convolve(x, params.w_x) + params.b if together else x
        u_r, u_z, u_n = jnp.split(u, 3, axis=-1)
        r, z, n = jnp.split(_convolve(h, params.w_h), 3, axis=-1)
        n = jnp.tanh(u_n + sigmoid(u_r + r) * (n + params.b_hn))
        z = sigmoid(u_z + z)
        h = (1 - z) * n + z * h
        return h, h

    zeros = jnp.zeros((*xs.shape[1:-1], hidden))
    return jax.lax.scan(body, zeros, xs if together else _project(params, xs))[1]


_PLAIN = {"ConvLSTM": _plain_lstm, "ConvGRU": _plain_gru}


def _project(params: Tree, xs: Array) -> Array:
    """The convolution of all inputs, as of one large batch."""
    us = _convolve(xs.reshape(-1, *xs.shape[2:]), params.w_x) + params.b
    return us.reshape(*xs.shape[:2], *us.shape[1:])


def _convolve(x: Array, w: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=layout)


def linen(problem: Problem) -> JaxSide:
    """Flax linen: gates i g f o, 1 added to the forget gate's bias."""
    _only_lstm(problem)
    nn = importlib.import_module("flax.linen")
    cell = nn.ConvLSTMCell(problem.shape.hidden, problem.params.w_x.shape[:2])

    def convert(params: Tree) -> Tree:
        w_x, w_h, b = (_gates_of_flax(array) for array in (params.w_x, params.w_h, params.b))
        b = b - jnp.repeat(jnp.array([0.0, 0.0, 1.0, 0.0]), problem.shape.hidden)
        layers = {
            "ih": {"kernel": w_x, "bias": b},
            "hh": {"kernel": w_h, "bias": jnp.zeros_like(b)},
        }
        return {"params": {"cell": layers}}

    return JaxSide(nn.RNN(cell, time_major=True).apply, convert)


def _gates_of_flax(array: Array) -> Array:
    i, f, g, o = jnp.split(array, 4, axis=-1)
    return jnp.concatenate([i, g, f, o], axis=-1)


def keras(problem: Problem) -> JaxSide:
    """Keras on JAX: gates as in jaxrnn."""
    _only_lstm(problem)
    layer = keras_layers().ConvLSTM2D(
        problem.shape.hidden, problem.params.w_x.shape[:2], padding="same", return_sequences=True
    )
    return keras_side(problem, layer, lambda params: [params.w_x, params.w_h, params.b])


def torch(problem: Problem, together: bool = False) -> TorchSide:
    """PyTorch has no such layer: written with its `conv2d`, kernels `[out, in, *kernel]`."""
    _only_lstm(problem)
    torch = torch_on_cpu()
    conv2d, cat = torch.nn.functional.conv2d, torch.cat
    convert = _torch_weights_together if together else _torch_weights

    class ConvLSTM(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, array in convert(problem.params).items():
                self.register_parameter(name, torch.nn.Parameter(torch.empty(array.shape)))

        def forward(self, xs: Any) -> Any:
            if not together:
                us = conv2d(xs.flatten(0, 1), self.w_x, self.b, padding="same")
                xs = us.unflatten(0, xs.shape[:2])
            batch, _, *space = xs.shape[1:]
            h = c = xs.new_zeros(batch, problem.shape.hidden, *space)
            ys = []
            for x in xs:
                if together:
                    z = conv2d(cat([x, h], 1), self.w, self.b, padding="same")
                else:
                    z = x + conv2d(h, self.w_h, padding="same")
                i, f, g, o = z.chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                ys.append(h)
            return torch.stack(ys), (h, c)

    return TorchSide(ConvLSTM(), convert, channels_first=True)


def _torch_weights(params: Tree) -> dict[str, Array]:
    w_x, w_h = (jnp.transpose(w, (3, 2, 0, 1)) for w in (params.w_x, params.w_h))
    return {"w_x": w_x, "w_h": w_h, "b": params.b}


def _torch_weights_together(params: Tree) -> dict[str, Array]:
    weights = _torch_weights(params)
    return {"w": jnp.concatenate([weights["w_x"], weights["w_h"]], axis=1), "b": params.b}


def _only_lstm(problem: Problem) -> None:
    if problem.kind != "ConvLSTM":
        raise Missing("it has no such cell")


SIDES: Makers = {
    OWN: own,
    TWO_DEVICES: own_on_two_devices,
    "lax.scan": plain,
    "lax.scan-together": partial(plain, together=True),
    "linen": linen,
    "keras": keras,
    "torch": torch,
    "torch-together": partial(torch, together=True),
}
