"""What all conversions of states promise: what does not fit is refused by name, traced arrays pass,
and gates are reordered where there is no converter.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, Residual, Reversed, Stack, convert
from tests.support.conversions import random_inputs, random_like, random_params
from tests.support.helpers import assert_equal

BOTH = Bidirectional(LSTM(4))
DEEP = Stack([BOTH, BOTH])
MIXED = Stack([Reversed(LSTM(4)), Stack([GRU(3), jaxrnn.LearnedCarry(Elman(2))])])


def start_of(cell: jaxrnn.Cell, dtype: str = "float32") -> Any:
    params = random_params(cell)
    return random_like(cell.initial_carry(params, (2, 3)), dtype)


@pytest.mark.parametrize(
    ("cell", "write", "read"),
    [
        (DEEP, convert.carry_to_torch, convert.carry_from_torch),
        (Bidirectional(GRU(4)), convert.carry_to_torch, convert.carry_from_torch),
        (Bidirectional(MIXED), convert.carry_to_keras, convert.carry_from_keras),
        (DEEP, convert.carry_to_onnx, convert.carry_from_onnx),
        (MIXED, convert.carry_to_onnx, convert.carry_from_onnx),
    ],
)
def test_there_and_back(cell, write, read):
    """Bit by bit, with any batch axes, and traced."""
    carry = start_of(cell, "bfloat16")
    assert_equal(read(cell, write(cell, carry)), carry)
    alone = jax.tree.map(lambda leaf: leaf[0], carry)
    assert_equal(read(cell, write(cell, alone)), alone)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), carry)
    assert_equal(jax.vmap(lambda c: read(cell, write(cell, c)))(twice), twice)


def test_order_of_layers_and_directions():
    """Layer by layer, the forward direction first, h before c."""
    form = DEEP.initial_carry(random_params(DEEP), (1, 3))
    leaves, structure = jax.tree.flatten(form)
    carry = jax.tree.unflatten(structure, [0 * leaf + k for k, leaf in enumerate(leaves)])
    h, c = convert.carry_to_torch(DEEP, carry)
    assert (h[:, 0, 0].tolist(), c[:, 0, 0].tolist()) == ([0, 2, 4, 6], [1, 3, 5, 7])
    states = convert.carry_to_onnx(DEEP, carry)
    assert states["initial_c_1"][:, 0, 0].tolist() == [5, 7]


H = np.zeros((4, 2, 4), np.float32)
MISTAKES: dict[str, Any] = {
    "arrays": (convert.carry_from_torch, DEEP, H, "state has 1 arrays, expected h and c"),
    "layers": (
        convert.carry_from_torch,
        DEEP,
        (H[:2], H[:2]),
        r"h has shape \(2, 2, 4\), expected \[layers \* directions, .* = 4",
    ),
    "size": (
        convert.carry_from_torch,
        DEEP,
        (H, H[..., :3]),
        r"c of state 0 has shape \(2, 3\), expected \(2, 4\)",
    ),
    "kinds": (convert.carry_from_torch, MIXED, H, "the cell has layers with and without c"),
    "integers": (convert.carry_from_torch, GRU(4), H[:1].astype(int), "h has dtype int64"),
    "no cell of torch": (convert.carry_from_torch, Residual(GRU(4)), H, "Residual: GRU returns 4"),
    "sizes": (
        convert.carry_to_torch,
        Stack([GRU(4), GRU(3)]),
        (H[0], H[0, :, :3]),
        r"the states have shapes \[.*\]; those of a module of torch have one",
    ),
    "carry": (convert.carry_to_torch, LSTM(4), (H[0], H[0]), "carry has the structure"),
    "too many": (convert.carry_from_keras, GRU(4), [H[0], H[0]], "there are 2 arrays, expected 1"),
    "names": (
        convert.carry_from_onnx,
        LSTM(4),
        {"h_0": H[:1]},
        r"states are \['h_0'\], expected \['h_0', 'c_0'\]",
    ),
    "directions": (
        convert.carry_from_onnx,
        BOTH,
        {"h_0": H[:2], "initial_c_0": H[:1]},
        r"c_0 has shape \(1, 2, 4\), expected \[directions, .* = 2",
    ),
}


@pytest.mark.parametrize(("function", "cell", "given", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(function, cell, given, message):
    with pytest.raises((ValueError, TypeError), match=f"^{function.__name__}: {message}"):
        function(cell, given)


def test_gates_of_a_format_without_a_converter():
    """A GRU whose gates stand z r n on the first axis, and whose z multiplies the candidate."""
    cell = GRU(4, bias=False)
    params = random_params(cell)
    theirs = [convert.reorder_gates(w, "rzn", "zrn", negate="z").T for w in params[:2]]
    read = [convert.reorder_gates(w.T, "zrn", "rzn", negate="z") for w in theirs]
    assert_equal(read, [*params[:2]])

    def step(h, x):
        (xz, xr, xn), (hz, hr, hn) = (
            jnp.split(w @ v, 3) for w, v in zip(theirs, (x, h), strict=True)
        )
        z, n = jax.nn.sigmoid(xz + hz), jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
        h = (1 - z) * h + z * n
        return h, h

    xs = random_inputs("float32")[:, 0]
    wanted = jax.lax.scan(step, jnp.zeros(4), xs)
    got = jaxrnn.scan(cell, params, xs)
    np.testing.assert_allclose(got[1], wanted[1], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((8,), ("ifgo", "ifg"), "given is 'ifgo', wanted 'ifg'"),
        ((8,), ("iigo", "iigo"), "the same letters, each once"),
        ((8,), ("ifgo", "ifog", "z"), "negate 'z', expected"),
        ((8, 3), ("ifgo", "ifog"), r"shape \(8, 3\), expected \[\.\.\., 4 \* hidden\].*transpose"),
        ((), ("fn", "nf"), r"the array has shape \(\)"),
    ],
)
def test_gates_that_do_not_fit(shape, arguments, message):
    given, wanted, negate = (*arguments, "")[:3]
    with pytest.raises(ValueError, match=f"^reorder_gates: .*{message}"):
        convert.reorder_gates(np.ones(shape), given, wanted, negate=negate)
