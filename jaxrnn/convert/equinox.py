"""Weights of `equinox.nn.LSTMCell` and `equinox.nn.GRUCell`: modules, or dictionaries of arrays.

Equinox keeps matrices `[gates * hidden, in]`, the transpose of jaxrnn's. Its gates have jaxrnn's
order. Its `bias_n` is jaxrnn's `b_hn`.
"""

from collections.abc import Mapping

from jax import Array

from jaxrnn.cells import GRU, LSTM, GRUParams, LSTMParams
from jaxrnn.convert._arrays import ForeignArray
from jaxrnn.convert._errors import refuse
from jaxrnn.convert._layers import check_cell, own_params
from jaxrnn.convert._weights import Shapes, Weights
from jaxrnn.core.cell import Cell, Params

_NAMES = {"weight_ih": "w_x", "weight_hh": "w_h", "bias": "b", "bias_n": "b_hn"}


def from_equinox(module: Mapping[str, ForeignArray] | object) -> tuple[Cell, Params]:
    """Read a recurrent cell of Equinox.

    Args:
        module: an `eqx.nn.LSTMCell` or `eqx.nn.GRUCell`, or a dictionary of arrays with the names
            of its fields.

    Returns:
        An `LSTM` or `GRU`, and its parameters, in the dtype of the arrays.

    Raises:
        ValueError: a name is missing or unknown, or a shape does not fit. The message names the
            array.
        TypeError: an array is not floating, or it is float64 and JAX's float64 is off.

    >>> import numpy as np, jaxrnn
    >>> arrays = {"weight_ih": np.ones((16, 3), "f"), "weight_hh": np.ones((16, 4), "f")}
    >>> cell, params = jaxrnn.convert.from_equinox(arrays)
    >>> cell == jaxrnn.LSTM(hidden=4, bias=False), params.w_x.shape
    (True, (3, 16))
    """
    fields = {name: getattr(module, name, None) for name in _NAMES}
    given = module if isinstance(module, Mapping) else fields
    present = {name: array for name, array in given.items() if array is not None}
    weights = Weights(present, "from_equinox")
    rows, in_features = weights.sizes("weight_ih", "gates * hidden", "in")
    _, hidden = weights.sizes("weight_hh", "gates * hidden", "hidden")
    if rows not in (3 * hidden, 4 * hidden):
        wanted = "expected 3 or 4 times as many (GRU, LSTM)"
        refuse("from_equinox", f"weight_ih has {rows} rows for {hidden} units, {wanted}")
    gru, bias = rows == 3 * hidden, "bias" in weights
    shapes: Shapes = {"weight_ih": (rows, in_features), "weight_hh": (rows, hidden)}
    if bias:
        shapes |= {"bias": (rows,), "bias_n": (hidden,)} if gru else {"bias": (rows,)}
    arrays = weights.take(shapes)
    w_x, w_h, b = arrays["weight_ih"].T, arrays["weight_hh"].T, arrays.get("bias")
    if gru:
        return GRU(hidden, bias=bias), GRUParams(w_x, w_h, b, arrays.get("bias_n"))
    return LSTM(hidden, bias=bias), LSTMParams(w_x, w_h, b)


def to_equinox(cell: Cell, params: Params) -> dict[str, Array]:
    """Write the arrays of an `eqx.nn.LSTMCell` or `eqx.nn.GRUCell`, by the names of its fields.

    The following puts them into a module with the same sizes and `use_bias=cell.bias`:

        where = lambda module: [getattr(module, name) for name in arrays]
        module = eqx.tree_at(where, module, list(arrays.values()))

    Args:
        cell: an `LSTM` or `GRU`, without further options.
        params: its parameters.

    Returns:
        Arrays in the dtype of the parameters; no biases if the cell has none.

    Raises:
        ValueError: Equinox cannot hold the cell or one of its options. The message names it.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4)
    >>> arrays = jaxrnn.convert.to_equinox(cell, cell.init(jax.random.key(0), in_features=3))
    >>> {name: array.shape for name, array in arrays.items()}
    {'weight_ih': (12, 3), 'weight_hh': (12, 4), 'bias': (12,), 'bias_n': (4,)}
    """
    check_cell("to_equinox", cell, {LSTM: {"bias"}, GRU: {"bias"}}, "equinox.nn")
    own = own_params("to_equinox", cell, params)._asdict()
    return {name: own[field].T for name, field in _NAMES.items() if own.get(field) is not None}
