"""The drivers `scan`, `unroll`, `trajectory` and `step`, which run a cell.

Each driver puts its arguments into a `Call` and checks it. A `Runner` then runs the cell by a
method of `jaxrnn.methods`. If the cell is made of cells, it runs each of them.
"""

from functools import partial
from typing import Unpack

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.core.call import (
    Call,
    Flags,
    check_arrays,
    check_causal,
    check_cell,
    checked,
    make_call,
)
from jaxrnn.core.cell import C, Carry, Cell, P, Params
from jaxrnn.core.check import name_of
from jaxrnn.core.composite import OneStep, Runner
from jaxrnn.core.noise import Draws, Numbers, number, threefry
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import Walk, valid_steps, without_masked
from jaxrnn.methods import Method, MethodLike, Unrolled, named
from jaxrnn.methods.mesh import (
    equally_varying,
    left_to_the_compiler,
    over_devices,
    split_of,
    varying_as,
)


def scan(
    cell: Cell[P, C],
    params: P,
    xs: Tree,
    carry: C | None = None,
    *,
    key: Array | None = None,
    method: MethodLike = "bptt",
    **flags: Unpack[Flags],
) -> tuple[C, Tree]:
    """Run a cell over a sequence.

        carry_t, y_t = step(params, carry_{t-1}, project(params, x_t))

    Outside `jax.jit`, it compiles once for each cell, method, shape and dtype.

    Args:
        cell: the cell; it defines one time step.
        params: the cell's parameters.
        xs: the inputs `[time, *batch, features]`, with any number of batch axes; or a pytree of
            arrays whose first axis is time. A batch axis costs less than `jax.vmap` over rows,
            because the method knows the number of rows.
        carry: the carry before the first step; `cell.initial_carry` if left out.
        lengths: integers `[*batch]`: how many steps of each sequence are valid. The rest is padding
            on the right. The driver checks their range if it knows their values: those of NumPy's
            arrays, and those of JAX's arrays outside `jax.jit`, for which it waits.
        mask: bool `[time, *batch]`: which steps are valid. At any other step the carry is held, `y`
            is zero, and `x` has no influence, even if it is NaN.
        reset: bool `[time, *batch]`: `reset[t]` is a boundary between steps t - 1 and t. In either
            direction, the first step after the boundary starts from `cell.initial_carry`. If that
            step is masked, the next valid step does.
        reverse: whether to walk from each sequence's last valid step to its first. `ys[t]` belongs
            to `xs[t]` in both directions.
        context: a pytree `[*batch, ...]` that a `ContextCell` gets at every step, such as the
            memory that it attends to, features of an image, or a goal.
        key: the random key that `Dropout`, `Zoneout` and other noisy cells draw from in training.
            Without a key nothing is random, as inference needs it.
        method: how the steps are run and differentiated: a name, or an instance of a class of
            `jaxrnn.methods`. All agree up to rounding. `"bptt"` is back-propagation through time in
            blocks. `"checkpointed"` is for long sequences: it stores nothing but the carries
            between blocks. `"autodiff"` is JAX's derivative of `jax.lax.scan`.

    Returns:
        The carry after the last valid step, and `ys [time, *batch, out_features]`. `ys` has the
        dtype of `xs`, except that complex outputs stay complex.

    Raises:
        ValueError: a shape, a length or a structure does not fit, `reverse` is not a bool, or
            `method` is unknown.
        TypeError: a dtype does not fit, `cell` is not a cell, or a keyword is unknown.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.LSTM(hidden=4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 5]))
    >>> ys.shape, bool(jnp.all(carry.h[1] == ys[4, 1])), bool(jnp.all(ys[5:, 1] == 0))
    ((7, 2, 4), True, True)
    """
    call, reverse = make_call("scan", cell, params, xs, carry, key, flags)
    return _run(named("scan", method), cell, call, reverse)


def unroll(
    cell: Cell[P, C],
    params: P,
    xs: Tree,
    carry: C | None = None,
    *,
    key: Array | None = None,
    **flags: Unpack[Flags],
) -> tuple[C, Tree]:
    """Compute what `scan` computes, by a Python loop over the steps.

    It is the reference for tests. Its program and its compile time grow with the number of steps.
    It takes the arguments of `scan` except `method`, and returns what `scan` returns.

    Raises:
        ValueError: a shape, a length or a structure does not fit, or `reverse` is not a bool.
        TypeError: a dtype does not fit, `cell` is not a cell, or a keyword is unknown.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.GRU(hidden=4)
    >>> params, xs = cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3))
    >>> _, expected = jaxrnn.scan(cell, params, xs)
    >>> bool(jnp.allclose(jaxrnn.unroll(cell, params, xs)[1], expected, atol=1e-6))
    True
    """
    call, reverse = make_call("unroll", cell, params, xs, carry, key, flags)
    return _run(Unrolled(), cell, call, reverse)


def trajectory(
    cell: Cell[P, C],
    params: P,
    xs: Tree,
    carry: C | None = None,
    *,
    key: Array | None = None,
    method: MethodLike = "bptt",
    **flags: Unpack[Flags],
) -> tuple[C, Tree]:
    """Run a cell over a sequence as `scan` does, and return every carry.

    It takes the arguments of `scan`.

    Returns:
        `states` and `ys`. `states` is the cell's carry with a leading axis of size time + 1: the
        initial carry, and then the carry after each step, in the order of the walk. With
        `reverse=True`, the carry after step T - 1 therefore comes second. `ys` is that of `scan`.

    Raises:
        ValueError: a shape, a length or a structure does not fit, `reverse` is not a bool, or
            `method` is unknown.
        TypeError: a dtype does not fit, `cell` is not a cell, or a keyword is unknown.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.LSTM(hidden=4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> states, ys = jaxrnn.trajectory(cell, params, jnp.ones((7, 2, 3)))
    >>> states.c.shape, bool(jnp.all(states.h[1:] == ys))
    ((8, 2, 4), True)
    """
    call, reverse = make_call("trajectory", cell, params, xs, carry, key, flags)
    return _run(named("trajectory", method), cell, call, reverse, all_carries=True)


def step(
    cell: Cell[P, C],
    params: P,
    carry: C | None,
    x: Tree = None,
    *,
    context: Tree = None,
    key: Array | None = None,
) -> tuple[C, Tree]:
    """Take one step, for streaming, acting and decoding.

    Args:
        cell: the cell. It must be causal.
        params: the cell's parameters.
        carry: the carry before this step, from an earlier call. None means `cell.initial_carry`.
        x: the input of one step, `[*batch, features]`.
        context: the context of a `ContextCell`, a pytree `[*batch, ...]`.
        key: the random key that noisy cells draw from. Pass a new one in each call. Without a key
            nothing is random.

    Returns:
        The new carry, and `y [*batch, out_features]` in the dtype of `x`.

    Raises:
        ValueError: a shape or a structure does not fit.
        TypeError: a dtype does not fit, an argument is left out, `cell` is not a cell, or it needs
            later inputs, as `Bidirectional` does.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.GRU(hidden=4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, y = jaxrnn.step(cell, params, None, jnp.ones((2, 3)))
    >>> carry, y = jaxrnn.step(cell, params, carry, jnp.ones((2, 3)))
    >>> y.shape
    (2, 4)
    """
    check_cell(cell, "step")
    check_causal(cell, "single step")
    if x is None:
        raise TypeError(
            f"jaxrnn.step: {name_of(cell)} got three arguments, expected (cell, params, carry, x); "
            "begin with None as carry"
        )
    check_arrays(cell, "x", x)
    return _step(cell, Call(params, x, carry, context=context, key=key))


# jit stands here so that calls outside of the user's jit are traced once. `inline=True` would make
# JAX trace and compile again whenever such a call is differentiated, and XLA inlines it anyway.
@partial(jax.jit, static_argnames=("method", "reverse", "all_carries"))
def _run(
    method: Method, cell: Cell, call: Call, reverse: bool, all_carries: bool = False
) -> tuple[Carry, Tree]:
    call = _ready(cell, call, timed=True)
    time, *batch = call.shape[: len(call.shape) - cell.feature_axes]
    numbers = None if call.key is None else number((time, *batch), call.reset)
    valid = valid_steps(time, call.lengths, call.mask)
    split = split_of(call.xs, call._replace(key=None), len(batch), True, method.batch_axes)
    return over_devices(
        split,
        partial(_walk, method, cell, reverse, all_carries),
        (call.params, call.key),
        in_time=(call.xs, valid, call.reset, numbers),
        at_start=(call.carry, call.context),
        all_carries=all_carries,
    )


def _walk(
    method: Method,
    cell: Cell,
    reverse: bool,
    all_carries: bool,
    shared: tuple[Params, Array | None],
    in_time: tuple[Tree, Array | None, Array | None, Numbers | None],
    at_start: tuple[Carry, Tree],
) -> tuple[Carry, Tree]:
    """Run the cell over the sequences of one device."""
    (params, key), (xs, valid, reset, numbers), (carry, context) = shared, in_time, at_start
    if carry is None:
        carry = varying_as(xs, cell.initial_carry(params, jax.tree.leaves(xs)[0].shape[1:]))
    draws = None if key is None or numbers is None else Draws(key, numbers)
    walk = Walk(valid, reset, reverse, all_carries)
    runner = Runner(method=method, walk=walk, draws=draws, context=context)
    return runner(cell, params, without_masked(xs, valid), carry)


@jax.jit
def _step(cell: Cell, call: Call) -> tuple[Carry, Tree]:
    call = _ready(cell, call, timed=False)
    batch = call.shape[: len(call.shape) - cell.feature_axes]
    split = split_of(call.xs, call._replace(key=None), len(batch), False, None)

    def run(call: Call) -> tuple[Carry, Tree]:
        draws = None
        if call.key is not None:
            numbers = jax.tree.map(lambda leaf: leaf[0], number((1, *batch), None))
            draws = Draws(call.key, numbers)
        carry = call.carry
        if carry is None:
            carry = varying_as(call.xs, cell.initial_carry(call.params, call.shape))
        runner = Runner(method=OneStep(), draws=draws, context=call.context)
        return runner(cell, call.params, call.xs, carry)

    return left_to_the_compiler(run, split, (split.spec, split.spec), call)


def _ready(cell: Cell, call: Call, timed: bool) -> Call:
    """Return the call, checked, with arrays of JAX and a threefry key."""
    key = call.key
    # jit has made them arrays of JAX, except under jax.disable_jit
    call = equally_varying(jax.tree.map(jnp.asarray, call._replace(key=None)))
    call = checked(cell, call._replace(key=key), timed)
    return call if call.key is None else call._replace(key=threefry(call.key))
