"""Back-propagation through time, generic over cells.

`lax.scan`'s own derivative carries every weight gradient through the loop, adds one small product
to it per step, and keeps all that a step computed. Here time is cut into blocks, and the forward
pass keeps either the carries alone, or the sums in which the recurrent products end (`plan.py`
chooses). The backward pass of a block

1. rebuilds what is missing: products from carries, with one large product each, for the step can
run under `vmap` once the carries are
   known; or carries from sums, in a loop without products;
2. walks the derivative of the step backwards with those products given, one product with the
transposed weight per step; 3. forms every weight gradient as one large product of operand and
cotangent.

The seam is the `affine` that a step is handed (`seam.py`). Autodiff provides every derivative; no
cell has one of its own."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.core.affine import cut_like
from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.dtypes import cast, wide
from jaxrnn.core.trees import float_positions, floats, only, pick, put
from jaxrnn.core.walk import StepFlags
from jaxrnn.methods.bptt import seam as _seam
from jaxrnn.methods.bptt.blocks import loop, over_blocks, shift, steps_in
from jaxrnn.methods.bptt.plan import Kept, Plan
from jaxrnn.methods.bptt.products import (
    forward_product,
    over_steps,
    transposed_product,
    weight_gradient,
)
from jaxrnn.methods.bptt.seam import Call
from jaxrnn.methods.mesh import varying_as


class Trace(NamedTuple):
    """What is known of the steps of a block or of all time; None where it has to be rebuilt."""

    carries: Carry | None  # after each step
    # of each call of `affine`, as `_seam.keeper` collects them
    sums: list[tuple[Array, ...]] | None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def run(plan: Plan, params: Params, xs: Any, carry: Carry, flags: StepFlags) -> tuple[Carry, Any]:
    """Run a cell over time with the engine's derivative."""
    plan = dataclasses.replace(plan, block=plan.block_forward)
    carry, ys, _, _ = _forward(plan, params, xs, carry, flags, "nothing")
    return carry, ys


def _run_forward(plan: Plan, *primals: Any) -> tuple[tuple[Carry, Any], Any]:
    params, xs, carry, flags = jax.tree.map(lambda leaf: leaf.value, primals)
    last, ys, trace, starts = _forward(plan, params, xs, carry, flags, plan.kept)
    return (last, ys), (params, xs, flags, trace, starts)


def _forward(
    plan: Plan, params: Params, xs: Any, carry: Carry, flags: StepFlags, kept: Kept
) -> tuple[Carry, Any, Trace, Carry]:
    """The last carry, all outputs, what is kept of all steps, and the carry before each block."""

    products = [forward_product(call) for call in _calls(plan, params, xs, carry, flags)]

    def block(carry: Carry, steps: Any, _: None) -> tuple[Carry, Any, Any]:
        xs, flags = steps
        last, ys, trace = _forward_block(
            plan, params, products, _project(plan, params, xs), flags, carry, kept
        )
        return last, (ys, trace), carry

    carry, (ys, trace), starts = over_blocks(
        block, carry, (xs, flags), None, plan.block, plan.reverse
    )
    return carry, ys, trace, starts


def _forward_block(
    plan: Plan,
    params: Params,
    products: list[Callable[[Array], Array]],
    us: Any,
    flags: StepFlags,
    carry: Carry,
    kept: Kept,
) -> tuple[Carry, Any, Trace]:
    same: list[int] = []

    def body(carry: Carry, inputs: Any) -> tuple[Carry, Any]:
        sums: list[tuple[Array, ...]] = []
        carry, y = plan.step(params, carry, *inputs, _seam.keeper(plan.seam, products, sums))
        if kept in ("carries", "all"):
            # often y is h: store it once
            same[:] = [i for i, leaf in enumerate(jax.tree.leaves(carry)) if leaf is y][:1]
        trace = Trace(
            carry if kept in ("carries", "all") else None, sums if kept in ("sums", "all") else None
        )
        return carry, (None if same else y, trace)

    carry, (ys, trace) = loop(body, carry, (us, flags), plan.reverse)
    return carry, jax.tree.leaves(trace.carries)[same[0]] if same else ys, trace


def _calls(plan: Plan, params: Params, xs: Any, carry: Carry, flags: StepFlags) -> list[Call]:
    """The calls of `affine` in the first step: of their values the weights alone are used, the
    compiler drops the rest.
    """
    calls: list[Call] = []
    x, flags_t = jax.tree.map(lambda leaf: leaf[0], (xs, flags))
    plan.step(params, carry, plan.cell.project(params, x), flags_t, _seam.recorder(calls))
    return calls


def _run_backward(plan: Plan, residuals: Any, cotangents: Any) -> tuple[Any, Any, Any, None]:
    params, xs, flags, trace, starts = residuals
    dcarry, dys = cotangents
    dcarry = [_instantiate(leaf) for leaf in floats(dcarry)]
    dys = (
        None
        if all(_is_symbolic(leaf) for leaf in jax.tree.leaves(dys))
        else jax.tree.map(_instantiate, dys)
    )
    start = jax.tree.map(lambda leaf: leaf[0], starts)
    places = float_positions(params)
    templates = _calls(plan, params, xs, start, flags)
    ws, pull_weights = jax.vjp(
        lambda theta: [
            call.w for call in _calls(plan, put(params, places, theta), xs, start, flags)
        ],
        floats(params),
    )
    products, transposes = (
        [make(call) for call in templates] for make in (forward_product, transposed_product)
    )
    backward = _BackwardBlock(plan, params, products, transposes, templates)

    def block(state: Any, steps: Any, start: Carry) -> tuple[Any, list[Array], None]:
        dcarry, sums = state
        dcarry, more, dxs = backward(dcarry, start, *steps)
        return (dcarry, jax.tree.map(jnp.add, sums, more)), dxs, None

    dws = {
        j: jnp.zeros(w.shape, wide(w)) for j, w in enumerate(ws) if plan.seam.weights[j] & {*places}
    }
    dtheta = {
        i: jnp.zeros(leaf.shape, wide(leaf))
        for i, leaf in enumerate(jax.tree.leaves(params))
        if i in backward.reached
    }
    state = varying_as(xs, (dcarry, (dws, dtheta)))
    (dcarry, (dws, dtheta)), dxs, _ = over_blocks(
        block, state, (xs, flags, dys, trace), starts, plan.block, not plan.reverse
    )
    (through_weights,) = pull_weights(
        [dws[j].astype(w.dtype) if j in dws else jnp.zeros_like(w) for j, w in enumerate(ws)]
    )
    dparams = [
        (dtheta[i] + through.astype(dtheta[i].dtype)).astype(through.dtype)
        if i in dtheta
        else through
        for i, through in zip(places, through_weights, strict=True)
    ]
    carry_form = jax.tree.map(lambda leaf: leaf[0], starts)
    return (
        only(params, places, dparams),
        only(xs, float_positions(xs), dxs),
        only(carry_form, float_positions(carry_form), dcarry),
        None,
    )


@dataclasses.dataclass(frozen=True)
class _BackwardBlock:
    """The backward pass of one block of time."""

    plan: Plan
    params: Params
    products: list[Callable[[Array], Array]]
    transposes: list[Callable[[Array], Array]]
    templates: list[Call]

    @property
    def reached(self) -> frozenset[int]:
        """The parameters that get a gradient in any way but as a weight of `affine`."""
        seam = self.plan.seam
        return frozenset(
            self._floating(seam.free_params | seam.direct_params | self.plan.projected)
        )

    def _floating(self, positions: frozenset[int]) -> list[int]:
        return sorted(positions & {*float_positions(self.params)})

    def __call__(
        self, dcarry: list[Array], start: Carry, xs: Any, flags: StepFlags, dys: Any, trace: Trace
    ) -> Any:
        """From the cotangent of the last carry to that of the first, the gradients of weights and
        parameters, and of inputs.
        """
        plan, seam, params = self.plan, self.plan.seam, self.params
        project_theta = self._floating(plan.projected)
        us, pull_project = jax.vjp(
            lambda theta, leaves: _project(
                plan, put(params, project_theta, theta), put(xs, float_positions(xs), leaves)
            ),
            pick(params, project_theta),
            floats(xs),
        )

        # 1. every carry and product of the block
        carries, sums = self._complete(trace, start, us, flags)
        before = jax.tree.map(lambda s, a: shift(s, a, plan.reverse), start, carries)
        operands = jax.vmap(lambda *at: self._replay(params, *at)[1])(before, us, flags, sums)
        free_theta = self._floating(seam.free_params)

        def free_parts(theta: list[Array], u_floats: list[Array]) -> list[Array]:
            """The free parts of all calls, which depend on neither carry nor products."""

            def one(before: Carry, u: Any, flags: StepFlags) -> list[Array]:
                calls: list[Call] = []
                plan.step(put(params, free_theta, theta), before, u, flags, _seam.recorder(calls))
                return [
                    jnp.broadcast_to(u_k, piece.shape)
                    for call, free in zip(calls, seam.free, strict=True)
                    for u_k, piece, f in zip(
                        call.u or (), cut_like(call.u, call.product), free, strict=False
                    )
                    if f
                ]

            return jax.vmap(one)(before, put(us, float_positions(us), u_floats), flags)

        _, pull_parts = jax.vjp(free_parts, pick(params, free_theta), floats(us))

        # 2. the loop
        direct = sorted(seam.direct_inputs & {*float_positions((us, flags))})
        direct_theta = self._floating(seam.direct_params)

        def linearize(
            before: Carry, u: Any, flags: StepFlags, sums: Any
        ) -> tuple[Callable[..., Any], list[Callable[..., Any]]]:
            """The derivative of one step, its products given: of its results, and of the operand of
            each product.
            """

            def replay(
                before_floats: list[Array], u_direct: list[Array], sums: Any
            ) -> tuple[Any, list[Array]]:
                return self._replay(
                    params,
                    put(before, float_positions(before), before_floats),
                    put(u, direct, u_direct),
                    flags,
                    sums,
                )

            at = (floats(before), pick(u, direct), sums)
            of_results = jax.vjp(lambda *at: replay(*at)[0], *at)[1]
            of_operands = [
                jax.vjp(lambda *at, j=j: replay(*at)[1][j], *at)[1] for j in range(len(sums))
            ]
            return of_results, of_operands

        def body(dcarry: list[Array], inputs: Any) -> tuple[list[Array], Any]:
            at, dy = inputs
            of_results, of_operands = linearize(*at)
            total = of_results((dcarry, dy))
            deltas: list[Any] = [None] * len(sums)
            for j in reversed(range(len(sums))):  # a product reaches later operands alone
                deltas[j] = _seam.join(total[2][j])
                doperand = self.transposes[j](cast(deltas[j], self.templates[j].product.dtype))
                total = jax.tree.map(jnp.add, total, of_operands[j](doperand))
            dbefore, du, _ = total
            return dbefore, (deltas, du, dcarry if direct_theta else None)

        if dys is None:
            dys = _zeros_like(
                jax.eval_shape(
                    lambda *at: jax.vmap(partial(self._replay, params))(*at)[0][1],
                    before,
                    us,
                    flags,
                    sums,
                )
            )
        first, (deltas, du_direct, dafter) = loop(
            body, dcarry, ((before, us, flags, sums), dys), not plan.reverse
        )

        # 3. the gradients
        dproducts = [
            cast(delta, call.product.dtype)
            for call, delta in zip(self.templates, deltas, strict=True)
        ]
        dws = {
            j: weight_gradient(call, operands[j], dproducts[j])
            for j, call in enumerate(self.templates)
            if self._floating(seam.weights[j])
        }
        dparts = [
            cast(d, part.dtype)
            for call, delta, free in zip(self.templates, deltas, seam.free, strict=True)
            for d, part, f in zip(_cut_flat(call.u, delta), call.u or (), free, strict=False)
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
            gains.append(
                (
                    direct_theta,
                    self._pointwise(direct_theta, before, us, flags, sums, dafter, dys, dproducts),
                )
            )
        for positions, grads in gains:
            for i, grad in zip(positions, grads, strict=True):
                grad = grad.astype(wide(grad))
                dtheta[i] = dtheta[i] + grad if i in dtheta else grad
        return first, (dws, dtheta), dxs

    def _complete(
        self, trace: Trace, start: Carry, us: Any, flags: StepFlags
    ) -> tuple[Carry, list[tuple[Array, ...]]]:
        """The carries and sums of a block, from those that were kept."""
        plan, (carries, sums) = self.plan, trace
        if carries is None and sums is None:
            _, _, whole = _forward_block(plan, self.params, self.products, us, flags, start, "all")
            return whole.carries, whole.sums or []
        if sums is None:
            before = jax.tree.map(lambda s, a: shift(s, a, plan.reverse), start, carries)

            def multiply(before: Carry, u: Any, flags: StepFlags) -> list[tuple[Array, ...]]:
                sums: list[tuple[Array, ...]] = []
                plan.step(self.params, before, u, flags, _seam.keeper(plan.seam, None, sums))
                return sums

            return carries, jax.vmap(multiply)(before, us, flags)
        if carries is None:

            def walk(carry: Carry, inputs: Any) -> tuple[Carry, Carry]:
                u, flags, sums = inputs
                carry, _ = plan.step(
                    self.params, carry, u, flags, _seam.replayer(plan.seam, sums, [])
                )
                return carry, carry

            _, carries = loop(walk, start, (us, flags, sums), plan.reverse)
        return carries, sums

    def _replay(
        self, params: Params, before: Carry, u: Any, flags: StepFlags, sums: Any
    ) -> tuple[Any, list[Array]]:
        """The floating results of one step whose products are given, and the operands of those
        products.
        """
        operands: list[Array] = []
        after, y = self.plan.step(
            params, before, u, flags, _seam.replayer(self.plan.seam, sums, operands)
        )
        return (floats(after), y), operands

    def _pointwise(
        self,
        positions: list[int],
        before: Carry,
        us: Any,
        flags: StepFlags,
        sums: Any,
        dafter: Any,
        dys: Any,
        dproducts: list[Array],
    ) -> list[Array]:
        """The gradient of parameters that the step uses pointwise; the cotangents are known, so
        nothing is sequential.
        """

        def steps(theta: list[Array]) -> Any:
            return jax.vmap(partial(self._replay, put(self.params, positions, theta)))(
                before, us, flags, sums
            )

        _, pull = jax.vjp(steps, pick(self.params, positions))
        doperands = [
            over_steps(*of) for of in zip(self.templates, self.transposes, dproducts, strict=True)
        ]
        return pull(((dafter, dys), doperands))[0]


run.defvjp(_run_forward, _run_backward, symbolic_zeros=True)


def _project(plan: Plan, params: Params, xs: Any) -> Any:
    """The projection of a block, as of one large batch: a product over two axes costs XLA a
    transposed copy in its derivative.
    """
    leading = (steps_in(xs), *plan.input_shape[: len(plan.input_shape) - plan.cell.feature_axes])
    if any(leaf.shape[: len(leading)] != leading for leaf in jax.tree.leaves(xs)):
        return plan.cell.project(params, xs)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[len(leading) :]), xs)
    return jax.tree.map(
        lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), plan.cell.project(params, flat)
    )


def _cut_flat(u: tuple[Array, ...] | None, deltas: Array) -> list[Array]:
    """`cut_like` by way of one flat batch: the projection's derivative, which joins the parts
    again, then finds nothing to do.
    """
    pieces = cut_like(u, deltas.reshape(-1, deltas.shape[-1]))
    return [piece.reshape(*deltas.shape[:-1], piece.shape[-1]) for piece in pieces]


def _zeros_like(forms: Any) -> Any:
    return jax.tree.map(lambda form: jnp.zeros(form.shape, form.dtype), forms)


def _instantiate(leaf: Any) -> Array:
    return jnp.zeros(leaf.shape, leaf.dtype) if _is_symbolic(leaf) else leaf


def _is_symbolic(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.SymbolicZero)
