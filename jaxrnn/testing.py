"""The contract of a cell, checked: for cells that users write."""

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.core.cell import Cell
from jaxrnn.drivers import scan, step, unroll

TIME, BATCH = 5, 3


def check_cell(
    cell: Cell, in_features: int = 3, inputs: Callable[[Array, tuple[int, ...]], Any] | None = None
) -> None:
    """Run a cell through what every driver, combinator and home relies on, and say in words what is
    wrong.

    Values, shapes and dtypes; equality and hash; an output that is a part of the carry; gradients
    of the engine against JAX's own; masks, lengths and resets; any number of batch axes; runs in
    pieces; half precision. Takes some seconds.

    Args:
        cell: the cell.
        in_features: size of the input.
        inputs: `(key, (time, *batch)) -> xs`, if they are more than one array `[time, *batch,
            in_features]`.

    Raises:
        AssertionError: with a line for each property that does not hold.

    >>> import jaxrnn
    >>> check_cell(jaxrnn.GRU(4))
    """
    assert isinstance(cell, Cell), (
        f"{cell!r} is not a jaxrnn.Cell: derive its class from jaxrnn.Cell"
    )
    draw = inputs or (
        lambda key, steps: jax.random.normal(key, (*steps, *[in_features] * cell.feature_axes))
    )
    problems = []
    checks = (_value, _initial, _projection, _output, _drivers, _gradients)
    for check in (*checks, _flags, _batch_axes, _pieces, _half_precision):
        try:
            problems += check(cell, in_features, draw)
        except Exception as error:  # whatever a user's cell raises is what is wrong with it
            problems.append(
                f"{check.__name__[1:].replace('_', ' ')}: {type(error).__name__}: {error}"
            )
    assert not problems, f"{type(cell).__name__} breaks the contract of jaxrnn.Cell:\n" + "\n".join(
        f"- {line}" for line in problems
    )


Draw = Callable[[Array, tuple[int, ...]], Any]


def _params(cell: Cell, in_features: int, dtype: Any = jnp.float32) -> Any:
    """Parameters without zeros, which would hide mistakes."""
    drawn = cell.init(jax.random.key(0), in_features, dtype)
    leaves, form = jax.tree.flatten(drawn)
    keys = jax.random.split(jax.random.key(1), max(len(leaves), 1))
    return jax.tree.unflatten(
        form,
        [
            leaf + _noise(k, leaf) if _floating(leaf) else leaf
            for k, leaf in zip(keys, leaves, strict=False)
        ],
    )


def _noise(key: Array, leaf: Array) -> Array:
    return (0.2 * jax.random.normal(key, leaf.shape)).astype(leaf.dtype)


def _floating(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _shape(xs: Any) -> tuple[int, ...]:
    return jax.tree.leaves(xs)[0].shape[1:]


def _same(got: Any, want: Any, tolerance: float = 1e-4) -> bool:
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    arrays = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    return all(
        a.shape == b.shape
        and np.allclose(a, b, atol=tolerance * max(1.0, np.max(np.abs(b), initial=0.0)))
        for a, b in arrays
    )


def _value(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    del in_features, draw
    try:
        hash(cell)
    except TypeError as error:
        yield f"it has no hash ({error}), so jax.jit cannot take it: make it a frozen dataclass whose fields have one"
        return
    twin = copy.deepcopy(cell)
    if twin != cell or hash(twin) != hash(cell):
        yield "a copy is not equal to it, so equal cells would be compiled twice: make it a frozen dataclass of plain values"


def _initial(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    params, xs = _params(cell, in_features), draw(jax.random.key(2), (TIME, BATCH))
    carry = cell.initial_carry(params, _shape(xs))
    for path, leaf in jax.tree_util.tree_leaves_with_path(carry):
        if leaf.shape[:1] != (BATCH,):
            where = f"initial_carry: carry{jax.tree_util.keystr(path)}"
            yield f"{where} has shape {leaf.shape}, expected it to start with the batch, {(BATCH,)}"
    half = cell.init(jax.random.key(0), in_features, jnp.bfloat16)
    wrong = [
        leaf.dtype
        for leaf in jax.tree.leaves(half)
        if _floating(leaf) and leaf.dtype != jnp.bfloat16
    ]
    if wrong:
        yield f"init(..., dtype=bfloat16) gives parameters of dtype {wrong[0]}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(cell.initial_carry(half, _shape(xs))):
        if _floating(leaf) and jnp.finfo(leaf.dtype).bits < 32:
            where = f"initial_carry: carry{jax.tree_util.keystr(path)}"
            yield f"{where} is {leaf.dtype}, expected at least float32, whatever the parameters are"


def _projection(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    params, xs = _params(cell, in_features), draw(jax.random.key(2), (TIME, BATCH))
    whole = cell.project(params, xs)
    single = [
        cell.project(params, jax.tree.map(lambda leaf, t=t: leaf[t], xs)) for t in range(TIME)
    ]
    if not _same(whole, jax.tree.map(lambda *leaves: jnp.stack(leaves), *single)):
        yield "project of many steps differs from project of each step: it must not mix time, and treat leading axes alike"


def _output(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    if not cell.causal:
        return
    params, xs = _params(cell, in_features), draw(jax.random.key(2), (TIME, BATCH))
    carry, twins = cell.initial_carry(params, _shape(xs)), None
    for t in range(TIME):  # not under jit, which would hide which arrays are the same
        x = jax.tree.map(lambda leaf, t=t: leaf[t], xs)
        carry, y = cell.step(params, carry, cell.project(params, x))
        found = {
            jax.tree_util.keystr(path)
            for path, leaf in jax.tree_util.tree_leaves_with_path(carry)
            for output in jax.tree.leaves(y)
            if leaf is not output and leaf.dtype == output.dtype and np.array_equal(leaf, output)
        }
        twins = found if twins is None else twins & found
    for where in sorted(twins or ()):
        yield (
            f"step: y equals the new carry{where}, but is another array: return one array for both "
            "(h = ...; return h, h), or combinators that change the state do not change the output"
        )


def _drivers(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    params, xs = _params(cell, in_features), draw(jax.random.key(2), (TIME, BATCH))
    carry, ys = scan(cell, params, xs)
    if not _same((carry, ys), unroll(cell, params, xs)):
        yield "scan differs from a Python loop over the same steps: does step have a side effect?"
    first = jax.tree.leaves(ys)[0]
    if cell.causal and first.shape[-1] != cell.out_features:
        yield f"out_features is {cell.out_features}, but the output has {first.shape[-1]} features"
    if cell.causal:
        one, outputs = cell.initial_carry(params, _shape(xs)), []
        for t in range(TIME):
            one, y = step(cell, params, one, jax.tree.map(lambda leaf, t=t: leaf[t], xs))
            outputs.append(y)
        if not _same(ys, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)):
            yield "scan differs from jaxrnn.step, step by step"


def _gradients(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    params, xs = _params(cell, in_features), draw(jax.random.key(2), (TIME, BATCH))
    leaves, form = jax.tree.flatten((params, xs))
    places = [k for k, leaf in enumerate(leaves) if _floating(leaf)]

    def loss(floating: list[Array], method: Any) -> Array:
        full = list(leaves)
        for k, leaf in zip(places, floating, strict=True):
            full[k] = leaf
        carry, ys = scan(cell, *jax.tree.unflatten(form, full), method=method)
        return jnp.asarray(
            sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((carry, ys)) if _floating(leaf))
        )

    floating = [leaves[k] for k in places]
    wanted = jax.grad(loss)(floating, "autodiff")
    for method in ("bptt", "checkpointed"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = jax.grad(loss)(floating, method)
        for message in {
            str(warning.message) for warning in caught if "own derivative" in str(warning.message)
        }:
            yield f"the engine cannot run it, only JAX's derivative can: {message}"
        if not _same(got, wanted):
            yield f'the gradient of method="{method}" differs from that of "autodiff"'


def _flags(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    params, xs = _params(cell, in_features), draw(jax.random.key(2), (TIME, BATCH))
    lengths, reset = np.array([TIME, 2, 0]), np.zeros((TIME, BATCH), bool)
    reset[3, 0] = True
    within = np.arange(TIME)[:, None] < lengths

    def padded(leaf: Array) -> Array:
        return (
            jnp.where(within.reshape(within.shape + (1,) * (leaf.ndim - 2)), leaf, jnp.nan)
            if _floating(leaf)
            else leaf
        )

    _, ys = scan(cell, params, jax.tree.map(padded, xs), lengths=lengths, reset=reset)
    if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(ys)):
        yield "NaN in padding reaches outputs"
    if cell.causal:
        alone = scan(cell, params, jax.tree.map(lambda leaf: leaf[3:, :1], xs))[1]
        if not _same(jax.tree.map(lambda leaf: leaf[3:, :1], ys), alone):
            yield "what follows a reset differs from a sequence that begins there: does initial_carry give what it starts from?"


def _batch_axes(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    params, xs = _params(cell, in_features), draw(jax.random.key(2), (TIME, 4))
    _, ys = scan(cell, params, xs)
    _, two = scan(
        cell, params, jax.tree.map(lambda leaf: leaf.reshape(TIME, 2, 2, *leaf.shape[2:]), xs)
    )
    if not _same(jax.tree.map(lambda leaf: leaf.reshape(TIME, 4, *leaf.shape[3:]), two), ys):
        yield "two batch axes differ from one: write the last axis as -1, and the batch as *input_shape[:-1]"
    _, none = scan(cell, params, jax.tree.map(lambda leaf: leaf[:, 0], xs))
    if not _same(none, jax.tree.map(lambda leaf: leaf[:, 0], ys)):
        yield "a sequence without a batch axis differs from a batch of one"


def _pieces(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    if not cell.causal:
        return
    params, xs = _params(cell, in_features), draw(jax.random.key(2), (TIME, BATCH))
    last, ys = scan(cell, params, xs)
    carry, first = scan(cell, params, jax.tree.map(lambda leaf: leaf[:2], xs))
    carry, second = scan(cell, params, jax.tree.map(lambda leaf: leaf[2:], xs), carry)
    if not _same(
        (carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)), (last, ys)
    ):
        yield "a run in two pieces differs from one run: all that a step needs of the past must be in the carry"


def _half_precision(cell: Cell, in_features: int, draw: Draw) -> Iterator[str]:
    params = _params(cell, in_features, jnp.bfloat16)
    xs = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16) if _floating(leaf) else leaf,
        draw(jax.random.key(2), (TIME, BATCH)),
    )
    _, ys = scan(cell, params, xs)
    if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(ys)):
        yield "bfloat16 parameters and inputs give outputs that are not finite"
