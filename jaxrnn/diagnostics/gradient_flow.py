"""How much of the gradient of a loss arrives at every time step."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.call import Flags, Lengths, check_cell
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import described, takes
from jaxrnn.core.composite import Composite, Delegate, Runner, StandIn
from jaxrnn.core.trees import Tree, float_positions, is_float, pick, put, sparse
from jaxrnn.diagnostics._state import norm
from jaxrnn.drivers import scan, trajectory
from jaxrnn.methods import MethodLike


class GradientFlow(NamedTuple):
    """What `gradient_flow` finds.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import gradient_flow
    >>> cell = jaxrnn.LSTM(4)
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> flow = gradient_flow(lambda carry, ys: jnp.sum(ys[-1]), cell, params, jnp.ones((7, 2, 3)))
    >>> flow.loss.shape, flow.parts.h.shape, flow.total().shape
    ((), (8, 2), (8, 2))
    """

    loss: Array
    parts: Carry
    """`‖∂L/∂part_t‖` of each array of the carry, `[time + 1, *batch]`, in the carry's structure.
    Entry 0 belongs to the carry before the first step, entry t + 1 to that after step t. None for
    integers."""

    def total(self, part: Tree = None) -> Array:
        """Return the norm over all parts of the carry, or over some of them, `[time + 1, *batch]`.

        `flow.total(flow.parts[0])` is the norm of the lowest layer of a `Stack`.

        Args:
            part: a part of `parts`; all if left out.

        Raises:
            ValueError: the part holds no real or complex numbers.
        """
        each = jax.tree.leaves(self.parts if part is None else part)
        if not each:
            raise ValueError(
                "GradientFlow.total: there is no norm, because the given part holds no real or "
                "complex numbers"
            )
        return norm(jnp.stack(each, axis=-1), [-1])


def gradient_flow(
    loss: Callable[[Any, Any], Array],
    cell: Cell,
    params: Params,
    xs: Tree,
    carry: Carry = None,
    *,
    key: Array | None = None,
    method: MethodLike = "bptt",
    **flags: Unpack[Flags],
) -> GradientFlow:
    """Compute the norm of a loss's gradient for the carry of every step, `‖∂L/∂carry_t‖`.

    The function takes one backward pass. It adds zeros to the carry after every step. The gradient
    with respect to these zeros is the one that arrives at the carry, from later steps and from the
    output of the step itself. A masked step makes no carry, so its norm is 0. No gradient crosses a
    boundary (`reset`). If a part of the carry is also the output, both count as one.

    Args:
        loss: a function `loss(carry, ys)` of what `jaxrnn.scan` returns, with one number as result.
            It may use readouts, other networks and targets from outside.
        cell, params, xs, carry, key, method, flags: as for `jaxrnn.scan`.

    Raises:
        ValueError, TypeError: as `jaxrnn.scan`; or the loss is not one real number.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> from jaxrnn.diagnostics import gradient_flow
    >>> cell, xs = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.GRU(5)]), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> def loss(carry, ys):
    ...     return jnp.sum(ys[-1])  # reads the last output alone
    >>> flow = gradient_flow(loss, cell, params, xs)
    >>> flow.total().shape, flow.parts[0].c.shape
    ((8, 2), (8, 2))
    >>> lowest = flow.total(flow.parts[0])
    >>> bool(lowest[1, 0] < lowest[7, 0])  # the gradient vanishes on its way back
    True
    """
    if not takes(loss, 2):
        raise TypeError(
            f"gradient_flow: loss is {described(loss)}, expected function(carry, ys); pass them "
            "as (loss, cell, params, xs)"
        )
    check_cell(cell, "diagnostics.gradient_flow")
    states, _ = jax.eval_shape(
        lambda: trajectory(cell, params, xs, carry, key=key, method=method, **flags)
    )
    first = jax.tree.leaves(xs)[0]
    if carry is None:
        carry = cell.initial_carry(params, first.shape[1:])
    nudges = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), states)
    at = float_positions(nudges)

    def nudged(zeros: list[Array]) -> Array:
        nudges_t = put(nudges, at, zeros)
        start = jax.tree.map(_plus_first, carry, nudges_t)
        after = jax.tree.map(lambda leaf: leaf[1:], nudges_t)
        found = loss(
            *scan(_Nudged(cell), params, (xs, after), start, key=key, method=method, **flags)
        )
        return checked_loss("gradient_flow", found)

    value, gradients = jax.value_and_grad(nudged)(pick(nudges, at))
    rows = first.ndim - cell.feature_axes
    norms = [norm(gradient, range(rows, gradient.ndim)) for gradient in gradients]
    return GradientFlow(value, sparse(nudges, at, norms))


def by_distance(norms: Array, lengths: Lengths | None = None) -> Array:
    """Average norms over sequences by the distance from the end of each sequence.

    Entry d of the result `[time + 1]` is the mean norm of the carry d steps before the last one.

    Args:
        norms: norms `[time + 1, *batch]`, such as `GradientFlow.total()`.
        lengths: as for `jaxrnn.scan`. A sequence shorter than d steps does not count in entry d.
            If all are shorter, the entry is NaN.

    Raises:
        TypeError: `norms` is not an array, but a `GradientFlow`, for example.

    >>> import jax.numpy as jnp
    >>> from jaxrnn.diagnostics import by_distance
    >>> norms = jnp.array([[1.0, 5.0], [2.0, 6.0], [3.0, 0.0]])
    >>> by_distance(norms).tolist()
    [1.5, 4.0, 3.0]
    >>> by_distance(norms, lengths=jnp.array([2, 1])).tolist()
    [4.5, 3.5, 1.0]
    """
    if not isinstance(norms, Array | np.ndarray):
        raise TypeError(
            f"by_distance: norms is {described(norms)}, expected an array [time + 1, *batch]; of a "
            "GradientFlow, pass flow.total()"
        )
    time = norms.shape[0]
    norms = norms.reshape(time, -1)
    if lengths is None:
        return jnp.mean(norms[::-1], axis=1)
    at = jnp.ravel(jnp.asarray(lengths)).astype(int)[None] - jnp.arange(time)[:, None]
    there = jnp.take_along_axis(norms, jnp.maximum(at, 0), axis=0)
    return jnp.mean(there, axis=1, where=at >= 0)


def _plus_first(carry: Array, nudges: Array) -> Array:
    return carry.astype(nudges.dtype) + nudges[0] if is_float(nudges) else carry


def checked_loss(verb: str, loss: Any) -> Array:
    """Refuse a loss that is not one real number."""
    if jax.tree.structure(loss) != jax.tree.structure(0):
        raise TypeError(
            f"{verb}: loss returned {described(loss)}, expected one real number and nothing "
            "beside it"
        )
    if jnp.shape(loss) != () or not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise ValueError(
            f"{verb}: loss returned shape {jnp.shape(loss)}, {jnp.result_type(loss)}, "
            "expected one real number: sum or average over time and sequences"
        )
    return jnp.asarray(loss)


@dataclasses.dataclass(frozen=True)
class _Nudged(Delegate, Composite):
    """A cell whose inputs are `(xs, nudges)`, the nudges `[time, *batch, ...]` as its carry."""

    def run(
        self, params: Params, xs: tuple[Tree, Carry], carry: Carry, runner: Runner
    ) -> tuple[Carry, Tree]:
        """Run the cell on pairs of a carry and its nudges: a combinator treats both alike."""
        xs, nudges = xs
        both = jax.tree.map(lambda c, n: jnp.concatenate([c[None], n]), carry, nudges)
        fields = {f.name: getattr(runner, f.name) for f in dataclasses.fields(runner)}
        return _Nudging(**fields)(self.cell, params, xs, both)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Nudging(Runner):
    """Adds nudges to every carry of the cells inside."""

    def __call__(self, cell: Cell, params: Params, xs: Tree, carry: Carry) -> tuple[Carry, Any]:
        if cell.is_composite:
            return super().__call__(cell, params, xs, carry)
        first = jax.tree.map(lambda leaf: leaf[0], carry)
        nudges = jax.tree.map(lambda leaf: leaf[1:], carry)
        return super().__call__(_NudgedStep(cell), params, (xs, nudges), first)


@dataclasses.dataclass(frozen=True)
class _NudgedStep(StandIn):
    """One cell, whose carry gets nudges added after a step; an output that is a part of the carry
    changes with it.
    """

    def project(self, params: Params, xs: tuple[Tree, Carry], *noise: Any) -> tuple[Tree, Carry]:
        return self.cell.project(params, xs[0], *noise), xs[1]

    def step(
        self,
        params: Params,
        carry: Carry,
        u: tuple[Tree, Carry],
        affine: Affine = default_affine,
    ) -> tuple[Carry, Array]:
        u_cell, nudges = u
        after, y = self.cell.step(params, carry, u_cell, affine)
        moved = jax.tree.map(lambda a, n: a + n if is_float(a) else a, after, nudges)
        pairs = zip(jax.tree.leaves(after), jax.tree.leaves(moved), strict=True)
        # of parts that are one array, the output is the first
        replaced = {id(old): new for old, new in reversed([*pairs])}
        return moved, jax.tree.map(lambda leaf: replaced.get(id(leaf), leaf), y)

    def read(self, params: Params, ys: Tree, xs: tuple[Tree, Carry]) -> Tree:
        return self.cell.read(params, ys, xs[0])
