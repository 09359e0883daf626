"""What linen's `ConvLSTMCell` has of its own; what it shares with other cells is in `test_flax`."""

import re
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen

import jaxrnn
from jaxrnn.convert import from_flax, to_flax
from tests.convert.test_flax import build, dense, inputs_of, run, variables_of
from tests.support.conversions import HIDDEN, LENGTHS, random_inputs, random_like, random_params
from tests.support.helpers import assert_close


def test_a_convolution_without_biases():
    """What Flax adds to its forget gate is a bias all the same."""
    module = build("linen.ConvLSTMCell", use_bias=False)
    xs, variables = inputs_of(module), variables_of(module)
    cell, params = from_flax(variables, "linen.ConvLSTMCell")
    np.testing.assert_array_equal(params.b, np.repeat([0, 1, 0, 0], HIDDEN))
    assert_close(jaxrnn.scan(cell, params, xs, lengths=LENGTHS), run(module, variables, xs), 1e-5)


@pytest.mark.parametrize("kernel", [(2,), (3, 1, 2)], ids=str)
def test_convolutions_over_other_axes(kernel):
    module = linen.RNN(linen.ConvLSTMCell(2, kernel), time_major=True)
    xs = random_inputs("float32", *[4] * len(kernel))
    variables = random_like(jax.eval_shape(module.init, jax.random.key(0), xs))
    cell, params = from_flax(variables, "linen.ConvLSTMCell")
    assert cell == jaxrnn.ConvLSTM(2, kernel, rank=len(kernel))
    assert_close(jaxrnn.scan(cell, params, xs, lengths=LENGTHS), run(module, variables, xs), 1e-5)


CONV = {
    "ih": {"kernel": np.ones((3, 2, 4, 20), "f"), "bias": np.ones(20, "f")},
    "hh": {"kernel": np.ones((3, 2, 5, 20), "f"), "bias": np.ones(20, "f")},
}
MISTAKES: dict[str, Any] = {
    "kernel": (
        {**CONV, "hh": {"kernel": np.ones((3, 3, 5, 20), "f"), "bias": np.ones(20, "f")}},
        {},
        r"hh/kernel has shape \(3, 3, 5, 20\), expected \(3, 2, 5, 20\)",
    ),
    "no kernel": (
        {**CONV, "ih": dense(4, 20, True)},
        {},
        r"ih/kernel has shape \(4, 20\), expected \[\*kernel, in, columns\] with 1 to 3 axes",
    ),
    "one bias": (
        {**CONV, "hh": {"kernel": CONV["hh"]["kernel"]}},
        {},
        "hh/bias is missing",
    ),
    "no options": (
        CONV,
        {"candidate_activation": "relu"},
        r"ConvLSTM has no \['candidate_activation'\], expected none: linen.ConvLSTMCell has no",
    ),
}


@pytest.mark.parametrize(("variables", "options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(variables, options, message):
    with pytest.raises(ValueError, match=f"^from_flax: {message}"):
        from_flax(variables, "linen.ConvLSTMCell", **options)


@pytest.mark.parametrize(
    "options",
    [{"strides": 2}, {"dilation": 2}, {"padding": "valid"}, {"peepholes": (4, 4)}],
    ids=str,
)
def test_options_that_convolutions_of_flax_do_not_have(options):
    cell = jaxrnn.ConvLSTM(4, 3, **options)
    ((name, value),) = options.items()
    message = f"to_flax: ConvLSTM has {name}={value!r}, which linen.ConvLSTMCell cannot hold"
    with pytest.raises(ValueError, match=re.escape(message)):
        to_flax(cell, random_params(cell), "linen.ConvLSTMCell")
