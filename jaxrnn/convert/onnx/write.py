"""From a cell and its parameters to an ONNX model."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cells import GRU, LSTM, LSTMParams
from jaxrnn.combinators import LearnedCarry, LearnedCarryParams, Reversed
from jaxrnn.convert._arrays import is_traced, no_bias, reorder_gates, to_numpy
from jaxrnn.convert._errors import refuse
from jaxrnn.convert._layers import (
    Layer,
    Plain,
    PlainParams,
    check_alike,
    check_cell,
    check_one_dtype,
    own_layers,
)
from jaxrnn.convert.onnx.activations import (
    Precision,
    precision_of,
    write_activations,
    write_number,
)
from jaxrnn.convert.onnx.model import LayerNode, build_model
from jaxrnn.convert.onnx.operators import BY_CELL, Operator, check_coupling
from jaxrnn.convert.onnx.schema import Attributes
from jaxrnn.core.cell import Cell, Params
from jaxrnn.storage import write_whole

if TYPE_CHECKING:
    from onnx import ModelProto

_OPTIONS = {kind: {*each.options, *each.activations} for kind, each in BY_CELL.items()}


def to_onnx(
    cell: Cell,
    params: Params,
    path: str | os.PathLike[str] | None = None,
    *,
    lengths: bool = False,
    carry: bool = False,
) -> "ModelProto":
    """Write an ONNX model (opset 22) of RNN, LSTM and GRU nodes, for ONNX Runtime and others.

    The sizes of time and batch are symbolic. The model takes

        xs              [time, batch, in]
        lengths         [batch] int32, the valid steps of each sequence; with `lengths=True`
        initial_h_k     [directions, batch, hidden] for each layer k; with `carry=True`
        initial_c_k     the same, for an LSTM

    and returns

        ys              [time, batch, out], zero beyond the lengths
        h_k, c_k        the final states, as `initial_h_k` and `initial_c_k`

    as `jaxrnn.scan(cell, params, xs, carry, lengths=lengths)` does. To run a sequence in pieces,
    pass `h_0` as `initial_h_0` of the next piece, and so on.

    Args:
        cell: an `Elman`, `LSTM` or `GRU`, or a `LearnedCarry` of one; a `Reversed` or a
            concatenating `Bidirectional` of such; or a `Stack` of all these. The dropout of a
            `Stack` acts in training only and is not written.
        params: its parameters, all of one dtype, which is that of the model.
        path: the file to write, if any. An existing file is replaced once the new one is complete.
        lengths: whether the model takes lengths.
        carry: whether the model takes the initial states; otherwise they are zero, or those of a
            `LearnedCarry`.

    Returns:
        The `onnx.ModelProto`.

    Raises:
        ValueError: no operator can hold the cell, or one of its options or activations; or the
            parameters do not fit the cell. The message says which.
        TypeError: a parameter is not floating, or traced.
        ImportError: the package `onnx` is not installed.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.LSTM(4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> model = jaxrnn.convert.to_onnx(cell, params, lengths=True)
    >>> [i.name for i in model.graph.input], [o.name for o in model.graph.output]
    (['xs', 'lengths'], ['ys', 'h_0', 'c_0'])
    """
    layers = own_layers("to_onnx", cell, params, _check_layers)
    leaves = jax.tree.leaves([p for layer in layers for _, p in layer])
    if any(map(is_traced, leaves)):
        reason = "a model holds their numbers; call it outside of jit, grad and vmap"
        raise TypeError(f"to_onnx: params are traced, but {reason}")
    check_one_dtype("to_onnx", leaves, "a node of ONNX")
    if carry and any(_starts(layer) for layer in layers):
        reason = "a LearnedCarry has its own initial state, but carry=True makes it an input"
        refuse("to_onnx", f"{reason}; leave out one of them")
    precision = precision_of(leaves[0].dtype)
    model = build_model([_write_node(layer, precision) for layer in layers], lengths, carry)
    if path is not None:
        write_whole(Path(path), model.SerializeToString())
    return model


def _check_layers(layers: list[Layer]) -> None:
    """Refuse layers that a node of ONNX cannot hold."""
    for layer in layers:
        directions = _directions(layer)[1]
        for cell, _ in directions:
            where = ", in one LearnedCarry, in one Reversed or Bidirectional"
            check_cell("to_onnx", cell, _OPTIONS, "a node of ONNX", where)
            check_coupling("to_onnx", cell)
        law = "both directions of a node have the same operator and options"
        check_alike("to_onnx", [directions], BY_CELL[type(directions[0][0])].options, law)


def _directions(layer: Layer) -> tuple[str, list[tuple[Plain, PlainParams]]]:
    """Return ONNX's name of the direction of a layer, and its cells without combinators.

    The cells are plain, unless `_check_layers` refuses them.
    """
    direction, plain = "forward", [*layer]
    if len(layer) == 2:
        direction = "bidirectional"
    elif isinstance(cell := layer[0][0], Reversed):
        direction, plain = "reverse", [(cell.cell, layer[0][1])]
    for k, (cell, params) in enumerate(plain):
        if isinstance(cell, LearnedCarry) and isinstance(params, LearnedCarryParams):
            plain[k] = cell.cell, params.inner
    return direction, cast(list[tuple[Plain, PlainParams]], plain)


def _starts(layer: Layer) -> dict[str, np.ndarray]:
    """Return the initial states of a layer for one row, `[directions, 1, hidden]`.

    There are none if no direction has a `LearnedCarry`.
    """
    if not any(isinstance(params, LearnedCarryParams) for _, params in layer):
        return {}

    def states(params: Params) -> Sequence[Array]:
        if isinstance(params, LearnedCarryParams):
            return jax.tree.leaves(params.start)
        zero = jnp.zeros(params.w_h.shape[0], params.w_h.dtype)
        return [zero] * (2 if isinstance(params, LSTMParams) else 1)

    columns = zip(*(states(params) for _, params in layer), strict=True)
    stacked = [np.stack([*map(to_numpy, column)])[:, None] for column in columns]
    return dict(zip(("initial_h", "initial_c"), stacked, strict=False))


def _write_node(layer: Layer, precision: Precision) -> LayerNode:
    """Return the node of a layer."""
    direction, directions = _directions(layer)
    first = directions[0][0]
    operator = BY_CELL[type(first)]
    attributes: Attributes = {"direction": direction}
    if first.clip is not None:
        name = f"clip of {operator.cell.__name__}"
        attributes["clip"] = write_number(name, first.clip, precision)
    if isinstance(first, GRU):
        attributes["linear_before_reset"] = int(first.reset_gate == "after")
    if isinstance(first, LSTM):
        attributes["input_forget"] = int(first.coupled)
    functions = write_activations([cell for cell, _ in directions], operator.activations, precision)
    ways = [_write_params(operator, cell, params) for cell, params in directions]
    weights = {key: np.stack([arrays[key] for arrays in ways]) for key in ways[0]}
    return LayerNode(operator.name, {**attributes, **functions}, weights, _starts(layer))


def _write_params(operator: Operator, cell: Plain, params: PlainParams) -> dict[str, np.ndarray]:
    """Return the weights of one direction, by the names of the operator's inputs."""
    held = {name: to_numpy(a) for name, a in params._asdict().items() if a is not None}
    coupled = isinstance(cell, LSTM) and cell.coupled

    def ordered(array: np.ndarray) -> np.ndarray:
        if coupled:
            # ONNX ignores the weights of f. With these, a runtime without coupling computes the
            # same.
            f, g, o = np.split(array, 3, axis=-1)
            return np.concatenate([-f, o, f, g], axis=-1)
        return reorder_gates(array, operator.ours, operator.theirs)

    arrays = {"W": ordered(held["w_x"]).T, "R": ordered(held["w_h"]).T}
    if cell.bias:
        b = ordered(held["b"])
        b_h = no_bias(b)
        if isinstance(cell, GRU) and cell.reset_gate == "after":
            b_h[-cell.hidden :] = held["b_hn"]
        arrays["B"] = np.concatenate([b, b_h])
    if isinstance(cell, LSTM) and cell.peepholes:
        p_i = -held["p_f"] if coupled else held["p_i"]
        arrays["P"] = np.concatenate([p_i, held["p_o"], held["p_f"]])
    return arrays
