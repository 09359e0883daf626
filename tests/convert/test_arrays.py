"""What all conversions promise of arrays: traced ones pass, and none is copied before all fit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxrnn
from jaxrnn import GRU, LSTM, MGU, Bidirectional, ConvLSTM, Elman, LSTMParams, Stack, convert
from tests.support.conversions import FEATURES, HIDDEN, random_params
from tests.support.helpers import assert_close, assert_equal

DEEP = Stack([Bidirectional(GRU(HIDDEN)), Bidirectional(GRU(HIDDEN))])


def keras_again(cell: jaxrnn.Cell, params: Any) -> Any:
    """The way to Keras and back, whose configuration is no array."""
    config, weights = convert.to_keras(cell, params)
    return weights, convert.from_keras(config, weights)[1]


def flax_again(kind: str) -> Callable[[jaxrnn.Cell, Any], Any]:
    def again(cell: jaxrnn.Cell, params: Any) -> Any:
        variables = convert.to_flax(cell, params, kind)
        return variables, convert.from_flax(variables, kind)[1]

    return again


def there_and_back(write: Any, read: Any, *sizes: Any) -> Callable[[jaxrnn.Cell, Any], Any]:
    def again(cell: jaxrnn.Cell, params: Any) -> Any:
        written = write(cell, params)
        return written, read(written, *sizes)[1]

    return again


CONVERSIONS: dict[str, tuple[jaxrnn.Cell, Callable[[jaxrnn.Cell, Any], Any]]] = {
    "torch": (DEEP, there_and_back(convert.to_torch, convert.from_torch)),
    "torch, projected": (
        LSTM(HIDDEN, projection=2),
        there_and_back(convert.to_torch, convert.from_torch),
    ),
    "cudnn": (LSTM(HIDDEN), there_and_back(convert.to_cudnn, convert.from_cudnn, FEATURES, HIDDEN)),
    "keras": (Bidirectional(Stack([GRU(HIDDEN), LSTM(HIDDEN)])), keras_again),
    "keras, pictures": (ConvLSTM(HIDDEN, (3, 2), strides=2), keras_again),
    "flax, pictures": (ConvLSTM(HIDDEN, 3, rank=1), flax_again("linen.ConvLSTMCell")),
    "flax": (Bidirectional(MGU(HIDDEN, form="flax")), flax_again("linen.MGUCell")),
    "flax, nnx": (GRU(HIDDEN, bias=False), flax_again("nnx.GRUCell")),
    "haiku": (LSTM(HIDDEN), there_and_back(convert.to_haiku, convert.from_haiku)),
    "equinox": (GRU(HIDDEN), there_and_back(convert.to_equinox, convert.from_equinox)),
}


@pytest.mark.parametrize(("cell", "again"), CONVERSIONS.values(), ids=CONVERSIONS)
def test_under_jit_and_vmap(cell, again):
    """What is written, and what is read from it, is that of arrays that are there."""
    params = random_params(cell)
    several = [params, jax.tree.map(lambda leaf: jnp.asarray(2 * np.asarray(leaf)), params)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *several)
    wanted = [again(cell, params) for params in several]
    got = jax.jit(jax.vmap(lambda params: again(cell, params)))(stacked)
    assert_close(got, jax.tree.map(lambda *leaves: np.stack(leaves), *wanted), 1e-6)


def test_variables_of_nnx_may_be_traced():
    state = nnx.state(nnx.SimpleCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0)), nnx.Param)
    read = jax.jit(lambda state: convert.from_flax(state, "nnx.SimpleCell")[1])
    assert_equal(read(state), convert.from_flax(state, "nnx.SimpleCell")[1])


def test_what_needs_numbers_says_so_of_traced_arrays():
    params = random_params(GRU(HIDDEN))
    with pytest.raises(
        TypeError, match="to_onnx: params are traced, but a model holds their numbers"
    ):
        jax.eval_shape(lambda p: convert.to_onnx(GRU(HIDDEN), p), params)
    with pytest.raises(ValueError, match=r"to_flax: nnx\.GRUCell has no .*b_hn is traced, so not"):
        jax.eval_shape(lambda p: convert.to_flax(GRU(HIDDEN), p, "nnx.GRUCell"), params)


def test_a_model_is_read_under_jit():
    params = random_params(GRU(HIDDEN))
    model = convert.to_onnx(GRU(HIDDEN), params)
    assert_equal(jax.jit(lambda: convert.from_onnx(model)[1])(), params)


def of(*shape: int, dtype: str = "float32") -> Any:
    """An array that takes four bytes; to copy an `ENDLESS` one, of 80 GiB and more, ends the
    process.
    """
    return np.broadcast_to(np.ones((), dtype), shape)


ENDLESS, ROWS = 2**30, 4 * HIDDEN
KERAS = convert.to_keras(LSTM(HIDDEN), random_params(LSTM(HIDDEN)))[0]
MISFITS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "torch": (
        convert.from_torch,
        (
            {"weight_ih": of(ROWS, ENDLESS), "weight_hh": of(ROWS, HIDDEN)}
            | {"bias_ih": of(ROWS), "bias_hh": of(ROWS - 1)},
        ),
        r"from_torch: bias_hh has shape \(19,\), expected \(20,\)",
    ),
    "torch, integers": (
        convert.from_torch,
        ({"weight_ih": of(ROWS, ENDLESS, dtype="int32"), "weight_hh": of(ROWS, HIDDEN)},),
        "from_torch: weight_ih has dtype int32, expected floating numbers",
    ),
    "cudnn": (
        convert.from_cudnn,
        (of(ENDLESS), FEATURES, HIDDEN),
        r"from_cudnn: flat has shape \(1073741824",
    ),
    "keras": (
        convert.from_keras,
        (KERAS, [of(ENDLESS, ROWS), of(HIDDEN, ROWS), of(ROWS - 1)]),
        r"from_keras: weights\[2\] has shape \(19,\), expected \(20,\)",
    ),
    "flax": (
        convert.from_flax,
        (
            {
                "i": {"kernel": of(ENDLESS, HIDDEN), "bias": of(HIDDEN)},
                "h": {"kernel": of(HIDDEN, HIDDEN + 1)},
            },
            "linen.SimpleCell",
        ),
        r"from_flax: h/kernel has shape \(5, 6\), expected \(5, 5\)",
    ),
    "haiku": (
        convert.from_haiku,
        ({"gru": {"w_i": of(ENDLESS, 15), "w_h": of(HIDDEN, 15), "b": of(14)}},),
        r"from_haiku: gru/b has shape \(14,\), expected \(15,\)",
    ),
    "equinox": (
        convert.from_equinox,
        ({"weight_ih": of(ROWS, ENDLESS), "weight_hh": of(ROWS, HIDDEN), "bias": of(ROWS - 1)},),
        r"from_equinox: bias has shape \(19,\), expected \(20,\)",
    ),
    "to torch": (
        convert.to_torch,
        (LSTM(HIDDEN), LSTMParams(of(ENDLESS, ROWS), of(HIDDEN, ROWS + 1), of(ROWS))),
        r"LSTM: params\.w_h has shape \(5, 21\), expected \(5, 20\)",
    ),
}


@pytest.mark.parametrize(("convert_", "given", "message"), MISFITS.values(), ids=MISFITS)
def test_nothing_is_copied_before_all_fits(convert_, given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        convert_(*given)


def test_other_byte_orders_are_those_of_numbers():
    state_dict = convert.to_torch(Elman(HIDDEN), random_params(Elman(HIDDEN)))
    swapped = {name: array.astype(">f4") for name, array in state_dict.items()}
    assert_equal(convert.from_torch(swapped)[1], convert.from_torch(state_dict)[1])


class Unreadable:
    """An array whose numbers are somewhere else, such as torch's on the device `meta`."""

    shape, dtype = (HIDDEN, HIDDEN), np.dtype("float32")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("no data")


GRU_WEIGHTS = {"w_i": of(3, 15), "w_h": of(5, 15), "b": of(15)}
NO_ARRAYS: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (
        lambda: convert.from_haiku({"gru": GRU_WEIGHTS | {"b": None}}),  # type: ignore[dict-item]
        "from_haiku: gru/b is None, expected an array",
    ),
    "list": (
        lambda: convert.from_haiku({"gru": GRU_WEIGHTS | {"b": [1.0] * 15}}),  # type: ignore[dict-item]
        "from_haiku: gru/b is a list, expected an array such as numpy.asarray makes",
    ),
    "objects": (
        lambda: convert.from_haiku({"gru": GRU_WEIGHTS | {"b": np.full(15, None)}}),
        "from_haiku: gru/b has dtype object, expected floating numbers",
    ),
    "eight bits": (
        lambda: convert.from_haiku({"gru": GRU_WEIGHTS | {"b": jnp.ones(15, jnp.float8_e5m2)}}),
        "from_haiku: gru/b has dtype float8_e5m2, expected floating numbers: bfloat16, float16",
    ),
    "empty": (
        lambda: convert.from_haiku({"gru": GRU_WEIGHTS | {"w_i": of(0, 15)}}),
        r"from_haiku: gru/w_i has shape \(0, 15\), expected \[in, 3 \* hidden\], none of them 0",
    ),
    "unreadable": (
        lambda: convert.from_torch({"weight_ih": Unreadable(), "weight_hh": of(HIDDEN, HIDDEN)}),
        "from_torch: weight_ih is a Unreadable that cannot be read: no data",
    ),
    "key": (
        lambda: convert.from_torch({1: of(3)}),  # type: ignore[dict-item]
        "from_torch: the key 1 is of type int, expected a string",
    ),
    "twice": (
        lambda: convert.from_haiku({"a/b": {"w": of(1)}, "a": {"b": {"w": of(1)}}}),  # type: ignore[dict-item]
        "from_haiku: a/b/w is there twice: a key with a slash equals another's path",
    ),
    "no dictionary": (
        lambda: convert.from_torch(None),  # type: ignore[arg-type]
        "from_torch: the argument is a NoneType, expected a dictionary of arrays",
    ),
    "a kernel without rows": (
        lambda: convert.from_keras(KERAS, [of(0, ROWS), of(HIDDEN, ROWS), of(ROWS)]),
        r"from_keras: weights\[0\] has shape \(0, 20\), expected \[in, columns\], none of them 0",
    ),
    "a bias that is None": (
        lambda: convert.from_keras(KERAS, [of(3, ROWS), of(HIDDEN, ROWS), None]),  # type: ignore[list-item]
        r"from_keras: weights\[2\] is None, expected an array",
    ),
    **{
        f"config {config!r}": (
            lambda config=config: convert.from_keras(config, []),  # type: ignore[arg-type]
            "from_keras: config is .*, expected (what keras|a layer or a list)",
        )
        for config in ([], None, {}, "GRU", [None], {"class_name": "GRU", "config": None})
    },
    "version": (
        lambda: convert.from_keras(KERAS, [], version=4),  # type: ignore[arg-type]
        r"from_keras: version is 4, expected one of \[2, 3, None\]",
    ),
    "a list of weights": (
        lambda: convert.from_keras(KERAS, None),  # type: ignore[arg-type]
        r"from_keras: weights is a NoneType, expected a list of arrays as layer\.get_weights",
    ),
}


@pytest.mark.parametrize(("call", "message"), NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_what_is_no_array_or_no_dictionary(call, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        call()
