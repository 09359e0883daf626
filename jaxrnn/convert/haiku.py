"""Weights of Haiku's `LSTM`, `GRU` and `VanillaRNN`, as the dictionary of dictionaries that
`hk.transform` makes.

Haiku keeps kernels `[in, out]`, as jaxrnn does. Its LSTM has one for `[x; h]` with gates in the
order `i g f o`, and adds 1 to the forget gate; its GRU has the order `z r n`, the reset gate before
the product, and a `z` of the opposite sense: `(1 - z) h + z n`."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxrnn.cells import GRU, LSTM, Elman, ElmanParams, GRUParams, LSTMParams
from jaxrnn.convert._common import (
    Weights,
    check_options,
    flatten,
    listed,
    own_params,
    refuse,
    reorder,
    with_bias,
)
from jaxrnn.core.cell import Cell, Params

_MODULES = {Elman: "vanilla_rnn", GRU: "gru", LSTM: "lstm"}
_OPTIONS = {Elman: {"bias", "activation"}, GRU: {"bias", "reset"}, LSTM: {"bias"}}


def from_haiku(
    params: Mapping[str, Mapping[str, Any]], name: str | None = None
) -> tuple[Cell, Params]:
    """Read a recurrent module of Haiku.

    Its kind follows from the names within: a GRU has parameters of its own, an LSTM one linear
    layer, a `VanillaRNN` two.

    Args:
        params: those of the transformed function; other modules in it are not looked at.
        name: the path of the module, such as `"model/~/lstm"`; may be left out if only one module
            has such names.

    Returns:
        An `LSTM`, a `GRU(reset="before")` or an `Elman(activation="relu")`, and its parameters, in
        the dtype of the arrays.

    Raises:
        ValueError: no module, or none but `name`, says which is meant; a name is missing or
            unknown; or a shape is another.
        TypeError: an array is not floating, or is float64 where JAX has no float64.

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
        refuse("from_haiku", f"{name!r} is no LSTM, GRU or VanillaRNN; there are {listed(kinds)}")
    return _READERS[kinds[name]](Weights(flat, "from_haiku", f"{name}/"))


def _recurrent_modules(flat: Mapping[str, Any]) -> dict[str, type[Cell]]:
    """The modules whose parameters have the names of a recurrent one's."""
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
        expected = "expected (in + hidden, 4 * hidden); a VanillaRNN has a linear_1, too"
        raise ValueError(
            f"{weights.named('linear/w')} of an LSTM has shape {(rows, columns)}, {expected}"
        )
    arrays = weights.take({"linear/w": (rows, columns), "linear/b": (columns,)})
    w, b = (reorder(array, "igfo", "ifgo") for array in arrays.values())
    return LSTM(hidden), LSTMParams(w[:-hidden], w[-hidden:], _add_to_forget(b, 1))


def _read_gru(weights: Weights) -> tuple[Cell, Params]:
    in_features, _ = weights.sizes("w_i", "in", "3 * hidden")
    hidden, _ = weights.sizes("w_h", "hidden", "3 * hidden")
    columns = 3 * hidden
    arrays = weights.take(
        {"w_i": (in_features, columns), "w_h": (hidden, columns), "b": (columns,)}
    )
    w_x, w_h, b = (_turn_update(reorder(array, "zrn", "rzn")) for array in arrays.values())
    return GRU(hidden, reset="before"), GRUParams(w_x, w_h, b, b_hn=None)


def _read_vanilla(weights: Weights) -> tuple[Cell, Params]:
    in_features, _ = weights.sizes("linear/w", "in", "hidden")
    hidden, _ = weights.sizes("linear_1/w", "hidden", "hidden")
    shapes = {"linear/w": (in_features, hidden), "linear_1/w": (hidden, hidden)}
    biases = [name for name in ("linear/b", "linear_1/b") if name in weights or name == "linear/b"]
    arrays = weights.take(shapes | dict.fromkeys(biases, (hidden,)))
    w_x, w_h, b, *second = arrays.values()
    if second:
        dtype = jnp.promote_types(b.dtype, second[0].dtype)
        b = b.astype(dtype) + second[0].astype(dtype)
    return Elman(hidden, activation="relu"), ElmanParams(w_x, w_h, b)


_READERS: dict[type[Cell], Any] = {Elman: _read_vanilla, GRU: _read_gru, LSTM: _read_lstm}


def to_haiku(cell: Cell, params: Params, name: str | None = None) -> dict[str, dict[str, Any]]:
    """Write the parameters of Haiku's `LSTM`, `GRU` or `VanillaRNN`.

    `hk.transform(f).apply(to_haiku(cell, params), ...)` takes them; in a larger model,
    `hk.data_structures.merge` joins them with the others.

    Args:
        cell: an `LSTM`, a `GRU(reset="before")` or an `Elman(activation="relu")`, without further
            options.
        params: its parameters.
        name: the path of the module; `"lstm"`, `"gru"` or `"vanilla_rnn"` if left out, as in Haiku.

    Returns:
        Arrays in the dtype of the parameters, by path and name. Haiku's modules always have biases,
        so those of a cell without are zero. The second one of a `VanillaRNN`, which there is unless
        `double_bias=False`, is zero too. An LSTM's forget bias loses the 1 that Haiku adds, which
        rounds its last digit.

    Raises:
        ValueError: Haiku has no such module, or it cannot hold an option of the cell; the message
            says which.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4, reset="before")
    >>> jax.tree.map(lambda array: array.shape, jaxrnn.convert.to_haiku(cell, cell.init(jax.random.key(0), in_features=3)))
    {'gru': {'b': (12,), 'w_h': (4, 12), 'w_i': (3, 12)}}
    """
    if type(cell) not in _MODULES:
        refuse("to_haiku", f"Haiku has no {type(cell).__name__}; it holds one LSTM, GRU or Elman")
    check_options("to_haiku", cell, _OPTIONS[type(cell)], "Haiku")
    if isinstance(cell, Elman) and cell.activation != "relu":
        refuse(
            "to_haiku",
            f"Elman has activation={cell.activation!r}, and Haiku's VanillaRNN computes 'relu'",
        )
    if isinstance(cell, GRU) and cell.reset != "before":
        refuse("to_haiku", f"GRU has reset={cell.reset!r}, and Haiku's computes 'before'")
    name = name or _MODULES[type(cell)]
    _, p = with_bias(cell, own_params("to_haiku", cell, params))
    if isinstance(cell, LSTM):
        w = reorder(jnp.concatenate([p.w_x, p.w_h]), "ifgo", "igfo")
        return {f"{name}/linear": {"w": w, "b": reorder(_add_to_forget(p.b, -1), "ifgo", "igfo")}}
    if isinstance(cell, GRU):
        arrays = {"w_i": p.w_x, "w_h": p.w_h, "b": p.b}
        return {
            name: {key: reorder(_turn_update(array), "rzn", "zrn") for key, array in arrays.items()}
        }
    # minus zero changes no number that it is added to, not even minus zero
    zero = -jnp.zeros_like(p.b)
    return {f"{name}/linear": {"w": p.w_x, "b": p.b}, f"{name}/linear_1": {"w": p.w_h, "b": zero}}


def _add_to_forget(b: Any, number: int) -> Any:
    """A bias in the order i f g o, with a number added to f."""
    hidden = b.size // 4
    return b.at[hidden : 2 * hidden].add(jnp.asarray(number, b.dtype))


def _turn_update(array: Any) -> Any:
    """An array in the order r z n, with z negated: `1 - σ(z) = σ(-z)`."""
    r, z, n = jnp.split(array, 3, axis=-1)
    return jnp.concatenate([r, -z, n], axis=-1)
