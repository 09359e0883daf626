"""Back-propagation through time, generic over cells.

`lax.scan`'s own derivative carries every weight gradient through the loop, adds one small product to it per step, and keeps all
that a step computed. Here time is cut into blocks, and the forward pass keeps the carries alone. The backward pass of a block

1. rebuilds the block's recurrent products with one large product each: the carries are known, so the step runs under `vmap`;
2. walks the derivative of the step backwards with those products given, one product with the transposed weight per step;
3. forms every weight gradient as one large product of operand and cotangent.

The seam is the `affine` that a step is handed (`_seam.py`). Autodiff provides every derivative; no cell has one of its own.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn import _seam
from jaxrnn._blocks import block_size, over_blocks, shift, steps_in
from jaxrnn._cell import Carry, Cell, Params
from jaxrnn._numerics import affine, cut_like, matmul, varying_as, wide
from jaxrnn._seam import Call, Seam
from jaxrnn._sequence import Flags, Walk, guarded_step
from jaxrnn._trees import float_positions, floats, is_float, only, pick, put

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is fixed when the engine is traced."""

    cell: Cell
    seam: Seam
    projected: frozenset[int]  # the parameters that the projection uses
    input_shape: tuple[int, ...]
    dtype: Any
    reverse: bool
    block: int
    keep_carries: bool  # every carry, or those at block borders alone

    def step(self, *args: Any) -> tuple[Carry, Any]:
        """The cell's step with restarts and masking."""
        return guarded_step(self.cell, self.input_shape, self.dtype)(*args)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Asked:
    """The flat positions of the parameters and inputs whose gradient somebody wants."""

    params: tuple[int, ...]
    xs: tuple[int, ...]


def bptt(cell: Cell, params: Params, xs: Any, carry: Carry, walk: Walk, keep_carries: bool) -> tuple[Carry, Any] | None:
    """Run a cell over time with the engine's derivative.

    None where `lax.scan` has to do it: there is no step, or the cell's step breaks the law of `affine`, of which a warning tells.
    """
    first = jax.tree.leaves(xs)[0]
    if first.shape[0] == 0:
        return None

    def run(params: Params, xs: Any, carry: Carry, flags: Flags) -> tuple[Carry, Any]:
        return _run(_plan(cell, params, xs, carry, flags, walk.reverse, keep_carries), params, xs, carry, flags)

    batched = first.ndim > 1 + cell.feature_axes
    groups = math.gcd(_shards(first), first.shape[1]) if batched else 1
    try:
        return run(params, xs, carry, walk.flags()) if groups == 1 else _in_groups(groups, run, params, xs, carry, walk.flags())
    except _seam.LawBrokenError as broken:
        warnings.warn(
            f"{type(cell).__name__}.step: {broken}; scan uses JAX's own derivative for it, which is slower and needs more memory. "
            'jaxrnn.Cell states the law; gradient="autodiff" asks for this without a warning',
            stacklevel=2,
        )
        return None


def _plan(cell: Cell, params: Params, xs: Any, carry: Carry, flags: Flags, reverse: bool, keep_carries: bool) -> Plan:
    first = jax.tree.leaves(xs)[0]
    time, *input_shape = first.shape
    step = guarded_step(cell, tuple(input_shape), first.dtype)
    x, flags_t = jax.tree.map(lambda leaf: leaf[0], (xs, flags))
    us = (cell.project(params, x), flags_t)
    seam = _seam.inspect(lambda params, carry, us, affine: step(params, carry, *us, affine), params, carry, us)
    rows = math.prod(input_shape[: len(input_shape) - cell.feature_axes])
    return Plan(
        cell=cell,
        seam=seam,
        projected=_seam.param_use(cell.project, params, x),
        input_shape=tuple(input_shape),
        dtype=first.dtype,
        reverse=reverse,
        block=block_size(time, rows, sum(seam.widths), keep_carries),
        keep_carries=keep_carries,
    )


def _shards(array: Array) -> int:
    """Over how many devices the compiler may split this array, as far as its type or the mesh in use tells."""
    mesh = jax.typeof(array).sharding.mesh
    mesh = jax.sharding.get_abstract_mesh() if mesh.empty else mesh
    sizes = zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    return math.prod(size for size, kind in sizes if kind == jax.sharding.AxisType.Auto)


def _in_groups(groups: int, run: Callable[..., Any], params: Params, xs: Any, carry: Carry, flags: Flags) -> tuple[Carry, Any]:
    """Run groups of the batch side by side, each with a copy of the parameters.

    With one group per device, a weight gradient stays on its device until the transpose of the copy sums it, once: summed over
    the whole batch, every block would need a sum over devices inside the loop.
    """

    def fold(leaf: Array, axis: int) -> Array:
        return leaf.reshape(*leaf.shape[:axis], groups, -1, *leaf.shape[axis + 1 :])

    def unfold(leaf: Array, axis: int) -> Array:
        return leaf.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 2 :])

    copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (groups, *leaf.shape)), params)
    xs, flags = jax.tree.map(lambda leaf: fold(leaf, 1), (xs, flags))
    carry = jax.tree.map(lambda leaf: fold(leaf, 0), carry)
    carry, ys = jax.vmap(run, in_axes=(0, 1, 0, 1), out_axes=(0, 1))(copies, xs, carry, flags)
    return jax.tree.map(lambda leaf: unfold(leaf, 0), carry), jax.tree.map(lambda leaf: unfold(leaf, 1), ys)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(plan: Plan, params: Params, xs: Any, carry: Carry, flags: Flags) -> tuple[Carry, Any]:
    carry, ys, _, _ = _forward(plan, params, xs, carry, flags, keep_carries=False)
    return carry, ys


def _run_forward(plan: Plan, *primals: Any) -> tuple[tuple[Carry, Any], Any]:
    params, xs, carry, flags = jax.tree.map(lambda leaf: leaf.value, primals)

    def perturbed(tree: Any) -> tuple[int, ...]:
        leaves = enumerate(jax.tree.leaves(tree))
        return tuple(i for i, leaf in leaves if leaf.perturbed and is_float(leaf.value))

    asked = Asked(perturbed(primals[0]), perturbed(primals[1]))
    last, ys, after, starts = _forward(plan, params, xs, carry, flags, plan.keep_carries)
    return (last, ys), (asked, params, xs, flags, after, starts)


def _forward(
    plan: Plan, params: Params, xs: Any, carry: Carry, flags: Flags, keep_carries: bool
) -> tuple[Carry, Any, Carry | None, Carry]:
    """The last carry, all outputs, the carry after each step if they are to be kept, and the one before each block."""

    def block(carry: Carry, steps: Any, _: None) -> tuple[Carry, Any, Any]:
        xs, flags = steps
        last, ys, after = _forward_block(plan, params, xs, flags, carry, keep_carries)
        return last, (ys, after), carry

    carry, (ys, after), starts = over_blocks(block, carry, (xs, flags), None, plan.block, plan.reverse)
    return carry, ys, after, starts


def _forward_block(
    plan: Plan, params: Params, xs: Any, flags: Flags, carry: Carry, keep_carries: bool
) -> tuple[Carry, Any, Carry | None]:
    same: list[int] = []

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        carry, y = plan.step(params, carry, *inputs, affine)
        if not keep_carries:
            return carry, (y, None)
        same[:] = [i for i, leaf in enumerate(jax.tree.leaves(carry)) if leaf is y][:1]  # often y is h: store it once
        return carry, (None if same else y, carry)

    us = _project(plan, params, xs)
    carry, (ys, after) = lax.scan(body, carry, (us, flags), length=steps_in(xs), reverse=plan.reverse)
    return carry, jax.tree.leaves(after)[same[0]] if same else ys, after


def _run_backward(plan: Plan, residuals: Any, cotangents: Any) -> tuple[Any, Any, Any, None]:
    asked, params, xs, flags, after, starts = residuals
    dcarry, dys = cotangents
    dcarry = [_instantiate(leaf) for leaf in floats(dcarry)]
    dys = None if all(_is_symbolic(leaf) for leaf in jax.tree.leaves(dys)) else jax.tree.map(_instantiate, dys)
    start = jax.tree.map(lambda leaf: leaf[0], starts)
    x, flags_t = jax.tree.map(lambda leaf: leaf[0], (xs, flags))

    def calls(theta: list[Array]) -> list[Call]:
        made: list[Call] = []
        full = put(params, asked.params, theta)
        plan.step(full, start, plan.cell.project(full, x), flags_t, _seam.recorder(made))
        return made

    theta = pick(params, asked.params)
    ws, pull_weights = jax.vjp(lambda theta: [call.w for call in calls(theta)], theta)
    templates = calls(theta)
    backward = _BackwardBlock(plan, asked, params, [_transpose(call) for call in templates], templates)

    def block(state: Any, steps: Any, start: Carry) -> tuple[Any, list[Array], None]:
        dcarry, sums = state
        dcarry, more, dxs = backward(dcarry, start, *steps)
        return (dcarry, jax.tree.map(jnp.add, sums, more)), dxs, None

    dws: dict[int, Array] = {j: jnp.zeros(w.shape, wide(w)) for j, w in enumerate(ws) if plan.seam.weights[j] & {*asked.params}}
    dtheta = {i: jnp.zeros(leaf.shape, wide(leaf)) for i, leaf in zip(asked.params, theta, strict=True) if i in backward.wanted}
    state = varying_as(xs, (dcarry, (dws, dtheta)))
    (dcarry, (dws, dtheta)), dxs, _ = over_blocks(block, state, (xs, flags, dys, after), starts, plan.block, not plan.reverse)
    (through_weights,) = pull_weights([dws[j].astype(w.dtype) if j in dws else jnp.zeros_like(w) for j, w in enumerate(ws)])
    dparams = [
        (dtheta[i] + through.astype(dtheta[i].dtype)).astype(through.dtype) if i in dtheta else through
        for i, through in zip(asked.params, through_weights, strict=True)
    ]
    carry_form = jax.tree.map(lambda leaf: leaf[0], starts)
    return (
        only(params, asked.params, dparams),
        only(xs, asked.xs, dxs),
        only(carry_form, float_positions(carry_form), dcarry),
        None,
    )


@dataclasses.dataclass(frozen=True)
class _BackwardBlock:
    """The backward pass of one block of time."""

    plan: Plan
    asked: Asked
    params: Params
    transposes: list[Callable[[Array], Array]]
    templates: list[Call]

    @property
    def wanted(self) -> frozenset[int]:
        """The parameters that get a gradient in any way but as a weight of `affine`."""
        seam = self.plan.seam
        return (seam.free_params | seam.direct_params | self.plan.projected) & {*self.asked.params}

    def __call__(self, dcarry: list[Array], start: Carry, xs: Any, flags: Flags, dys: Any, after: Carry | None) -> Any:
        """From the cotangent of the last carry to that of the first, the gradients of weights and parameters, and of inputs."""
        plan, seam, params = self.plan, self.plan.seam, self.params
        if after is None:
            _, _, after = _forward_block(plan, params, xs, flags, start, keep_carries=True)
        before = jax.tree.map(lambda s, a: shift(s, a, plan.reverse), start, after)

        project_theta = sorted(plan.projected & {*self.asked.params})
        us, pull_project = jax.vjp(
            lambda theta, leaves: _project(plan, put(params, project_theta, theta), put(xs, self.asked.xs, leaves)),
            pick(params, project_theta),
            pick(xs, self.asked.xs),
        )

        # 1. every product of the block
        def products(before: Carry, u: Any, flags: Flags) -> Any:
            calls: list[Call] = []
            plan.step(params, before, u, flags, _seam.recorder(calls))
            return [call.h for call in calls], [cut_like(call.u, call.product) for call in calls]

        operands, pieces = jax.vmap(products)(before, us, flags)
        free_theta = sorted(seam.free_params & {*self.asked.params})

        def free_parts(theta: list[Array], u_floats: list[Array]) -> list[Array]:
            """The free parts of all calls, which depend on neither carry nor products."""

            def one(before: Carry, u: Any, flags: Flags) -> list[Array]:
                calls: list[Call] = []
                plan.step(put(params, free_theta, theta), before, u, flags, _seam.recorder(calls))
                return [
                    jnp.broadcast_to(u_k, piece.shape)
                    for call, free in zip(calls, seam.free, strict=True)
                    for u_k, piece, f in zip(call.u or (), cut_like(call.u, call.product), free, strict=False)
                    if f
                ]

            return jax.vmap(one)(before, put(us, float_positions(us), u_floats), flags)

        parts, pull_parts = jax.vjp(free_parts, pick(params, free_theta), floats(us))
        remaining = iter(parts)
        sums = [
            tuple(piece + next(remaining) if f else piece for piece, f in zip(cut, free, strict=True))
            for cut, free in zip(pieces, seam.free, strict=True)
        ]

        # 2. the loop
        direct = sorted(seam.direct_inputs & {*float_positions((us, flags))})
        direct_theta = sorted(seam.direct_params & {*self.asked.params})

        def linearize(before: Carry, u: Any, flags: Flags, sums: Any) -> tuple[Callable[..., Any], list[Callable[..., Any]]]:
            """The derivative of one step, its products given: of its results, and of the operand of each product."""

            def replay(before_floats: list[Array], u_direct: list[Array], sums: Any) -> tuple[Any, list[Array]]:
                return self._replay(params, put(before, float_positions(before), before_floats), put(u, direct, u_direct), flags, sums)

            at = (floats(before), pick(u, direct), sums)
            of_results = jax.vjp(lambda *at: replay(*at)[0], *at)[1]
            of_operands = [jax.vjp(lambda *at, j=j: replay(*at)[1][j], *at)[1] for j in range(len(sums))]
            return of_results, of_operands

        def body(dcarry: list[Array], inputs: Any) -> tuple[list[Array], Any]:
            at, dy = inputs
            of_results, of_operands = linearize(*at)
            total = of_results((dcarry, dy))
            deltas: list[Any] = [None] * len(sums)
            for j in reversed(range(len(sums))):  # a product reaches later operands alone
                deltas[j] = _seam.join(total[2][j])
                total = jax.tree.map(jnp.add, total, of_operands[j](self.transposes[j](deltas[j])))
            dbefore, du, _ = total
            return dbefore, (deltas, du, dcarry if direct_theta else None)

        if dys is None:
            dys = _zeros_like(jax.eval_shape(lambda *at: jax.vmap(partial(self._replay, params))(*at)[0][1], before, us, flags, sums))
        first, (deltas, du_direct, dafter) = lax.scan(
            body, dcarry, ((before, us, flags, sums), dys), length=steps_in(xs), reverse=not plan.reverse
        )

        # 3. the gradients
        dws = {
            j: _weight_gradient(call, operands[j], deltas[j])
            for j, call in enumerate(self.templates)
            if seam.weights[j] & {*self.asked.params}
        }
        dparts = [
            d
            for call, delta, free in zip(self.templates, deltas, seam.free, strict=True)
            for d, f in zip(_cut_flat(call.u, delta), free, strict=True)
            if f
        ]
        dtheta_parts, dus_floats = pull_parts(dparts)
        dus = dict(zip(float_positions(us), dus_floats, strict=True))
        for i, d in zip(direct, du_direct, strict=True):
            dus[i] = dus[i] + d
        dtheta_project, dxs = pull_project(only(us, dus, [*dus.values()]))
        dtheta: dict[int, Array] = {}
        gains = [(project_theta, dtheta_project), (free_theta, dtheta_parts)]
        if direct_theta:
            gains.append((direct_theta, self._pointwise(direct_theta, before, us, flags, sums, dafter, dys, deltas)))
        for positions, grads in gains:
            for i, grad in zip(positions, grads, strict=True):
                grad = grad.astype(wide(grad))
                dtheta[i] = dtheta[i] + grad if i in dtheta else grad
        return first, (dws, dtheta), dxs

    def _replay(self, params: Params, before: Carry, u: Any, flags: Flags, sums: Any) -> tuple[Any, list[Array]]:
        """The floating results of one step whose products are given, and the operands of those products."""
        operands: list[Array] = []
        after, y = self.plan.step(params, before, u, flags, _seam.replayer(self.plan.seam, sums, operands))
        return (floats(after), y), operands

    def _pointwise(
        self, positions: list[int], before: Carry, us: Any, flags: Flags, sums: Any, dafter: Any, dys: Any, deltas: list[Array]
    ) -> list[Array]:
        """The gradient of parameters that the step uses pointwise; the cotangents are known, so nothing is sequential."""

        def steps(theta: list[Array]) -> Any:
            return jax.vmap(partial(self._replay, put(self.params, positions, theta)))(before, us, flags, sums)

        _, pull = jax.vjp(steps, pick(self.params, positions))
        doperands = [transpose(delta) for transpose, delta in zip(self.transposes, deltas, strict=True)]
        return pull(((dafter, dys), doperands))[0]


_run.defvjp(_run_forward, _run_backward, symbolic_zeros=True)


def _project(plan: Plan, params: Params, xs: Any) -> Any:
    """The projection of a block, as of one large batch: a product over two axes costs XLA a transposed copy in its derivative."""
    leading = (steps_in(xs), *plan.input_shape[: len(plan.input_shape) - plan.cell.feature_axes])
    if any(leaf.shape[: len(leading)] != leading for leaf in jax.tree.leaves(xs)):
        return plan.cell.project(params, xs)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[len(leading) :]), xs)
    return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), plan.cell.project(params, flat))


def _transpose(call: Call) -> Callable[[Array], Array]:
    """From the cotangent of a product to that of its operand."""
    if call.linear is matmul:
        return jax.tree_util.Partial(_multiply_transposed, call.w.T)  # transposed once, before the loop
    _, pull = jax.vjp(lambda h: call.linear(h, call.w), jnp.zeros_like(call.h))
    return jax.tree_util.Partial(_pull_first, pull)


def _multiply_transposed(transposed: Array, cotangent: Array) -> Array:
    return matmul(cotangent, transposed)


def _pull_first(pull: Callable[[Array], tuple[Array]], cotangent: Array) -> Array:
    return pull(cotangent)[0]


def _weight_gradient(call: Call, operands: Array, deltas: Array) -> Array:
    """`Σ operandᵀ cotangent` over a block, as one product."""
    if call.linear is matmul:
        flat, delta = (a.reshape(-1, a.shape[-1]).astype(call.w.dtype) for a in (operands, deltas))
        return jnp.matmul(flat.T, delta, preferred_element_type=wide(call.w))
    pull = jax.vjp(lambda w: jax.vmap(call.linear, (0, None))(operands, w), call.w)[1]
    return pull(deltas)[0].astype(wide(call.w))


def _cut_flat(u: tuple[Array, ...] | None, deltas: Array) -> list[Array]:
    """`cut_like` by way of one flat batch: the projection's derivative, which joins the parts again, then finds nothing to do."""
    pieces = cut_like(u, deltas.reshape(-1, deltas.shape[-1]))
    return [piece.reshape(*deltas.shape[:-1], piece.shape[-1]) for piece in pieces]


def _zeros_like(forms: Any) -> Any:
    return jax.tree.map(lambda form: jnp.zeros(form.shape, form.dtype), forms)


def _instantiate(leaf: Any) -> Array:
    return jnp.zeros(leaf.shape, leaf.dtype) if _is_symbolic(leaf) else leaf


def _is_symbolic(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.SymbolicZero)
