"""The packed weights of cuDNN's LSTM, as `jax.experimental.rnn` takes them.

They are the arrays of torch's module, joined end to end in one vector.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cells import LSTM
from jaxrnn.convert._arrays import ForeignArray, form_of, to_jax
from jaxrnn.convert._errors import refuse
from jaxrnn.convert._layers import (
    Layer,
    check_alike,
    check_cell,
    check_one_dtype,
    own_layers,
    with_bias,
)
from jaxrnn.convert.torch import Module, from_torch, write_arrays
from jaxrnn.core.cell import Cell, Params
from jaxrnn.core.check import check_choice, check_size


def from_cudnn(
    flat: ForeignArray,
    in_features: int,
    hidden: int,
    layers: int = 1,
    bidirectional: bool = False,
) -> tuple[Cell, Params]:
    """Read the weights of `jax.experimental.rnn.lstm`.

    Args:
        flat: the packed vector.
        in_features: the argument `input_size` of `lstm`.
        hidden: the argument `hidden_size` of `lstm`.
        layers: the argument `num_layers` of `lstm`.
        bidirectional: the argument of the same name of `lstm`.

    Returns:
        An `LSTM`, within a `Bidirectional` if there are two directions and within a `Stack` if
        there are several layers; and its parameters, in the dtype of the vector.

    Raises:
        ValueError: a size is not positive, or the length of the vector does not fit the sizes.
        TypeError: the vector is not floating, or it is float64 and JAX's float64 is off.

    >>> import numpy as np, jaxrnn
    >>> cell, params = jaxrnn.convert.from_cudnn(np.ones(144, "f"), in_features=3, hidden=4)
    >>> cell == jaxrnn.LSTM(hidden=4), params.w_x.shape
    (True, (3, 16))
    """
    for argument, size in (("in_features", in_features), ("hidden", hidden), ("layers", layers)):
        check_size(from_cudnn, argument, size)
    check_choice(from_cudnn, "bidirectional", bidirectional, (False, True))
    shapes = _module(in_features, hidden, layers, bidirectional).shapes()
    sizes = [math.prod(shape) for shape in shapes.values()]
    if (given := form_of(flat, "from_cudnn: flat").shape) != (sum(sizes),):
        wanted = f"expected {(sum(sizes),)} for {in_features=}, {hidden=}, {layers=}"
        refuse("from_cudnn", f"flat has shape {given}, {wanted}, {bidirectional=}")
    parts = jnp.split(to_jax(flat, "from_cudnn: flat"), np.cumsum(sizes[:-1]))
    named = zip(shapes.items(), parts, strict=True)
    return from_torch({name: part.reshape(shape) for (name, shape), part in named})


def to_cudnn(cell: Cell, params: Params) -> Array:
    """Write the weights of `jax.experimental.rnn.lstm`.

    Args:
        cell: an `LSTM` without further options, a concatenating `Bidirectional`, or a `Stack` of
            equally large ones. The dropout of a `Stack` is an argument of `lstm`, not a weight.
        params: its parameters.

    Returns:
        The packed vector, in the dtype of the parameters; cuDNN itself runs float32 only. Each LSTM
        has two biases there. The first is jaxrnn's, or zero if it has none; the second is zero.

    Raises:
        ValueError: cuDNN cannot hold the cell or one of its options, or the parameters have several
            dtypes. The message says which.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.LSTM(4)
    >>> jaxrnn.convert.to_cudnn(cell, cell.init(jax.random.key(0), in_features=3)).shape
    (144,)
    """
    layers = own_layers("to_cudnn", cell, params, _check_layers)
    check_one_dtype("to_cudnn", [p for layer in layers for _, p in layer], "cuDNN's vector")
    first = layers[0][0][1]
    in_features, hidden = first.w_x.shape[0], first.w_h.shape[0]
    order = _module(in_features, hidden, len(layers), len(layers[0]) == 2).shapes()
    arrays = write_arrays([[with_bias(*pair) for pair in layer] for layer in layers])
    return jnp.concatenate([arrays[name].ravel() for name in order])


def _check_layers(layers: list[Layer]) -> None:
    """Refuse what cuDNN cannot hold."""
    for layer in layers:
        for cell, _ in layer:
            check_cell("to_cudnn", cell, {LSTM: {"bias"}}, "jax.experimental.rnn")
    check_alike("to_cudnn", layers, (), "all layers and directions are equally large")


def _module(in_features: int, hidden: int, layers: int, bidirectional: bool) -> Module:
    """Return torch's LSTM, whose arrays the vector holds in the order of `Module.shapes`."""
    return Module(4, in_features, hidden, layers=layers, bidirectional=bidirectional)
