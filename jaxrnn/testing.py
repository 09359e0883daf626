"""Checks that a cell of your own keeps the contract of `jaxrnn.Cell`."""

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.core.affine import Linear, add_parts, matmul
from jaxrnn.core.cell import Cell, Params, abstract_params
from jaxrnn.core.composite import Composite, OneStep, Runner
from jaxrnn.core.traced.graph import trace
from jaxrnn.core.traced.products import product_of
from jaxrnn.core.trees import Tree, form, is_real_float
from jaxrnn.drivers import scan, step, unroll
from jaxrnn.methods import MethodLike

__all__ = ["check_cell"]

TIME, HALF, BATCH = 6, 3, 8

Draw = Callable[[Array, tuple[int, ...]], Tree]
"""`(key, (time, *batch)) -> xs`, or `(key, batch) -> context`."""


def check_cell(
    cell: Cell, in_features: int = 3, inputs: Draw | None = None, context: Draw | None = None
) -> None:
    """Check everything that drivers, combinators and Flax modules require of a cell.

    The checks are: equality and hash; the initial carry; the projection; an output that is a part
    of the carry; `scan` against single steps; products outside `affine`; the gradients of BPTT
    against JAX's; padding and resets; the number of batch axes; a run in two pieces; half
    precision. They take some seconds. With a context, resets and batch axes are not compared.

    Args:
        cell: the cell.
        in_features: the size of the last axis of its input.
        inputs: `(key, (time, *batch)) -> xs` draws the input. It is needed if the input is not one
            array `[time, *batch, in_features]`.
        context: `(key, batch) -> context` draws the context of a cell that takes one.

    Raises:
        AssertionError: a check failed. The message has a line for each problem.

    >>> import jaxrnn
    >>> check_cell(jaxrnn.GRU(4))
    """
    if not isinstance(cell, Cell):
        hint = "construct it first" if isinstance(cell, type) else "derive its class from it"
        raise AssertionError(f"check_cell: cell is {cell!r}, expected a jaxrnn.Cell; {hint}")
    trial, problems = _Trial(cell, in_features, inputs, context), []
    raised: dict[str, list[str]] = {}  # by each error: the checks that end in it
    for check in _CHECKS:
        try:
            problems += check(trial)
        except Exception as error:  # whatever the cell raises is a problem of the cell
            name = check.__name__.removeprefix("_").replace("_", " ")
            raised.setdefault(f"{type(error).__name__}: {error}", []).append(name)
    problems += [f"{', '.join(names)}: {error}" for error, names in raised.items()]
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        raise AssertionError(f"{type(cell).__name__} breaks the contract of jaxrnn.Cell:\n{lines}")


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A cell, with the parameters and inputs that the checks run it with."""

    cell: Cell
    in_features: int
    draw: Draw | None
    draw_context: Draw | None

    def inputs(self, *steps: int) -> Tree:
        """Draw inputs with the leading axes `steps = (time, *batch)`."""
        if self.draw is not None:
            return self.draw(jax.random.key(2), steps)
        shape = (*steps, *[self.in_features] * self.cell.feature_axes)
        return jax.device_put(np.random.default_rng(2).normal(size=shape).astype(np.float32))

    @cached_property
    def xs(self) -> Tree:
        return self.inputs(TIME, BATCH)

    @cached_property
    def initial_carry(self) -> Tree:
        return self.cell.initial_carry(self.params, self.input_shape)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one step's input."""
        return jax.tree.leaves(self.xs)[0].shape[1:]

    def context(self, *batch: int) -> dict[str, Tree]:
        """Return the `context` keyword of a driver, for these batch axes."""
        draw = self.draw_context
        return {} if draw is None else {"context": draw(jax.random.key(3), batch)}

    def scan(self, xs: Tree, *carry: Tree, **flags: Any) -> tuple[Tree, Tree]:
        """Call `jaxrnn.scan` with the cell's parameters and context."""
        shape = jax.tree.leaves(xs)[0].shape
        context = self.context(*shape[1 : len(shape) - self.cell.feature_axes])
        params = flags.pop("params", self.params)
        return scan(self.cell, params, xs, *carry, **context, **flags)

    def in_context(self) -> tuple[Cell, Params]:
        """Return the cell and the parameters that a method gets."""
        runner = Runner(method=OneStep(), **self.context(BATCH))
        return runner.in_context(self.cell, self.params)

    def raw_step(self, carry: Tree, x: Tree) -> tuple[Tree, Tree]:
        """Call `Cell.step` as a method does."""
        cell, params = self.in_context()
        return cell.step(params, carry, cell.project(params, x))

    def step(self, carry: Tree, x: Tree) -> tuple[Tree, Tree]:
        """Call `jaxrnn.step` for `BATCH` rows."""
        return step(self.cell, self.params, carry, x, **self.context(BATCH))

    @cached_property
    def params(self) -> Params:
        """Return the initial parameters plus noise, because zeros would hide mistakes."""
        rng = np.random.default_rng(1)

        def disturbed(leaf: Array) -> Array:
            noise = 0.2 * rng.normal(size=leaf.shape) if is_real_float(leaf) else 0
            return jax.device_put(np.asarray(leaf) + np.asarray(noise, leaf.dtype))

        return jax.tree.map(disturbed, self.cell.init(jax.random.key(0), self.in_features))


def _equality(trial: _Trial) -> Iterator[str]:
    """Check that the cell is a value: it is hashable, and it equals its copy."""
    cell = trial.cell
    try:
        hash(cell)
    except TypeError as error:
        yield (
            f"it is not hashable ({error}), so jax.jit cannot take it: make it a frozen dataclass "
            "whose fields are hashable"
        )
        return
    twin = copy.deepcopy(cell)
    if twin != cell or hash(twin) != hash(cell):
        yield (
            "its copy does not equal it, so equal cells would be compiled twice: make it a frozen "
            "dataclass of plain values"
        )


def _initial_carry(trial: _Trial) -> Iterator[str]:
    """Check that the carry has the batch axes of the input, and is at least float32."""
    for path, leaf in _named(trial.initial_carry):
        if leaf.shape[:1] != (BATCH,):
            yield (
                f"initial_carry: carry{path} has shape {leaf.shape}, expected the batch axes "
                f"{(BATCH,)} in front: write (*input_shape[:-1], ...)"
            )
    drawn = jax.tree.leaves(abstract_params(trial.cell, trial.in_features, jnp.bfloat16))
    dtypes = [leaf.dtype for leaf in drawn if is_real_float(leaf)]
    if others := [dtype for dtype in dtypes if dtype != jnp.bfloat16]:
        yield (
            f"init(..., dtype=bfloat16) returns parameters of dtype {others[0]}: draw them in dtype"
        )
    for path, leaf in _named(trial.cell.initial_carry(_half(trial.params), trial.input_shape)):
        if is_real_float(leaf) and jnp.finfo(leaf.dtype).bits < 32:
            yield (
                f"initial_carry: carry{path} has dtype {leaf.dtype}, expected at least float32, "
                "whatever the dtype of the parameters"
            )


def _projection(trial: _Trial) -> Iterator[str]:
    """Check that `project` returns the same for each step alone as for many steps."""
    whole = trial.cell.project(trial.params, trial.xs)
    single = [trial.cell.project(trial.params, _at(trial.xs, t)) for t in range(TIME)]
    if not _same(whole, _stacked(single)):
        yield (
            "project of many steps differs from project of each step: it must not mix time steps, "
            "and must treat all leading axes alike"
        )


def _output(trial: _Trial) -> Iterator[str]:
    """Check that an output that equals a part of the new carry is the same array."""
    if not trial.cell.causal:
        return
    carry = trial.initial_carry
    always = None  # parts of the carry that equalled the output at every step so far
    for t in range(TIME):  # not under jit, which would hide which arrays are the same
        carry, y = trial.raw_step(carry, _at(trial.xs, t))
        twins = {
            path
            for path, leaf in _named(carry)
            for output in jax.tree.leaves(y)
            if leaf is not output and leaf.dtype == output.dtype and np.array_equal(leaf, output)
        }
        always = twins if always is None else always & twins
    for path in sorted(always or ()):
        yield (
            f"step: y equals the new carry{path}, but is another array: return one array for both "
            "(h = ...; return h, h), or a combinator that changes the state leaves the output as "
            "it was"
        )


def _drivers(trial: _Trial) -> Iterator[str]:
    """Check that `scan` agrees with a Python loop, with single steps, and with `out_features`."""
    cell, params, xs = trial.cell, trial.params, trial.xs
    carry, ys = trial.scan(xs)
    if not _same((carry, ys), unroll(cell, params, xs, **trial.context(BATCH))):
        yield "scan differs from a Python loop over the same steps: does step have a side effect?"
    if not cell.causal:
        return
    shape = jax.tree.leaves(ys)[0].shape[1:]
    if shape[-1] != cell.out_features:
        yield f"out_features is {cell.out_features}, but the output has {shape[-1]} features"
    elif shape != cell.output_shape(trial.input_shape):
        yield (
            f"output_shape is {cell.output_shape(trial.input_shape)}, but the output has shape "
            f"{shape}: override output_shape, which a layer above asks for its input's shape"
        )
    carry, outputs = trial.initial_carry, []
    for t in range(TIME):
        carry, y = trial.step(carry, _at(xs, t))
        outputs.append(y)
    if not _same(ys, _stacked(outputs)):
        yield "scan differs from jaxrnn.step, step by step"


def _products(trial: _Trial) -> Iterator[str]:
    """Check that the carry meets weights in `affine` alone."""
    if isinstance(trial.cell, Composite):
        return

    def affine(u: Any, h: Array, w: Array, linear: Linear = matmul) -> Any:
        """Depend on the operand as a product does, without one."""
        product = jax.eval_shape(linear, h, w)
        return add_parts(u, jnp.broadcast_to(jnp.sum(h), product.shape).astype(product.dtype))

    cell, params = trial.in_context()
    u = cell.project(params, _at(trial.xs, 0))
    graph = trace(partial(cell.step, affine=affine), params, trial.initial_carry, u)
    for operation in graph.operations:
        if "carry" in operation.reach and product_of(graph, operation):
            shapes = " and ".join(str(aval.shape) for aval in operation.avals)
            yield (
                f"step multiplies a part of the carry by a parameter, {shapes}, without affine: "
                "its gradient takes longer; write affine((u,), h, w) for u + h @ w"
            )


def _gradients(trial: _Trial) -> Iterator[str]:
    """Check that BPTT runs the cell without JAX's own derivative, and that gradients agree."""
    leaves, tree = jax.tree.flatten((trial.params, trial.xs))
    floating = {k: leaf for k, leaf in enumerate(leaves) if is_real_float(leaf)}

    @partial(jax.jit, static_argnums=1)
    @partial(jax.grad, argnums=0)
    def gradients(floating: dict[int, Array], method: MethodLike) -> Array:
        full = [floating.get(k, leaf) for k, leaf in enumerate(leaves)]
        params, xs = jax.tree.unflatten(tree, full)
        results = trial.scan(xs, params=params, method=method)
        parts = [jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(results) if is_real_float(x)]
        return jnp.asarray(sum(parts))

    wanted = gradients(floating, "autodiff")
    methods: tuple[MethodLike, ...] = ("bptt", "checkpointed")
    for method in methods:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            got = gradients(floating, method)
        messages = {str(warning.message) for warning in caught}
        for message in sorted(message for message in messages if "own derivative" in message):
            yield f'method="{method}" falls back to JAX\'s own derivative: {message}'
        if not _same(got, wanted):
            yield f'the gradient of method="{method}" differs from that of "autodiff"'


def _padding_and_resets(trial: _Trial) -> Iterator[str]:
    """Check that NaN in padding reaches no output, and that a reset begins a new sequence."""
    lengths, reset = np.array([TIME, 1, 0, 2] * 2), np.zeros((TIME, BATCH), bool)
    reset[HALF, 0] = True
    within = np.arange(TIME)[:, None] < lengths

    def padded(leaf: Array) -> Array | np.ndarray:
        valid = within.reshape(within.shape + (1,) * (leaf.ndim - 2))
        nan = np.nan if is_real_float(leaf) else 0  # NumPy's, for jax_debug_nans sees JAX's
        return np.where(valid, leaf, np.asarray(nan, leaf.dtype))

    xs = jax.tree.map(padded, trial.xs)
    _, ys = trial.scan(xs, lengths=lengths, reset=reset)
    if not _is_finite(ys):
        yield "NaN in padding reaches outputs"
    if trial.cell.causal:
        _, alone = trial.scan(_at(trial.xs, np.s_[HALF:]), trial.initial_carry)
        after, alone = _at(ys, np.s_[HALF:, :1]), _at(alone, np.s_[:, :1])
        if trial.draw_context is None and not _same(after, alone):
            yield (
                "the steps after a reset differ from a sequence that begins there: does "
                "initial_carry return what a sequence starts from?"
            )


def _batch_axes(trial: _Trial) -> Iterator[str]:
    """Check that two batch axes, one, and none return the same rows."""
    if trial.draw_context is not None:  # the rows would get other contexts
        return
    _, ys = trial.scan(trial.xs)
    _, two = trial.scan(jax.tree.map(lambda a: a.reshape(TIME, 2, 4, *a.shape[2:]), trial.xs))
    if not _same(jax.tree.map(lambda a: a.reshape(TIME, BATCH, *a.shape[3:]), two), ys):
        yield (
            "two batch axes differ from one: write the last axis as -1, and the batch axes as "
            "*input_shape[:-1]"
        )
    _, none = trial.scan(_at(trial.xs, np.s_[:, 0]))
    if not _same(none, _at(ys, np.s_[:, 0])):
        yield "a sequence without a batch axis differs from a batch of one"


def _pieces(trial: _Trial) -> Iterator[str]:
    """Check that two runs, the second from the carry of the first, agree with one run."""
    if not trial.cell.causal:
        return
    last, ys = trial.scan(trial.xs)
    carry, first = trial.scan(_at(trial.xs, np.s_[:HALF]), trial.initial_carry)
    carry, second = trial.scan(_at(trial.xs, np.s_[HALF:]), carry)
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
    if not _same((carry, joined), (last, ys)):
        yield (
            "a run in two pieces differs from one run: everything that a step needs of the past "
            "must be in the carry"
        )


def _half_precision(trial: _Trial) -> Iterator[str]:
    """Check that bfloat16 parameters and inputs give finite outputs."""
    _, ys = trial.scan(_half(trial.xs), params=_half(trial.params))
    if not _is_finite(ys):
        yield "bfloat16 parameters and inputs give outputs that are not finite"


_CHECKS: tuple[Callable[[_Trial], Iterator[str]], ...] = (
    _equality,
    _initial_carry,
    _projection,
    _output,
    _drivers,
    _products,
    _gradients,
    _padding_and_resets,
    _batch_axes,
    _pieces,
    _half_precision,
)
"""Each yields a line for each problem."""


def _half(tree: Tree) -> Tree:
    """Cast the floating leaves to bfloat16; by NumPy, for JAX compiles it for every shape."""
    return jax.tree.map(
        lambda a: jax.device_put(np.asarray(a, jnp.bfloat16)) if is_real_float(a) else a, tree
    )


def _is_finite(tree: Tree) -> bool:
    return all(bool(np.all(np.isfinite(np.asarray(leaf)))) for leaf in jax.tree.leaves(tree))


def _named(tree: Tree) -> list[tuple[str, Array]]:
    """Return the leaves, each with its path as text."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _at(tree: Tree, index: int | slice | tuple[int | slice, ...]) -> Tree:
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)[index]), tree)


def _stacked(trees: list[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _same(got: Tree, want: Tree) -> bool:
    """Return whether shapes agree, and numbers up to 1e-4 of the largest of an array."""
    if form(got) != form(want):
        return False
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    arrays = [(np.asarray(a, np.complex128), np.asarray(b, np.complex128)) for a, b in pairs]
    return all(
        np.allclose(a, b, atol=1e-4 * max(1.0, np.max(np.abs(b), initial=0.0))) for a, b in arrays
    )
