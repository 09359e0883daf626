"""`check_cell` passes every cell of the list, and says what is wrong with cells that are."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn.testing import check_cell
from tests.support.specs import some
from tests.support.user_cells import wide


@some(
    "elman_tanh",
    "lstm_all",
    "stack_with_both",
    "zoneout",
    "learned_carry",
    "user_deep_transition",
)
def test_good_cells_pass(spec):
    check_cell(spec.cell, spec.in_features)


@dataclasses.dataclass(frozen=True)
class Good(jaxrnn.Cell):
    """What the faulty ones below break in one place each."""

    hidden: int = 4

    def init(self, key: Any, in_features: int, dtype: Any = jnp.float32) -> Any:
        k_x, k_h = jax.random.split(key)
        draw = lambda k, n: (0.5 * jax.random.normal(k, (n, self.hidden))).astype(dtype)  # noqa: E731
        return {"w_x": draw(k_x, in_features), "w_h": draw(k_h, self.hidden)}

    def initial_carry(self, params: Any, input_shape: tuple[int, ...]) -> Any:
        return jnp.zeros((*input_shape[:-1], self.hidden), wide(params["w_h"]))

    def project(self, params: Any, xs: Any) -> Any:
        return jaxrnn.affine(None, xs, params["w_x"])

    def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
        (z,) = affine((u,), carry, params["w_h"])
        h = jnp.tanh(z)
        return h, h

    @property
    def out_features(self) -> int:
        return self.hidden


class Mutable(Good):
    def __init__(self) -> None:
        object.__setattr__(self, "hidden", 4)
        object.__setattr__(self, "extra", [])

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class NarrowCarry(Good):
    def initial_carry(self, params, input_shape):
        return jnp.zeros((*input_shape[:-1], self.hidden), params["w_h"].dtype)


class MixesTime(Good):
    def project(self, params, xs):
        return super().project(params, xs - jnp.mean(xs, axis=0))


class OneBatchAxis(Good):
    def initial_carry(self, params, input_shape):
        return jnp.zeros((input_shape[0], self.hidden), wide(params["w_h"]))


class WrongSize(Good):
    @property
    def out_features(self):
        return 7


class WrongShape(Good):
    feature_axes = 2

    def read(self, params, ys, xs):
        return ys[..., :1, :]


class WeightFromInput(Good):
    def step(self, params, carry, u, affine=jaxrnn.affine):
        (z,) = affine((u,), carry, params["w_h"] * jnp.mean(u))
        h = jnp.tanh(z)
        return h, h


class WidensCarry(Good):
    def step(self, params, carry, u, affine=jaxrnn.affine):
        carry, y = super().step(params, carry, u, affine)
        return carry[..., :1] * 1.0, y


class EqualArrays(Good):
    def step(self, params, carry, u, affine=jaxrnn.affine):
        (z,) = affine((u,), carry, params["w_h"])
        return jnp.tanh(z), jnp.tanh(z)


class NoAffine(Good):
    def step(self, params, carry, u, affine=jaxrnn.affine):
        h = jnp.tanh(u + carry @ params["w_h"])
        return h, h


class BareArray(Good):
    def step(self, params, carry, u, affine=jaxrnn.affine):
        (z,) = affine(u, carry, params["w_h"])
        return z, z


class NoPair(Good):
    def step(self, params, carry, u, affine=jaxrnn.affine):
        return super().step(params, carry, u, affine)[0]


def test_the_cell_that_the_faulty_ones_come_from_is_good():
    check_cell(Good())


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (Mutable(), "its copy does not equal it"),
        (NarrowCarry(), "has dtype bfloat16, expected at least float32"),
        (MixesTime(), "it must not mix time"),
        (OneBatchAxis(), "batch axes: "),
        (WrongSize(), "out_features is 7, but the output has 4 features"),
        (WrongShape(), r"output_shape is \(8, 3, 4\), but the output has shape \(8, 1, 4\)"),
        (WeightFromInput(), "falls back to JAX's own derivative"),
        (WidensCarry(), "a carry keeps its structure, shapes and dtypes"),
        (EqualArrays(), "y equals the new carry, but is another array"),
        (NoPair(), r"drivers, gradients, .*: NoPair.step returned a \w+, expected the pair"),
        (NoAffine(), r"multiplies a part of the carry by a parameter, \(8, 4\) and \(4, 4\)"),
        (BareArray(), r"output, drivers, .*: affine: u is one array \(8, 4\), .*; pass \(u,\)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, jaxrnn.Cell) else "",
)
def test_what_is_wrong_is_said(cell, message):
    with pytest.raises(AssertionError, match=message):
        check_cell(cell)


def test_what_is_no_cell_is_said():
    with pytest.raises(
        AssertionError, match=r"cell is .*, expected a jaxrnn.Cell; construct it first"
    ):
        check_cell(jaxrnn.GRU)  # type: ignore[arg-type]
