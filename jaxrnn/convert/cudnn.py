"""The packed weights of cuDNN's LSTM, as `jax.experimental.rnn` takes them: torch's arrays, laid
end to end in one vector.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cells import LSTM
from jaxrnn.convert._common import (
    check_options,
    form_of,
    join_layers,
    layers_of,
    own_params,
    refuse,
    to_jax,
    with_bias,
)
from jaxrnn.convert.torch import Module, from_torch, to_torch
from jaxrnn.core.cell import Cell, Params
from jaxrnn.core.check import check_choice, check_size


def from_cudnn(
    flat: Any, in_features: int, hidden: int, layers: int = 1, bidirectional: bool = False
) -> tuple[Cell, Params]:
    """Read the weights of `jax.experimental.rnn.lstm`.

    Args:
        flat: the packed vector.
        in_features: `input_size`.
        hidden: `hidden_size`.
        layers: `num_layers`.
        bidirectional: as it was given there.

    Returns:
        An `LSTM`, within a `Bidirectional` if there are two directions and a `Stack` if there are
        several layers; and its parameters, in the dtype of the vector.

    Raises:
        ValueError: a size is not positive, or the vector has another length; the message says what
            was expected.
        TypeError: the vector is not floating, or is float64 where JAX has no float64.

    >>> import numpy as np, jaxrnn
    >>> cell, params = jaxrnn.convert.from_cudnn(np.ones(144, np.float32), in_features=3, hidden=4)
    >>> cell == jaxrnn.LSTM(hidden=4), params.w_x.shape
    (True, (3, 16))
    """
    for argument, size in (("in_features", in_features), ("hidden", hidden), ("layers", layers)):
        check_size(from_cudnn, argument, size)
    check_choice(from_cudnn, "bidirectional", bidirectional, (False, True))
    shapes = _shapes(in_features, hidden, layers, bidirectional)
    sizes = [math.prod(shape) for shape in shapes.values()]
    if (given := form_of(flat, "from_cudnn: flat").shape) != (sum(sizes),):
        refuse(
            "from_cudnn",
            f"flat has shape {given}, expected {(sum(sizes),)} for in_features={in_features}, "
            f"hidden={hidden}, "
            f"layers={layers}, bidirectional={bidirectional}",
        )
    parts = jnp.split(to_jax(flat, "from_cudnn: flat"), np.cumsum(sizes[:-1]))
    named = zip(shapes.items(), parts, strict=True)
    return from_torch({name: part.reshape(shape) for (name, shape), part in named})


def to_cudnn(cell: Cell, params: Params) -> jax.Array:
    """Write the weights of `jax.experimental.rnn.lstm`.

    Args:
        cell: an `LSTM` without further options, a concatenating `Bidirectional` or a `Stack` of
            equally large ones, whose `dropout` is an argument there.
        params: its parameters.

    Returns:
        The packed vector, in the dtype of the parameters; cuDNN itself runs float32 only. Each of
        its LSTMs has two biases: jaxrnn's is the first, or zero if there is none, and the second is
        zero.

    Raises:
        ValueError: cuDNN cannot hold the cell, or an option of it, or the parameters differ in
            dtype; the message says which.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.LSTM(4)
    >>> jaxrnn.convert.to_cudnn(cell, cell.init(jax.random.key(0), in_features=3)).shape
    (144,)
    """
    layers = layers_of("to_cudnn", cell, params)
    first: Any = layers[0][0][0]
    for layer in layers:
        for inner, _ in layer:
            if not isinstance(inner, LSTM):
                refuse(
                    "to_cudnn", f"jax.experimental.rnn has no {type(inner).__name__}, only an LSTM"
                )
            check_options("to_cudnn", inner, {"bias"}, "jax.experimental.rnn")
            if inner.hidden != first.hidden or len(layer) != len(layers[0]):
                refuse(
                    "to_cudnn",
                    f"all layers and directions are equally large, but {inner} differs from "
                    f"{first}",
                )
    layers = [
        [with_bias(*pair) for pair in layer]
        for layer in layers_of("to_cudnn", cell, own_params("to_cudnn", cell, params))
    ]
    if (
        len(
            dtypes := {
                str(leaf.dtype)
                for leaf in jax.tree.leaves([p for layer in layers for _, p in layer])
            }
        )
        > 1
    ):
        refuse(
            "to_cudnn",
            f"the parameters have dtypes {sorted(dtypes)}, expected one, for they make one vector",
        )
    state_dict = to_torch(*join_layers(layers))
    in_features, both = state_dict["weight_ih_l0"].shape[1], len(layers[0]) == 2
    order = _shapes(in_features, first.hidden, len(layers), both)
    return jnp.concatenate([jnp.asarray(state_dict[name]).ravel() for name in order])


def _shapes(
    in_features: int, hidden: int, layers: int, bidirectional: bool
) -> dict[str, tuple[int, ...]]:
    """The arrays of torch's module, which the vector holds in this order."""
    return Module(4, in_features, hidden, layers=layers, bidirectional=bidirectional).shapes()
