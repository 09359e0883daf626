"""Weights of Flax's recurrent cells, linen's and nnx's, as nested dictionaries of arrays.

Flax keeps kernels `[in, out]`, as jaxrnn does, in dense layers: one for each gate, or one for all
of them side by side. Either the input's or the state's layers have the bias; the candidate of a GRU
and of an MGU has a second one, except in nnx."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.activations import Activation
from jaxrnn.cells import GRU, LSTM, MGU, Elman, ElmanParams, GRUParams, LSTMParams, MGUParams
from jaxrnn.combinators import Bidirectional, BidirectionalParams, Stack
from jaxrnn.convert._common import (
    Weights,
    check_options,
    flatten,
    is_traced,
    own_params,
    refuse,
    said_by,
    with_bias,
)
from jaxrnn.core.cell import Cell, Params

Merge = Literal["concat", "sum", "mean", "product"] | None


class _Layout(NamedTuple):
    """How a class of Flax keeps the parameters of a cell: the dense layers that hold its matrices,
    from left to right.
    """

    cell: Any  # its class in jaxrnn
    x: tuple[str, ...]
    h: tuple[str, ...]
    biased: tuple[str, ...]
    b_hn: str | None = None  # the layer whose bias it is


_X_IFGO, _H_IFGO = ("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho")
_X_RZN, _H_RZN = ("ir", "iz", "in"), ("hr", "hz", "hn")
_X_FN, _H_FN = ("if", "in"), ("hf", "hn")
_X_ALL, _H_ALL = ("dense_i",), ("dense_h",)

_LAYOUTS = {
    "linen.LSTMCell": _Layout(LSTM, _X_IFGO, _H_IFGO, biased=_H_IFGO),
    "linen.OptimizedLSTMCell": _Layout(LSTM, _X_IFGO, _H_IFGO, biased=_H_IFGO),
    "linen.GRUCell": _Layout(GRU, _X_RZN, _H_RZN, biased=_X_RZN, b_hn="hn"),
    "linen.SimpleCell": _Layout(Elman, ("i",), ("h",), biased=("i",)),
    "linen.MGUCell": _Layout(MGU, _X_FN, _H_FN, biased=_X_FN, b_hn="hn"),
    "nnx.LSTMCell": _Layout(LSTM, ("ii", "if_", "ig", "io"), _H_IFGO, biased=_H_IFGO),
    "nnx.OptimizedLSTMCell": _Layout(LSTM, _X_ALL, _H_ALL, biased=_H_ALL),
    "nnx.GRUCell": _Layout(GRU, _X_ALL, _H_ALL, biased=_X_ALL),
    "nnx.SimpleCell": _Layout(Elman, _X_ALL, _H_ALL, biased=_X_ALL),
}

_PARAMS: dict[type[Cell], Any] = {
    Elman: ElmanParams,
    GRU: GRUParams,
    LSTM: LSTMParams,
    MGU: MGUParams,
}
_GATES = {Elman: 1, GRU: 3, LSTM: 4, MGU: 2}
_ACTIVATIONS = {
    Elman: {"activation"},
    GRU: {"gate_activation", "candidate_activation"},
    LSTM: {"gate_activation", "candidate_activation", "output_activation"},
    MGU: set(),
}


def from_flax(
    variables: Mapping[str, Any],
    kind: str,
    *,
    residual: bool = False,
    merge: Merge = "concat",
    **activations: Activation,
) -> tuple[Cell, Params]:
    """Read a recurrent cell of Flax, an `RNN` around one, or a `Bidirectional` around two of one
    kind.

    Which of the three follows from the names. What the variables do not say is an argument.

    Args:
        variables: of linen, `{"params": ...}` or what is in it; of nnx, `nnx.state(module,
            nnx.Param)`, or the pure dictionary of it.
        kind: the class of the cell: `"linen.LSTMCell"`, `"linen.OptimizedLSTMCell"`,
            `"linen.GRUCell"`, `"linen.SimpleCell"`, `"linen.MGUCell"`, `"nnx.LSTMCell"`,
            `"nnx.OptimizedLSTMCell"`, `"nnx.GRUCell"` or `"nnx.SimpleCell"`.
        residual: that of a `SimpleCell`. `h W + h` becomes `h (W + I)`, so this is right to
            rounding.
        merge: what the `merge_fn` of a `Bidirectional` does, in the words of
            `jaxrnn.Bidirectional`.
        activations: other `gate_fn` and `activation_fn` than Flax's own, under the names that the
            options of jaxrnn's cell have: `gate_activation`, `candidate_activation`,
            `output_activation` or `activation`. Flax's LSTM has one function for candidate and
            output.

    Returns:
        An `LSTM`, `GRU`, `Elman` or `MGU(form="flax")`, within a `Bidirectional` if there are two,
        and its parameters, in the dtype of the arrays. The `b_hn` of nnx's GRU, which has none, is
        zero.

    Raises:
        ValueError: a name is missing or unknown, a shape is another, or the cell has no such
            option; the message names it.
        TypeError: an array is not floating, or is float64 where JAX has no float64.

    >>> import numpy as np, jaxrnn
    >>> variables = {"params": {"i": {"kernel": np.ones((3, 4), "f"), "bias": np.ones(4, "f")}, "h": {"kernel": np.ones((4, 4), "f")}}}
    >>> cell, params = jaxrnn.convert.from_flax(variables, "linen.SimpleCell", activation="relu")
    >>> cell == jaxrnn.Elman(hidden=4, activation="relu"), params.w_x.shape
    (True, (3, 4))
    """
    layout = _layout("from_flax", kind)
    if residual and layout.cell is not Elman:
        refuse("from_flax", f"residual is an option of SimpleCell, and {kind} has none")
    if unknown := set(activations) - _ACTIVATIONS[layout.cell]:
        refuse(
            "from_flax",
            f"{layout.cell.__name__} has no {sorted(unknown)}, expected some of "
            f"{sorted(_ACTIVATIONS[layout.cell])}",
        )
    flat = flatten("from_flax", variables)
    weights, top = Weights(flat, "from_flax"), "params/" if "params" in variables else ""
    if weights.has(f"{top}forward_rnn/") or weights.has(f"{top}backward_rnn/"):
        paths = [f"{top}forward_rnn/cell/", f"{top}backward_rnn/cell/"]
    else:
        paths = [f"{top}cell/" if weights.has(f"{top}cell/") else top]
        if merge != "concat":
            refuse(
                "from_flax",
                f"merge is {merge!r}, but there is no forward_rnn, so this is no Bidirectional",
            )
    in_features, _ = weights.sizes(f"{paths[0]}{layout.x[0]}/kernel", "in", "columns")
    sizes = [weights.sizes(f"{path}{layout.h[0]}/kernel", "hidden", "columns")[0] for path in paths]
    shapes: dict[str, tuple[int, ...]] = {}
    for path, hidden in zip(paths, sizes, strict=True):
        shapes |= _shapes(layout, path, in_features, hidden)
        if layout.cell is MGU and (name := f"{path}{layout.b_hn}/bias") not in weights:
            reason = "this is an MGUCell with reset_gate=False, which jaxrnn.MGU cannot hold"
            refuse("from_flax", f"{name} is missing, so {reason}")
    arrays = weights.take(shapes)
    options: dict[str, Any] = {"form": "flax"} if layout.cell is MGU else dict(activations)
    with said_by("from_flax"):
        cells = [layout.cell(hidden, **options) for hidden in sizes]
        params = [_read(arrays, path, layout, residual) for path in paths]
        _check_cell("from_flax", cells[0], kind)
        if len(cells) == 1:
            return cells[0], params[0]
        return Bidirectional(cells[0], cells[1], merge=merge), BidirectionalParams(*params)


def _shapes(
    layout: _Layout, path: str, in_features: int, hidden: int
) -> dict[str, tuple[int, ...]]:
    """The arrays of the cell at a path."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layers, leaf, rows in (
        (layout.x, "kernel", (in_features,)),
        (layout.h, "kernel", (hidden,)),
        (layout.biased, "bias", ()),
    ):
        width = hidden * _GATES[layout.cell] // len(layers)
        shapes |= {f"{path}{layer}/{leaf}": (*rows, width) for layer in layers}
    return shapes | ({f"{path}{layout.b_hn}/bias": (hidden,)} if layout.b_hn else {})


def _read(arrays: Mapping[str, jax.Array], path: str, layout: _Layout, residual: bool) -> Params:
    """The parameters of the cell at a path."""

    def joined(layers: tuple[str, ...], leaf: str) -> jax.Array:
        return jnp.concatenate([arrays[f"{path}{layer}/{leaf}"] for layer in layers], axis=-1)

    w_x, w_h = joined(layout.x, "kernel"), joined(layout.h, "kernel")
    if residual:
        w_h += jnp.eye(len(w_h), dtype=w_h.dtype)
    params = {"w_x": w_x, "w_h": w_h, "b": joined(layout.biased, "bias")}
    if layout.b_hn:
        params["b_hn"] = arrays[f"{path}{layout.b_hn}/bias"]
    elif layout.cell is GRU:
        params["b_hn"] = jnp.zeros(len(w_h), params["b"].dtype)
    return _PARAMS[layout.cell](**params)


def to_flax(cell: Cell, params: Params, kind: str, *, rnn: bool = False) -> dict[str, Any]:
    """Write the variables of a recurrent cell of Flax, of an `RNN` around it, or of a
    `Bidirectional`.

    linen takes them as `module.apply(variables, xs)`, nnx as `nnx.update(module, variables)`.
    Activations and the `merge_fn` of a `Bidirectional` are arguments of Flax's constructors;
    `residual` stays False.

    Args:
        cell: an `LSTM`, `GRU`, `Elman` or `MGU(form="flax")`, or a `Bidirectional` of two of one
            kind. Convert a `Stack` layer by layer, for Flax has none.
        params: its parameters.
        kind: the class of Flax's cell, as in `from_flax`.
        rnn: nest them as an `RNN` around the cell does; a `Bidirectional` always has two of these.

    Returns:
        `{"params": ...}` for linen, a pure dictionary for nnx; the arrays have the dtype of the
        parameters. Flax's cells always have biases, so those of a cell without are zero.

    Raises:
        ValueError: the class cannot hold the cell, or an option of it; the message says which.
            nnx's GRU refuses a `b_hn` that is not zero, or not known to be, because it is traced.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4)
    >>> variables = jaxrnn.convert.to_flax(cell, cell.init(jax.random.key(0), in_features=3), "linen.GRUCell", rnn=True)
    >>> jax.tree.map(lambda array: array.shape, variables["params"]["cell"]["hn"])
    {'bias': (4,), 'kernel': (4, 4)}
    """
    _layout("to_flax", kind)
    for inner in (cell.forward, cell.backward) if isinstance(cell, Bidirectional) else (cell,):
        _check_cell("to_flax", inner, kind)
    params = own_params("to_flax", cell, params)
    if isinstance(cell, Bidirectional):
        ways = {
            "forward_rnn": (cell.forward, params.forward),
            "backward_rnn": (cell.backward, params.backward),
        }
        tree = {name: {"cell": _write(inner, p, kind)} for name, (inner, p) in ways.items()}
    else:
        tree = _write(cell, params, kind)
        if rnn:
            tree = {"cell": tree}
    return {"params": tree} if kind.startswith("linen.") else tree


def _write(cell: Cell, params: Params, kind: str) -> dict[str, dict[str, Any]]:
    """The dense layers of one cell."""
    layout = _LAYOUTS[kind]
    _, p = with_bias(cell, params)
    layers: dict[str, dict[str, Any]] = {layer: {} for layer in (*layout.x, *layout.h)}
    for leaf, array, names in (
        ("kernel", p.w_x, layout.x),
        ("kernel", p.w_h, layout.h),
        ("bias", p.b, layout.biased),
    ):
        for layer, part in zip(names, jnp.split(array, len(names), axis=-1), strict=True):
            layers[layer][leaf] = part
    if layout.b_hn:
        layers[layout.b_hn]["bias"] = p.b_hn
    elif layout.cell is GRU and getattr(params, "b_hn", None) is not None:
        _check_zero(kind, params.b_hn)
    return layers


def _check_zero(kind: str, b_hn: jax.Array) -> None:
    """Refuse a bias that a class has no place for."""
    reason = f"{kind} has no recurrent bias of the candidate, and params.b_hn is"
    if is_traced(b_hn):
        refuse(
            "to_flax", f"{reason} traced, so not known to be zero; convert outside of jit and vmap"
        )
    if np.any(b_hn):
        refuse("to_flax", f"{reason} not zero")


def _layout(target: str, kind: str) -> _Layout:
    if kind not in _LAYOUTS:
        refuse(target, f"kind is {kind!r}, expected one of {sorted(_LAYOUTS)}")
    return _LAYOUTS[kind]


def _check_cell(target: str, cell: Cell, kind: str) -> None:
    """Refuse what a class of Flax cannot hold."""
    expected = _LAYOUTS[kind].cell
    if isinstance(cell, Stack):
        refuse(target, "Flax has no Stack; convert it layer by layer")
    if type(cell) is not expected:
        refuse(target, f"{kind} holds {expected.__name__}, not {type(cell).__name__}")
    check_options(target, cell, _ACTIVATIONS[expected] | {"bias", "form"}, kind)
    if isinstance(cell, MGU) and cell.form != "flax":
        refuse(target, f"MGU has form={cell.form!r}, and {kind} computes form='flax'")
    if isinstance(cell, LSTM) and cell.candidate_activation != cell.output_activation:
        refuse(
            target,
            f"LSTM has candidate_activation={cell.candidate_activation!r} and "
            f"output_activation={cell.output_activation!r}, "
            f"but {kind} has one activation_fn for both",
        )
