"""The drivers: how T steps of a cell are run.

Each verb checks its arguments, then hands the cell a `Drive`. The cell's `run` calls it, once, or
once for every cell inside (`Stack`, `Bidirectional`), so that each inner cell is projected and
looped over by itself."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.core import check as _check
from jaxrnn.core.affine import affine, equally_varying, varying_as
from jaxrnn.core.cell import Carry, Cell, Driver, OneStep, Params
from jaxrnn.core.noise import Draws, number, threefry
from jaxrnn.core.walk import Walk, valid_steps, without_masked
from jaxrnn.methods import Method, MethodLike, Unrolled, named, steps
from jaxrnn.methods.autodiff import length
from jaxrnn.methods.mesh import in_groups, left_to_the_compiler, split_of


@dataclasses.dataclass(frozen=True)
class Drive(Driver):
    """Runs a cell over time: a method, and the walk that it takes."""

    method: Method
    walk: Walk

    def walk_through(self, cell: Cell, params: Params, xs: Any, carry: Carry) -> tuple[Carry, Any]:
        """Run the cell by the method."""
        return self.method.run(cell, params, xs, carry, self.walk)

    def reversed(self) -> "Drive":
        """The same driver, walking the other way."""
        return dataclasses.replace(self, walk=self.walk.reversed())


def scan(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    key: Array | None = None,
    method: MethodLike = "bptt",
) -> tuple[Carry, Any]:
    """Run a cell over a sequence: `carry_t, y_t = step(params, carry_{t-1}, project(params, x_t))`.

    Calling it outside `jax.jit` compiles once for each cell, shape and dtype.

    Args:
        cell: what one time step is.
        params: the cell's parameters.
        xs: inputs `[time, *batch, features]`, any number of batch axes; or a pytree of arrays that
            start with the time axis.
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
        key: what cells that draw (`Dropout`, `Zoneout`, ...) draw from, in training. Without it
            nothing is random: inference.
        method: how the steps are run and differentiated, a name or an instance of `jaxrnn.methods`;
            all agree to rounding. `"bptt"`: back-propagation through time in blocks.
            `"checkpointed"`, for long sequences: keeps the carries between blocks alone.
            `"autodiff"`: JAX's own derivative of `lax.scan`, the only one with a forward mode
            (`jax.jvp`, `jax.jacfwd`).

    Returns:
        The carry after the last valid step, and `ys [time, *batch, out_features]` in the dtype of
        `xs`.

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
    return _drive(
        "scan", named("scan", method), cell, params, xs, carry, lengths, mask, reset, reverse, key
    )


def unroll(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    key: Array | None = None,
) -> tuple[Carry, Any]:
    """What `scan` computes, by a Python loop over steps: the reference, whose program and compile
    time grow with T.

    Takes, returns and raises what `scan` does.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.GRU(hidden=4)
    >>> params, xs = cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3))
    >>> bool(jnp.allclose(jaxrnn.unroll(cell, params, xs)[1], jaxrnn.scan(cell, params, xs)[1], atol=1e-6))
    True
    """
    return _drive("unroll", Unrolled(), cell, params, xs, carry, lengths, mask, reset, reverse, key)


def trajectory(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    key: Array | None = None,
) -> tuple[Carry, Any]:
    """Like `scan`, but keep every carry: the initial one first, then one after each step in the
    order of the walk.

    Returns:
        `states`, the cell's carry with a leading axis of time + 1, and `ys` as `scan` gives them.
        `reverse=True` lists the states in walking order: the one after step T - 1 comes second.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.LSTM(hidden=4)
    >>> states, ys = jaxrnn.trajectory(cell, cell.init(jax.random.key(0), in_features=3), jnp.ones((7, 2, 3)))
    >>> states.c.shape, bool(jnp.all(states.h[1:] == ys))
    ((8, 2, 4), True)
    """
    return _drive(
        "trajectory", _Trajectory(), cell, params, xs, carry, lengths, mask, reset, reverse, key
    )


def step(
    cell: Cell, params: Params, carry: Carry, x: Any, *, key: Array | None = None
) -> tuple[Carry, Any]:
    """Take one step, for streaming, acting and decoding.

    Args:
        cell: what one time step is; it must be causal.
        params: the cell's parameters.
        carry: the carry before this step, from `cell.initial_carry` or an earlier call.
        x: one step's input `[*batch, features]`.
        key: what cells that draw draw from, a new one for each call; without it nothing is random.

    Returns:
        The new carry, and `y [*batch, out_features]` in the dtype of `x`.

    Raises:
        ValueError: a shape or structure does not fit.
        TypeError: a dtype does not fit, or the cell needs the future (`Bidirectional`).

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.GRU(hidden=4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry = cell.initial_carry(params, input_shape=(2, 3))
    >>> carry, y = jaxrnn.step(cell, params, carry, jnp.ones((2, 3)))
    >>> y.shape
    (2, 4)
    """
    _check.check_cell(cell, "step")
    _check.check_causal(cell, "single step")
    return _step(cell, params, carry, x, key)


@jax.jit
def _step(cell: Cell, params: Params, carry: Carry, x: Any, key: Array | None) -> tuple[Carry, Any]:
    _check.check_inputs(cell, x, timed=False)
    params, carry, x = equally_varying(_arrays((params, carry, x)))
    _check.check_params(cell, params, _input_shape(x)[-1])
    carry = _check.check_carry(cell, params, carry, _input_shape(x))
    if key is not None:
        key = threefry(_check.check_key(cell, key))
    batch = _input_shape(x)[: len(_input_shape(x)) - cell.feature_axes]
    split = split_of(x, (params, carry), len(batch), False, None)

    def run(params: Params, carry: Carry, x: Any, key: Any) -> tuple[Carry, Any]:
        draws = (
            None
            if key is None
            else Draws(key, jax.tree.map(lambda leaf: leaf[0], number((1, *batch), None)))
        )
        return cell.run(params, x, carry, OneStep(draws=draws))

    return left_to_the_compiler(run, split, (split.spec, split.spec), params, carry, x, key)


def _drive(
    verb: str,
    method: Method,
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry,
    lengths: Any,
    mask: Any,
    reset: Any,
    reverse: bool,
    key: Array | None = None,
) -> tuple[Carry, Any]:
    _check.check_cell(cell, verb)
    reverse = _check.check_flag(verb, "reverse", reverse)
    _check.check_lengths(cell, xs, lengths)
    lengths, mask, reset = (
        None if flag is None else jnp.asarray(flag) for flag in (lengths, mask, reset)
    )
    return _run(method, cell, params, xs, carry, lengths, mask, reset, key, reverse)


# Compiled here, so that a call outside jit is traced once. Not inlined: then JAX would trace and
# compile anew whenever such a call is differentiated; XLA inlines it anyway.
@partial(jax.jit, static_argnames=("method", "reverse"))
def _run(
    method: Method,
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry,
    lengths: Array | None,
    mask: Array | None,
    reset: Array | None,
    key: Array | None,
    reverse: bool,
) -> tuple[Carry, Any]:
    _check.check_inputs(cell, xs, timed=True)
    params, xs, carry = _arrays((params, xs, carry))
    params, xs, carry, lengths, mask, reset = equally_varying(
        (params, xs, carry, lengths, mask, reset)
    )
    time, *shape = _input_shape(xs)
    input_shape = tuple(shape)
    _check.check_params(cell, params, input_shape[-1])
    _check.check_flags(cell, xs, lengths, mask, reset)
    if carry is not None:
        carry = _check.check_carry(cell, params, carry, input_shape)
    if key is not None:
        key = threefry(_check.check_key(cell, key))
    batch_axes = len(input_shape) - cell.feature_axes
    split = split_of(xs, (params, carry, lengths, mask, reset), batch_axes, True, method.batch_axes)
    batch = split.spec[1:]

    def run(
        params: Params, xs: Any, carry: Carry, lengths: Any, mask: Any, reset: Any, key: Any
    ) -> tuple[Carry, Any]:
        numbers = None if key is None else number((time, *input_shape[:batch_axes]), reset)
        in_time, at_start = (xs, valid_steps(time, lengths, mask), reset, numbers), carry
        if isinstance(method, _Trajectory):
            return _run_group(method, cell, reverse, key, params, in_time, at_start)
        return in_groups(
            split.groups, partial(_run_group, method, cell, reverse, key), params, in_time, at_start
        )

    out_specs = ((None, *batch) if isinstance(method, _Trajectory) else batch, split.spec)
    return left_to_the_compiler(run, split, out_specs, params, xs, carry, lengths, mask, reset, key)


def _run_group(
    method: Method,
    cell: Cell,
    reverse: bool,
    key: Array | None,
    params: Params,
    in_time: Any,
    carry: Carry,
) -> tuple[Carry, Any]:
    xs, valid, reset, numbers = in_time
    if carry is None:
        carry = varying_as(xs, cell.initial_carry(params, _input_shape(xs)[1:]))
    draws = None if key is None else Draws(key, numbers)
    return cell.run(
        params,
        without_masked(xs, valid),
        carry,
        Drive(method, Walk(valid, reset, reverse), draws=draws),
    )


@dataclasses.dataclass(frozen=True)
class _Trajectory(Method):
    """A loop that returns every carry in place of the last one."""

    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, walk: Walk
    ) -> tuple[Carry, Any]:
        step, inputs = steps(cell, params, xs, walk)

        def body(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
            carry, y = step(params, carry, *inputs, affine)
            return carry, (carry, y)

        _, (states, ys) = lax.scan(
            body, carry, inputs, length=length(inputs, xs), reverse=walk.reverse
        )
        if walk.reverse:
            states = jax.tree.map(lambda leaf: jnp.flip(leaf, axis=0), states)
        return jax.tree.map(
            lambda first, rest: jnp.concatenate([first[None], rest]), carry, states
        ), ys


def _arrays(tree: Any) -> Any:
    """Leaves as JAX's arrays, which they are already, but for NumPy's under `jax.disable_jit`."""
    return jax.tree.map(jnp.asarray, tree)


def _input_shape(xs: Any) -> tuple[int, ...]:
    return jax.tree.leaves(xs)[0].shape
