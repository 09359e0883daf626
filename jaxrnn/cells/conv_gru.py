"""The gated recurrent unit for images."""

import dataclasses

from jax import Array

from jaxrnn.cells._convolution import ConvolutionalCell
from jaxrnn.cells.gru import GRU, GRUParams


@dataclasses.dataclass(frozen=True)
class ConvGRU(ConvolutionalCell[GRUParams, Array], GRU):
    """A `GRU` on images, whose products are convolutions `*` (Ballas et al. 2015).

        r, z = σ(x_t * W_x + h_{t-1} * W_h + b) for both gates
        n = tanh(x_t * W_xn + b_n + (r ⊙ h_{t-1}) * W_hn)            reset_gate="before"
        n = tanh(x_t * W_xn + b_n + r ⊙ (h_{t-1} * W_hn + b_hn))     reset_gate="after"
        h_t = (1 - z) ⊙ n + z ⊙ h_{t-1},    y_t = h_t

    Channels are the last axis: inputs `[time, *batch, *space, in]`, outputs `[time, *batch, *space,
    hidden]`. The input and the hidden state are images. Parameters are those of `GRU`, with `w_x
    [*kernel, in, 3 * hidden]` and `w_h [*kernel, hidden, 3 * hidden]`. Ballas et al. use
    `reset_gate="before"`. `"after"`, the default as in `GRU`, needs a single convolution of the
    state.

    Args:
        hidden: the number of channels of the hidden state and the output.
        kernel_size: the kernel size of all convolutions, for all spatial axes or for each.
        rank: the number of spatial axes, 1 to 3.
        strides: the strides of the convolution of the input. The state is smaller by this factor.
        dilation: the dilation of the convolution of the input.
        padding: of the convolution of the input: `"same"`, or `"valid"` for no padding.
        layer_norm: as in `GRU`, over all positions and channels of a gate. Gain and bias have one
            number for each channel.

    `reset_gate`, `bias`, `update_bias`, `clip`, the activations and the initialisers are those of
    `GRU`.

    Raises:
        ValueError: as in `GRU`; or there are too many or too few sizes, or strides and dilation are
            both above 1. From a driver: the input is smaller than the kernel with
            `padding="valid"`.
        TypeError: an activation or an initialiser is not a function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.ConvGRU(4, kernel_size=5, strides=2, reset_gate="before")
    >>> params = cell.init(jax.random.key(0), in_features=1)
    >>> h, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 16, 16, 1)))
    >>> h.shape, ys.shape
    ((2, 8, 8, 4), (7, 2, 8, 8, 4))
    """
