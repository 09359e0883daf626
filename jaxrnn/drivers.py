"""The drivers: how T steps of a cell are run.

Each verb makes a `Call` of its arguments and checks it. A `Runner` then takes the cell, or each
cell inside one that is made of cells, through its stages, by a method of `jaxrnn.methods`.
"""

from functools import partial
from typing import Any, Unpack

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
) -> tuple[C, Any]:
    """Run a cell over a sequence: `carry_t, y_t = step(params, carry_{t-1}, project(params, x_t))`.

    Calling it outside `jax.jit` compiles once for each cell, shape and dtype.

    Args:
        cell: what one time step is.
        params: the cell's parameters.
        xs: inputs `[time, *batch, features]`, any number of batch axes; or a pytree of arrays that
            start with the time axis. A batch axis costs less than `jax.vmap` over rows: the method
            sees how many rows there are.
        carry: the carry before the first step; `cell.initial_carry` if left out.
        lengths: integers `[*batch]`: how many steps of each sequence are valid, the rest is padding
            on the right. Their range is checked where they are known: NumPy's at no cost; arrays
            of JAX outside `jax.jit`, which waits for those that an accelerator still computes.
        mask: bool `[time, *batch]`: which steps are valid. Where a step is not, the carry is held,
            `y` is zero, and `x` has no influence, even if it is NaN.
        reset: bool `[time, *batch]`: `reset[t]` is a boundary between t - 1 and t; whichever way
            time is walked, what comes after it starts from `cell.initial_carry`. At a masked step
            it stays pending until the next valid one.
        reverse: walk from each sequence's last valid step to its first; `ys[t]` still belongs to
            `xs[t]`.
        context: a pytree `[*batch, ...]` that a `ContextCell` sees at every step: a memory that
            it attends to, features of an image, a goal.
        key: what cells that draw (`Dropout`, `Zoneout`, ...) draw from, in training. Without it
            nothing is random: inference.
        method: how the steps are run and differentiated, a name or an instance of `jaxrnn.methods`;
            all agree to rounding. `"bptt"`: back-propagation through time in blocks.
            `"checkpointed"`, for long sequences: keeps the carries between blocks alone.
            `"autodiff"`: JAX's own derivative of `lax.scan`.

    Returns:
        The carry after the last valid step, and `ys [time, *batch, out_features]` in the dtype of
        `xs`; complex outputs stay complex.

    Raises:
        ValueError: a shape, a length or a structure does not fit, or `method` is another word;
            the message says what was expected.
        TypeError: a dtype does not fit, or `cell` is not a cell.

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
) -> tuple[C, Any]:
    """What `scan` computes, by a Python loop over steps: the reference, whose program and compile
    time grow with T.

    Takes, returns and raises what `scan` does.

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
) -> tuple[C, Any]:
    """Like `scan`, but keep every carry: the initial one first, then one after each step in the
    order of the walk. Takes and raises what `scan` does.

    Returns:
        `states`, the cell's carry with a leading axis of time + 1, and `ys` as `scan` gives them.
        `reverse=True` lists the states in walking order: the one after step T - 1 comes second.

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
    carry: C,
    x: Tree = None,
    *,
    context: Tree = None,
    key: Array | None = None,
) -> tuple[C, Any]:
    """Take one step, for streaming, acting and decoding.

    Args:
        cell: what one time step is; it must be causal.
        params: the cell's parameters.
        carry: the carry before this step, from `cell.initial_carry` or an earlier call.
        x: one step's input `[*batch, features]`.
        context: what a `ContextCell` sees, a pytree `[*batch, ...]`.
        key: what cells that draw draw from, a new one for each call; without it nothing is random.

    Returns:
        The new carry, and `y [*batch, out_features]` in the dtype of `x`.

    Raises:
        ValueError: a shape or structure does not fit.
        TypeError: a dtype does not fit, there is no carry, or the cell needs the future
            (`Bidirectional`).

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.GRU(hidden=4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry = cell.initial_carry(params, input_shape=(2, 3))
    >>> carry, y = jaxrnn.step(cell, params, carry, jnp.ones((2, 3)))
    >>> y.shape
    (2, 4)
    """
    check_cell(cell, "step")
    check_causal(cell, "single step")
    if x is None:
        raise TypeError(
            f"jaxrnn.step: {name_of(cell)} got three arguments, expected (cell, params, carry, x); "
            "begin with carry = cell.initial_carry(params, x.shape)"
        )
    check_arrays(cell, "x", x)
    return _step(cell, Call(params, x, carry, context=context, key=key))


# Compiled here, so that a call outside jit is traced once. Not inlined: then JAX would trace and
# compile anew whenever such a call is differentiated; XLA inlines it anyway.
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
        partial(_walk, method, cell, reverse, all_carries, call.key),
        call.params,
        in_time=(call.xs, valid, call.reset, numbers),
        at_start=(call.carry, call.context),
        all_carries=all_carries,
    )


def _walk(
    method: Method,
    cell: Cell,
    reverse: bool,
    all_carries: bool,
    key: Array | None,
    params: Params,
    in_time: tuple[Tree, Array | None, Array | None, Numbers | None],
    at_start: tuple[Carry, Tree],
) -> tuple[Carry, Tree]:
    """Run the cell over the sequences of one device."""
    (xs, valid, reset, numbers), (carry, context) = in_time, at_start
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
        runner = Runner(method=OneStep(), draws=draws, context=call.context)
        return runner(cell, call.params, call.xs, call.carry)

    return left_to_the_compiler(run, split, (split.spec, split.spec), call)


def _ready(cell: Cell, call: Call, timed: bool) -> Call:
    """The call, checked, as all that follows wants it."""
    key = call.key
    # arrays they are already, but for NumPy's under jax.disable_jit
    call = equally_varying(jax.tree.map(jnp.asarray, call._replace(key=None)))
    call = checked(cell, call._replace(key=key), timed)
    return call if call.key is None else call._replace(key=threefry(call.key))
