"""Recurrent layers of Keras, as configurations and lists of arrays: `SimpleRNN`, `LSTM`, `GRU`,
their cells, stacks, `Bidirectional`.

Keras keeps matrices `[in, gates * hidden]`, as jaxrnn does; its gates are i f c o, which is
jaxrnn's order, and z r h, which is not. A GRU with `reset_after` has a bias of two rows: the
input's and the state's."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cells import GRU, Elman, ElmanParams, GRUParams, LSTMParams
from jaxrnn.combinators import Bidirectional, Dropout, RecurrentDropout, Stack
from jaxrnn.convert._common import (
    Weights,
    gru_biases,
    own_params,
    recurrent_bias,
    refuse,
    reorder,
    said_by,
    to_numpy,
)
from jaxrnn.convert._keras_config import Version, read_config, write_layer
from jaxrnn.core.cell import Cell, Params
from jaxrnn.core.check import check_choice


def from_keras(
    config: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    weights: Sequence[Any],
    *,
    version: Version = None,
) -> tuple[Cell, Params]:
    """Read a recurrent layer or cell of Keras, or layers that stand on each other.

    It takes what `keras.layers.serialize(layer)` and `layer.get_weights()` give, and what older
    files hold as JSON and HDF5. Weights that a `CuDNNLSTM` or `CuDNNGRU` of Keras 2 stored are
    known by the length of their bias, whichever layer they are meant for.

    How parameters start and are trained is not read: initialisers, regularisers, constraints. Nor
    is what the layer returns: `jaxrnn.scan` gives all outputs, zero where a mask is False, and the
    final carry.

    Args:
        config: of a `SimpleRNN`, `LSTM`, `GRU`, their `*Cell`, `CuDNNLSTM`, `CuDNNGRU`, an `RNN` of
            such cells or of `StackedRNNCells`, or a `Bidirectional` of such layers: `{"class_name":
            ..., "config": {...}}`. Or a list of them, bottom first.
        weights: the layer's arrays, in Keras' order; of several layers, one after the other.
        version: of the Keras that wrote the configuration, where it does not show but matters: for
            `"hard_sigmoid"`, and for dropout.

    Returns:
        An `Elman`, `LSTM` or `GRU`, within a `RecurrentDropout`, `Dropout`, `Stack` or
        `Bidirectional`; and its parameters, in the dtype of the arrays.

    Raises:
        ValueError: a class, a key or its value is unknown or has no counterpart, a key is missing,
            or an array has another shape; the message names it.
        TypeError: `weights` is no list, or an array is not floating, or is float64 where JAX has no
            float64.

    >>> import numpy as np, jaxrnn
    >>> config = {"units": 4, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": False}
    >>> weights = [np.ones((3, 16), np.float32), np.ones((4, 16), np.float32)]
    >>> cell, params = jaxrnn.convert.from_keras({"class_name": "LSTM", "config": config}, weights)
    >>> cell == jaxrnn.LSTM(hidden=4, bias=False), params.w_x.shape
    (True, (3, 16))
    """
    check_choice(from_keras, "version", version, (2, 3, None))
    if not isinstance(weights, list | tuple):
        given = type(weights).__name__
        raise TypeError(
            f"from_keras: weights is a {given}, expected a list of arrays as layer.get_weights() "
            "gives"
        )
    named = {f"weights[{k}]": array for k, array in enumerate(weights)}
    arrays = Weights(named, "from_keras")
    with said_by("from_keras"):
        if not config:
            refuse("from_keras", f"config is {config!r}, expected a layer or a list of them")
        several = isinstance(config, list | tuple)
        cell = (
            Stack([read_config(layer, version) for layer in config])
            if several
            else read_config(config, version)
        )
        in_features, _ = arrays.sizes("weights[0]", "in", "columns")
        made = jax.eval_shape(lambda: cell.init(jax.random.key(0), in_features))
    forms, structure = jax.tree.flatten(made, is_leaf=_is_layer)
    layers = [*zip(_layers(cell), forms, strict=True)]
    names = (f"weights[{k}]" for k in itertools.count())
    shapes = [_shapes(layer, form, arrays, names) for layer, form in layers]
    taken = arrays.take({name: shape for each in shapes for name, shape in each.items()})
    params = [
        _read_arrays(layer, form, *(taken[name] for name in each))
        for (layer, form), each in zip(layers, shapes, strict=True)
    ]
    return cell, jax.tree.unflatten(structure, params)


def _is_layer(params: Any) -> bool:
    return isinstance(params, ElmanParams | LSTMParams | GRUParams)


def _layers(cell: Any) -> list[Any]:
    """The cells whose parameters these are, in the order in which Keras and jaxrnn keep them."""
    if isinstance(cell, Dropout | RecurrentDropout):
        return _layers(cell.cell)
    if isinstance(cell, Stack | Bidirectional):
        parts = cell.cells if isinstance(cell, Stack) else (cell.forward, cell.backward)
        return [layer for part in parts for layer in _layers(part)]
    return [cell]


def _shapes(
    cell: Any, form: Any, weights: Weights, names: Iterator[str]
) -> dict[str, tuple[int, ...]]:
    """Kernel, recurrent kernel and bias of an `Elman`, `LSTM` or `GRU`."""
    shapes: dict[str, tuple[int, ...]] = {}
    shapes |= {next(names): form.w_x.shape, next(names): form.w_h.shape}
    if not cell.bias:
        return shapes
    name, columns = next(names), form.w_h.shape[1]
    wanted: tuple[int, ...] = (columns,) if getattr(form, "b_hn", None) is None else (2, columns)
    stored_by_cudnn = not isinstance(cell, Elman) and weights.shape(name) == (2 * columns,)
    if stored_by_cudnn and cell != type(cell)(cell.hidden):
        given = f"{name} has shape {(2 * columns,)}, expected {wanted}"
        refuse("from_keras", f"{given}: no CuDNN{type(cell).__name__} is {cell}")
    shapes[name] = (2 * columns,) if stored_by_cudnn else wanted
    return shapes


def _read_arrays(
    cell: Any, form: Any, w_x: jax.Array, w_h: jax.Array, b: jax.Array | None = None
) -> Params:
    """The parameters of an `Elman`, `LSTM` or `GRU`."""
    columns = w_h.shape[1]
    if b is not None and b.shape == (2 * columns,):  # as cuDNN has them
        w_x, w_h = _from_cudnn(w_x, cell.hidden), _from_cudnn(w_h, cell.hidden)
    # none, one, or the input's and the state's
    rows = () if b is None else (*b.reshape(-1, columns),)
    if not isinstance(cell, GRU):
        return form._replace(w_x=w_x, w_h=w_h, b=sum(rows[1:], rows[0]) if rows else None)
    w_x, w_h, *rows = (reorder(array, "zrn", "rzn") for array in (w_x, w_h, *rows))
    if len(rows) == 2:
        return GRUParams(w_x, w_h, *gru_biases(*rows))
    return GRUParams(w_x, w_h, rows[0] if rows else None, None)


def _from_cudnn(kernel: jax.Array, hidden: int) -> jax.Array:
    """Keras 2 handed cuDNN its weights as they lie in memory: each gate's as `[hidden, in]`, within
    a kernel of Keras' shape.
    """
    gates = jnp.split(kernel, kernel.shape[1] // hidden, axis=1)
    return jnp.concatenate([gate.reshape(hidden, -1).T for gate in gates], axis=1)


def to_keras(
    cell: Cell, params: Params, *, return_state: bool = False
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Write a recurrent layer of Keras 3.

        config, weights = to_keras(cell, params)
        layer = keras.layers.deserialize(config)
        layer.build((None, None, in_features))
        layer.set_weights(weights)

    The layer returns all outputs, zero where the mask is False, and has the dtype of the
    parameters.

    Args:
        cell: an `Elman`, `LSTM` or `GRU`, a `Stack` of such, or a `Bidirectional` of them or of
            stacks; each of the three may be in a `Dropout`, or in a `RecurrentDropout` with as many
            draws as gates, that are locked.
        params: its parameters.
        return_state: whether the layer returns the final states, too.

    Returns:
        The serialised layer, and its arrays, which stay of JAX where they are traced.

    Raises:
        ValueError: Keras cannot hold the cell, or an option of it; the message says which, and why.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4)
    >>> config, weights = jaxrnn.convert.to_keras(cell, cell.init(jax.random.key(0), in_features=3))
    >>> config["class_name"], config["config"]["reset_after"], [array.shape for array in weights]
    ('GRU', True, [(3, 12), (4, 12), (2, 12)])
    """
    dtype = str(jnp.result_type(*(jax.tree.leaves(params) or ["float32"])))
    config = write_layer(cell, dtype, return_state)
    layers = jax.tree.leaves(own_params("to_keras", cell, params), is_leaf=_is_layer)
    return config, [array for layer in layers for array in _write_arrays(layer)]


def _write_arrays(params: Any) -> list[np.ndarray]:
    """Kernel, recurrent kernel and bias."""
    arrays = [params.w_x, params.w_h]
    if params.b is not None:
        b_hn = getattr(params, "b_hn", None)
        arrays.append(
            params.b if b_hn is None else jnp.stack([params.b, recurrent_bias(params.b, b_hn)])
        )
    return [
        to_numpy(reorder(a, "rzn", "zrn") if isinstance(params, GRUParams) else a) for a in arrays
    ]
