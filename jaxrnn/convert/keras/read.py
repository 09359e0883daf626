"""From a layer of Keras to a cell and its parameters."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cells import GRU, LSTM, GRUParams
from jaxrnn.combinators import Bidirectional, Dropout, RecurrentDropout, Stack
from jaxrnn.convert._arrays import ForeignArray, gru_biases, reorder_gates
from jaxrnn.convert._errors import refuse, said_by
from jaxrnn.convert._layers import Plain, PlainParams, is_plain
from jaxrnn.convert._weights import Shapes, Weights
from jaxrnn.convert.keras.config import Version
from jaxrnn.convert.keras.read_config import read_config
from jaxrnn.core.cell import Cell, Params, abstract_params
from jaxrnn.core.check import check_choice


def from_keras(
    config: Mapping[str, object] | Sequence[Mapping[str, object]],
    weights: Sequence[ForeignArray],
    *,
    version: Version = None,
) -> tuple[Cell, Params]:
    """Read a recurrent layer or cell of Keras, or a stack of layers.

    The function takes the results of `keras.layers.serialize(layer)` and `layer.get_weights()`, or
    the JSON and HDF5 of older files. A `CuDNNLSTM` or `CuDNNGRU` of Keras 2 stored its weights in
    another order. The length of the bias tells this, whichever layer the configuration names.

    Initialisers, regularisers and constraints are ignored, because they say only how parameters
    start and are trained. The options of what the layer returns are ignored, too: `jaxrnn.scan`
    returns all outputs, zero where a mask is False, and the final carry.

    Args:
        config: the configuration `{"class_name": ..., "config": {...}}` of a `SimpleRNN`, `LSTM`,
            `GRU`, their `*Cell`, `CuDNNLSTM`, `CuDNNGRU`, an `RNN` of such cells or of
            `StackedRNNCells`, a `ConvLSTM1D`, `ConvLSTM2D` or `ConvLSTM3D` whose channels come
            last, or a `Bidirectional` of such layers. Or a list of configurations, the bottom layer
            first.
        weights: the arrays of the layer, in Keras' order; for several layers, one after the other.
        version: the version of Keras that wrote the configuration. It is needed for
            `"hard_sigmoid"` and for dropout, if the configuration does not tell it.

    Returns:
        An `Elman`, `LSTM`, `GRU` or `ConvLSTM`, within a `RecurrentDropout`, `Dropout`, `Stack` or
        `Bidirectional`; and its parameters, in the dtype of the arrays.

    Raises:
        ValueError: a class, a key or its value is unknown or has no counterpart, a key is missing,
            or a shape does not fit. The message names it.
        TypeError: `weights` is not a list, an array is not floating, or it is float64 and JAX's
            float64 is off.

    >>> import numpy as np, jaxrnn
    >>> options = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": False}
    >>> config = {"class_name": "LSTM", "config": {"units": 4, **options}}
    >>> weights = [np.ones((3, 16), np.float32), np.ones((4, 16), np.float32)]
    >>> cell, params = jaxrnn.convert.from_keras(config, weights)
    >>> cell == jaxrnn.LSTM(hidden=4, bias=False), params.w_x.shape
    (True, (3, 16))
    """
    check_choice(from_keras, "version", version, (2, 3, None))
    arrays = _listed_weights(weights)
    with said_by("from_keras"):
        cell = _read_configs(config, version)
        cells = _plain_cells(cell)
        space = ["kernel"] * (cells[0].feature_axes - 1)
        in_features = arrays.sizes("weights[0]", *space, "in", "columns")[-2]
        made = abstract_params(cell, in_features)
    forms, structure = jax.tree.flatten(made, is_leaf=is_plain)
    layers = [*zip(cells, forms, strict=True)]
    names = (f"weights[{k}]" for k in itertools.count())
    shapes = [_shapes(layer, form, arrays, names) for layer, form in layers]
    taken = arrays.take({name: shape for each in shapes for name, shape in each.items()})
    params = [
        _read_arrays(layer, form, *(taken[name] for name in each))
        for (layer, form), each in zip(layers, shapes, strict=True)
    ]
    return cell, jax.tree.unflatten(structure, params)


def _listed_weights(weights: object) -> Weights:
    """Return the arrays of a list, by names that tell their position: `weights[0]`, and so on."""
    if not isinstance(weights, list | tuple):
        wanted = "expected a list of arrays as layer.get_weights() gives"
        raise TypeError(f"from_keras: weights is a {type(weights).__name__}, {wanted}")
    return Weights({f"weights[{k}]": array for k, array in enumerate(weights)}, "from_keras")


def _read_configs(config: object, version: Version) -> Cell:
    """Return the cell of one configuration, or the `Stack` of several."""
    if not config:
        refuse("from_keras", f"config is {config!r}, expected a layer or a list of them")
    if isinstance(config, list | tuple):
        return Stack([read_config(layer, version) for layer in config])
    return read_config(config, version)


def _plain_cells(cell: Cell) -> list[Plain]:
    """Return the plain cells within a cell, in the order of their weights, in Keras and jaxrnn."""
    if isinstance(cell, Dropout | RecurrentDropout):
        return _plain_cells(cell.cell)
    if isinstance(cell, Stack | Bidirectional):
        parts = cell.cells if isinstance(cell, Stack) else (cell.forward, cell.backward)
        return [plain for part in parts for plain in _plain_cells(part)]
    assert isinstance(cell, Plain)  # `read_config` makes no other
    return [cell]


def _shapes(cell: Plain, form: PlainParams, weights: Weights, names: Iterator[str]) -> Shapes:
    """Return the expected shapes of kernel, recurrent kernel and bias, by the next three names.

    The shape of the bias itself tells whether a cuDNN layer stored it.
    """
    shapes: Shapes = {next(names): form.w_x.shape, next(names): form.w_h.shape}
    if not cell.bias:
        return shapes
    name, columns = next(names), form.w_h.shape[-1]
    two_rows = isinstance(form, GRUParams) and form.b_hn is not None
    wanted = (2, columns) if two_rows else (columns,)
    stored_by_cudnn = type(cell) in (LSTM, GRU) and weights.shape(name) == (2 * columns,)
    if stored_by_cudnn and cell != type(cell)(cell.hidden):
        given = f"{name} has shape {(2 * columns,)}, expected {wanted}"
        refuse("from_keras", f"{given}: no CuDNN{type(cell).__name__} is {cell}")
    shapes[name] = (2 * columns,) if stored_by_cudnn else wanted
    return shapes


def _read_arrays(
    cell: Plain, form: PlainParams, w_x: Array, w_h: Array, b: Array | None = None
) -> Params:
    """Return the parameters of a plain cell from its arrays in Keras."""
    columns = w_h.shape[-1]
    if b is not None and b.shape == (2 * columns,):
        w_x, w_h = _from_cudnn(w_x, cell.hidden), _from_cudnn(w_h, cell.hidden)
    # There is no bias, one bias, or one of the input and one of the state.
    rows = [] if b is None else [*b.reshape(-1, columns)]
    if not isinstance(cell, GRU):
        return form._replace(w_x=w_x, w_h=w_h, b=sum(rows[1:], rows[0]) if rows else None)
    w_x, w_h, *rows = (reorder_gates(array, "zrn", "rzn") for array in (w_x, w_h, *rows))
    b, b_hn = gru_biases(*rows) if len(rows) == 2 else (rows[0] if rows else None, None)
    return GRUParams(w_x, w_h, b, b_hn)


def _from_cudnn(kernel: Array, hidden: int) -> Array:
    """Return a kernel in Keras' layout from one of a cuDNN layer of Keras 2.

    cuDNN's weights are `[hidden, in]` for each gate. Keras 2 stored their numbers in this order, in
    an array of the shape that Keras has.
    """
    gates = jnp.split(kernel, kernel.shape[1] // hidden, axis=1)
    return jnp.concatenate([gate.reshape(hidden, -1).T for gate in gates], axis=1)
