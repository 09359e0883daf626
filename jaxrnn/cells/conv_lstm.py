"""Long short-term memory for images."""

import dataclasses

from jaxrnn.cells._convolution import ConvolutionalCell
from jaxrnn.cells.lstm import LSTM, LSTMCarry, LSTMParams
from jaxrnn.core.check import check_size, described


@dataclasses.dataclass(frozen=True)
class ConvLSTM(ConvolutionalCell[LSTMParams, LSTMCarry], LSTM):
    """An `LSTM` on images, whose products are convolutions `*` (Shi et al. 2015).

        i, f, o = σ(x_t * W_x + h_{t-1} * W_h + b) for each gate,    g = tanh(likewise)
        c_t = f ⊙ c_{t-1} + i ⊙ g,    h_t = o ⊙ tanh(c_t),    y_t = h_t

    Channels are the last axis: inputs `[time, *batch, *space, in]`, outputs `[time, *batch, *space,
    hidden]`. The input, the hidden state and the memory are images. The convolution of the hidden
    state keeps its size. Parameters and carry are those of `LSTM`, with `w_x [*kernel, in, gates *
    hidden]` and `w_h [*kernel, hidden, gates * hidden]`.

    Args:
        hidden: the number of channels of the memory, the hidden state and the output.
        kernel_size: the kernel size of both convolutions, for all spatial axes or for each.
        rank: the number of spatial axes, 1 to 3.
        strides: the strides of the convolution of the input. The state is smaller by this factor.
        dilation: the dilation of the convolution of the input.
        padding: of the convolution of the input: `"same"`, or `"valid"` for no padding.
        peepholes: the spatial size of the state, such as `(16, 16)`, for peepholes with a weight
            for each position and channel (Shi et al. 2015); None for no peepholes.
        layer_norm: as in `LSTM`, over all positions and channels of a gate. Gain and bias have one
            number for each channel.

    `bias`, `forget_bias`, `coupled`, `clip`, `cell_clip`, the activations and the initialisers are
    those of `LSTM`. There is no projection.

    Raises:
        ValueError: as in `LSTM`; or there are too many or too few sizes, strides and dilation are
            both above 1, or `projection` is given. From a driver: the input is smaller than the
            kernel with `padding="valid"`.
        TypeError: an activation or an initialiser is not a function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.ConvLSTM(4, kernel_size=3)
    >>> params = cell.init(jax.random.key(0), in_features=1)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 16, 16, 1)))
    >>> carry.c.shape, ys.shape
    ((2, 16, 16, 4), (7, 2, 16, 16, 4))
    """

    _: dataclasses.KW_ONLY
    peepholes: tuple[int, ...] | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection is not None:
            raise ValueError(
                f"ConvLSTM: projection is {self.projection}, expected None, because it has no "
                "projection; leave it out"
            )
        if self.peepholes is None:
            return
        given = tuple(self.peepholes) if isinstance(self.peepholes, tuple | list) else ()
        if len(given) != self.rank:
            raise ValueError(
                f"ConvLSTM: peepholes is {described(self.peepholes)}, expected {self.rank} sizes, "
                "the spatial size of the state, because each position has its own weights"
            )
        sizes = tuple(check_size(self, "peepholes", n) for n in given)
        object.__setattr__(self, "peepholes", sizes)

    @property
    def _peephole_shape(self) -> tuple[int, ...]:
        return (*(self.peepholes or ()), self.hidden)
