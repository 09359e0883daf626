"""The spatiotemporal LSTM of PredRNN, with all its layers as one cell."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import sigmoid
from jax.typing import DTypeLike

from jaxrnn.cells._convolution import Convolution, check_sizes, for_each_axis, same
from jaxrnn.cells._gates import layer_norm
from jaxrnn.core.affine import Affine, split
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import Cell
from jaxrnn.core.check import (
    check_choice,
    check_fields,
    check_flag,
    check_in_features,
    check_no_variables,
    check_number,
    check_size,
)
from jaxrnn.core.dtypes import wide
from jaxrnn.initializers import Initializer, check_initializer, draw_gates


class Norm(NamedTuple):
    """Parameters of the layer normalisation after one convolution."""

    gain: Array  # [channels]
    b: Array  # [channels]


class STLSTMLayer(NamedTuple):
    """Parameters of one layer of `STLSTM`. The gates are concatenated on the last axis.

    >>> import jax, jaxrnn
    >>> layers = jaxrnn.STLSTM(4, kernel_size=3, layers=2).init(jax.random.key(0), in_features=1)
    >>> [layer.w_x.shape for layer in layers]
    [(3, 3, 1, 28), (3, 3, 4, 28)]
    """

    w_x: Array  # [*kernel, in or hidden, 7 * hidden], i f g i' f' g' o
    w_h: Array  # [*kernel, hidden, 4 * hidden], i f g o
    w_m: Array  # [*kernel, hidden, 3 * hidden], i' f' g'
    w_o: Array  # [*kernel, 2 * hidden, hidden], of [c; m]
    w_l: Array  # [2 * hidden, hidden], of [c; m]
    norm_x: Norm | None = None  # with layer_norm, as all others
    norm_h: Norm | None = None
    norm_m: Norm | None = None
    norm_o: Norm | None = None


class STLSTMCarry(NamedTuple):
    """Carry of `STLSTM`. Each array is `[*batch, *space, hidden]`.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.STLSTM(4, kernel_size=3, layers=2)
    >>> params = cell.init(jax.random.key(0), in_features=1)
    >>> carry = cell.initial_carry(params, input_shape=(5, 16, 16, 1))
    >>> len(carry.h), len(carry.c), carry.m.shape
    (2, 2, (5, 16, 16, 4))
    """

    h: tuple[Array, ...]  # the hidden state of each layer
    c: tuple[Array, ...]  # the memory of each layer
    m: Array  # the memory that all layers share, as the top layer has left it


class _Written(NamedTuple):
    """What a layer writes to its two memories in one step."""

    to_c: Array  # i ⊙ g
    to_m: Array  # i' ⊙ g'


@dataclasses.dataclass(frozen=True)
class STLSTM(Cell[tuple[STLSTMLayer, ...], STLSTMCarry]):
    """PredRNN's stack of spatiotemporal LSTMs, as one cell.

    Each layer has a hidden state h and a memory c. All layers share a second memory m: within a
    step it passes through the layers from bottom to top, and the next step starts with it at the
    bottom. In each layer, x is the h of the layer below, or the input in the bottom layer:

        i, f, g     = σ, σ, tanh of x * W_x + h_{t-1} * W_h
        i', f', g'  = σ, σ, tanh of x * W_x + m * W_m
        c_t = f ⊙ c_{t-1} + i ⊙ g,    m_new = f' ⊙ m + i' ⊙ g'
        o   = σ(x * W_x + h_{t-1} * W_h + [c_t; m_new] * W_o)
        h_t = o ⊙ tanh([c_t; m_new] W_l)

    Sources: Wang et al. 2017; Wang et al. 2023, arXiv 2103.09504.

    The output is the h of the top layer. As in the published code, there are no biases, and
    `forget_bias` is added to the pre-activations of f and f'. Channels are the last axis: inputs
    `[time, *batch, *space, in]`, outputs `[time, *batch, *space, hidden]`. Every convolution `*`
    keeps the size of an image.

    Args:
        hidden: the number of channels of every state and of the output.
        kernel_size: the kernel size of all convolutions, for all spatial axes or for each. W_l
            has no kernel.
        layers: the number of layers.
        rank: the number of spatial axes, 1 to 3.
        forget_bias: a number that is added to the pre-activations of f and f' at every step.
        layer_norm: whether the result of each convolution is normalised over all positions and
            channels (Ba, Kiros & Hinton 2016). Gain and bias have one number for each channel.
        w_x_init: initialiser of W_x, drawn per gate.
        w_h_init: initialiser of all other weights, drawn per gate.

    Raises:
        ValueError: a size is not positive, there are too many or too few sizes, `forget_bias` is
            not a number, `layer_norm` is not a bool, or a name is unknown.
        TypeError: an initialiser is not a function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.STLSTM(4, kernel_size=3, layers=2)
    >>> params = cell.init(jax.random.key(0), in_features=1)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 16, 16, 1)))
    >>> len(carry.c), carry.m.shape, ys.shape
    (2, (2, 16, 16, 4), (7, 2, 16, 16, 4))
    """

    hidden: int
    kernel_size: int | tuple[int, ...]
    _: dataclasses.KW_ONLY
    layers: int = 4
    rank: int = 2
    forget_bias: float = 1.0
    layer_norm: bool = False
    w_x_init: Initializer = "lecun_normal"
    w_h_init: Initializer = "lecun_normal"

    roles: ClassVar[Mapping[str, str]] = {
        "w_x": "input",
        "w_h": "recurrent",
        "w_m": "recurrent",
        "w_o": "recurrent",
        "w_l": "projection",
        "gain": "gain",
        "b": "bias",
    }

    def __post_init__(self) -> None:
        check_fields(self, check_size, "hidden", "layers")
        check_choice(self, "rank", self.rank, (1, 2, 3))
        check_fields(self, check_sizes, "kernel_size")
        check_fields(self, check_number, "forget_bias")
        check_fields(self, check_flag, "layer_norm")
        check_fields(self, check_initializer, "w_x_init", "w_h_init")

    @property
    def feature_axes(self) -> int:  # type: ignore[override]
        """The spatial axes and the channels."""
        return self.rank + 1

    @property
    def out_features(self) -> int:
        return self.hidden

    @property
    def _same(self) -> Convolution:
        return same(self.rank)

    def init(
        self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32
    ) -> tuple[STLSTMLayer, ...]:
        sizes = [check_in_features(self, in_features), *[self.hidden] * (self.layers - 1)]
        keys = jax.random.split(key, self.layers)
        return tuple(self._draw(k, size, dtype) for k, size in zip(keys, sizes, strict=True))

    def _draw(self, key: Array, size: int, dtype: DTypeLike) -> STLSTMLayer:
        n, kernel = self.hidden, for_each_axis(self.kernel_size, self.rank)
        k_x, k_h, k_m, k_o, k_l = jax.random.split(key, 5)

        def weight(key: Array, inputs: int, gates: int) -> Array:
            return draw_gates(self.w_h_init, key, (*kernel, inputs, n), dtype, gates)

        norms = {
            f"norm_{name}": Norm(jnp.ones(gates * n, dtype), jnp.zeros(gates * n, dtype))
            for name, gates in (("x", 7), ("h", 4), ("m", 3), ("o", 1))
        }
        return STLSTMLayer(
            draw_gates(self.w_x_init, k_x, (*kernel, size, n), dtype, gates=7),
            weight(k_h, n, 4),
            weight(k_m, n, 3),
            weight(k_o, 2 * n, 1),
            draw_gates(self.w_h_init, k_l, (2 * n, n), dtype, gates=1),
            **(norms if self.layer_norm else {}),
        )

    def initial_carry(
        self, params: tuple[STLSTMLayer, ...], input_shape: tuple[int, ...]
    ) -> STLSTMCarry:
        """Return zeros, `[*batch, *space, hidden]` for every state."""
        check_no_variables(self, params)
        w_x = params[0].w_x
        self._same.check_input(self, input_shape, w_x)
        zero = jnp.zeros((*input_shape[:-1], self.hidden), wide(w_x))
        return STLSTMCarry((zero,) * self.layers, (zero,) * self.layers, zero)

    def project(self, params: tuple[STLSTMLayer, ...], xs: Array) -> tuple[Array, ...]:
        """Compute `x * W_x` of the bottom layer, one array per gate."""
        return split(self._norm(self._same(xs, params[0].w_x), params[0].norm_x), 7)

    def step(
        self,
        params: tuple[STLSTMLayer, ...],
        carry: STLSTMCarry,
        u: tuple[Array, ...],
        affine: Affine = default_affine,
    ) -> tuple[STLSTMCarry, Array]:
        after, _ = self._climb(params, carry, u, affine)
        return after, after.h[-1]

    def _climb(
        self,
        params: tuple[STLSTMLayer, ...],
        carry: STLSTMCarry,
        u: tuple[Array, ...],
        affine: Affine,
    ) -> tuple[STLSTMCarry, tuple[_Written, ...]]:
        """Take one step of all layers. Return the carry, and what each layer wrote."""
        m, hs, cs, written = carry.m, [], [], []
        for own, h, c in zip(params, carry.h, carry.c, strict=True):
            if hs:
                u = split(self._norm(affine(None, hs[-1], own.w_x, self._same), own.norm_x), 7)
            h, c, m, new = self._layer(own, h, c, m, u, affine)
            hs, cs, written = [*hs, h], [*cs, c], [*written, new]
        return STLSTMCarry(tuple(hs), tuple(cs), m), tuple(written)

    def _layer(
        self,
        own: STLSTMLayer,
        h: Array,
        c: Array,
        m: Array,
        u: tuple[Array, ...],
        affine: Affine,
    ) -> tuple[Array, Array, Array, _Written]:
        i, f, g, i_m, f_m, g_m, o = u
        i, f, g, o = self._add((i, f, g, o), h, own.w_h, own.norm_h, affine)
        i_m, f_m, g_m = self._add((i_m, f_m, g_m), m, own.w_m, own.norm_m, affine)
        new = _Written(sigmoid(i) * jnp.tanh(g), sigmoid(i_m) * jnp.tanh(g_m))
        c = sigmoid(f + self.forget_bias) * c + new.to_c
        m = sigmoid(f_m + self.forget_bias) * m + new.to_m
        both = jnp.concatenate([c, m], axis=-1)
        (o,) = self._add((o,), both, own.w_o, own.norm_o, affine)
        h = sigmoid(o) * jnp.tanh(affine(None, both, own.w_l))
        return h, c, m, new

    def _add(
        self, u: tuple[Array, ...], h: Array, w: Array, norm: Norm | None, affine: Affine
    ) -> tuple[Array, ...]:
        """Compute `u + h * W`, one array per gate. Normalise the product if there is a `norm`."""
        if norm is None:
            return affine(u, h, w, self._same)
        pieces = split(self._norm(affine(None, h, w, self._same), norm), len(u))
        return tuple(map(jnp.add, u, pieces))

    def _norm(self, z: Array, norm: Norm | None) -> Array:
        return z if norm is None else layer_norm(z, *norm, axes=self.feature_axes)


def decoupling_loss(
    cell: STLSTM,
    params: tuple[STLSTMLayer, ...],
    xs: Array,
    states: STLSTMCarry,
    adapter: Array,
) -> Array:
    """Compute PredRNN-V2's memory decoupling loss: how similar the updates of both memories are.

        mean over steps, batch, layers and channels of |cos(Δc A, Δm A)|
        Δc = i ⊙ g,    Δm = i' ⊙ g'

    The cosine is taken over all positions of a channel. Added to the training loss, it keeps the
    two memories of an `STLSTM` apart. Source: Wang et al. 2023, arXiv 2103.09504, equation 8.

    Args:
        cell: the cell.
        params: its parameters.
        xs: the inputs `[time, *batch, *space, in]`. Masks and resets are not supported.
        states: the states that `jaxrnn.trajectory` returns for these inputs.
        adapter: the matrix A, `[hidden, hidden]`, which is trained with the parameters.

    Returns:
        The loss, a number in [0, 1].

    Raises:
        ValueError: `states` are not of `xs`, or `adapter` has another shape.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.STLSTM(4, kernel_size=3, layers=2)
    >>> params = cell.init(jax.random.key(0), in_features=1)
    >>> xs = jax.random.normal(jax.random.key(1), (3, 2, 8, 8, 1))
    >>> states, ys = jaxrnn.trajectory(cell, params, xs)
    >>> loss = jaxrnn.cells.decoupling_loss(cell, params, xs, states, jnp.eye(4))
    >>> bool(0 < loss < 1)
    True
    """
    steps, known = len(xs), len(states.m)
    if known != steps + 1:
        raise ValueError(
            f"decoupling_loss: states has {known} entries, expected those before and after the "
            f"{steps} steps of xs, {steps + 1}; pass what jaxrnn.trajectory returns"
        )
    if adapter.shape != (cell.hidden, cell.hidden):
        raise ValueError(
            f"decoupling_loss: adapter has shape {adapter.shape}, expected "
            f"{(cell.hidden, cell.hidden)}, [hidden, hidden] of the cell"
        )
    before = jax.tree.map(lambda leaf: leaf[:-1], states)
    us = cell.project(params, xs)

    def one(carry: STLSTMCarry, u: tuple[Array, ...]) -> tuple[_Written, ...]:
        return cell._climb(params, carry, u, default_affine)[1]

    def unit(picture: Array) -> Array:
        seen = default_affine(None, picture, adapter)
        flat = seen.reshape(*seen.shape[: -cell.feature_axes], -1, cell.hidden)
        size = jnp.sqrt(jnp.sum(jnp.square(flat), axis=-2, keepdims=True))
        return flat / jnp.maximum(size, jnp.asarray(1e-12, flat.dtype))

    cosines = [
        jnp.sum(unit(new.to_c) * unit(new.to_m), axis=-2) for new in jax.vmap(one)(before, us)
    ]
    return jnp.mean(jnp.abs(jnp.stack(cosines)))
