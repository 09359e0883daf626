"""A cell leaves Python: `jax.export` for any batch, to bytes and back."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import export

import jaxrnn
from tests.support.helpers import assert_close, make_params, make_xs
from tests.support.specs import some

each = some(
    "elman_tanh", "gru_before", "lstm_all", "stack_connected", "learned_carry", "both_concat"
)


def with_batch(tree: Any) -> Any:
    """Arrays `[3, ...]` as those of any batch."""
    (batch,) = export.symbolic_shape("batch")
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype), tree
    )


def read_again(function: Any, *arguments: Any) -> Any:
    """The function, after its way through bytes."""
    return export.deserialize(export.export(jax.jit(function))(*arguments).serialize()).call


def at_the_end(outputs: Any) -> tuple[Any, np.ndarray]:
    """The last carry and the last output."""
    carry, ys = outputs
    return carry, np.asarray(ys)[-1]


@each
def test_export(spec):
    """One step, or, where the cell needs the future, a sequence; parameters and carries keep their
    classes.
    """
    cell, params, one = spec.cell, make_params(spec, "float32"), make_xs(spec, (3,), "float32")
    if cell.causal:
        carry = jax.eval_shape(lambda: cell.initial_carry(params, one.shape))
        exported = read_again(
            lambda p, c, x: jaxrnn.step(cell, p, c, x), params, *with_batch((carry, one))
        )
    else:
        (symbolic,) = export.symbolic_shape("batch")
        form = jax.ShapeDtypeStruct((5, symbolic, *one.shape[1:]), one.dtype)
        exported = read_again(lambda p, xs: jaxrnn.scan(cell, p, xs), params, form)
    for batch in (1, 4):
        xs = make_xs(spec, (5, batch), "float32")
        if cell.causal:
            start = cell.initial_carry(params, xs.shape[1:])
            for x in np.asarray(xs):
                start, y = exported(params, start, x)
            got = start, y
        else:
            got = at_the_end(exported(params, xs))
        wanted = jaxrnn.scan(cell, params, xs)
        assert jax.tree.structure(got) == jax.tree.structure(at_the_end(wanted))
        assert_close(got, at_the_end(wanted), 1e-6)
        assert np.all(np.isfinite(wanted[1]))


@pytest.mark.parametrize("sizes", ["5, batch", "time, batch", "time, 3"])
def test_a_sequence_of_symbolic_sizes(sizes):
    """Value and gradient: blocks are planned as long as time is a number; otherwise `lax.scan`
    runs.
    """
    cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.Bidirectional(jaxrnn.GRU(3))])
    params = cell.init(jax.random.key(0), 3)
    xs = jax.random.normal(jax.random.key(1), (5, 3, 3))
    lengths = np.array([5, 2, 0])

    def loss(params: Any, xs: Any, lengths: Any, driver: Any = jaxrnn.scan) -> Any:
        return jax.numpy.sum(jax.numpy.sin(driver(cell, params, xs, lengths=lengths)[1]))

    time, batch = export.symbolic_shape(sizes)
    forms = (
        jax.ShapeDtypeStruct((time, batch, 3), xs.dtype),
        jax.ShapeDtypeStruct((batch,), lengths.dtype),
    )
    program = export.export(jax.jit(jax.value_and_grad(loss)))(params, *forms)
    got = export.deserialize(program.serialize()).call(params, xs, lengths)
    assert_close(got, jax.value_and_grad(loss)(params, xs, lengths, jaxrnn.unroll), 1e-5)
