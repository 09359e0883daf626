"""One step at a time, batch one: jaxrnn's `step` beside PyTorch's cells under inference mode and
Flax's cells.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import flax.linen as nn
import jax
import numpy as np

import jaxrnn
from benchmarks.measure import Call, normal
from benchmarks.plan import CELLS
from benchmarks.sides import drawn
from jaxrnn.core.trees import Tree

STEPS = 200
"""Steps of one call, each of which reads the state that the last one gave."""

Output = TypeVar("Output")


class Stream(NamedTuple, Generic[Output]):
    """One side: how it takes a step, and from where."""

    step: Callable[[Tree, Output], tuple[Tree, Output]]
    start: Tree
    x: Output
    wait: Callable[[Output], object]

    def run(self) -> Output:
        """Take `STEPS` steps, and wait for the last."""
        carry, y = self.step(self.start, self.x)
        self.wait(y)
        for _ in range(STEPS - 1):
            carry, y = self.step(carry, self.x)
            self.wait(y)
        return jax.block_until_ready(y)  # which leaves a tensor of torch as it is


def calls(kind: str, hidden: int) -> dict[str, Call]:
    """For each side, `STEPS` steps of one stream. "awaited": each output is waited for, as one who
    answers at once must; the others hand steps to the device as fast as it takes them. PyTorch
    always waits.

    Raises:
        AssertionError: they don't agree.
    """
    cell = CELLS[kind](hidden)
    params, x = drawn(cell, hidden), normal(1, 1, hidden)
    start = cell.initial_carry(params, x.shape)
    ours = jax.jit(lambda carry, x: jaxrnn.step(cell, params, carry, x))
    flax, variables = _flax(kind, cell, params)
    theirs = jax.jit(lambda carry, x: flax.apply(variables, carry, x))
    flax_start = start[::-1] if kind == "LSTM" else start
    sides: dict[str, Stream[Any]] = {
        "jaxrnn, awaited": Stream(ours, start, x, jax.block_until_ready),
        "jaxrnn": Stream(ours, start, x, lambda y: None),
        "flax, awaited": Stream(theirs, flax_start, x, jax.block_until_ready),
    }
    if importlib.util.find_spec("torch"):
        sides["torch, awaited"] = _torch(kind, cell, params, x)
    outputs = {name: np.asarray(side.run()) for name, side in sides.items()}
    for name, output in outputs.items():
        error = np.abs(output - outputs["jaxrnn"]).max()
        if not error < 1e-5:
            raise AssertionError(
                f"{kind}, {hidden} units: jaxrnn and {name} differ by {error:.1e} after {STEPS} "
                "steps"
            )
    return {name: side.run for name, side in sides.items()}


def _flax(kind: str, cell: Any, params: Tree) -> tuple[nn.RNNCellBase, Tree]:
    module = {"LSTM": nn.OptimizedLSTMCell, "GRU": nn.GRUCell, "Elman": nn.SimpleCell}[kind]
    return module(cell.hidden), jaxrnn.convert.to_flax(cell, params, f"linen.{module.__name__}")


def _torch(kind: str, cell: Any, params: Tree, x: jax.Array) -> Stream[Any]:
    torch = importlib.import_module("torch")
    torch.set_num_threads(os.cpu_count() or 1)
    kinds = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell, "Elman": torch.nn.RNNCell}
    module = kinds[kind](cell.hidden, cell.hidden)
    weights = jaxrnn.convert.to_torch(cell, params, cell_module=True)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    @torch.inference_mode()
    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        carry = module(x, carry)
        return carry, carry[0] if kind == "LSTM" else carry

    zero = torch.zeros(1, cell.hidden)
    start = (zero, zero) if kind == "LSTM" else zero
    return Stream(step, start, torch.from_numpy(np.array(x)), lambda y: None)
