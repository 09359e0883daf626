"""What the property tests share: inputs, drivers, gradients, and how results are compared."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.methods import BPTT, Checkpointed
from tests.support.specs import Spec
from tests.support.user_cells import wide

Driver = Callable[..., tuple[Any, Any]]

STEPS = (6, 4)
"""Time and batch of most tests; those that agree on shapes share a compiled program."""

SHORT = (3, 2)
"""For unrolled programs, which are slow to trace and to compile."""

DRIVERS: dict[str, Driver] = {
    "bptt": jaxrnn.scan,
    "carries_in_blocks": partial(jaxrnn.scan, method=BPTT(3, keep="carries")),
    "preactivations_in_blocks": partial(jaxrnn.scan, method=BPTT(2, keep="preactivations")),
    "checkpointed_in_blocks": partial(jaxrnn.scan, method=Checkpointed(3)),
    "autodiff": partial(jaxrnn.scan, method="autodiff"),
}
"""The drivers whose gradients must agree. Those in blocks cut `STEPS` into two or three of them; a
shorter one at the end would be traced and compiled by itself.
"""

each_driver = pytest.mark.parametrize("driver", list(DRIVERS.values()), ids=list(DRIVERS))
both_directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])

WALKS = {
    "carries_in_blocks": False,
    "preactivations_in_blocks": True,
    "checkpointed_in_blocks": True,
    "autodiff": False,
}
"""Whether a driver walks in reverse, where both directions for every spec would take too long. With
`STEPS`, a carry and all flags, each is one program, which serves all that is asked of gradients.
The default keeps both in one block, which `tests/methods` tests.
"""


def over_walks(*names: str) -> pytest.MarkDecorator:
    """Run a test with these drivers, each in its direction."""
    return pytest.mark.parametrize(
        ("driver", "reverse"),
        [
            pytest.param(DRIVERS[name], reverse, id=f"{name}-{'reverse' if reverse else 'forward'}")
            for name, reverse in WALKS.items()
            if name in names
        ],
    )


each_walk = over_walks(*WALKS)


def one_step_shape(xs: Any) -> tuple[int, ...]:
    """The `input_shape` that `Cell.initial_carry` takes."""
    return jax.tree.leaves(xs)[0].shape[1:]


def is_floating(leaf: Any) -> bool:
    """Whether a leaf has a gradient."""
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def perturb(tree: Any, scale: float, seed: int) -> Any:
    """Add noise to every floating leaf, so that no zero bias or zero carry hides a mistake. By
    NumPy and `device_put`, for JAX would compile each sum, and `jnp.asarray` for each shape.
    """
    rng = np.random.default_rng(seed)

    def leaf(a: Any) -> Any:
        a = np.asarray(a)
        noise = scale * rng.normal(size=a.shape) if is_floating(a) else 0
        return jax.device_put(a + np.asarray(noise, a.dtype))

    return jax.tree.map(leaf, tree)


def cast(tree: Any, dtype: Any) -> Any:
    """The floating leaves in this dtype; by NumPy and `device_put`, too."""
    return jax.tree.map(
        lambda a: jax.device_put(np.asarray(a).astype(dtype)) if is_floating(a) else a, tree
    )


def make_params(spec: Spec, dtype: Any = jnp.float64, seed: int = 0) -> Any:
    """Parameters without zeros."""
    return perturb(cast(_drawn(spec.cell, spec.in_features, seed), dtype), 0.3, seed)


@cache
def _drawn(cell: jaxrnn.Cell, in_features: int, seed: int) -> Any:
    """A cell's parameters, drawn once for all tests and dtypes, which promotes nothing; NumPy's,
    for those of JAX belong to one setting of `x64`.
    """
    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        return jax.tree.map(np.asarray, cell.init(jax.random.key(seed), in_features))


def make_xs(
    spec: Spec, steps: tuple[int, ...] = STEPS, dtype: Any = jnp.float64, seed: int = 1
) -> Any:
    """Inputs for `steps = (time, *batch)`."""
    xs = spec.inputs(np.random.default_rng(seed), steps, spec.in_features)
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, dtype)), xs)


def form_of_carry(spec: Spec, params: Any, xs: Any) -> Any:
    """Shapes and dtypes of the carry, for which nothing is compiled."""
    shape = one_step_shape(xs)
    return forms(jax.eval_shape(lambda p: spec.cell.initial_carry(p, shape), params))


def make_carry(spec: Spec, params: Any, xs: Any, seed: int = 2) -> Any:
    """A carry other than the initial one, whose integers are zeros."""
    form = form_of_carry(spec, params, xs)
    return perturb(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), form), 0.5, seed)


def initial_carry(spec: Spec, params: Any, xs: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The initial carry, and what leads its gradients to the parameters, None at integers."""
    shape = one_step_shape(xs)
    return _start(spec.cell, shape, params), partial(_pull_back, spec.cell, shape, params)


@partial(jax.jit, static_argnums=(0, 1))
def _start(cell: jaxrnn.Cell, shape: tuple[int, ...], params: Any) -> Any:
    return cell.initial_carry(params, shape)


@partial(jax.jit, static_argnums=(0, 1))
def _pull_back(cell: jaxrnn.Cell, shape: tuple[int, ...], params: Any, of_carry: Any) -> Any:
    carry, back = jax.vjp(partial(_start, cell, shape), params)
    given = jax.tree.map(
        lambda g, a: np.zeros(a.shape, jax.dtypes.float0) if g is None else g,
        of_carry,
        carry,
        is_leaf=lambda g: g is None,
    )
    return jax.tree.map(lambda g: None if g.dtype == jax.dtypes.float0 else g, back(given)[0])


def make_flags(steps: tuple[int, ...] = STEPS, seed: int = 3) -> dict[str, Any]:
    """Lengths (one of them 0, if there are several), a mask and resets, all at once."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(steps[0] // 2, steps[0] + 1, size=steps[1:])
    if lengths.size > 1:
        lengths.flat[-1] = 0
        lengths.flat[0] = steps[0]
    return {"lengths": lengths, "mask": rng.random(steps) < 0.75, "reset": rng.random(steps) < 0.3}


def all_flags(steps: tuple[int, ...] = STEPS, **flags: Any) -> dict[str, Any]:
    """These flags, and those that leave everything as it is: with all of them given, one compiled
    program serves many tests.
    """
    neutral = {
        "lengths": np.full(steps[1:], steps[0]),
        "mask": np.ones(steps, bool),
        "reset": np.zeros(steps, bool),
    }
    return {**neutral, **flags}


def cotangents(outputs: Any, seed: int = 4) -> Any:
    """Fixed random weights for every output, the carry's included; None for outputs without a
    gradient.
    """
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda a: np.asarray(rng.normal(size=a.shape), wide(a)) if is_floating(a) else None,
        outputs,
    )


def value_and_grads(
    driver: Driver,
    cell: jaxrnn.Cell,
    params: Any,
    xs: Any,
    carry: Any = None,
    *,
    reverse: bool = False,
    of_ys: Any = None,
    of_carry: float = 1.0,
    **flags: Any,
) -> tuple[Any, Any]:
    """`(carry, ys)`, and the gradients of its product with random cotangents in `(params, xs,
    carry)`, None at integers.

    `of_ys [time]` and `of_carry` multiply the cotangents of each step's outputs and of the carry.
    Compiled once for each driver, cell, shape and direction; all else is traced.
    """
    time = jax.tree.leaves(xs)[0].shape[0]
    shares = (np.float64(of_carry), np.ones(time) if of_ys is None else np.asarray(of_ys, float))
    return programs_of_gradients(driver, cell, params, xs, carry, flags, shares, reverse)


@partial(jax.jit, static_argnames=("driver", "reverse"))
def programs_of_gradients(
    driver: Driver,
    cell: jaxrnn.Cell,
    params: Any,
    xs: Any,
    carry: Any,
    flags: dict[str, Any],
    shares: tuple[Any, Any],
    reverse: bool,
) -> tuple[Any, Any]:
    arguments, form = jax.tree.flatten((params, xs, carry))
    where = [k for k, leaf in enumerate(arguments) if is_floating(leaf)]
    options = {**flags, **({"reverse": True} if reverse else {})}

    def product(floating: list[Any]) -> tuple[Any, Any]:
        leaves = list(arguments)
        for k, leaf in zip(where, floating, strict=True):
            leaves[k] = leaf
        p, x, c = jax.tree.unflatten(form, leaves)
        outputs = driver(cell, p, x, c, **options)
        return sum(map(_product, outputs, cotangents(outputs), shares)), outputs

    grads, outputs = jax.grad(product, has_aux=True)([arguments[k] for k in where])
    leaves: list[Any] = [None] * len(arguments)
    for k, leaf in zip(where, grads, strict=True):
        leaves[k] = leaf
    return outputs, jax.tree.unflatten(form, leaves)


def _product(outputs: Any, cotangents: Any, share: Any) -> Any:
    """Of all leaves with a cotangent, each step's times its share."""
    total = jnp.zeros((), share.dtype)
    for a, b in zip(
        jax.tree.leaves(outputs),
        jax.tree.leaves(cotangents, is_leaf=lambda b: b is None),
        strict=True,
    ):
        if b is not None:
            each = share.reshape(share.shape + (1,) * (a.ndim - share.ndim)).astype(b.dtype)
            total += jnp.sum(a.astype(b.dtype) * b * each).astype(total.dtype)
    return total


def assert_close(actual: Any, expected: Any, tolerance: float, floor: float = 1e-3) -> None:
    """Leaf by leaf: the same shape, and the norm of the error at most `tolerance` times the norm of
    what is expected.

    Trees are compared by their leaves, for a reference has no NamedTuples. NaN equals nothing. A
    leaf whose norm is below `floor` is compared with `floor`, for rounding does not shrink with
    cancellation."""
    pairs = jax.tree_util.tree_leaves_with_path(actual)
    wanted = jax.tree.leaves(expected)
    assert len(pairs) == len(wanted)
    for (path, got), want in zip(pairs, wanted, strict=True):
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        where = jax.tree_util.keystr(path)
        assert got.shape == want.shape, f"{where}: shape {got.shape}, expected {want.shape}"
        error, size = np.linalg.norm(got - want), max(np.linalg.norm(want), floor)
        assert error <= tolerance * size, (
            f"{where}: relative error {error / size:.1e} > {tolerance:.1e}\n{got}\n{want}"
        )


def assert_equal(actual: Any, expected: Any) -> None:
    """Bit by bit, leaf by leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


def forms(tree: Any) -> Any:
    """Shapes and dtypes."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def concatenate(*trees: Any) -> Any:
    """Join pieces of time."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)


def cut(tree: Any, start: int | None, stop: int | None) -> Any:
    """A piece of time."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[start:stop], tree)


def at_step(tree: Any, index: Any) -> Any:
    """One step of a sequence, or several."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)
