"""One step at a time, batch one: jaxrnn's `step` beside PyTorch's cells under inference mode and
Flax's cells.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

import jaxrnn
from benchmarks.measure import Call
from benchmarks.plan import CELLS

STEPS = 200
"""Steps of one call, each of which reads the state that the last one gave."""

Step = Callable[[Any, Any], tuple[Any, Any]]


def calls(kind: str, hidden: int) -> dict[str, Call]:
    """For each side, `STEPS` steps of one stream. "awaited": each output is waited for, as one who
    answers at once must; the others hand steps to the device as fast as it takes them. PyTorch
    always waits.

    Raises:
        AssertionError: they don't agree.
    """
    cell = CELLS[kind](hidden)
    params = cell.init(jax.random.key(0), hidden)
    x = jax.random.normal(jax.random.key(1), (1, hidden))
    start = cell.initial_carry(params, x.shape)
    ours = jax.jit(lambda carry, x: jaxrnn.step(cell, params, carry, x))
    flax, variables = _flax(kind, cell, params)
    theirs = jax.jit(lambda carry, x: flax.apply(variables, carry, x))
    sides: dict[str, tuple[Step, Any, Any, Callable[[Any], Any]]] = {
        "jaxrnn, awaited": (ours, start, x, jax.block_until_ready),
        "jaxrnn": (ours, start, x, lambda y: y),
        "flax, awaited": (
            theirs,
            start[::-1] if kind == "LSTM" else start,
            x,
            jax.block_until_ready,
        ),
    }
    if importlib.util.find_spec("torch"):
        sides["torch, awaited"] = _torch(kind, cell, params, x)
    outputs = {name: np.asarray(_run(*side)()) for name, side in sides.items()}
    for name, output in outputs.items():
        error = np.abs(output - outputs["jaxrnn"]).max()
        if not error < 1e-5:
            raise AssertionError(
                f"{kind}, {hidden} units: jaxrnn and {name} differ by {error:.1e} after {STEPS} "
                "steps"
            )
    return {name: _run(*side) for name, side in sides.items()}


def _run(step: Step, start: Any, x: Any, wait: Callable[[Any], Any]) -> Call:
    def run() -> Any:
        carry, y = start, None
        for _ in range(STEPS):
            carry, y = step(carry, x)
            wait(y)
        return jax.block_until_ready(y)  # which leaves a tensor of torch as it is

    return run


def _flax(kind: str, cell: Any, params: Any) -> tuple[Any, Any]:
    module = {"LSTM": nn.OptimizedLSTMCell, "GRU": nn.GRUCell, "Elman": nn.SimpleCell}[kind]
    return module(cell.hidden), jaxrnn.convert.to_flax(cell, params, f"linen.{module.__name__}")


def _torch(
    kind: str, cell: Any, params: Any, x: jax.Array
) -> tuple[Step, Any, Any, Callable[[Any], Any]]:
    torch = importlib.import_module("torch")
    torch.set_num_threads(os.cpu_count() or 1)
    module = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell, "Elman": torch.nn.RNNCell}[kind](
        cell.hidden, cell.hidden
    )
    weights = jaxrnn.convert.to_torch(cell, params, cell_module=True)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    @torch.inference_mode()
    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        carry = module(x, carry)
        return carry, carry[0] if kind == "LSTM" else carry

    zero = torch.zeros(1, cell.hidden)
    return (
        step,
        (zero, zero) if kind == "LSTM" else zero,
        torch.from_numpy(np.array(x)),
        lambda y: y,
    )
