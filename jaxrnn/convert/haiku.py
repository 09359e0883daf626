"""Weights of Haiku's `LSTM`, `GRU` and `VanillaRNN`: the dictionaries that `hk.transform` makes.

Haiku keeps kernels `[in, out]`, as jaxrnn does. Its LSTM has one kernel for `[x; h]`, with the
gates in the order `i g f o`, and adds 1 to the forget gate. Its GRU has the gates in the order
`z r n`, and the reset gate before the product. Its `z` has the opposite sense: `(1 - z) h + z n`.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMParams
from jaxrnn.convert._arrays import ForeignArray, add_to_forget, no_bias, reorder_gates
from jaxrnn.convert._errors import listed, refuse
from jaxrnn.convert._layers import check_cell, own_params, with_bias
from jaxrnn.convert._weights import Weights, flatten
from jaxrnn.core.cell import Cell, Params

_MODULES: dict[type[Cell], str] = {Elman: "vanilla_rnn", GRU: "gru", LSTM: "lstm"}
_OPTIONS = {Elman: {"bias", "activation"}, LSTM: {"bias"}, GRU: {"bias", "reset_gate"}}


def from_haiku(
    params: Mapping[str, Mapping[str, ForeignArray]], name: str | None = None
) -> tuple[Cell, Params]:
    """Read a recurrent module of Haiku.

    Its names tell its kind: a GRU has parameters of its own, an LSTM has one linear layer, a
    `VanillaRNN` has two.

    Args:
        params: the parameters of the transformed function. Other modules in it are ignored.
        name: the path of the module, such as `"model/~/lstm"`. It may be left out if only one
            module has such names.

    Returns:
        An `LSTM`, a `GRU(reset_gate="before")` or an `Elman(activation="relu")`, and its
        parameters, in the dtype of the arrays.

    Raises:
        ValueError: there is no recurrent module, or there are several and no `name`; the named one
            is not recurrent; an array is missing or unknown; or a shape does not fit.
        TypeError: an array is not floating, or it is float64 and JAX's float64 is off.

    >>> import numpy as np, jaxrnn
    >>> params = {"lstm/linear": {"w": np.ones((7, 16), np.float32), "b": np.ones(16, np.float32)}}
    >>> cell, params = jaxrnn.convert.from_haiku(params)
    >>> cell == jaxrnn.LSTM(hidden=4), params.w_x.shape
    (True, (3, 16))
    """
    flat = flatten("from_haiku", params)
    kinds = _recurrent_modules(flat)
    if name is None:
        if len(kinds) != 1:
            found = f"{len(kinds)} modules that may be meant: {listed(kinds)}"
            hint = "" if kinds else f", among the arrays {listed(flat)}"
            refuse("from_haiku", f"name is left out, and there are {found}{hint}")
        (name,) = kinds
    elif not isinstance(name, str) or name not in kinds:
        refuse(
            "from_haiku", f"{name!r} is not an LSTM, GRU or VanillaRNN; there are {listed(kinds)}"
        )
    return _READERS[kinds[name]](Weights(flat, "from_haiku", f"{name}/"))


def _recurrent_modules(flat: Mapping[str, object]) -> dict[str, type[Cell]]:
    """Return the modules that hold a recurrent one's names, each with the class of its cell."""
    found: dict[str, type[Cell]] = {}
    for path in flat:
        if path.endswith("/w_h"):
            found[path.removesuffix("/w_h")] = GRU
        elif path.endswith("/linear/w"):
            module = path.removesuffix("/linear/w")
            two = any(name.startswith(f"{module}/linear_1/") for name in flat)
            found[module] = Elman if two else LSTM
    return found


def _read_lstm(weights: Weights) -> tuple[Cell, Params]:
    rows, columns = weights.sizes("linear/w", "in + hidden", "4 * hidden")
    hidden = columns // 4
    if columns % 4 or rows <= hidden:
        given = f"{weights.named('linear/w')} of an LSTM has shape {(rows, columns)}"
        wanted = "expected (in + hidden, 4 * hidden); a VanillaRNN has a linear_1, too"
        raise ValueError(f"{given}, {wanted}")
    arrays = weights.take({"linear/w": (rows, columns), "linear/b": (columns,)})
    w, b = (reorder_gates(array, "igfo", "ifgo") for array in arrays.values())
    return LSTM(hidden), LSTMParams(w[:-hidden], w[-hidden:], add_to_forget(b, 1))


def _read_gru(weights: Weights) -> tuple[Cell, Params]:
    in_features, _ = weights.sizes("w_i", "in", "3 * hidden")
    hidden, _ = weights.sizes("w_h", "hidden", "3 * hidden")
    columns = 3 * hidden
    shapes = {"w_i": (in_features, columns), "w_h": (hidden, columns), "b": (columns,)}
    arrays = weights.take(shapes).values()
    w_x, w_h, b = (_turn_update(reorder_gates(array, "zrn", "rzn")) for array in arrays)
    return GRU(hidden, reset_gate="before"), GRUParams(w_x, w_h, b, b_hn=None)


def _read_vanilla(weights: Weights) -> tuple[Cell, Params]:
    in_features, _ = weights.sizes("linear/w", "in", "hidden")
    hidden, _ = weights.sizes("linear_1/w", "hidden", "hidden")
    shapes = {"linear/w": (in_features, hidden), "linear_1/w": (hidden, hidden)}
    biases = ["linear/b", *({"linear_1/b"} if "linear_1/b" in weights else ())]
    arrays = weights.take(shapes | dict.fromkeys(biases, (hidden,)))
    w_x, w_h, b, *second = arrays.values()
    if second:
        dtype = jnp.promote_types(b.dtype, second[0].dtype)
        b = b.astype(dtype) + second[0].astype(dtype)
    return Elman(hidden, activation="relu"), ElmanParams(w_x, w_h, b)


_READERS = {Elman: _read_vanilla, GRU: _read_gru, LSTM: _read_lstm}


def to_haiku(cell: Cell, params: Params, name: str | None = None) -> dict[str, dict[str, Array]]:
    """Write the parameters of Haiku's `LSTM`, `GRU` or `VanillaRNN`.

    `hk.transform(f).apply(to_haiku(cell, params), ...)` takes them. In a larger model,
    `hk.data_structures.merge` joins them with the others.

    Args:
        cell: an `LSTM`, a `GRU(reset_gate="before")` or an `Elman(activation="relu")`, without
            further options.
        params: its parameters.
        name: the path of the module; by default Haiku's: `"lstm"`, `"gru"` or `"vanilla_rnn"`.

    Returns:
        Arrays in the dtype of the parameters, by path and name. Haiku's modules always have biases;
        they are zero if the cell has none. The second bias of a `VanillaRNN` is zero, too; a module
        made with `double_bias=False` has none. 1 is subtracted from the forget bias of an LSTM,
        because Haiku adds it. This rounds the last digit.

    Raises:
        ValueError: Haiku cannot hold the cell or one of its options. The message names it.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4, reset_gate="before")
    >>> params = jaxrnn.convert.to_haiku(cell, cell.init(jax.random.key(0), in_features=3))
    >>> jax.tree.map(lambda array: array.shape, params)
    {'gru': {'b': (12,), 'w_h': (4, 12), 'w_i': (3, 12)}}
    """
    check_cell("to_haiku", cell, _OPTIONS, "Haiku")
    if isinstance(cell, Elman) and cell.activation != "relu":
        given = f"Elman has activation={cell.activation!r}"
        refuse("to_haiku", f"{given}, and Haiku's VanillaRNN computes 'relu'")
    if isinstance(cell, GRU) and cell.reset_gate != "before":
        refuse("to_haiku", f"GRU has reset_gate={cell.reset_gate!r}, and Haiku's computes 'before'")
    name = name or _MODULES[type(cell)]
    _, p = with_bias(cell, own_params("to_haiku", cell, params))
    if isinstance(cell, LSTM):
        w, b = jnp.concatenate([p.w_x, p.w_h]), add_to_forget(p.b, -1)
        return {
            f"{name}/linear": {
                "w": reorder_gates(w, "ifgo", "igfo"),
                "b": reorder_gates(b, "ifgo", "igfo"),
            }
        }
    if isinstance(cell, GRU):
        arrays = {"w_i": p.w_x, "w_h": p.w_h, "b": p.b}
        return {name: {k: reorder_gates(_turn_update(a), "rzn", "zrn") for k, a in arrays.items()}}
    second = {"w": p.w_h, "b": no_bias(p.b)}
    return {f"{name}/linear": {"w": p.w_x, "b": p.b}, f"{name}/linear_1": second}


def _turn_update(array: Array) -> Array:
    """Negate z in an array in the order r z n: `1 - σ(z) = σ(-z)`."""
    r, z, n = jnp.split(array, 3, axis=-1)
    return jnp.concatenate([r, -z, n], axis=-1)
