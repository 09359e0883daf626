"""What a cell promises to its drivers: a value that hashes and pickles, traced once; a carry that
keeps its form; causality; vmap.
"""

import copy
import dataclasses
import pickle
import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from tests.support.helpers import (
    DRIVERS,
    SHORT,
    STEPS,
    all_flags,
    assert_close,
    assert_equal,
    at_step,
    both_directions,
    form_of_carry,
    forms,
    make_carry,
    make_flags,
    make_params,
    make_xs,
    over_walks,
    perturb,
    value_and_grads,
)
from tests.support.specs import every_causal, every_other, every_program, some


@every_program
def test_a_cell_is_a_value(spec):
    twin = pickle.loads(pickle.dumps(spec.cell))
    rebuilt = dataclasses.replace(spec.cell)
    for other in (twin, rebuilt, copy.deepcopy(spec.cell)):
        assert other == spec.cell
        assert hash(other) == hash(spec.cell)
        assert repr(other) == repr(spec.cell)
    first = dataclasses.fields(spec.cell)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(spec.cell, first, None)


@every_program
def test_a_cell_is_a_pytree_without_leaves(spec):
    assert jax.tree.leaves(spec.cell) == []
    assert jax.tree.unflatten(jax.tree.structure(spec.cell), []) == spec.cell


@dataclasses.dataclass(frozen=True, repr=False)
class Options(jaxrnn.Elman):
    """With options by position, as users write them."""

    first: int = 1
    second: int = 2


def test_a_cell_shows_the_call_that_makes_it():
    assert repr(jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.GRU(5, bias=False)], dropout=0.1)) == (
        "Stack((LSTM(4), GRU(5, bias=False)), dropout=0.1)"
    )
    assert repr(Options(4, second=3)) == "Options(4, second=3)"


def test_cells_differ_where_a_hyperparameter_does():
    cells = [
        jaxrnn.LSTM(4),
        jaxrnn.LSTM(5),
        jaxrnn.LSTM(4, bias=False),
        jaxrnn.LSTM(4, forget_bias=0.0),
        jaxrnn.GRU(4),
        jaxrnn.GRU(4, reset_gate="before"),
        jaxrnn.Elman(4),
        jaxrnn.Elman(4, activation="relu"),
        jaxrnn.Stack([jaxrnn.Elman(4)]),
        jaxrnn.Bidirectional(jaxrnn.Elman(4)),
        jaxrnn.Bidirectional(jaxrnn.Elman(4), merge="sum"),
    ]
    assert len(set(cells)) == len(cells)


def test_a_stack_of_a_list_is_a_stack_of_a_tuple():
    assert jaxrnn.Stack([jaxrnn.LSTM(4)]) == jaxrnn.Stack((jaxrnn.LSTM(4),))  # type: ignore[arg-type]


def test_a_function_of_jax_is_its_name():
    """Else two equal cells differ, and pickle cannot find what `jax.jit` has made."""
    cell = jaxrnn.Stack([jaxrnn.Elman(4, activation=jax.nn.relu), jnp.tanh])
    assert cell == jaxrnn.Stack([jaxrnn.Elman(4, activation="relu"), "tanh"])
    assert pickle.loads(pickle.dumps(cell)) == cell


@pytest.mark.usefixtures("x64", "strict")
@every_program
def test_a_cell_is_an_argument_of_jit_and_traced_once(spec):
    traces = []

    @jax.jit
    def run(cell, *arguments, **flags):
        traces.append(cell)
        return jaxrnn.scan(cell, *arguments, reverse=True, **flags)

    params, xs = make_params(spec), make_xs(spec)
    arguments, flags = (params, xs, make_carry(spec, params, xs)), make_flags()
    first = run.eval_shape(spec.cell, *arguments, **flags)
    again = run.eval_shape(pickle.loads(pickle.dumps(spec.cell)), *arguments, **flags)
    assert len(traces) == 1
    assert again == first


TRACES = []


@dataclasses.dataclass(frozen=True)
class Counted:
    """An activation that counts how often it is traced; equal to all of its kind and label."""

    label: str

    def __call__(self, z):
        TRACES.append(self.label)
        return jnp.tanh(z)


@pytest.mark.parametrize("verb", ["scan", "unroll", "trajectory", "step"])
def test_a_call_outside_jit_is_traced_once(verb):
    """For equal cells and shapes, whichever values and flags are passed."""

    def call(seed):
        cell = jaxrnn.Stack([jaxrnn.Elman(4, activation=Counted(verb)), jaxrnn.Elman(4)])
        params = cell.init(jax.random.key(seed), 3)
        xs = jnp.full((5, 2, 3), float(seed))
        if verb == "step":
            return jaxrnn.step(cell, params, cell.initial_carry(params, (2, 3)), xs[0])
        return getattr(jaxrnn, verb)(cell, params, xs, lengths=[seed, 2])

    call(1)
    traced = TRACES.count(verb)
    assert traced > 0
    call(2)
    call(3)
    assert TRACES.count(verb) == traced


def test_a_gradient_is_traced_once():
    cell = jaxrnn.Elman(4, activation=Counted("grad"))
    params, xs = cell.init(jax.random.key(0), 3), jnp.ones((5, 2, 3))
    grad = jax.jit(jax.grad(lambda params, xs, cell: jnp.sum(jaxrnn.scan(cell, params, xs)[1])))
    grad(params, xs, cell)
    traced = TRACES.count("grad")
    grad(params, xs + 1, jaxrnn.Elman(4, activation=Counted("grad")))
    assert TRACES.count("grad") == traced


@pytest.mark.usefixtures("x64", "strict")
@every_program
def test_the_carry_keeps_its_form(spec):
    params, xs, few = make_params(spec), make_xs(spec), make_xs(spec, SHORT)
    check_forms(spec, params, xs, partial(jaxrnn.scan, spec.cell), (params, xs))
    backwards = partial(jaxrnn.unroll, spec.cell, reverse=True, **make_flags(SHORT))
    check_forms(spec, params, few, backwards, (params, few, make_carry(spec, params, few)))
    given = (params, xs, make_carry(spec, params, xs))
    states, _ = jax.eval_shape(partial(jaxrnn.trajectory, spec.cell, **make_flags()), *given)
    after = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), states)
    assert after == form_of_carry(spec, params, xs)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(states)} == {STEPS[0] + 1}


def check_forms(spec, params, xs, run, given):
    """Of the last carry and of the outputs."""
    last, ys = jax.eval_shape(run, *given)
    assert forms(last) == form_of_carry(spec, params, xs)
    lead = jax.tree.leaves(xs)[0].shape[: -spec.cell.feature_axes]
    sizes = {leaf.shape[: len(lead)] for leaf in jax.tree.leaves(ys)}
    assert sizes == {lead}
    if len(jax.tree.leaves(ys)) == 1:
        assert ys.shape[-1] == spec.cell.out_features
    assert {leaf.dtype for leaf in jax.tree.leaves(ys)} == {jax.tree.leaves(xs)[0].dtype}


@every_causal
def test_a_step_keeps_the_form_of_the_carry(spec):
    params, xs = make_params(spec, jnp.float32), make_xs(spec, dtype=jnp.float32)
    carry = form_of_carry(spec, params, xs)
    after, y = jax.eval_shape(partial(jaxrnn.step, spec.cell), params, carry, at_step(xs, 0))
    assert forms(after) == carry
    assert (y.shape[-1], y.dtype) == (spec.cell.out_features, jnp.float32)


def reach(spec, reverse):
    """The size of the gradient of one output in the middle with respect to each input in time."""
    driver = DRIVERS["preactivations_in_blocks" if reverse else "carries_in_blocks"]
    params, xs = make_params(spec), make_xs(spec)
    arguments = (spec.cell, params, xs, make_carry(spec, params, xs))
    middle, flags = np.arange(STEPS[0]) == 2, all_flags()
    _, (_, of_xs, _) = value_and_grads(
        driver, *arguments, reverse=reverse, of_ys=middle, of_carry=0.0, **flags
    )
    sizes = [abs(np.asarray(leaf)).reshape(STEPS[0], -1) for leaf in jax.tree.leaves(of_xs)]
    return np.sum(np.concatenate(sizes, axis=1), axis=1)


@pytest.mark.usefixtures("x64", "strict")
@every_causal
@both_directions
def test_outputs_do_not_depend_on_the_future(spec, reverse):
    size = reach(spec, reverse)
    past, future = (size[2:], size[:2]) if reverse else (size[:3], size[3:])
    assert np.all(past > 0)
    assert np.all(future == 0)


@pytest.mark.usefixtures("x64", "strict")
@every_other
def test_a_cell_that_is_not_causal_sees_everything(spec):
    assert np.all(reach(spec, reverse=False) > 0)


@every_other
def test_a_cell_that_is_not_causal_has_no_step(spec):
    params, xs = make_params(spec, jnp.float32), make_xs(spec, dtype=jnp.float32)
    carry = make_carry(spec, params, xs)
    with pytest.raises(
        TypeError,
        match=r"needs the whole sequence, so it has no single step; run it with jaxrnn\.scan",
    ):
        jaxrnn.step(spec.cell, params, carry, at_step(xs, 0))


@some(
    "elman_tanh",
    "lstm_all",
    "gru_before_layer_norm",
    "mgu_paper",
    "stack_connected",
    "both_concat",
    "dropped",
    "learned_carry",
    "user_clockwork",
    "user_fast_weights",
)
@pytest.mark.usefixtures("x64", "strict")
def test_vmap_over_params(spec):
    several = [perturb(make_params(spec), 0.1, seed) for seed in (7, 8)]
    xs, flags = make_xs(spec), make_flags()
    carry = make_carry(spec, several[0], xs)

    def run(params):
        return jaxrnn.scan(spec.cell, params, xs, carry, **flags)

    together = jax.jit(jax.vmap(run))(jax.tree.map(lambda *leaves: np.stack(leaves), *several))
    for k, params in enumerate(several):
        assert_close(at_step(together, k), run(params), 1e-12)


@some("lstm", "gru_after", "gru_before", "stack_with_both", "user_decaying", "user_ring")
@over_walks("carries_in_blocks", "checkpointed_in_blocks", "autodiff")
@pytest.mark.usefixtures("x64", "strict")
def test_vmap_over_params_in_gradients(spec, driver, reverse):
    several = [perturb(make_params(spec), 0.1, seed) for seed in (7, 8)]
    xs, flags = make_xs(spec), make_flags()
    carry = make_carry(spec, several[0], xs)

    def gradients(params):
        return value_and_grads(driver, spec.cell, params, xs, carry, reverse=reverse, **flags)[1]

    together = jax.jit(jax.vmap(gradients))(
        jax.tree.map(lambda *leaves: np.stack(leaves), *several)
    )
    for k, params in enumerate(several):
        assert_close(at_step(together, k), gradients(params), 1e-11)


@pytest.mark.usefixtures("x64", "strict")
@every_program
def test_two_batch_axes_equal_one(spec):
    steps = (STEPS[0], 2, 2)
    params, xs, flags = make_params(spec), make_xs(spec, steps), make_flags(steps)
    carry = make_carry(spec, params, xs)
    last, ys = jaxrnn.scan(spec.cell, params, xs, carry, **flags)

    def merge(leaf, axis):
        return np.asarray(leaf).reshape(*leaf.shape[:axis], 4, *leaf.shape[axis + 2 :])

    one: dict[str, Any] = {
        name: merge(flag, 0 if name == "lengths" else 1) for name, flag in flags.items()
    }
    flat_xs, flat_carry = (
        jax.tree.map(lambda a: merge(a, 1), xs),
        jax.tree.map(lambda a: merge(a, 0), carry),
    )
    flat = jaxrnn.scan(spec.cell, params, flat_xs, flat_carry, **one)
    assert_close(
        (jax.tree.map(lambda a: merge(a, 0), last), jax.tree.map(lambda a: merge(a, 1), ys)),
        flat,
        1e-12,
    )


@pytest.mark.usefixtures("x64", "strict")
@every_program
def test_no_batch_axis_equals_a_row_of_a_batch(spec):
    params, xs, flags = make_params(spec), make_xs(spec), make_flags()
    carry = make_carry(spec, params, xs)
    last, ys = jaxrnn.scan(spec.cell, params, xs, carry, **flags)

    def row(tree):
        """Of `[time, batch, ...]`, the second sequence."""
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:, 1], tree)

    one: dict[str, Any] = row({"mask": flags["mask"], "reset": flags["reset"]})
    one["lengths"] = flags["lengths"][1]
    alone = jaxrnn.scan(spec.cell, params, row(xs), at_step(carry, 1), **one)
    assert_close(alone, (at_step(last, 1), row(ys)), 1e-12)


@pytest.mark.usefixtures("x64", "strict")
@some("elman_tanh", "lstm", "gru_after", "gru_before", "stack")
def test_vmap_over_the_batch(spec):
    params, xs, flags = make_params(spec), make_xs(spec), make_flags()
    carry = make_carry(spec, params, xs)

    def run(xs, carry, flags):
        return jaxrnn.scan(spec.cell, params, xs, carry, **flags)

    axes = {"lengths": 0, "mask": 1, "reset": 1}
    mapped = jax.vmap(run, in_axes=(1, 0, axes), out_axes=(0, 1))(xs, carry, flags)
    assert_close(mapped, run(xs, carry, flags), 1e-12)


def test_init_depends_on_its_key_alone():
    cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.GRU(5, reset_gate="before")])
    first, second, other = (cell.init(jax.random.key(seed), 3) for seed in (0, 0, 1))
    assert_equal(first, second)
    assert all(
        np.any(a != b)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True)
        if a.ndim > 1
    )
    lower, upper = jaxrnn.Stack([jaxrnn.Elman(4), jaxrnn.Elman(4)]).init(jax.random.key(0), 4)
    assert np.any(lower.w_h != upper.w_h)
    forward, backward = jaxrnn.Bidirectional(jaxrnn.Elman(4)).init(jax.random.key(0), 4)
    assert np.any(forward.w_h != backward.w_h)


def test_parameters_and_carries_have_names():
    """Never bare tuples of arrays; what an option leaves out is None."""
    params = jaxrnn.LSTM(4).init(jax.random.key(0), 3)
    assert params._fields[:3] == ("w_x", "w_h", "b")
    assert jaxrnn.GRU(4).init(jax.random.key(0), 3)._fields[:4] == ("w_x", "w_h", "b", "b_hn")
    assert jaxrnn.LSTM(4).initial_carry(params, (2, 3))._fields == ("h", "c")
    assert jaxrnn.LSTM(4, bias=False).init(jax.random.key(0), 3).b is None
    assert jaxrnn.GRU(4, reset_gate="before").init(jax.random.key(0), 3).b_hn is None


def test_import_is_light():
    code = (
        "import sys, jaxrnn; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'flax', 'optax', 'torch', "
        "'keras', 'onnx', 'orbax', 'safetensors'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", jaxrnn.__all__)
def test_one_import_gives_all(name):
    assert getattr(jaxrnn, name) is not None
    assert name in dir(jaxrnn)
