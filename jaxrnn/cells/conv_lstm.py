"""Long short-term memory of pictures."""

import dataclasses

from jaxrnn.cells._convolution import ConvolutionalCell
from jaxrnn.cells.lstm import LSTM, LSTMCarry, LSTMParams
from jaxrnn.core.check import check_size, described


@dataclasses.dataclass(frozen=True)
class ConvLSTM(ConvolutionalCell[LSTMParams, LSTMCarry], LSTM):
    """An `LSTM` whose input, state and memory are pictures, and whose products are convolutions
    (Shi et al. 2015).

        i, f, o = σ(x_t * W_x + h_{t-1} * W_h + b) for each gate,    g = tanh(likewise)
        c_t = f ⊙ c_{t-1} + i ⊙ g,    h_t = o ⊙ tanh(c_t),    y_t = h_t

    Pictures have their channels last: inputs `[time, *batch, *space, in]`, outputs `[time, *batch,
    *space, hidden]`. The convolution of the state keeps its size. Parameters and carry are those of
    `LSTM`, with `w_x [*kernel, in, gates * hidden]` and `w_h [*kernel, hidden, gates * hidden]`.

    Args:
        hidden: channels of the memory, the state and the output.
        kernel_size: of both convolutions, for all axes of space or for each.
        rank: how many axes space has, 1 to 3.
        strides: steps of the convolution of the input; the state is smaller by as much.
        dilation: gaps in its kernel.
        padding: `"same"`, or `"valid"`: only where the kernel sees input.
        peepholes: the size of the state's space, such as `(16, 16)`, for peepholes with a weight
            for each position and channel, as Shi et al. have them.
        layer_norm: as in `LSTM`, over all positions and channels of a gate; gain and bias are one
            for each channel.

    `bias`, `forget_bias`, `coupled`, `clip`, `cell_clip`, the activations and the initialisers are
    those of `LSTM`.

    Raises:
        ValueError: a size or a bound is not positive, there are too many or too few sizes, strides
            and dilation are both above 1, a flag is no bool, or a name is unknown.
        TypeError: an activation or an initialiser is no function of its arguments.

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
            raise ValueError("ConvLSTM: it has no projection; leave it out")
        if self.peepholes is None:
            return
        given = tuple(self.peepholes) if isinstance(self.peepholes, tuple | list) else ()
        if len(given) != self.rank:
            raise ValueError(
                f"ConvLSTM: peepholes is {described(self.peepholes)}, expected the size of the "
                f"state's space, {self.rank} numbers, for there is a weight for each position"
            )
        sizes = tuple(check_size(self, "peepholes", n) for n in given)
        object.__setattr__(self, "peepholes", sizes)

    @property
    def _peephole_shape(self) -> tuple[int, ...]:
        return (*(self.peepholes or ()), self.hidden)
