"""Gated recurrent unit of pictures."""

import dataclasses

from jax import Array

from jaxrnn.cells._convolution import ConvolutionalCell
from jaxrnn.cells.gru import GRU, GRUParams


@dataclasses.dataclass(frozen=True)
class ConvGRU(ConvolutionalCell[GRUParams, Array], GRU):
    """A `GRU` whose input and state are pictures, and whose products are convolutions (Ballas et
    al. 2015).

        r, z = σ(x_t * W_x + h_{t-1} * W_h + b) for both gates
        n = tanh(x_t * W_xn + b_n + (r ⊙ h_{t-1}) * W_hn)            reset_gate="before"
        n = tanh(x_t * W_xn + b_n + r ⊙ (h_{t-1} * W_hn + b_hn))     reset_gate="after"
        h_t = (1 - z) ⊙ n + z ⊙ h_{t-1},    y_t = h_t

    Pictures have their channels last: inputs `[time, *batch, *space, in]`, outputs `[time, *batch,
    *space, hidden]`. Ballas et al. have `reset_gate="before"`; with "after", as in a `GRU`, one
    convolution of the state is enough.

    Args:
        hidden: channels of the state and the output.
        kernel_size: of all convolutions, for all axes of space or for each.
        rank: how many axes space has, 1 to 3.
        strides: steps of the convolution of the input; the state is smaller by as much.
        dilation: gaps in its kernel.
        padding: `"same"`, or `"valid"`: only where the kernel sees input.
        layer_norm: as in `GRU`, over all positions and channels; gain and bias are one for each
            channel.

    `reset_gate`, `bias`, `update_bias`, `clip`, the activations and the initialisers are those of
    `GRU`.

    Raises:
        ValueError: a size or a bound is not positive, there are too many or too few sizes, strides
            and dilation are both above 1, a flag is no bool, or a name is unknown.
        TypeError: an activation or an initialiser is no function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.ConvGRU(4, kernel_size=5, strides=2, reset_gate="before")
    >>> params = cell.init(jax.random.key(0), in_features=1)
    >>> h, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 16, 16, 1)))
    >>> h.shape, ys.shape
    ((2, 8, 8, 4), (7, 2, 8, 8, 4))
    """
