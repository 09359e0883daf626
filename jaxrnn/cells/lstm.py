"""Long short-term memory."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.activations import Activation, activation, check_activation
from jaxrnn.core import affine as _numerics
from jaxrnn.core.cell import Affine, Cell
from jaxrnn.core.check import (
    check_choice,
    check_fields,
    check_flag,
    check_in_features,
    check_limit,
    check_size,
)
from jaxrnn.initializers import Chrono, Initializer, check_initial, check_initializer, draw_gates


class LSTMParams(NamedTuple):
    """Parameters of `LSTM`; the gates stand side by side on the last axis in the order i f g o, or
    f g o if `coupled`.
    """

    w_x: Array  # [in, gates * hidden]
    w_h: Array  # [out, gates * hidden]
    b: Array | None  # [gates * hidden]
    p_i: Array | None = None  # [hidden], peepholes; None for the input gate if it is coupled
    p_f: Array | None = None
    p_o: Array | None = None
    w_r: Array | None = None  # [hidden, projection]
    gain: Array | None = None  # [gates * hidden], of the layer normalisation of each gate
    gain_c: Array | None = None  # [hidden], of that of the memory
    b_c: Array | None = None  # [hidden]


class LSTMCarry(NamedTuple):
    """The carry of `LSTM`: hidden state `[*batch, projection or hidden]` and cell memory `[*batch,
    hidden]`.
    """

    h: Array
    c: Array


@dataclasses.dataclass(frozen=True)
class LSTM(Cell):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber &
    Cummins 2000).

        i, f, o = σ(x_t W_x + h_{t-1} W_h + b) for each gate,    g = tanh(likewise)
        c_t = f ⊙ c_{t-1} + i ⊙ g,    h_t = o ⊙ tanh(c_t),    y_t = h_t

    With options, which combine:

        peepholes       p_i ⊙ c_{t-1} and p_f ⊙ c_{t-1} are added within i and f, p_o ⊙ c_t within o   (Gers & Schmidhuber 2000)
        coupled         i = 1 - f, and no weights for i                              (Greff et al. 2015)
        projection      h_t = (o ⊙ tanh(c_t)) W_r                                    (Sak, Senior & Beaufays 2014)
        clip            all that enters i, f, g and o is clipped to [-clip, clip]    (as ONNX has it)
        cell_clip       c_t is clipped to [-cell_clip, cell_clip]                    (Sak et al. 2014)
        layer_norm      LN(x_t W_x + h_{t-1} W_h) ⊙ gain + b for each gate by itself;
                        "gates_and_cell" also h_t = o ⊙ tanh(LN(c_t) ⊙ gain_c + b_c) (Ba, Kiros & Hinton 2016)

    Args:
        hidden: size of the memory; of the state and the output, too, unless there is a projection.
        bias: whether there is a `b`.
        forget_bias: added to the forget gate's initial bias, so that memory is kept at first
            (Jozefowicz et al. 2015); or `Chrono(longest)`, which sets the input gate's bias too.
            Without a bias it has no effect.
        peepholes: whether the gates see the memory.
        coupled: whether what is not forgotten is what is not written.
        projection: size of the state and the output, at most `hidden`.
        clip: bound of what enters the gates.
        cell_clip: bound of the memory.
        layer_norm: normalise each gate, `"gates"`, or the memory too, `"gates_and_cell"`.
        gate_activation: instead of σ; a name or a pointwise function.
        candidate_activation: instead of the tanh in g.
        output_activation: instead of the tanh of c.
        w_x_init: initialiser of the input weights, drawn per gate.
        w_h_init: initialiser of the recurrent weights, drawn per gate, and of the projection.
        b_init: initialiser of the bias, drawn per gate.
        p_init: initialiser of the peepholes.

    Raises:
        ValueError: a size or a bound is not positive, the projection is wider than `hidden`, a flag
            is no bool, or a name is unknown.
        TypeError: an activation or an initialiser is no function of its arguments.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.LSTM(hidden=4)
    >>> carry, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> carry.h.shape, carry.c.shape, ys.shape
    ((2, 4), (2, 4), (7, 2, 4))
    >>> cell = jaxrnn.LSTM(hidden=4, projection=2, peepholes=True, coupled=True, layer_norm="gates")
    >>> carry, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> carry.h.shape, carry.c.shape, ys.shape
    ((2, 2), (2, 4), (7, 2, 2))
    """

    hidden: int
    bias: bool = True
    forget_bias: float | Chrono = 1.0
    peepholes: bool = False
    coupled: bool = False
    projection: int | None = None
    clip: float | None = None
    cell_clip: float | None = None
    layer_norm: Literal["gates", "gates_and_cell"] | None = None
    gate_activation: Activation = "sigmoid"
    candidate_activation: Activation = "tanh"
    output_activation: Activation = "tanh"
    w_x_init: Initializer = "lecun_normal"
    w_h_init: Initializer = "orthogonal"
    b_init: Initializer = "zeros"
    p_init: Initializer = "zeros"

    def __post_init__(self) -> None:
        check_fields(self, check_size, "hidden")
        if self.projection is not None:
            check_fields(self, check_size, "projection")
            if self.projection > self.hidden:
                raise ValueError(
                    f"LSTM: projection is {self.projection}, expected at most hidden, {self.hidden}"
                )
        check_fields(self, check_flag, "bias", "peepholes", "coupled")
        check_fields(self, check_initial, "forget_bias")
        check_fields(self, check_limit, "clip", "cell_clip")
        check_choice(self, "layer_norm", self.layer_norm, (None, "gates", "gates_and_cell"))
        check_fields(self, check_activation, "gate_activation", "candidate_activation")
        check_fields(self, check_activation, "output_activation")
        check_fields(self, check_initializer, "w_x_init", "w_h_init", "b_init", "p_init")

    @property
    def _gates(self) -> str:
        return "fgo" if self.coupled else "ifgo"

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> LSTMParams:
        """Draw the parameters."""
        in_features = check_in_features(self, in_features)
        k_x, k_h, k_b, k_p, k_r = jax.random.split(key, 5)
        gates, hidden = len(self._gates), self.hidden
        peephole = dict.fromkeys("ifo")
        if self.peepholes:
            drawn = zip("ifo", jax.random.split(k_p, 3), strict=True)
            peephole |= {
                gate: draw_gates(self.p_init, k, (hidden,), dtype, gates=1)
                for gate, k in drawn
                if gate in self._gates
            }
        cell_norm = self.layer_norm == "gates_and_cell"
        return LSTMParams(
            w_x=draw_gates(self.w_x_init, k_x, (in_features, hidden), dtype, gates=gates),
            w_h=draw_gates(self.w_h_init, k_h, (self.out_features, hidden), dtype, gates=gates),
            b=self._init_bias(k_b, dtype) if self.bias else None,
            p_i=peephole["i"],
            p_f=peephole["f"],
            p_o=peephole["o"],
            w_r=None
            if self.projection is None
            else draw_gates(self.w_h_init, k_r, (hidden, self.projection), dtype, gates=1),
            gain=None if self.layer_norm is None else jnp.ones(gates * hidden, dtype),
            gain_c=jnp.ones(hidden, dtype) if cell_norm else None,
            b_c=jnp.zeros(hidden, dtype) if cell_norm else None,
        )

    def _init_bias(self, key: Array, dtype: Any) -> Array:
        k_b, k_f = jax.random.split(key)
        parts = _numerics.split(
            draw_gates(self.b_init, k_b, (self.hidden,), dtype, gates=len(self._gates)),
            len(self._gates),
        )
        b = dict(zip(self._gates, parts, strict=True))
        if isinstance(self.forget_bias, Chrono):
            longest = self.forget_bias(k_f, (self.hidden,), dtype)
            b |= {
                gate: b[gate] + sign * longest for gate, sign in (("i", -1), ("f", 1)) if gate in b
            }
        else:
            b["f"] = b["f"] + jnp.asarray(self.forget_bias, dtype)
        return jnp.concatenate(list(b.values()))

    def initial_carry(self, params: LSTMParams, input_shape: tuple[int, ...]) -> LSTMCarry:
        """`h = c = 0`."""
        batch, dtype = input_shape[:-1], _numerics.wide(params.w_h)
        return LSTMCarry(
            h=jnp.zeros((*batch, self.out_features), dtype),
            c=jnp.zeros((*batch, self.hidden), dtype),
        )

    def project(self, params: LSTMParams, xs: Array) -> tuple[Array, ...]:
        """`x W_x + b`, one array per gate; without b where a normalisation comes first."""
        return _numerics.project(
            xs, params.w_x, params.b if self.layer_norm is None else None, gates=len(self._gates)
        )

    def step(
        self,
        params: LSTMParams,
        carry: LSTMCarry,
        u: tuple[Array, ...],
        affine: Affine = _numerics.affine,
    ) -> tuple[LSTMCarry, Array]:
        """One step of the equations above."""
        gate, candidate, output = map(
            activation, (self.gate_activation, self.candidate_activation, self.output_activation)
        )
        z = affine(u, carry.h, params.w_h)
        if params.gain is not None:
            z = _numerics.normalize_gates(z, params.gain, params.b)
        z = dict(zip(self._gates, z, strict=True))

        def entering(name: str, peephole: Array | None, c: Array) -> Array:
            seen = z[name] if peephole is None else z[name] + _numerics.promote(peephole, c) * c
            return _numerics.clip(seen, self.clip)

        f = gate(entering("f", params.p_f, carry.c))
        i = 1 - f if self.coupled else gate(entering("i", params.p_i, carry.c))
        g = candidate(_numerics.clip(z["g"], self.clip))
        c = _numerics.clip(f * carry.c + i * g, self.cell_clip)
        o = gate(entering("o", params.p_o, c))
        m = c if params.gain_c is None else _numerics.layer_norm(c, params.gain_c, params.b_c)
        h = o * output(m)
        if params.w_r is not None:
            h = affine(None, h, params.w_r)
        return LSTMCarry(h, c), h

    @property
    def gates(self) -> int:
        """i f g o, or f g o if `coupled`."""
        return len(self._gates)

    @property
    def out_features(self) -> int:
        """`projection`, or `hidden` without one."""
        return self.hidden if self.projection is None else self.projection
