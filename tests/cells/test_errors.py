"""Every message names the cell and the argument, what was given and expected, and what to do."""

# The arguments here are wrong on purpose.
# pyright: reportArgumentType=false

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn import GRU, LSTM, Bidirectional, Elman, Stack
from tests.support.conversions import random_params

CELL = GRU(4)
PARAMS = random_params(CELL)
XS = np.ones((5, 2, 3), "f")
VERBS = [jaxrnn.scan, jaxrnn.unroll, jaxrnn.trajectory]
each_verb = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)


class UserCell(nn.SimpleCell):
    """A cell of a user, whose class is not Flax's own."""

    features: int = 4


def says(kind: type[Exception], *parts: str) -> Any:
    """An error of this kind whose message holds all parts, in order."""
    return pytest.raises(kind, match="(?s)" + ".*".join(map(re.escape, parts)))


@each_verb
@pytest.mark.parametrize(
    ("xs", "options", "kind", "parts"),
    [
        (
            XS.astype("int32"),
            {},
            TypeError,
            ["GRU: xs has dtype int32", "expected floating", "one_hot"],
        ),
        (
            np.ones(3, "f"),
            {},
            ValueError,
            ["GRU: xs has shape (3,)", "[time, *batch, features]", "jaxrnn.step"],
        ),
        ({}, {}, ValueError, ["GRU: xs holds no array", "[time, *batch, features]"]),
        (
            (XS, np.ones(4, "f")),
            {},
            ValueError,
            ["GRU: the leaves of xs differ in their first axis", "(5,)", "(cell, params, xs)"],
        ),
        (
            np.ones((5, 2, 7), "f"),
            {},
            ValueError,
            ["GRU: params.w_x has shape (3, 12)", "expected (7, 12)", "7 features"],
        ),
        (
            XS,
            {"lengths": [[5, 5]]},
            ValueError,
            ["GRU: lengths has shape (1, 2)", "[*batch] = (2,)", "time-major"],
        ),
        (
            XS,
            {"lengths": [5.0, 5.0]},
            TypeError,
            ["GRU: lengths has dtype float32", "expected integers"],
        ),
        (
            XS,
            {"mask": np.ones((2, 5), bool)},
            ValueError,
            ["GRU: mask has shape (2, 5)", "[time, *batch] = (5, 2)"],
        ),
        (
            XS,
            {"mask": np.ones((5, 2), "f")},
            TypeError,
            ["GRU: mask has dtype float32", "expected bool", "mask != 0"],
        ),
        (
            XS,
            {"reset": np.ones((5, 2), "int32")},
            TypeError,
            ["GRU: reset has dtype int32", "expected bool", "reset != 0"],
        ),
        (
            XS,
            {"carry": np.ones((3, 4), "f")},
            ValueError,
            ["GRU: carry has shape (3, 4)", "expected (2, 4)", "batch axes"],
        ),
        (
            XS,
            {"carry": (XS, XS)},
            ValueError,
            ["GRU: carry has the structure", "expected", "initial_carry"],
        ),
        (
            XS,
            {"carry": np.ones((2, 4), "int32")},
            TypeError,
            ["GRU: carry has dtype int32", "expected float32", "cast it"],
        ),
    ],
    ids=lambda value: value[0][:40] if isinstance(value, list) else "",
)
def test_drivers_refuse(verb, xs, options, kind, parts):
    with says(kind, *parts):
        verb(CELL, PARAMS, xs, **options)


def test_a_carry_that_would_lose_digits_is_refused(x64):
    carry = jnp.ones((2, 4), jnp.float64)
    with says(
        TypeError,
        "GRU: carry has dtype float64",
        "expected float32 or a narrower float",
        "lose digits",
    ):
        jaxrnn.scan(CELL, PARAMS, XS, carry)


@each_verb
def test_drivers_refuse_what_is_no_cell(verb):
    with says(
        TypeError,
        f"jaxrnn.{verb.__name__}",
        "must be a jaxrnn.Cell",
        "the class GRU",
        "construct it first",
    ):
        verb(GRU, PARAMS, XS)
    with says(TypeError, f"jaxrnn.{verb.__name__}", "got a str", "subclass jaxrnn.Cell"):
        verb("gru", PARAMS, XS)


@each_verb
def test_a_module_of_flax_is_shown_the_way(verb):
    """To `as_cell`; and to the cell and the parameters inside a home of jaxrnn."""
    for module, ways in (
        (nn.GRUCell(4), ["got a GRUCell", "jaxrnn.linen.as_cell(module)"]),
        (UserCell(), ["got a UserCell", "jaxrnn.linen.as_cell(module)"]),
        (nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)), ["got a GRUCell", "jaxrnn.nnx.as_cell(module)"]),
        (jaxrnn.linen.RNN(CELL), ["got a RNN", "pass its .cell", "jaxrnn.linen.params(cell, "]),
        (jaxrnn.nnx.RNN(CELL, 3, rngs=nnx.Rngs(0)), ["pass its .cell", ".params of a jaxrnn.nnx"]),
    ):
        with says(TypeError, f"jaxrnn.{verb.__name__}", "must be a jaxrnn.Cell", *ways):
            verb(module, PARAMS, XS)


def test_the_variables_of_flax_are_shown_the_bridge():
    variables = jaxrnn.linen.variables(CELL, PARAMS)
    with says(ValueError, "GRU: params is a dict with the keys ['params']", "jaxrnn.linen.params("):
        jaxrnn.scan(CELL, variables, XS)
    with says(ValueError, "GRU: params has the structure", "jaxrnn.linen.params("):
        jaxrnn.scan(CELL, variables["params"], XS)
    rnn = jaxrnn.nnx.RNN(CELL, 3, rngs=nnx.Rngs(0))
    with says(ValueError, "GRU: params has the structure", ".params of a jaxrnn.nnx.RNN"):
        jaxrnn.scan(CELL, nnx.state(rnn), XS)
    around = (Stack([CELL]), Bidirectional(CELL), jaxrnn.LearnedCarry(CELL), jaxrnn.Residual(CELL))
    for cell in (CELL, LSTM(4), Elman(4), jaxrnn.MGU(4), *around):
        with says(ValueError, "params is a dict with the keys ['params']", "jaxrnn.linen.params("):
            cell.initial_carry(variables, (2, 3))


def test_what_is_no_array_is_shown_how_to_become_one():
    carry, rnn = jnp.zeros((2, 4)), jaxrnn.nnx.RNN(CELL, 3, rngs=nnx.Rngs(0))
    numbers = XS.tolist()
    for verb in VERBS:
        with says(TypeError, "GRU: xs is a list of Python's numbers", "write jnp.asarray(xs)"):
            verb(CELL, PARAMS, numbers)
    with says(TypeError, "GRU: x is a list of Python's numbers", "write jnp.asarray(x)"):
        jaxrnn.step(CELL, PARAMS, carry, numbers[0])
    with says(TypeError, "RNN(GRU): xs is a list of Python's numbers", "write jnp.asarray(xs)"):
        rnn(numbers)
    image = jaxrnn.ConvGRU(2, 3, rank=1)
    for cell, xs in ((CELL, [*XS]), (CELL, {"x": XS}), (image, [np.ones((2, 3, 3), "f")] * 5)):
        given = f"a weight is multiplied by a {type(xs).__name__}, expected a single array"
        with says(TypeError, given, "jnp.stack"):
            jaxrnn.scan(cell, cell.init(jax.random.key(0), 3), xs)
    look = jaxrnn.Attention(CELL, "dot", memory=4)
    with says(TypeError, "a weight is multiplied by a list", "jnp.stack"):
        params = look.init(jax.random.key(0), 3)
        jaxrnn.scan(look, params, [*XS], context=jaxrnn.Memory(jnp.ones((2, 5, 4))))
    torch = pytest.importorskip("torch")
    tensor = torch.ones(5, 2, 3)
    message = "xs holds a tensor of torch, expected arrays", "write xs.detach().numpy()"
    with says(TypeError, "GRU: ", *message):
        jaxrnn.scan(CELL, PARAMS, tensor)
    with says(TypeError, "GRU: x holds a tensor of torch"):
        jaxrnn.step(CELL, PARAMS, carry, tensor[0])
    with says(TypeError, "RNN(GRU): ", *message):
        rnn(tensor)


def test_arguments_in_another_order_are_explained():
    with says(ValueError, "GRU: params has the structure", "cell.init", "(cell, params, xs)"):
        jaxrnn.scan(CELL, XS, PARAMS.w_x[None])


def test_a_name_in_the_message_leads_into_a_stack():
    cell = Stack([LSTM(4), GRU(5)])
    params = cell.init(jax.random.key(0), 3)
    with says(ValueError, "Stack: params[0].w_x has shape (3, 16)", "expected (8, 16)"):
        jaxrnn.scan(cell, params, jnp.ones((5, 2, 8)))
    carry = cell.initial_carry(params, (2, 3))
    with says(ValueError, "Stack: carry[0].h has shape (7, 4)", "expected (2, 4)"):
        jaxrnn.scan(cell, params, XS, (jaxrnn.LSTMCarry(jnp.ones((7, 4)), carry[0].c), carry[1]))


def test_step_refuses():
    carry = CELL.initial_carry(PARAMS, (2, 3))
    with says(TypeError, "GRU: x has dtype int32", "one_hot"):
        jaxrnn.step(CELL, PARAMS, carry, XS[0].astype(int))
    with says(ValueError, "GRU: carry has shape (2, 4)", "expected (4,)"):
        jaxrnn.step(CELL, PARAMS, carry, jnp.ones(3))
    with says(ValueError, "GRU: x has shape ()", "[*batch, features]"):
        jaxrnn.step(CELL, PARAMS, carry, jnp.ones(()))


@pytest.mark.parametrize(
    "cell",
    [Bidirectional(GRU(4)), Stack([Bidirectional(GRU(4)), GRU(4)])],
    ids=["itself", "in_a_stack"],
)
def test_what_needs_the_future_has_no_step(cell):
    params = cell.init(jax.random.key(0), 3)
    with says(TypeError, "needs the whole sequence", "no single step", "jaxrnn.scan"):
        jaxrnn.step(cell, params, cell.initial_carry(params, (2, 3)), XS[0])


@pytest.mark.parametrize("dtype", ["int8", "bool", "complex64"])
def test_parameters_of_another_kind_are_refused(dtype):
    """Inputs are cast to the dtype of the weights: 0.5 would be 0 in an int8."""
    params = PARAMS._replace(w_x=jnp.ones((3, 12), dtype))
    message = (f"GRU: params.w_x has dtype {dtype}", "expected floating numbers such as float32")
    for verb in VERBS:
        with says(TypeError, *message):
            verb(CELL, params, XS)
    with says(TypeError, *message):
        jaxrnn.step(CELL, params, CELL.initial_carry(PARAMS, (2, 3)), XS[0])


@each_verb
def test_lengths_beyond_the_steps_are_refused(verb):
    for lengths in ([6, 2], np.array([-1, 6]), jnp.array([5, 6], jnp.int8), [jnp.int32(6), 5]):
        with says(ValueError, "GRU: lengths go from", "6, expected 0 to 5", "number of time steps"):
            verb(CELL, PARAMS, XS, lengths=lengths)
    with says(ValueError, "GRU: lengths go from 2 to 6"):  # NumPy's are known within jit, too
        jax.eval_shape(lambda xs: verb(CELL, PARAMS, xs, lengths=np.array([6, 2])), XS)
    jax.eval_shape(lambda lengths: verb(CELL, PARAMS, XS, lengths=[lengths, 6]), 6)
    with says(ValueError, f"{verb.__name__}: reverse is 'False'", "True or False"):
        verb(CELL, PARAMS, XS, reverse="False")


def test_homes_refuse_flags_that_are_none():
    with says(ValueError, "jaxrnn.linen.RNN: time_major is 'no'", "True or False"):
        jaxrnn.linen.RNN(CELL, time_major="no")
    with says(ValueError, "jaxrnn.linen.RNN: deterministic is 0", "True or False"):
        jaxrnn.linen.RNN(CELL).init(jax.random.key(0), XS, deterministic=0)
    with says(ValueError, "jaxrnn.nnx.RNN: time_major is 1", "True or False"):
        jaxrnn.nnx.RNN(CELL, 3, time_major=1, rngs=nnx.Rngs(0))
    rnn = jaxrnn.nnx.RNN(CELL, 3, rngs=nnx.Rngs(0))
    with says(ValueError, "reverse is 'no'", "True or False"):
        rnn(XS, reverse="no")
    with says(ValueError, "GRU: lengths go from 2 to 3, expected 0 to 2"):
        rnn(XS, lengths=[2, 2, 3, 2, 2])


def test_affine_refuses_parts_that_do_not_fit():
    with says(ValueError, "affine", "[4, 4]", "12", "u=None"):
        jaxrnn.affine((jnp.ones(4), jnp.ones(4)), jnp.ones(4), jnp.ones((4, 12)))


def test_a_step_that_changes_its_carry_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Growing(GRU):
        def step(self, params: Any, carry: Any, u: Any, affine: Any = jaxrnn.affine) -> Any:
            h, y = super().step(params, carry, u, affine)
            return (h, h), y

    with says(TypeError, "Growing.step was given the carry", "returned", "keeps its structure"):
        jaxrnn.scan(Growing(4), PARAMS, XS)


@pytest.mark.parametrize(
    ("use", "parts"),
    [
        (lambda: CELL(XS), ["a GRU is not called: jaxrnn.scan(cell, params, xs)", "jaxrnn.step"]),
        (
            lambda: jaxrnn.step(CELL, PARAMS, XS[0]),
            ["jaxrnn.step: GRU got three arguments", "(cell, params, carry, x)", "with None"],
        ),
        (lambda: Elman(4, activation=CELL), ["Elman: activation is GRU(4)", "a callable"]),
    ],
    ids=["called", "no carry", "activation"],
)
def test_what_is_not_done_to_a_cell(use, parts):
    with says(TypeError, *parts):
        use()


def test_a_tuple_is_no_carry():
    lstm = LSTM(4)
    h = jnp.zeros((2, 4))
    with says(ValueError, "LSTM: carry has the structure", "write LSTMCarry(h, c)"):
        jaxrnn.scan(lstm, lstm.init(jax.random.key(0), 3), XS, (h, h))
    with says(ValueError, "GRU: carry has the structure", "start from cell.initial_carry"):
        jaxrnn.scan(CELL, PARAMS, XS, ())
