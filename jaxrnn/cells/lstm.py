"""Long short-term memory."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.activations import Activation, activation
from jaxrnn.cells._gates import GatedCell, clip
from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.check import check_choice, check_fields, check_in_features, check_limit, check_size
from jaxrnn.core.dtypes import promote
from jaxrnn.initializers import Chrono, Initializer, draw_gates


class LSTMParams(NamedTuple):
    """Parameters of `LSTM`.

    The gates are concatenated on the last axis in the order i f g o, or f g o if `coupled`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.LSTM(4).init(jax.random.key(0), in_features=3)
    >>> params.w_x.shape, params.w_h.shape, params.b.shape
    ((3, 16), (4, 16), (16,))
    """

    w_x: Array  # [in, gates * hidden]
    w_h: Array  # [out, gates * hidden]
    b: Array | None  # [gates * hidden]
    p_i: Array | None = None  # [hidden], peepholes; p_i is None if coupled
    p_f: Array | None = None
    p_o: Array | None = None
    w_r: Array | None = None  # [hidden, projection]
    gain: Array | None = None  # [gates * hidden], with layer_norm
    gain_c: Array | None = None  # [hidden], with layer_norm="gates_and_cell"
    b_c: Array | None = None  # [hidden], with layer_norm="gates_and_cell"


class LSTMCarry(NamedTuple):
    """Carry of `LSTM`: the hidden state and the memory.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.LSTM(4)
    >>> carry = jaxrnn.LSTMCarry(h=jnp.zeros((2, 4)), c=jnp.ones((2, 4)))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, y = jaxrnn.step(cell, params, carry, jnp.ones((2, 3)))
    >>> carry.h.shape, carry.c.shape
    ((2, 4), (2, 4))
    """

    h: Array  # [*batch, projection or hidden]
    c: Array  # [*batch, hidden]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTM(GatedCell[LSTMParams, LSTMCarry]):
    """Long short-term memory with a forget gate.

        i, f, o = σ(x_t W_x + h_{t-1} W_h + b) for each gate,    g = tanh(likewise)
        c_t = f ⊙ c_{t-1} + i ⊙ g,    h_t = o ⊙ tanh(c_t),    y_t = h_t

    Sources: Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000 for the forget gate.

    The options can be combined:

    - `peepholes`: `p_i ⊙ c_{t-1}` is added within i, `p_f ⊙ c_{t-1}` within f, `p_o ⊙ c_t` within o
      (Gers & Schmidhuber 2000).
    - `coupled`: `i = 1 - f`, and there are no weights for i (Greff et al. 2015).
    - `projection`: `h_t = (o ⊙ tanh(c_t)) W_r` (Sak, Senior & Beaufays 2014).
    - `clip`: the pre-activations of i, f, g and o are clipped to [-clip, clip], as in ONNX.
    - `cell_clip`: `c_t` is clipped to [-cell_clip, cell_clip] (Sak et al. 2014).
    - `layer_norm`: `LN(x_t W_x + h_{t-1} W_h) ⊙ gain + b` enters each gate, which is normalised
      separately; with "gates_and_cell", also `h_t = o ⊙ tanh(LN(c_t) ⊙ gain_c + b_c)` (Ba, Kiros &
      Hinton 2016).

    Args:
        hidden: the size of the memory. Without a projection, it is also the size of the hidden
            state and of the output.
        bias: whether there is a `b`.
        forget_bias: a number that is added to the forget gate's initial bias, so that the cell
            keeps its memory at first (Jozefowicz et al. 2015); or `Chrono(longest)`, which also
            changes the input gate's bias. It has no effect with `bias=False`.
        peepholes: whether the gates depend on the memory.
        coupled: whether the input gate is `1 - f`.
        projection: the size of the hidden state and of the output, at most `hidden`.
        clip: the bound of the pre-activations.
        cell_clip: the bound of the memory.
        layer_norm: None, `"gates"` to normalise each gate, or `"gates_and_cell"` to normalise the
            memory, too.
        gate_activation: used in place of σ; a name or a pointwise function.
        candidate_activation: used in place of the tanh in g.
        output_activation: used in place of the tanh of c.
        w_x_init: initialiser of the input weights, drawn per gate.
        w_h_init: initialiser of the recurrent weights, drawn per gate, and of the projection.
        b_init: initialiser of the bias, drawn per gate.
        p_init: initialiser of the peepholes.

    Raises:
        ValueError: a size or a bound is not positive, the projection is wider than `hidden`,
            `forget_bias` is neither a number nor a `Chrono`, a flag is not a bool, or a name is
            unknown.
        TypeError: an activation or an initialiser is not a function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.LSTM(hidden=4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> carry.h.shape, carry.c.shape, ys.shape
    ((2, 4), (2, 4), (7, 2, 4))
    >>> cell = jaxrnn.LSTM(hidden=4, projection=2, peepholes=True, coupled=True, layer_norm="gates")
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> carry.h.shape, carry.c.shape, ys.shape
    ((2, 2), (2, 4), (7, 2, 2))
    """

    forget_bias: float | Chrono = 1.0
    peepholes: bool = False
    coupled: bool = False
    projection: int | None = None
    cell_clip: float | None = None
    layer_norm: Literal["gates", "gates_and_cell"] | None = None
    gate_activation: Activation = "sigmoid"
    candidate_activation: Activation = "tanh"
    output_activation: Activation = "tanh"
    p_init: Initializer = "zeros"

    roles: ClassVar[Mapping[str, str]] = {**GatedCell.roles, "gain_c": "gain", "b_c": "bias"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, check_limit, "cell_clip")
        check_choice(self, "layer_norm", self.layer_norm, (None, "gates", "gates_and_cell"))
        if self.projection is not None:
            check_fields(self, check_size, "projection")
            if self.projection > self.hidden:
                raise ValueError(
                    f"LSTM: projection is {self.projection}, expected at most hidden, {self.hidden}"
                    "; make hidden larger, or projection smaller"
                )

    @property
    def order(self) -> str:  # type: ignore[override]
        """The order of the gates: i f g o, or f g o if `coupled`."""
        return "fgo" if self.coupled else "ifgo"

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> LSTMParams:
        in_features = check_in_features(self, in_features)
        k_x, k_h, k_b, k_p, k_r = jax.random.split(key, 5)
        k_b, k_f = jax.random.split(k_b)
        w_x, w_h = self.draw_weights(k_x, k_h, in_features, dtype)
        added = {"f": self.draw_initial(self.forget_bias, k_f, dtype)}
        if isinstance(self.forget_bias, Chrono):
            added["i"] = -added["f"]
        hidden, shape = self.hidden, (self.hidden, self.out_features)
        cell_norm = self.layer_norm == "gates_and_cell"
        return LSTMParams(
            w_x,
            w_h,
            self.draw_bias(k_b, dtype, added),
            **self._draw_peepholes(k_p, dtype),
            w_r=draw_gates(self.w_h_init, k_r, shape, dtype, gates=1) if self.projection else None,
            gain=jnp.ones(self.gates * hidden, dtype) if self.layer_norm else None,
            gain_c=jnp.ones(hidden, dtype) if cell_norm else None,
            b_c=jnp.zeros(hidden, dtype) if cell_norm else None,
        )

    def _draw_peepholes(self, key: Array, dtype: DTypeLike) -> dict[str, Array]:
        if not self.peepholes:
            return {}
        drawn = zip("ifo", jax.random.split(key, 3), strict=True)
        return {
            f"p_{gate}": draw_gates(self.p_init, k, self._peephole_shape, dtype, gates=1)
            for gate, k in drawn
            if gate in self.order
        }

    @property
    def _peephole_shape(self) -> tuple[int, ...]:
        return (self.hidden,)

    def initial_carry(self, params: LSTMParams, input_shape: tuple[int, ...]) -> LSTMCarry:
        """Return `h = 0`, `[*batch, projection or hidden]`, and `c = 0`, `[*batch, hidden]`."""
        sizes = self.out_features, self.hidden
        return LSTMCarry(*(self.zeros(params, input_shape, size) for size in sizes))

    def step(
        self,
        params: LSTMParams,
        carry: LSTMCarry,
        u: tuple[Array, ...],
        affine: Affine = default_affine,
    ) -> tuple[LSTMCarry, Array]:
        gate, candidate, output = map(
            activation, (self.gate_activation, self.candidate_activation, self.output_activation)
        )
        z = dict(zip(self.order, affine(u, carry.h, params.w_h, self.linear), strict=True))

        def entering(name: str, peephole: Array | None = None, c: Array = carry.c) -> Array:
            seen = self.normal(params, name, z[name])
            return clip(seen if peephole is None else seen + promote(peephole, c) * c, self.clip)

        f = gate(entering("f", params.p_f))
        i = 1 - f if self.coupled else gate(entering("i", params.p_i))
        c = clip(f * carry.c + i * candidate(entering("g")), self.cell_clip)
        o = gate(entering("o", params.p_o, c))
        m = c if params.gain_c is None else self.norm(c, params.gain_c, params.b_c)
        h = o * output(m)
        if params.w_r is not None:
            h = affine(None, h, params.w_r)
        return LSTMCarry(h, c), h

    @property
    def out_features(self) -> int:
        """The size of the output: `projection`, or `hidden` if that is None."""
        return self.hidden if self.projection is None else self.projection
