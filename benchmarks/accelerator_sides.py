"""Who meets on an accelerator: jaxrnn's methods, `lax.scan` written by hand, and cuDNN through JAX
and through PyTorch.
"""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import rnn as cudnn
from jax.nn import sigmoid

from benchmarks.sides import (
    Apply,
    JaxSide,
    Missing,
    Problem,
    Results,
    make_problem,
    scan_apply,
)
from jaxrnn.convert import to_cudnn, to_torch
from jaxrnn.methods import BPTT

BLOCKS = (16, 32, 64, 128)
METHODS: dict[str, Any] = {
    "bptt": "bptt",
    **{f"BPTT({block}, carries)": BPTT(block, "carries") for block in BLOCKS},
    "BPTT(32, preactivations)": BPTT(32, "preactivations"),
    "one kernel (Pallas)": BPTT(kernel="pallas"),
    "checkpointed": "checkpointed",
    "autodiff": "autodiff",
}
"""jaxrnn's sides, of which the first is what a user gets."""

REFERENCE = "lax.scan, hoisted"
"""The side that the others are compared with: what a careful user writes."""

UNROLL = 8


def problem_of(kind: str, shape: Any, dtype: str) -> Problem:
    """The same numbers on every machine, for they are drawn on its CPU."""
    with jax.default_device(jax.devices("cpu")[0]):
        problem = make_problem(kind, shape)
    arrays = (problem.params, problem.xs, problem.dys)
    placed = jax.device_put(jax.tree.map(np.asarray, arrays), jax.devices()[0])
    params, xs, dys = jax.tree.map(lambda leaf: leaf.astype(dtype), placed)
    return problem._replace(params=params, xs=xs, dys=dys)


def jax_sides(problem: Problem) -> dict[str, JaxSide]:
    """Every side that is written in JAX."""
    applies = {
        REFERENCE: by_hand(problem.kind, hoisted=True),
        f"lax.scan, hoisted, unroll={UNROLL}": by_hand(problem.kind, hoisted=True, unroll=UNROLL),
        "lax.scan": by_hand(problem.kind, hoisted=False),
        **{name: scan_apply(problem.cell, method) for name, method in METHODS.items()},
    }
    sides = {name: JaxSide(apply) for name, apply in applies.items()}
    if _has_cudnn(problem):
        sides["cuDNN by JAX"] = cudnn_lstm(problem)
    return sides


def by_hand(kind: str, hoisted: bool, unroll: int = 1) -> Apply:
    """`lax.scan`, the input projected within the loop or before it. Products are in the weights'
    dtype, the state is in float32, as in jaxrnn.
    """
    step, states = _STEPS[kind]

    def apply(params: Any, xs: Array) -> Array:
        def project(xs: Array) -> Array:
            return xs @ params.w_x + params.b

        def body(state: Any, x: Array) -> Any:
            u = (x if hoisted else project(x)).astype(jnp.float32)
            product = (state[0].astype(params.w_h.dtype) @ params.w_h).astype(jnp.float32)
            state = step(params, state, u, product)
            return state, state[0].astype(xs.dtype)

        zero = jnp.zeros((xs.shape[1], params.w_h.shape[0]), jnp.float32)
        inputs = project(xs) if hoisted else xs
        return jax.lax.scan(body, (zero,) * states, inputs, unroll=unroll)[1]

    return apply


def _lstm(_: Any, state: Any, u: Array, product: Array) -> Any:
    i, f, g, o = jnp.split(u + product, 4, axis=-1)
    c = sigmoid(f) * state[1] + sigmoid(i) * jnp.tanh(g)
    return sigmoid(o) * jnp.tanh(c), c


def _gru(params: Any, state: Any, u: Array, product: Array) -> Any:
    u_r, u_z, u_n = jnp.split(u, 3, axis=-1)
    r, z, n = jnp.split(product, 3, axis=-1)
    z = sigmoid(u_z + z)
    n = jnp.tanh(u_n + sigmoid(u_r + r) * (n + params.b_hn))
    return ((1 - z) * n + z * state[0],)


def _elman(_: Any, state: Any, u: Array, product: Array) -> Any:
    del state
    return (jnp.tanh(u + product),)


_STEPS: dict[str, tuple[Callable[..., Any], int]] = {
    "LSTM": (_lstm, 2),
    "GRU": (_gru, 1),
    "Elman": (_elman, 1),
}


def _has_cudnn(problem: Problem) -> bool:
    return (
        jax.default_backend() == "gpu"
        and problem.kind == "LSTM"
        and problem.xs.dtype == jnp.float32
    )


def cudnn_lstm(problem: Problem) -> JaxSide:
    """`jax.experimental.rnn.lstm`, batch-major. Whoever transposes its inputs within the program
    that calls it gets wrong results from JAX 0.11.2: cuDNN seems to read their memory as if they
    were not transposed.
    """
    hidden = problem.shape.hidden

    def apply(params: Any, xs: Array) -> Array:
        batch, time, features = xs.shape
        zeros = jnp.zeros((1, batch, hidden), xs.dtype)
        lengths = jnp.full((batch,), time, jnp.int32)
        weights = to_cudnn(problem.cell, params)
        sizes = (features, hidden, 1, 0.0, False)
        lstm: Any = cudnn.lstm
        return lstm(xs, zeros, zeros, weights, lengths, *sizes)[0]

    return JaxSide(apply, batch_major=True)


@dataclasses.dataclass(frozen=True)
class Torch:
    """PyTorch's module with a problem's weights, on a GPU where JAX is on one."""

    problem: Problem
    module: Any
    xs: Any
    dys: Any

    @staticmethod
    def make(problem: Problem) -> "Torch":
        """Load the weights.

        Raises:
            Missing: PyTorch is not installed, or does not see the device.
        """
        if importlib.util.find_spec("torch") is None:
            raise Missing("PyTorch is not installed")
        torch = importlib.import_module("torch")
        on_cpu = jax.default_backend() == "cpu"
        if not on_cpu and not torch.cuda.is_available():
            raise Missing("PyTorch sees no GPU")
        place = {"device": "cpu" if on_cpu else "cuda"}
        place["dtype"] = getattr(torch, str(problem.xs.dtype))
        kinds = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU, "Elman": torch.nn.RNN}
        module = kinds[problem.kind](problem.shape.in_features, problem.shape.hidden)

        def tensor(array: Any) -> Any:
            return torch.from_numpy(np.array(array, np.float32))

        weights = to_torch(problem.cell, problem.params)
        module.load_state_dict({name: tensor(array) for name, array in weights.items()})
        xs, dys = (tensor(array).to(**place) for array in (problem.xs, problem.dys))
        return Torch(problem, module.to(**place), xs.requires_grad_(), dys)

    def forward(self) -> Any:
        """The outputs, nothing kept for a backward pass."""
        torch = importlib.import_module("torch")
        with torch.no_grad():
            return self._wait(self.module(self.xs)[0])

    def step(self) -> Any:
        """Outputs, and the gradients of weights and inputs."""
        torch = importlib.import_module("torch")
        ys = self.module(self.xs)[0]
        leaves = [*self.module.parameters(), self.xs]
        return self._wait((ys, torch.autograd.grad(ys, leaves, self.dys)))

    def results(self, outputs: Any) -> Results:
        """What `step` gave, in jaxrnn's layout."""
        ys, (*dweights, dxs) = jax.tree.map(lambda a: a.detach().float().cpu().numpy(), outputs)
        w_ih, w_hh, b_ih, _ = dweights
        dparams = self.problem.params._replace(w_x=w_ih.T, w_h=w_hh.T, b=b_ih)
        return Results(ys, dparams, dxs)

    def _wait(self, outputs: Any) -> Any:
        if self.xs.is_cuda:
            importlib.import_module("torch").cuda.synchronize()
        return outputs
