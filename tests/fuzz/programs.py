"""Programs: cells, drivers and JAX's transformations put together at random; values and gradients
against `unroll`.

A program makes one to three calls of a driver. Each reads fresh inputs, inputs with a
differentiated scale, or the outputs of the call before; goes on from a carry of before or not; is
frozen in part by `stop_gradient`; and stands bare or in one of JAX's transformations."""

import dataclasses
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxrnn
from tests.support.specs import SPECS, Spec

TIME, BATCH = 4, 2
GRADIENTS = ("bptt", "checkpointed", "autodiff")
SURROUNDINGS = (
    "nothing",
    "jit",
    "checkpoint",
    "scan",
    "map",
    "cond",
    "while",
    "vmap",
    "vmap_params",
)
QUESTIONS = ("grad", "one_of_them", "in_turn", "aux", "grad_of_grad", "vmapped", "forward")

Run = Callable[..., tuple[Any, Any]]
"""A driver, its method chosen."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a driver in a program."""

    method: Any
    params: int  # which of two parameter sets
    inputs: str  # "fresh", "scaled", or "outputs" of the call before
    carry: str  # "none", "given", or "before": that of the call before
    frozen: frozenset[str]  # of "params", "inputs", "carry"
    flags: frozenset[str]  # of "lengths", "mask", "reset", "reverse", "key"
    surrounding: str


@dataclasses.dataclass(frozen=True)
class Program:
    """What is computed, and what is asked of it."""

    spec: Spec
    calls: tuple[Call, ...]
    question: str
    eager: bool


def draw(random: Random) -> Program:
    """Draw a program."""
    spec = random.choice(SPECS)
    calls = tuple(_draw_call(random, first=k == 0) for k in range(random.randint(1, 3)))
    question = random.choice(QUESTIONS)
    return Program(spec, calls, question, eager=random.random() < 0.25)


def _draw_call(random: Random, first: bool) -> Call:
    def some(names: tuple[str, ...], chance: float) -> frozenset[str]:
        return frozenset(name for name in names if random.random() < chance)

    return Call(
        method=random.choice(GRADIENTS),
        params=random.choice((0, 0, 1)),
        inputs=random.choice(("fresh", "scaled") if first else ("fresh", "scaled", "outputs")),
        carry=random.choice(("none", "given") if first else ("none", "given", "before")),
        frozen=some(("params", "inputs", "carry"), 0.3),
        flags=some(("lengths", "mask", "reset", "reverse", "key"), 0.25),
        surrounding=random.choice(SURROUNDINGS),
    )


def case(random: Random) -> str:
    """Draw a program and compare its answer with that of the same program over `unroll`."""
    program = draw(random)
    with jax.enable_x64(True):
        arguments = _arguments(program.spec, random.randrange(2**31))
        got, want = (_answer(program, reference)(*arguments) for reference in (False, True))
    got, want = ([np.asarray(leaf) for leaf in jax.tree.leaves(answer)] for answer in (got, want))
    assert len(got) == len(want), program
    size = max((float(np.max(np.abs(leaf), initial=0)) for leaf in want), default=0.0)
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.shape == b.shape, (program, k)
        worst = float(np.max(np.abs(a - b), initial=0))
        assert worst <= 1e-9 * (1 + size), f"leaf {k} is off by {worst} of {size}: {program}"
    return program.question


def _arguments(spec: Spec, seed: int) -> tuple[Any, Any, Any, Any]:
    """Two parameter sets, inputs, a carry, and the scale."""
    rng = np.random.default_rng(seed)
    params = [
        spec.cell.init(jax.random.key(seed + k), spec.in_features, jnp.float64) for k in range(2)
    ]
    xs = jax.tree.map(jnp.asarray, spec.inputs(rng, (TIME, BATCH), spec.in_features))
    carry = spec.cell.initial_carry(params[0], jax.tree.leaves(xs)[0].shape[1:])

    def other(leaf: Any) -> Any:
        moved = leaf + 0.3 * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        return moved if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf

    return params, xs, jax.tree.map(other, carry), jnp.asarray(1.25)


def _answer(program: Program, reference: bool) -> Callable[..., Any]:
    """The program's answer to its question, as a function of the arguments."""

    def loss(params: Any, xs: Any, carry: Any, scale: Any) -> tuple[Any, Any]:
        total, ys, last = jnp.zeros(()), None, carry
        for k, call in enumerate(program.calls):
            last, ys = _call(program.spec, call, reference, params, xs, carry, scale, last, ys)
            leaves = [
                jnp.real(leaf)
                for leaf in jax.tree.leaves((last, ys))
                if jnp.issubdtype(leaf.dtype, jnp.inexact)
            ]
            total = total * 0.7 + sum(jnp.sum(jnp.sin(leaf + 0.1 * k)) for leaf in leaves)
        return total, ys

    def scalar(*arguments: Any) -> Any:
        return loss(*arguments)[0]

    every = (0, 1, 2, 3)
    answers: dict[str, Callable[..., Any]] = {
        "grad": _gradient(scalar, every),
        "one_of_them": _gradient(scalar, len(program.calls)),
        "in_turn": lambda *arguments: [_gradient(scalar, k)(*arguments) for k in (1, 0, 3, 1, 2)],
        "aux": _gradient(loss, every, has_aux=True),
        "grad_of_grad": _gradient(
            lambda *arguments: sum(
                jnp.sum(jnp.cos(leaf)) for leaf in _gradient(scalar, (0, 3))(*arguments)
            ),
            every,
        ),
        "vmapped": lambda params, xs, carry, scale: jax.vmap(
            _gradient(scalar, every), (None, None, None, 0)
        )(params, xs, carry, scale * jnp.arange(1.0, 3.0)),
        "forward": lambda *arguments: jax.jvp(scalar, arguments, jax.tree.map(_tangent, arguments)),
    }
    answer = answers[program.question]
    return answer if program.eager else jax.jit(answer)


def _tangent(leaf: Any) -> Any:
    """One for a floating array; an integer has none."""
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
    return np.zeros(leaf.shape, jax.dtypes.float0)


def _gradient(
    function: Callable[..., Any], argnums: Any, has_aux: bool = False
) -> Callable[..., list[Any]]:
    """The leaves of value and gradient; an integer has none."""

    def leaves(*arguments: Any) -> list[Any]:
        answer = jax.value_and_grad(function, argnums, has_aux=has_aux, allow_int=True)(*arguments)
        return [leaf for leaf in jax.tree.leaves(answer) if leaf.dtype != jax.dtypes.float0]

    return leaves


def _call(
    spec: Spec,
    call: Call,
    reference: bool,
    params: Any,
    xs: Any,
    start: Any,
    scale: Any,
    last: Any,
    ys: Any,
) -> tuple[Any, Any]:
    """One call of the program."""
    scaled = jax.tree.map(lambda leaf: leaf * scale, xs)
    inputs = {"fresh": xs, "scaled": scaled, "outputs": _as_inputs(ys, xs)}[call.inputs]
    carry = {"none": None, "given": start, "before": last}[call.carry]
    own = params[call.params]
    parts = {"params": own, "inputs": inputs, "carry": carry}
    parts |= {name: lax.stop_gradient(parts[name]) for name in call.frozen}
    driver = jaxrnn.unroll if reference else partial(jaxrnn.scan, method=call.method)
    run = partial(driver, spec.cell, **_flags(call))
    return _SURROUND[call.surrounding](run, parts["params"], parts["inputs"], parts["carry"])


def _as_inputs(ys: Any, xs: Any) -> Any:
    """Inputs of the form of `xs` that depend on outputs."""
    if ys is None:
        return xs
    mean = jnp.real(
        sum(jnp.mean(leaf, axis=tuple(range(2, leaf.ndim))) for leaf in jax.tree.leaves(ys))
    )
    return jax.tree.map(
        lambda leaf: leaf * 0.5 + mean.reshape(*mean.shape, *[1] * (leaf.ndim - 2)), xs
    )


def _flags(call: Call) -> dict[str, Any]:
    every = {
        "lengths": jnp.array([3, 4]),
        "mask": jnp.array([[True, True], [False, True], [True, False], [True, True]]),
        "reset": jnp.array([[False, False], [False, True], [True, False], [False, False]]),
        "reverse": True,
        "key": jax.random.key(7),
    }
    return {name: value for name, value in every.items() if name in call.flags}


def _in_scan(run: Run, params: Any, xs: Any, carry: Any) -> tuple[Any, Any]:
    """Twice in a loop, the inputs growing."""

    def body(_: Any, factor: Any) -> tuple[Any, Any]:
        return None, run(params, jax.tree.map(lambda leaf: leaf * factor, xs), carry)

    return _last(lax.scan(body, None, jnp.array([0.5, 1.0]))[1])


def _in_while(run: Run, params: Any, xs: Any, carry: Any) -> tuple[Any, Any]:
    """In a loop that has no reverse derivative, the parameters carried: only the value reaches what
    follows.
    """
    frozen = lax.stop_gradient((params, xs, carry))
    forms = jax.eval_shape(lambda: run(*frozen))
    empty = jax.tree.map(lambda form: jnp.zeros(form.shape, form.dtype), forms)
    result = lax.while_loop(
        lambda state: state[0] < 2, lambda state: (state[0] + 1, run(*frozen)), (0, empty)
    )[1]
    return lax.stop_gradient(result)


def _mapped_over_rows(run: Run, params: Any, xs: Any, carry: Any) -> tuple[Any, Any]:
    """A `vmap` of the inputs with two scales, of the parameters not."""
    both = jax.vmap(
        lambda factor: run(params, jax.tree.map(lambda leaf: leaf * factor, xs), carry)
    )(jnp.array([0.5, 1.0]))
    return _last(both)


def _mapped_over_params(run: Run, params: Any, xs: Any, carry: Any) -> tuple[Any, Any]:
    two = jax.tree.map(
        lambda leaf: (
            jnp.stack([leaf * 0.9, leaf]) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf
        ),
        params,
    )
    axes = jax.tree.map(lambda leaf: 0 if jnp.issubdtype(leaf.dtype, jnp.inexact) else None, params)
    return _last(jax.vmap(run, (axes, None, None))(two, xs, carry))


def _last(stacked: Any) -> Any:
    return jax.tree.map(
        lambda leaf: (
            leaf[-1] + 0.5 * leaf[0] if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf[-1]
        ),
        stacked,
    )


_SURROUND: dict[str, Callable[..., tuple[Any, Any]]] = {
    "nothing": lambda run, *arguments: run(*arguments),
    "jit": lambda run, *arguments: jax.jit(run)(*arguments),
    "checkpoint": lambda run, *arguments: jax.checkpoint(run)(*arguments),
    "scan": _in_scan,
    "map": lambda run, params, xs, carry: _last(
        lax.map(
            lambda factor: run(params, jax.tree.map(lambda leaf: leaf * factor, xs), carry),
            jnp.array([0.5, 1.0]),
        )
    ),
    "cond": lambda run, params, xs, carry: lax.cond(
        jax.tree.leaves(xs)[0].sum() > -1e9,
        run,
        lambda *arguments: jax.tree.map(lambda leaf: leaf * 0, run(*arguments)),
        params,
        xs,
        carry,
    ),
    "while": _in_while,
    "vmap": _mapped_over_rows,
    "vmap_params": _mapped_over_params,
}
