"""Flax's weights, linen's and nnx's, both ways."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import linen, nnx

import jaxrnn
from jaxrnn.convert import from_flax, to_flax
from tests.support.conversions import (
    FEATURES,
    HIDDEN,
    LENGTHS,
    VALID,
    assert_refused,
    each_dtype,
    each_precision,
    random_inputs,
    random_like,
    random_params,
    scan,
    with_zeros,
    without_start,
)
from tests.support.helpers import assert_close, assert_equal
from tests.support.specs import BY_ID, every

LSTMS = {"lstm", "lstm_no_bias", "lstm_chrono"}
GRUS = {"gru_after", "gru_after_no_bias", "gru_activations", "both_concat"}
ELMANS = {
    "elman_tanh",
    "elman_relu",
    "elman_irnn",
    "elman_no_bias",
    "both_sum",
    "both_mean",
    "both_product",
    "both_pair",
}
HELD = {
    "linen.LSTMCell": LSTMS,
    "linen.OptimizedLSTMCell": LSTMS,
    "linen.GRUCell": GRUS,
    "linen.SimpleCell": ELMANS,
    "linen.MGUCell": {"mgu_flax"},
    "linen.ConvLSTMCell": {"conv_lstm"},
    "nnx.LSTMCell": LSTMS,
    "nnx.OptimizedLSTMCell": LSTMS,
    "nnx.GRUCell": GRUS,
    "nnx.SimpleCell": ELMANS,
}
each_kind = pytest.mark.parametrize("kind", HELD)
SPACE = (4, 5)


def blank(key: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Weights that are replaced anyway: nothing is drawn."""
    return np.zeros(shape, dtype)


def build(kind: str, bidirectional: bool = False, dtype: str = "float32", **options: Any) -> Any:
    """Flax's own module: an RNN, or a Bidirectional of two."""
    home, name = kind.split(".")
    options |= {"kernel_size": (3, 2)} if "Conv" in name else {}
    if home == "linen":
        rnns = [
            linen.RNN(getattr(linen, name)(HIDDEN, param_dtype=dtype, **options), time_major=True)
            for _ in range(2)
        ]
        return linen.Bidirectional(rnns[0], rnns[1], time_major=True) if bidirectional else rnns[0]
    options |= {"dtype": dtype, "param_dtype": dtype, "rngs": nnx.Rngs(0)}
    options |= {"kernel_init": blank, "recurrent_kernel_init": blank}
    rnns = [
        nnx.RNN(getattr(nnx, name)(FEATURES, HIDDEN, **options), time_major=True) for _ in range(2)
    ]
    return nnx.Bidirectional(rnns[0], rnns[1], time_major=True) if bidirectional else rnns[0]


def inputs_of(module: Any, dtype: str = "float32") -> jax.Array:
    """Vectors, or pictures for a convolution."""
    return random_inputs(dtype, *(SPACE if "Conv" in repr(module) else ()))


def variables_of(module: Any, dtype: str = "float32") -> Any:
    """Its variables, random everywhere."""
    if isinstance(module, linen.Module):
        xs = inputs_of(module, dtype)
        return random_like(jax.eval_shape(module.init, jax.random.key(0), xs), dtype)
    return random_like(nnx.to_pure_dict(nnx.state(module, nnx.Param)), dtype)


def run(module: Any, variables: Any, xs: Any) -> Any:
    """Its final carries, in the order in which jaxrnn has them, and its outputs without what stands
    in the padding.
    """
    if isinstance(module, linen.Module):
        carry, ys = jax.jit(lambda v: module.apply(v, xs, seq_lengths=LENGTHS, return_carry=True))(
            variables
        )
    else:
        nnx.update(module, variables)
        carry, ys = nnx.jit(lambda m, xs: m(xs, seq_lengths=LENGTHS, return_carry=True))(module, xs)
    lstm = "LSTM" in repr(module)
    pairs = jax.tree.map(
        lambda c: c[::-1] if lstm else c,
        carry,
        is_leaf=lambda c: lstm and not isinstance(c[0], tuple),
    )
    return pairs, np.where(VALID.reshape(*VALID.shape, *[1] * (ys.ndim - 2)), ys, 0)


def options_of(cell: Any) -> dict[str, Any]:
    """What `from_flax` must be told."""
    merge = {"merge": cell.merge} if isinstance(cell, jaxrnn.Bidirectional) else {}
    inner = getattr(cell, "forward", cell)
    if isinstance(inner, jaxrnn.ConvLSTM):  # Flax's has no options
        return merge
    return merge | {
        name: getattr(inner, name) for name in vars(inner) if name.endswith("activation")
    }


@each_kind
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@each_precision
def test_equals_flax(kind, bidirectional, dtype, tolerance):
    """The same carries and outputs with Flax's weights, and then the same weights again."""
    module = build(kind, bidirectional, dtype)
    xs, variables = inputs_of(module, dtype), variables_of(module, dtype)
    cell, params = from_flax(variables, kind)
    wanted = run(module, variables, xs)
    assert_close(scan(cell, params, xs, lengths=LENGTHS), wanted, tolerance)
    again = to_flax(cell, params, kind, rnn=True)
    if "Conv" in kind:  # whose two biases have become one
        assert_close(run(module, again, xs), wanted, tolerance)
    else:
        assert_equal(again, variables)


@pytest.mark.parametrize("kind", [kind for kind in HELD if "Conv" not in kind])
def test_other_activations(kind):
    theirs: dict[str, Any] = {"activation_fn": jax.nn.soft_sign}
    ours: dict[str, Any] = {"activation": "softsign"}
    if "Simple" not in kind:
        theirs["gate_fn"] = jax.nn.hard_sigmoid
        ours = {"gate_activation": "hard_sigmoid", "candidate_activation": "softsign"}
    if "LSTM" in kind:
        ours["output_activation"] = "softsign"
    module, xs = build(kind, **theirs), random_inputs("float32")
    variables = variables_of(module)
    cell, params = from_flax(variables, kind, **ours)
    assert_close(scan(cell, params, xs, lengths=LENGTHS), run(module, variables, xs), 1e-5)


@pytest.mark.parametrize("kind", ["linen.SimpleCell", "nnx.SimpleCell"])
def test_residual_is_folded(kind):
    module, xs = build(kind, residual=True), random_inputs("float32")
    variables = variables_of(module)
    cell, params = from_flax(variables, kind, residual=True)
    wanted = run(module, variables, xs)
    assert_close(scan(cell, params, xs, lengths=LENGTHS), wanted, 1e-5)
    assert_close(run(build(kind), to_flax(cell, params, kind, rnn=True), xs), wanted, 1e-5)


@each_dtype
@each_kind
def test_bits_come_back(kind, dtype):
    for id in HELD[kind]:
        cell: Any = BY_ID[id].cell
        params = random_params(cell, dtype)
        if kind == "nnx.GRUCell":
            params = jax.tree_util.tree_map_with_path(
                lambda path, leaf: 0 * leaf if "b_hn" in str(path) else leaf, params
            )
        variables = to_flax(cell, params, kind)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {dtype}
        again, read = from_flax(variables, kind, **options_of(cell))
        assert again == without_start(cell, bias=True)
        assert_equal(read, with_zeros(params, read))


@every
def test_every_other_cell_is_refused(spec):
    for kind, held in HELD.items():
        if spec.id not in held:
            assert_refused(spec, to_flax, kind)


@each_kind
def test_every_nesting(kind):
    """A cell, an RNN around it, with and without linen's collection, and nnx's own state."""
    module = build(kind)
    nested = variables_of(module)
    wanted = from_flax(nested, kind)
    cell = nested.get("params", nested)["cell"]
    given = [cell, {"cell": cell}, {"params": cell}]
    if kind.startswith("nnx"):
        nnx.update(module, nested)
        given += [nnx.state(module, nnx.Param), nnx.state(module.cell, nnx.Param)]
    for variables in given:
        assert from_flax(variables, kind)[0] == wanted[0]
        assert_equal(from_flax(variables, kind)[1], wanted[1])
    alone = to_flax(*wanted, kind)
    assert_equal(from_flax(alone, kind)[1], wanted[1])
    if "Conv" not in kind:
        assert_equal(alone.get("params", alone), cell)


def dense(rows: int, columns: int, bias: bool) -> dict[str, Any]:
    """A layer of Flax."""
    return {"kernel": np.ones((rows, columns), "f")} | (
        {"bias": np.ones(columns, "f")} if bias else {}
    )


SIMPLE = {"i": dense(3, 4, True), "h": dense(4, 4, False)}
LSTM = {"dense_i": dense(3, 16, False), "dense_h": dense(4, 16, True)}
UNGATED = {
    "if": dense(3, 4, True),
    "in": dense(3, 4, True),
    "hf": dense(4, 4, False),
    "hn": dense(4, 4, False),
}
MISTAKES: dict[str, Any] = {
    "kind": (
        SIMPLE,
        "LSTM",
        {},
        r"kind is 'LSTM', expected one of \['linen\.ConvLSTMCell', 'linen\.GRUCell'",
    ),
    "missing": (
        {"i": SIMPLE["i"]},
        "linen.SimpleCell",
        {},
        r"h/kernel is missing; there are \['i/bias', 'i/kernel'\]",
    ),
    "unknown": (
        {"params": {**SIMPLE, "j": SIMPLE["h"]}},
        "linen.SimpleCell",
        {},
        r"unexpected \['params/j/kernel'\]",
    ),
    "streams": (
        {"cell": LSTM, "rngs": {"key": 0}},
        "nnx.OptimizedLSTMCell",
        {},
        r"unexpected \['rngs/key'\]",
    ),
    "shape": (
        {**SIMPLE, "i": dense(3, 5, True)},
        "linen.SimpleCell",
        {},
        r"i/kernel has shape \(3, 5\), expected \(3, 4\)",
    ),
    "axes": (
        {**SIMPLE, "h": {"kernel": np.ones(4, "f")}},
        "linen.SimpleCell",
        {},
        r"h/kernel has shape \(4,\), expected \[hidden",
    ),
    "directions": (
        {
            "forward_rnn": {"cell": SIMPLE},
            "backward_rnn": {"cell": {**SIMPLE, "i": dense(2, 4, True)}},
        },
        "linen.SimpleCell",
        {},
        r"backward_rnn/cell/i/kernel has shape \(2, 4\), expected \(3, 4\)",
    ),
    "leaf": ({**SIMPLE, "h": 1.0}, "linen.SimpleCell", {}, "h/kernel is missing"),
    "no dictionary": (
        [1],
        "linen.SimpleCell",
        {},
        "the argument is a list, expected a dictionary of arrays",
    ),
    "integers": (
        {**SIMPLE, "h": {"kernel": np.ones((4, 4), int)}},
        "linen.SimpleCell",
        {},
        "h/kernel has dtype int64",
    ),
    "float64": (
        {**SIMPLE, "h": {"kernel": np.ones((4, 4))}},
        "linen.SimpleCell",
        {},
        "h/kernel has dtype float64, which JAX would",
    ),
    "residual": (
        LSTM,
        "nnx.OptimizedLSTMCell",
        {"residual": True},
        "residual is an option of SimpleCell, and nnx.Opt",
    ),
    "merge": (
        SIMPLE,
        "linen.SimpleCell",
        {"merge": "sum"},
        "merge is 'sum', but there is no forward_rnn",
    ),
    "option": (
        SIMPLE,
        "linen.SimpleCell",
        {"gate_fn": "relu"},
        r"Elman has no \['gate_fn'\], expected some of \['activation'\]",
    ),
    "activation": (
        SIMPLE,
        "linen.SimpleCell",
        {"activation": "swash"},
        "activation 'swash' is unknown",
    ),
    "one function": (
        LSTM,
        "nnx.OptimizedLSTMCell",
        {"candidate_activation": "relu"},
        "candidate_activation='relu' and output_activation='tanh', but nnx.OptimizedLSTMCell has "
        "one",
    ),
    "ungated": (
        UNGATED,
        "linen.MGUCell",
        {},
        "hn/bias is missing, so this is an MGUCell with reset_gate=False, which jaxrnn.MGU",
    ),
}


@pytest.mark.parametrize(
    ("variables", "kind", "options", "message"), MISTAKES.values(), ids=MISTAKES
)
def test_mistakes(variables, kind, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        from_flax(variables, kind, **options)


def test_nnx_refuses_a_recurrent_bias_of_the_candidate():
    cell = jaxrnn.GRU(4)
    params = random_params(cell)
    with pytest.raises(
        ValueError,
        match=r"to_flax: nnx.GRUCell has no recurrent bias of the candidate, "
        "and params.b_hn is not zero",
    ):
        to_flax(cell, params, "nnx.GRUCell")


def test_parameters_of_another_cell_are_refused():
    cell, both = jaxrnn.GRU(4), jaxrnn.Bidirectional(jaxrnn.GRU(4))
    with pytest.raises(
        ValueError, match=r"to_flax: params are a dict, expected what GRU\.init makes"
    ):
        to_flax(cell, {}, "linen.GRUCell")
    with pytest.raises(ValueError, match=r"GRU: params has the structure .*LSTMParams"):
        to_flax(cell, random_params(jaxrnn.LSTM(4)), "linen.GRUCell")
    unlike = random_params(both)._replace(backward=random_params(cell, in_features=2))
    with pytest.raises(
        ValueError,
        match=r"Bidirectional: params\.backward\.w_x has shape \(2, 12\), expected \(3, 12\)",
    ):
        to_flax(both, unlike, "linen.GRUCell")
