"""Weights of Flax's recurrent cells, linen's and nnx's: nested dictionaries of arrays.

Flax keeps kernels `[in, out]`, as jaxrnn does, in dense layers: one for each gate, or one for all
gates. Either the layers of the input or those of the state have the biases. The candidate of a GRU
or an MGU has a second bias, except in nnx. linen's `ConvLSTMCell` has a convolution of the input
and one of the state, with gates in the order `i g f o`. It adds their biases, and 1 to f.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.activations import Activation
from jaxrnn.cells import (
    GRU,
    LSTM,
    MGU,
    ConvLSTM,
    Elman,
    ElmanParams,
    GRUParams,
    LSTMParams,
    MGUParams,
)
from jaxrnn.cells._convolution import for_each_axis
from jaxrnn.combinators import Bidirectional, BidirectionalParams, Stack
from jaxrnn.convert._arrays import add_to_forget, is_traced, no_bias, reorder_gates
from jaxrnn.convert._errors import refuse, said_by
from jaxrnn.convert._layers import PlainParams, check_cell, own_params, with_bias
from jaxrnn.convert._weights import Shapes, Tree, Weights, flatten
from jaxrnn.core.cell import Cell, Params

Merge = Literal["concat", "sum", "mean", "product"] | None

Written = dict[str, dict[str, Array]]
"""The arrays of one cell, by dense layer and name."""


class _Layout(NamedTuple):
    """Where a class of Flax keeps the parameters of a cell.

    Each matrix of jaxrnn is cut into dense layers, from left to right.
    """

    cell: type[Elman | LSTM | GRU | MGU]
    params: type[PlainParams | MGUParams]
    x: tuple[str, ...]  # the layers that make w_x
    h: tuple[str, ...]  # the layers that make w_h
    biased: tuple[str, ...]  # the layers whose biases make b
    b_hn: str | None = None  # the layer whose bias it is


_X_IFGO, _H_IFGO = ("ii", "if", "ig", "io"), ("hi", "hf", "hg", "ho")
_X_RZN, _H_RZN = ("ir", "iz", "in"), ("hr", "hz", "hn")
_X_FN, _H_FN = ("if", "in"), ("hf", "hn")
_X_ALL, _H_ALL = ("dense_i",), ("dense_h",)

_LAYOUTS = {
    "linen.LSTMCell": _Layout(LSTM, LSTMParams, _X_IFGO, _H_IFGO, biased=_H_IFGO),
    "linen.OptimizedLSTMCell": _Layout(LSTM, LSTMParams, _X_IFGO, _H_IFGO, biased=_H_IFGO),
    "linen.GRUCell": _Layout(GRU, GRUParams, _X_RZN, _H_RZN, biased=_X_RZN, b_hn="hn"),
    "linen.SimpleCell": _Layout(Elman, ElmanParams, ("i",), ("h",), biased=("i",)),
    "linen.MGUCell": _Layout(MGU, MGUParams, _X_FN, _H_FN, biased=_X_FN, b_hn="hn"),
    "linen.ConvLSTMCell": _Layout(ConvLSTM, LSTMParams, ("ih",), ("hh",), biased=("ih", "hh")),
    "nnx.LSTMCell": _Layout(LSTM, LSTMParams, ("ii", "if_", "ig", "io"), _H_IFGO, biased=_H_IFGO),
    "nnx.OptimizedLSTMCell": _Layout(LSTM, LSTMParams, _X_ALL, _H_ALL, biased=_H_ALL),
    "nnx.GRUCell": _Layout(GRU, GRUParams, _X_ALL, _H_ALL, biased=_X_ALL),
    "nnx.SimpleCell": _Layout(Elman, ElmanParams, _X_ALL, _H_ALL, biased=_X_ALL),
}

_ACTIVATIONS: dict[type[Cell], set[str]] = {
    Elman: {"activation"},
    LSTM: {"gate_activation", "candidate_activation", "output_activation"},
    GRU: {"gate_activation", "candidate_activation"},
    MGU: {"gate_activation", "candidate_activation"},
    ConvLSTM: set(),
}

_CONV_GATES, _CONV_FORGET = "igfo", 1
"""The order of the gates in a `ConvLSTMCell`, and what it adds to f while it runs."""


def from_flax(
    variables: Tree,
    kind: str,
    *,
    residual: bool = False,
    merge: Merge = "concat",
    **activations: Activation,
) -> tuple[Cell, Params]:
    """Read a recurrent cell of Flax, an `RNN` around one, or a `Bidirectional` around two.

    The names in the variables tell which of the three it is. Arguments say what the names do not.

    Args:
        variables: for linen `{"params": ...}`, or the dictionary in it; for nnx
            `nnx.state(module, nnx.Param)`, or its pure dictionary.
        kind: the class of the cell: `"linen.LSTMCell"`, `"linen.OptimizedLSTMCell"`,
            `"linen.GRUCell"`, `"linen.SimpleCell"`, `"linen.MGUCell"`, `"linen.ConvLSTMCell"`,
            `"nnx.LSTMCell"`, `"nnx.OptimizedLSTMCell"`, `"nnx.GRUCell"` or `"nnx.SimpleCell"`. Both
            cells of a `Bidirectional` have this class. A `ConvLSTMCell` must have `padding="SAME"`
            and no strides, because otherwise its state would change its size.
        residual: the option of a `SimpleCell`. `h W + h` is read as `h (W + I)`, which rounds.
        merge: what the `merge_fn` of a `Bidirectional` does, by the name that
            `jaxrnn.Bidirectional` has for it.
        activations: `gate_fn` and `activation_fn`, where they are not Flax's defaults. Pass them by
            the names of jaxrnn's options: `gate_activation`, `candidate_activation`,
            `output_activation` or `activation`. Flax's LSTM has one function for candidate and
            output.

    Returns:
        An `LSTM`, `GRU`, `Elman`, `MGU(form="flax")` or `ConvLSTM`, or a `Bidirectional` of two;
        and its parameters, in the dtype of the arrays. nnx's GRU has no `b_hn`, so that is zero.
        The 1 that a `ConvLSTMCell` adds to its forget gate is in `b`.

    Raises:
        ValueError: a name is missing or unknown, a shape does not fit, or the cell has no such
            option. The message names it.
        TypeError: an array is not floating, or it is float64 and JAX's float64 is off.

    >>> import numpy as np, jaxrnn
    >>> i = {"kernel": np.ones((3, 4), "f"), "bias": np.ones(4, "f")}
    >>> variables = {"params": {"i": i, "h": {"kernel": np.ones((4, 4), "f")}}}
    >>> cell, params = jaxrnn.convert.from_flax(variables, "linen.SimpleCell", activation="relu")
    >>> cell == jaxrnn.Elman(hidden=4, activation="relu"), params.w_x.shape
    (True, (3, 4))
    """
    layout = _layout("from_flax", kind)
    _check_arguments(layout, kind, residual, activations)
    flat = flatten("from_flax", variables)
    weights = Weights(flat, "from_flax")
    paths = _paths(weights, "params/" if "params" in variables else "", merge)
    cells = [_cell(layout, path, weights, activations) for path in paths]
    in_features = weights.shape(f"{paths[0]}{layout.x[0]}/kernel")[-2]
    _check_cell("from_flax", cells[0], kind)
    shapes: Shapes = {}
    for path, cell in zip(paths, cells, strict=True):
        shapes |= _shapes(layout, path, in_features, cell, weights)
        _check_reset_gate(layout, path, weights)
    arrays = weights.take(shapes)
    params = [_read(arrays, path, layout, residual) for path in paths]
    if len(cells) == 1:
        return cells[0], params[0]
    with said_by("from_flax"):
        return Bidirectional(cells[0], cells[1], merge=merge), BidirectionalParams(*params)


def _layout(caller: str, kind: str) -> _Layout:
    if kind not in _LAYOUTS:
        refuse(caller, f"kind is {kind!r}, expected one of {sorted(_LAYOUTS)}")
    return _LAYOUTS[kind]


def _check_arguments(
    layout: _Layout, kind: str, residual: bool, activations: Mapping[str, Activation]
) -> None:
    """Refuse options that the cell does not have."""
    if residual and layout.cell is not Elman:
        refuse("from_flax", f"residual is an option of SimpleCell, and {kind} has none")
    known = _ACTIVATIONS[layout.cell]
    if unknown := set(activations) - known:
        given = f"{layout.cell.__name__} has no {sorted(unknown)}"
        wanted = f"some of {sorted(known)}" if known else f"none: {kind} has no such options"
        refuse("from_flax", f"{given}, expected {wanted}")


def _paths(weights: Weights, top: str, merge: Merge) -> list[str]:
    """Return where the cells are, the forward one first."""
    if weights.has(f"{top}forward_rnn/") or weights.has(f"{top}backward_rnn/"):
        return [f"{top}forward_rnn/cell/", f"{top}backward_rnn/cell/"]
    if merge != "concat":
        reason = "there is no forward_rnn, so this is not a Bidirectional"
        refuse("from_flax", f"merge is {merge!r}, but {reason}")
    return [f"{top}cell/" if weights.has(f"{top}cell/") else top]


def _cell(
    layout: _Layout, path: str, weights: Weights, activations: Mapping[str, Activation]
) -> Elman | LSTM | GRU | MGU:
    """Return the cell at a path, with the sizes of its first kernels."""
    x, h = (f"{path}{layers[0]}/kernel" for layers in (layout.x, layout.h))
    kernel = _kernel(weights, x) if layout.cell is ConvLSTM else ()
    space = ["kernel"] * len(kernel)
    weights.sizes(x, *space, "in", "columns")
    hidden = weights.sizes(h, *space, "hidden", "columns")[-2]
    options: dict[str, Any] = {**activations}
    if layout.cell is MGU:
        options["form"] = "flax"
    if kernel:
        options |= {"kernel_size": kernel, "rank": len(kernel)}
    with said_by("from_flax"):
        return layout.cell(hidden, **options)


def _kernel(weights: Weights, name: str) -> tuple[int, ...]:
    """Return the size of a convolution's kernel."""
    shape = weights.shape(name)
    if len(shape) not in (3, 4, 5):
        wanted = "expected [*kernel, in, columns] with 1 to 3 axes of space"
        raise ValueError(f"{weights.named(name)} has shape {shape}, {wanted}")
    return shape[:-2]


def _shapes(
    layout: _Layout, path: str, in_features: int, cell: Elman | LSTM | GRU | MGU, weights: Weights
) -> Shapes:
    """Return the shapes of the arrays of a cell; a `ConvLSTMCell` may have no biases."""
    kernel, biased = (), layout.biased
    if isinstance(cell, ConvLSTM):
        kernel = for_each_axis(cell.kernel_size, cell.rank)
        biased = biased if any(f"{path}{layer}/bias" in weights for layer in biased) else ()
    shapes: Shapes = {}
    for layers, rows in ((layout.x, in_features), (layout.h, cell.hidden)):
        width = cell.gates * cell.hidden // len(layers)
        shapes |= {f"{path}{layer}/kernel": (*kernel, rows, width) for layer in layers}
        shapes |= {f"{path}{layer}/bias": (width,) for layer in layers if layer in biased}
    return shapes | ({f"{path}{layout.b_hn}/bias": (cell.hidden,)} if layout.b_hn else {})


def _check_reset_gate(layout: _Layout, path: str, weights: Weights) -> None:
    """Refuse an MGU of another form, which has no bias of the candidate's recurrent product."""
    if layout.cell is MGU and (name := f"{path}{layout.b_hn}/bias") not in weights:
        reason = "this is an MGUCell with reset_gate=False, which jaxrnn.MGU cannot hold"
        refuse("from_flax", f"{name} is missing, so {reason}")


def _read(arrays: Mapping[str, Array], path: str, layout: _Layout, residual: bool) -> Params:
    """Read the parameters of the cell at a path."""
    if layout.cell is ConvLSTM:
        return _read_convolution(arrays, path)

    def joined(layers: tuple[str, ...], leaf: str) -> Array:
        return jnp.concatenate([arrays[f"{path}{layer}/{leaf}"] for layer in layers], axis=-1)

    w_x, w_h = joined(layout.x, "kernel"), joined(layout.h, "kernel")
    if residual:
        w_h += jnp.eye(len(w_h), dtype=w_h.dtype)
    params = {"w_x": w_x, "w_h": w_h, "b": joined(layout.biased, "bias")}
    if layout.b_hn:
        params["b_hn"] = arrays[f"{path}{layout.b_hn}/bias"]
    elif layout.cell is GRU:
        params["b_hn"] = jnp.zeros(len(w_h), params["b"].dtype)
    return layout.params(**params)


def _read_convolution(arrays: Mapping[str, Array], path: str) -> LSTMParams:
    """Read the parameters of a `ConvLSTMCell`."""
    w_x, w_h = (arrays[f"{path}{layer}/kernel"] for layer in ("ih", "hh"))
    zero = jnp.zeros(w_h.shape[-1], w_h.dtype)
    b_x, b_h = (arrays.get(f"{path}{layer}/bias", zero) for layer in ("ih", "hh"))
    w_x, w_h, b_x, b_h = (reorder_gates(a, _CONV_GATES, "ifgo") for a in (w_x, w_h, b_x, b_h))
    # in this order: `to_flax` has written b_h so that it rounds nothing
    return LSTMParams(w_x, w_h, b_x + add_to_forget(b_h, _CONV_FORGET))


def to_flax(cell: Cell, params: Params, kind: str, *, rnn: bool = False) -> dict[str, Any]:
    """Write the variables of a recurrent cell of Flax, of an `RNN`, or of a `Bidirectional`.

    linen takes them by `module.apply(variables, xs)`, nnx by `nnx.update(module, variables)`.
    Activations, and the `merge_fn` of a `Bidirectional`, are arguments of Flax's constructors.
    `residual` stays False there.

    Args:
        cell: an `LSTM`, `GRU`, `Elman`, `MGU(form="flax")` or `ConvLSTM`, or a `Bidirectional` of
            two of one kind. Flax has no `Stack`: convert it layer by layer.
        params: its parameters.
        kind: the class of Flax's cell, as in `from_flax`.
        rnn: whether the variables are those of an `RNN` around the cell. A `Bidirectional` always
            has two of these.

    Returns:
        `{"params": ...}` for linen, a pure dictionary for nnx. The arrays have the dtype of the
        parameters. Flax's cells always have biases; they are zero if the cell has none. In a
        `ConvLSTMCell`, the bias of the state subtracts the 1 that it adds to its forget gate.

    Raises:
        ValueError: the class cannot hold the cell or one of its options. The message names it.
            nnx's GRU has no `b_hn`, so a `b_hn` that is not zero is refused, and so is a traced
            one, whose numbers are not known.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.GRU(4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> variables = jaxrnn.convert.to_flax(cell, params, "linen.GRUCell", rnn=True)
    >>> jax.tree.map(lambda array: array.shape, variables["params"]["cell"]["hn"])
    {'bias': (4,), 'kernel': (4, 4)}
    """
    _layout("to_flax", kind)
    for inner in (cell.forward, cell.backward) if isinstance(cell, Bidirectional) else (cell,):
        _check_cell("to_flax", inner, kind)
    own = own_params("to_flax", cell, params)
    if isinstance(cell, Bidirectional):
        tree = {
            "forward_rnn": {"cell": _write(cell.forward, own.forward, kind)},
            "backward_rnn": {"cell": _write(cell.backward, own.backward, kind)},
        }
    else:
        tree = _write(cell, own, kind)
        tree = {"cell": tree} if rnn else tree
    return {"params": tree} if kind.startswith("linen.") else tree


def _check_cell(caller: str, cell: Cell, kind: str) -> None:
    """Refuse what a class of Flax cannot hold."""
    expected = _LAYOUTS[kind].cell
    if isinstance(cell, Stack):
        refuse(caller, "Flax has no Stack; convert it layer by layer")
    options = {*_ACTIVATIONS[expected], "bias", "form", "kernel_size", "rank"}
    check_cell(caller, cell, {expected: options}, kind)
    if isinstance(cell, MGU) and cell.form != "flax":
        refuse(caller, f"MGU has form={cell.form!r}, and {kind} computes form='flax'")
    if isinstance(cell, LSTM) and cell.candidate_activation != cell.output_activation:
        candidate, output = cell.candidate_activation, cell.output_activation
        given = f"LSTM has candidate_activation={candidate!r} and output_activation={output!r}"
        refuse(caller, f"{given}, but {kind} has one activation_fn for both")


def _write(cell: Cell, params: Params, kind: str) -> Written:
    """Write the dense layers of one cell."""
    layout = _LAYOUTS[kind]
    _, p = with_bias(cell, params)
    if layout.cell is ConvLSTM:
        return _write_convolution(p)
    layers: Written = {layer: {} for layer in (*layout.x, *layout.h)}
    for leaf, array, names in (
        ("kernel", p.w_x, layout.x),
        ("kernel", p.w_h, layout.h),
        ("bias", p.b, layout.biased),
    ):
        for layer, part in zip(names, jnp.split(array, len(names), axis=-1), strict=True):
            layers[layer][leaf] = part
    if layout.b_hn:
        layers[layout.b_hn]["bias"] = p.b_hn
    elif isinstance(params, GRUParams) and params.b_hn is not None:
        _check_zero(kind, params.b_hn)
    return layers


def _write_convolution(p: LSTMParams) -> Written:
    """Write the convolutions of a `ConvLSTMCell`."""
    assert p.b is not None  # `with_bias` has added one
    b_h = add_to_forget(no_bias(p.b), -_CONV_FORGET)
    w_x, w_h, b_x, b_h = (reorder_gates(a, "ifgo", _CONV_GATES) for a in (p.w_x, p.w_h, p.b, b_h))
    return {"ih": {"kernel": w_x, "bias": b_x}, "hh": {"kernel": w_h, "bias": b_h}}


def _check_zero(kind: str, b_hn: Array) -> None:
    """Refuse a `b_hn` that is not zero, for a class that has no place for it."""
    reason = f"{kind} has no recurrent bias of the candidate, and params.b_hn is"
    if is_traced(b_hn):
        hint = "so not known to be zero; convert outside of jit and vmap"
        refuse("to_flax", f"{reason} traced, {hint}")
    if np.any(b_hn):
        refuse("to_flax", f"{reason} not zero")
