"""Cells as a user writes them, each with its equations in NumPy: what the contract allows beyond
the built-in cells.

Between them they have parameters in a dict, inputs that are a pytree, an initial carry that depends
on the parameters, two dependent products, parameters used pointwise, integer parameters and
carries, `u` inside and outside `affine`, a bilinear product that is not a matmul, and two steps
that break the law of `affine` and must still be right."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from tests.support.papers import sigmoid
from tests.support.reference import Equations

Array = Any


def wide(*arrays: Array) -> Any:
    """At least float32."""
    return max(
        (jnp.dtype(jnp.float32), *(a.dtype for a in arrays)),
        key=lambda dtype: jnp.finfo(dtype).bits,
    )


def draw(key: Array, dtype: Any, **shapes: tuple[int, ...]) -> dict[str, Array]:
    """Normal parameters of moderate size."""
    keys = jax.random.split(key, len(shapes))
    return {
        name: (0.5 * jax.random.normal(k, shape)).astype(dtype)
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def times(x: Array, w: Array) -> Array:
    """`x @ w` by the dtype rule; `affine` is the one public function that owns it."""
    return jaxrnn.affine(None, x, w)


@dataclasses.dataclass(frozen=True)
class Plain(jaxrnn.Cell):
    """What the cells below share: `hidden` units, started at zero."""

    hidden: int

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return jnp.zeros((*input_shape[:-1], self.hidden), wide(params["w_h"]))

    def project(self, params: Any, xs: Any) -> Any:
        return times(xs, params["w_x"])

    @property
    def out_features(self) -> int:
        return self.hidden


def zeros(params: Any, x: Any) -> Any:
    del x
    return np.zeros(params["w_h"].shape[0])


class Timed(NamedTuple):
    """Irregular samples: what was seen, and how long after the sample before."""

    features: Array  # [time, *batch, in]
    elapsed: Array  # [time, *batch]


@dataclasses.dataclass(frozen=True)
class Decaying(Plain):
    """The state decays with the time elapsed (Che et al. 2018), from a start that is learned; `y`
    is not the state.
    """

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        return draw(
            key,
            dtype,
            w_x=(in_features, n),
            w_h=(n, n),
            b=(n,),
            rate=(n,),
            start=(n,),
            gain=(n - 1,),
        )

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        start = params["start"].astype(wide(params["w_h"]))
        return {"h": jnp.tanh(jnp.broadcast_to(start, (*input_shape[:-1], self.hidden)))}

    def project(self, params: Any, xs: Timed) -> Any:
        z = times(xs.features, params["w_x"])
        rate = jax.nn.softplus(params["rate"].astype(z.dtype))
        return {"z": z, "keep": jnp.exp(-rate * xs.elapsed[..., None].astype(z.dtype))}

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (z,) = affine((u["z"],), u["keep"] * carry["h"], params["w_h"])
        h = jnp.tanh(z + params["b"].astype(z.dtype))
        return {"h": h}, h[..., 1:] * params["gain"].astype(h.dtype)

    @property
    def out_features(self) -> int:
        return self.hidden - 1


def _decaying_step(params: Any, carry: Any, x: Timed) -> Any:
    keep = np.exp(-np.log(1 + np.exp(params["rate"])) * x.elapsed)
    h = np.tanh(params["w_x"].T @ x.features + params["w_h"].T @ (keep * carry["h"]) + params["b"])
    return {"h": h}, h[1:] * params["gain"]


DECAYING = Equations(lambda params, x: {"h": np.tanh(params["start"])}, _decaying_step)


@dataclasses.dataclass(frozen=True)
class DeepTransition(Plain):
    """Two products in a step, the second of what the first gave (Pascanu et al. 2014)."""

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        return draw(key, dtype, w_x=(in_features, n), w_h=(n, n), w_d=(n, n), b=(n,))

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (a,) = affine((u,), carry, params["w_h"])
        (z,) = affine((params["b"].astype(a.dtype),), jnp.tanh(a), params["w_d"])
        h = jnp.tanh(z)
        return h, h


def _deep_transition_step(params: Any, h: Any, x: Any) -> Any:
    a = np.tanh(params["w_x"].T @ x + params["w_h"].T @ h)
    h = np.tanh(params["w_d"].T @ a + params["b"])
    return h, h


DEEP_TRANSITION = Equations(zeros, _deep_transition_step)


@dataclasses.dataclass(frozen=True)
class Highway(Plain):
    """`u` inside `affine` and outside it, the same part, and two pointwise parameters."""

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        return draw(key, dtype, w_x=(in_features, n), w_h=(n, n), gain=(n,), b=(n,))

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (z,) = affine((u,), carry, params["w_h"])
        gain, b = params["gain"].astype(u.dtype), params["b"].astype(u.dtype)
        keep = jax.nn.sigmoid(gain * u + b)
        h = keep * carry + (1 - keep) * jnp.tanh(z)
        return h, h + u


def _highway_step(params: Any, h: Any, x: Any) -> Any:
    u = params["w_x"].T @ x
    keep = sigmoid(params["gain"] * u + params["b"])
    h = keep * h + (1 - keep) * np.tanh(u + params["w_h"].T @ h)
    return h, h + u


HIGHWAY = Equations(zeros, _highway_step)


class ClockworkCarry(NamedTuple):
    """State, and the number of the step."""

    h: Array  # [*batch, hidden]
    t: Array  # [*batch], int32


@dataclasses.dataclass(frozen=True)
class Clockwork(Plain):
    """Each unit has a period and moves only then (Koutník et al. 2014): integers among the
    parameters and in the carry.
    """

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        periods = jnp.array([1, 2, 3, 4][:n], jnp.int32)
        return {**draw(key, dtype, w_x=(in_features, n), w_h=(n, n)), "periods": periods}

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return ClockworkCarry(
            super().initial_carry(params, input_shape), jnp.zeros(input_shape[:-1], jnp.int32)
        )

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        z = u + affine(None, carry.h, params["w_h"])
        due = carry.t[..., None] % params["periods"] == 0
        h = jnp.where(due, jnp.tanh(z), carry.h)
        return ClockworkCarry(h, carry.t + 1), h


def _clockwork_step(params: Any, carry: Any, x: Any) -> Any:
    h, t = carry
    moved = np.tanh(params["w_x"].T @ x + params["w_h"].T @ h)
    h = np.array(
        [moved[k] if t % period == 0 else h[k] for k, period in enumerate(params["periods"])]
    )
    return (h, t + 1), h


CLOCKWORK = Equations(lambda params, x: (zeros(params, x), np.int32(0)), _clockwork_step)


def circular(h: Array, w: Array) -> Array:
    """The convolution on a ring: `h [..., width, in]` with `w [3, in, out]`."""
    return sum(times(jnp.roll(h, k - 1, axis=-2), w[k]) for k in range(3))


@dataclasses.dataclass(frozen=True)
class Ring(Plain):
    """A convolution as the recurrent product, of inputs `[*batch, width, channels]` (after Shi et
    al. 2015).
    """

    feature_axes = 2

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        return draw(key, dtype, w_x=(3, in_features, n), w_h=(3, n, n), b=(n,))

    def project(self, params: Any, xs: Any) -> Any:
        us = circular(xs, params["w_x"])
        return us + params["b"].astype(us.dtype)

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (z,) = affine((u,), carry, params["w_h"], linear=circular)
        h = jnp.tanh(z)
        return h, h


def _ring_step(params: Any, h: Any, x: Any) -> Any:
    width = len(x)
    new = np.zeros_like(h)
    for p in range(width):
        new[p] = params["b"]
        for k in range(3):
            new[p] += (
                params["w_x"][k].T @ x[(p + 1 - k) % width]
                + params["w_h"][k].T @ h[(p + 1 - k) % width]
            )
    new = np.tanh(new)
    return new, new


RING = Equations(lambda params, x: np.zeros((len(x), params["w_h"].shape[-1])), _ring_step)


def each_row(h: Array, w: Array) -> Array:
    """A product with a matrix of its own for each row: `h [..., n]`, `w [..., n, m]`."""
    return jnp.einsum("...n,...nm->...m", h.astype(w.dtype), w, preferred_element_type=wide(w))


@dataclasses.dataclass(frozen=True)
class FastWeights(Plain):
    """Breaks the law: the input writes into the weight, which therefore does not depend on the
    parameters alone.
    """

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        return draw(key, dtype, w_x=(in_features, n), w_h=(n, n))

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        w = params["w_h"].astype(u.dtype) * (1 + jnp.tanh(u))[..., None]
        (z,) = affine((u,), carry, w, linear=each_row)
        h = jnp.tanh(z)
        return h, h


def _fast_weights_step(params: Any, h: Any, x: Any) -> Any:
    u = params["w_x"].T @ x
    h = np.tanh(u + ((1 + np.tanh(u))[:, None] * params["w_h"]).T @ h)
    return h, h


FAST_WEIGHTS = Equations(zeros, _fast_weights_step)


@dataclasses.dataclass(frozen=True)
class Rematerialised(Plain):
    """Breaks the law: `affine` is called under `jax.checkpoint`."""

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        return draw(key, dtype, w_x=(in_features, n), w_h=(n, n))

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (z,) = jax.checkpoint(lambda u, h, w: affine((u,), h, w))(u, carry, params["w_h"])
        h = jnp.tanh(z)
        return h, h


def _rematerialised_step(params: Any, h: Any, x: Any) -> Any:
    h = np.tanh(params["w_x"].T @ x + params["w_h"].T @ h)
    return h, h


REMATERIALISED = Equations(zeros, _rematerialised_step)


@dataclasses.dataclass(frozen=True)
class Leaky(jaxrnn.LinearCell):
    """A linear recurrence whose decay depends on the input, read by an output layer with a skip:
    `h_t = a_t ∘ h_{t-1} + (1 - a_t) ∘ x_t W_x`, `y_t = h_t W_o + x_t W_d`.
    """

    hidden: int
    out: int

    roles = {**jaxrnn.Cell.roles, "w_o": "output", "w_d": "output"}  # noqa: RUF012

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        shapes = {"w_x": (in_features, n), "w_a": (in_features, n)}
        return draw(key, dtype, **shapes, w_o=(n, self.out), w_d=(in_features, self.out))

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return jnp.zeros((*input_shape[:-1], self.hidden), wide(params["w_x"]))

    def project(self, params: Any, xs: Any) -> Any:
        return jax.nn.sigmoid(times(xs, params["w_a"])), times(xs, params["w_x"])

    def coefficients(self, params: Any, u: Any) -> Any:
        a, x = u
        return a, (1 - a) * x

    def read(self, params: Any, ys: Any, xs: Any) -> Any:
        return times(ys, params["w_o"]) + times(xs, params["w_d"])

    @property
    def out_features(self) -> int:
        return self.out


def _leaky_step(params: Any, h: Any, x: Any) -> Any:
    a = sigmoid(params["w_a"].T @ x)
    h = a * h + (1 - a) * (params["w_x"].T @ x)
    return h, params["w_o"].T @ h + params["w_d"].T @ x


LEAKY = Equations(lambda params, x: np.zeros(params["w_x"].shape[1]), _leaky_step)


@dataclasses.dataclass(frozen=True)
class Attending(jaxrnn.ContextCell):
    """A decoder that looks at a memory `[*batch, places, in]`, which padding leaves out: keys are
    made once, and two products are with the memory.
    """

    hidden: int

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        n = self.hidden
        return draw(key, dtype, w_x=(in_features, n), w_h=(n, n), w_k=(in_features, n), b=(n,))

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return jnp.zeros((*input_shape[:-1], self.hidden), wide(params["w_h"]))

    def prepare(self, params: Any, context: Any) -> Any:
        memory, valid = context
        return times(memory, params["w_k"]), valid

    def project(self, params: Any, xs: Any) -> Any:
        return times(xs, params["w_x"])

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        own, (keys, valid) = params
        scores = affine(None, carry, keys, linear=_score)
        weights = jax.nn.softmax(scores, axis=-1, where=valid)
        seen = affine(None, weights, keys, linear=_mix)
        (z,) = affine((u,), carry, own["w_h"])
        h = jnp.tanh(z + seen + own["b"].astype(z.dtype))
        return h, h

    @property
    def out_features(self) -> int:
        return self.hidden


def _score(h: Array, keys: Array) -> Array:
    return jnp.einsum("...n,...pn->...p", h, keys)


def _mix(weights: Array, keys: Array) -> Array:
    return jnp.einsum("...p,...pn->...n", weights, keys)
