"""The other libraries, each imported only when it takes part.

Each is called as its own documentation does, in the variant that suits it best: its own axis order,
so that no transposition is timed, and its weights as arguments. Where their layouts come from is
told beside each conversion."""

import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxrnn
from benchmarks.measure import Program, untimed
from benchmarks.sides import (
    JaxSide,
    Missing,
    Problem,
    Results,
    autodiff,
    own,
    own_on_two_devices,
    plain,
    pulled_back,
)
from jaxrnn.core.trees import Tree


def linen(problem: Problem) -> JaxSide:
    """Flax linen: a dense layer per gate; the LSTM has its biases beside the recurrent kernels."""
    nn = importlib.import_module("flax.linen")
    kinds = {"LSTM": nn.OptimizedLSTMCell, "GRU": nn.GRUCell, "Elman": nn.SimpleCell}
    rnn = nn.RNN(kinds[problem.kind](problem.shape.hidden), time_major=True)

    def convert(params: Tree) -> Tree:
        if problem.kind == "Elman":
            cell = {"i": {"kernel": params.w_x, "bias": params.b}, "h": {"kernel": params.w_h}}
        elif problem.kind == "LSTM":
            cell = _per_gate("ifgo", params, bias_beside="h")
        else:
            cell = _per_gate("rzn", params, bias_beside="i")
            cell["hn"]["bias"] = params.b_hn
        return {"params": {"cell": cell}}

    return JaxSide(rnn.apply, convert)


def linen_lstm_cell(problem: Problem) -> JaxSide:
    """Flax linen's `LSTMCell`, with a product per gate where `OptimizedLSTMCell` has one for all:
    now this, now that is faster.
    """
    if problem.kind != "LSTM":
        raise Missing("only the LSTM has a second variant")
    nn = importlib.import_module("flax.linen")
    return dataclasses.replace(
        linen(problem), apply=nn.RNN(nn.LSTMCell(problem.shape.hidden), time_major=True).apply
    )


def _per_gate(gates: str, params: Tree, bias_beside: str) -> dict[str, dict[str, Array]]:
    x, h, b = (
        jnp.split(array, len(gates), axis=-1) for array in (params.w_x, params.w_h, params.b)
    )
    cell = {f"i{gate}": {"kernel": kernel} for gate, kernel in zip(gates, x, strict=True)}
    cell |= {f"h{gate}": {"kernel": kernel} for gate, kernel in zip(gates, h, strict=True)}
    for gate, bias in zip(gates, b, strict=True):
        cell[bias_beside + gate]["bias"] = bias
    return cell


def nnx(problem: Problem) -> JaxSide:
    """Flax nnx: fused kernels in the gate order of jaxrnn; the GRU has no `b_hn`."""
    nnx = importlib.import_module("flax.nnx")
    kinds = {"LSTM": nnx.OptimizedLSTMCell, "GRU": nnx.GRUCell, "Elman": nnx.SimpleCell}
    cell = kinds[problem.kind](problem.shape.in_features, problem.shape.hidden, rngs=nnx.Rngs(0))
    graph, template, rest = nnx.split(nnx.RNN(cell, time_major=True), nnx.Param, ...)
    biased = "dense_h" if problem.kind == "LSTM" else "dense_i"

    def convert(params: Tree) -> Tree:
        cell = {"dense_i": {"kernel": params.w_x}, "dense_h": {"kernel": params.w_h}}
        cell[biased]["bias"] = params.b
        return {"cell": cell}

    def apply(weights: Tree, xs: Array) -> Array:
        # copies: the next lines write into them
        state, streams = jax.tree.map(lambda leaf: leaf, (template, rest))
        nnx.replace_by_pure_dict(state, weights)
        return nnx.merge(graph, state, streams)(xs)

    return JaxSide(apply, convert)


def haiku(problem: Problem) -> JaxSide:
    """Haiku: `[x; h]` in one LSTM kernel, gates i g f o, forget bias + 1; GRU with reset before the
    product, z the other way round.

    Its `VanillaRNN` has a ReLU, so the tanh of Elman is a core of our own, made of Haiku's layers.
    """
    hk = importlib.import_module("haiku")
    hidden = problem.shape.hidden

    class Elman(hk.RNNCore):
        def __call__(self, inputs: Any, prev_state: Any) -> Any:
            h = jnp.tanh(hk.Linear(hidden)(inputs) + hk.Linear(hidden, with_bias=False)(prev_state))
            return h, h

        def initial_state(self, batch_size: int | None) -> Any:
            return jnp.zeros((batch_size, hidden))

    def forward(xs: Array) -> Array:
        core = (
            Elman(name="elman")
            if problem.kind == "Elman"
            else {"LSTM": hk.LSTM, "GRU": hk.GRU}[problem.kind](hidden)
        )
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    def convert(params: Tree) -> Tree:
        if problem.kind == "Elman":
            return {
                "elman/linear": {"w": params.w_x, "b": params.b},
                "elman/linear_1": {"w": params.w_h},
            }
        if problem.kind == "LSTM":
            i, f, g, o = jnp.split(params.b, 4)
            w = _reordered(jnp.concatenate([params.w_x, params.w_h]), 4, (0, 2, 1, 3))
            return {"lstm/linear": {"w": w, "b": jnp.concatenate([i, g, f - 1, o])}}
        signs = jnp.repeat(jnp.array([-1.0, 1.0, 1.0]), hidden)
        w_i, w_h, b = (
            signs * _reordered(array, 3, (1, 0, 2)) for array in (params.w_x, params.w_h, params.b)
        )
        return {"gru": {"w_i": w_i, "w_h": w_h, "b": b}}

    cell = jaxrnn.GRU(hidden, reset_gate="before") if problem.kind == "GRU" else None
    return JaxSide(hk.without_apply_rng(hk.transform(forward)).apply, convert, cell=cell)


def equinox(problem: Problem) -> JaxSide:
    """Equinox: the cell of one example, for the user to vmap over the batch and to scan over time;
    kernels `[out, in]`.
    """
    if problem.kind == "Elman":
        raise Missing("it has no such cell")
    eqx = importlib.import_module("equinox")
    lstm, hidden = problem.kind == "LSTM", problem.shape.hidden
    make = eqx.nn.LSTMCell if lstm else eqx.nn.GRUCell
    skeleton = make(problem.shape.in_features, hidden, key=jax.random.key(0))
    names = (
        ("weight_ih", "weight_hh", "bias") if lstm else ("weight_ih", "weight_hh", "bias", "bias_n")
    )

    def convert(params: Tree) -> Tree:
        weights = (params.w_x.T, params.w_h.T, params.b)
        return weights if lstm else (*weights, params.b_hn)

    def apply(weights: Tree, xs: Array) -> Array:
        cell = jax.vmap(
            eqx.tree_at(lambda cell: [getattr(cell, name) for name in names], skeleton, weights)
        )

        def body(state: Any, x: Any) -> Any:
            state = cell(x, state)
            return state, state[0] if lstm else state

        zeros = jnp.zeros((xs.shape[1], hidden))
        return jax.lax.scan(body, (zeros, zeros) if lstm else zeros, xs)[1]

    return JaxSide(apply, convert)


def keras(problem: Problem) -> JaxSide:
    """Keras on JAX: fused kernels, GRU gates z r h and two rows of biases."""
    layers = keras_layers()
    kinds = {"LSTM": layers.LSTM, "GRU": layers.GRU, "Elman": layers.SimpleRNN}

    def convert(params: Tree) -> Tree:
        if problem.kind != "GRU":
            return [params.w_x, params.w_h, params.b]
        w_x, w_h, b = (
            _reordered(array, 3, (1, 0, 2)) for array in (params.w_x, params.w_h, params.b)
        )
        b_h = jnp.concatenate([jnp.zeros(2 * problem.shape.hidden), params.b_hn])
        return [w_x, w_h, jnp.stack([b, b_h])]

    layer = kinds[problem.kind](problem.shape.hidden, return_sequences=True)
    return keras_side(problem, layer, convert)


def keras_layers() -> Any:
    """Its layers, on JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    keras = importlib.import_module("keras")
    if keras.config.backend() != "jax":
        raise Missing(f"it was imported with the backend {keras.config.backend()}")
    return keras.layers


def keras_side(problem: Problem, layer: Any, convert: Callable[[Tree], Tree]) -> JaxSide:
    """A layer, called without state; batch-major only."""
    layer.build(problem.xs.swapaxes(0, 1).shape)
    frozen = [np.asarray(variable.value) for variable in layer.non_trainable_variables]

    def apply(weights: Tree, xs: Array) -> Array:
        return layer.stateless_call(weights, frozen, xs)[0]

    return JaxSide(apply, convert, batch_major=True)


def _reordered(array: Array, gates: int, order: Iterable[int]) -> Array:
    parts = jnp.split(array, gates, axis=-1)
    return jnp.concatenate([parts[gate] for gate in order], axis=-1)


@dataclasses.dataclass(frozen=True)
class TorchSide:
    """PyTorch on the CPU: a module `xs -> (ys, state)`."""

    module: Any
    convert: Callable[[Tree], dict[str, Array]]
    """From jaxrnn's parameters to the module's, by name."""
    channels_first: bool = False
    cell: jaxrnn.Cell | None = None

    def programs(self, problem: Problem) -> tuple[Program, Program]:
        """The training step and the forward pass."""
        torch = importlib.import_module("torch")
        torch.set_num_threads(os.cpu_count() or 1)
        names, weights = zip(*self.module.named_parameters(), strict=True)
        converted = untimed(self.convert, problem.params)
        with torch.no_grad():
            for name, weight in zip(names, weights, strict=True):
                weight.copy_(torch.from_numpy(np.array(converted[name])))
        xs, dys = (torch.from_numpy(self._turned(a)) for a in (problem.xs, problem.dys))
        xs.requires_grad_()

        def step() -> Any:
            ys = self.module(xs)[0]
            *dweights, dxs = torch.autograd.grad(ys, [*weights, xs], dys)
            return ys, (dict(zip(names, dweights, strict=True)), dxs)

        def forward() -> Any:
            with torch.no_grad():
                return self.module(xs)[0]

        return Program(step), Program(forward)

    def results(self, problem: Problem, step_output: Any) -> Results:
        """What the training step gave, in jaxrnn's layout."""
        ys, (dweights, dxs) = step_output
        arrays = {name: dweight.numpy() for name, dweight in dweights.items()}
        dparams = pulled_back(self.convert, problem.params, arrays)
        return Results(self._back(ys), dparams, self._back(dxs))

    def _turned(self, array: Array) -> np.ndarray:
        return np.array(jnp.moveaxis(array, -1, 2) if self.channels_first else array)

    def _back(self, tensor: Any) -> np.ndarray:
        array = tensor.detach().numpy()
        return np.moveaxis(array, 2, -1) if self.channels_first else array


def _torch_weights(params: Tree) -> dict[str, Array]:
    """Kernels `[out, in]`, gates as in jaxrnn, two biases."""
    b_hh = jnp.zeros_like(params.b)
    if hasattr(params, "b_hn"):
        b_hh = b_hh.at[-params.b_hn.size :].set(params.b_hn)
    return {
        "weight_ih_l0": params.w_x.T,
        "weight_hh_l0": params.w_h.T,
        "bias_ih_l0": params.b,
        "bias_hh_l0": b_hh,
    }


def torch(problem: Problem) -> TorchSide:
    nn = torch_on_cpu().nn
    kinds = {"LSTM": nn.LSTM, "GRU": nn.GRU, "Elman": nn.RNN}
    module = kinds[problem.kind](problem.shape.in_features, problem.shape.hidden)
    return TorchSide(module, _torch_weights)


def torch_on_cpu() -> Any:
    """PyTorch, where it is measured."""
    if jax.default_backend() != "cpu":
        raise Missing("it is measured on the CPU only")
    return importlib.import_module("torch")


OWN = "jaxrnn"
TWO_DEVICES = "jaxrnn on 2 devices"
Makers = dict[str, Callable[[Problem], JaxSide | TorchSide]]
SIDES: Makers = {
    OWN: own,
    TWO_DEVICES: own_on_two_devices,
    "lax.scan": plain,
    "autodiff": autodiff,
    "linen": linen,
    "linen-LSTMCell": linen_lstm_cell,
    "nnx": nnx,
    "haiku": haiku,
    "equinox": equinox,
    "keras": keras,
    "torch": torch,
}
"""Every side. `lax.scan` is written by hand, `autodiff` is `jaxrnn.scan(..., method="autodiff")`.
"""

JAX_PEERS = (
    *("lax.scan", "lax.scan-together"),
    *("linen", "linen-LSTMCell", "nnx", "haiku", "equinox", "keras"),
)
TORCH = ("torch", "torch-together")
OPPONENTS = ("autodiff", *JAX_PEERS, *TORCH)
PACKAGES = {
    "linen": "flax",
    "linen-LSTMCell": "flax",
    "nnx": "flax",
    "haiku": "dm-haiku",
    "equinox": "equinox",
    "keras": "keras",
    **dict.fromkeys(TORCH, "torch"),
}
_MODULES = {"dm-haiku": "haiku"}


def absent(names: Iterable[str]) -> dict[str, str]:
    """Of these sides, those whose library is not installed, and what to install."""
    packages = {name: PACKAGES[name] for name in names if name in PACKAGES}
    return {
        name: f"not installed: pip install {package}"
        for name, package in packages.items()
        if importlib.util.find_spec(_MODULES.get(package, package)) is None
    }
