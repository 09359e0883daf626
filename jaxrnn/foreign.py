"""Step functions that were not written for jaxrnn, as cells.

The step is traced, and its products are found by what they depend on: those of parameters and
input alone are moved into `project`, those of parameters and carry go through `affine`, and those
of one operand that ask for the same become one. A product keeps its precision, and an effect (a
debug print) happens in its step. All else is computed as it stands.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import cached_property, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

from jaxrnn.core.affine import Linear, matmul
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import Affine, Carry, Cell, Params

Name = tuple[int, Any]  # a call and a variable of its jaxpr, which may be called more than once


@dataclasses.dataclass(frozen=True)
class FunctionCell(Cell):
    """A cell from functions: a step that multiplies as it likes runs in the engine, its input
    projected for many steps at once.

    Args:
        function: `(params, carry, x) -> (carry, y)`, one step for any number of batch axes.
        make_params: `(key, in_features, dtype) -> params`.
        make_carry: `(params, input_shape) -> carry`.
        size: of the last axis of y.

    An effect in the function, such as `jax.debug.print`, happens at every step, and again where a
    step is computed again for its derivative; `method="autodiff"` computes none twice.

    Raises:
        TypeError: one of the functions cannot be called, or `function` closes over a value that is
            being traced.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> def step(params, h, x):
    ...     h = jnp.tanh(x @ params["w"] + h @ params["v"])
    ...     return h, h
    >>> def make_params(key, in_features, dtype):
    ...     return {"w": jnp.ones((in_features, 4), dtype), "v": jnp.eye(4, dtype=dtype)}
    >>> cell = FunctionCell(step, make_params, lambda params, shape: jnp.zeros((*shape[:-1], 4)), size=4)
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), 3), jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    function: Callable[[Params, Carry, Any], tuple[Carry, Any]]
    make_params: Callable[..., Params]
    make_carry: Callable[[Params, tuple[int, ...]], Carry]
    size: int

    def __post_init__(self) -> None:
        for name in ("function", "make_params", "make_carry"):
            if not callable(getattr(self, name)):
                raise TypeError(
                    f"FunctionCell: {name} is {getattr(self, name)!r}, expected a function"
                )

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> Params:
        """What `make_params` gives."""
        return self.make_params(key, in_features, dtype)

    def initial_carry(self, params: Params, input_shape: tuple[int, ...]) -> Carry:
        """What `make_carry` gives."""
        return self.make_carry(params, input_shape)

    def project(self, params: Params, xs: Any) -> tuple[Any, list[Array]]:
        """The input, and all that the step computes of it without the carry."""
        traced = _trace(self.function, params, self._form(params, xs), xs)
        known = traced.compute({}, params, xs, lambda reach: "carry" not in reach, default_affine)
        return xs, [known[name] for name in traced.frontier]

    def step(
        self,
        params: Params,
        carry: Carry,
        u: tuple[Any, list[Array]],
        affine: Affine = default_affine,
    ) -> tuple[Carry, Any]:
        """The rest of the step, its products through `affine`."""
        x, computed = u
        traced = _trace(self.function, params, carry, x)
        known = dict(zip(traced.frontier, computed, strict=True))
        known |= dict(zip(traced.carry_names, jax.tree.leaves(carry), strict=True))
        known = traced.compute(
            known, params, x, lambda reach: "carry" in reach or "x" not in reach, affine
        )
        return jax.tree.unflatten(
            traced.form, [traced.read(known, atom) for atom in traced.outputs]
        )

    def _form(self, params: Params, xs: Any) -> Carry:
        shape = jax.tree.leaves(xs)[0].shape
        return jax.eval_shape(lambda params: self.make_carry(params, shape), params)

    @property
    def out_features(self) -> int:
        """`size`."""
        return self.size


class _Equation(NamedTuple):
    """One equation, with the names of what it reads (or a literal's value) and writes."""

    equation: JaxprEqn
    inputs: tuple[Any, ...]
    outputs: tuple[Name, ...]
    reach: frozenset[str] = frozenset()  # on which of params, carry and x it depends

    @property
    def avals(self) -> list[Any]:
        return [atom.aval for atom in self.equation.invars]

    @property
    def result(self) -> Any:
        """The aval of its first result."""
        return self.equation.outvars[0].aval

    def is_done(self, known: dict[Name, Any]) -> bool:
        """Whether all that it gives is known; what gives nothing happens for its effect."""
        return bool(self.outputs) and all(name in known for name in self.outputs)


@dataclasses.dataclass(frozen=True)
class _Dot:
    """A product with all that the step asked of it: axes, precision, and dtype of the result."""

    asked: tuple[tuple[str, Any], ...]
    weight_first: bool

    def __call__(self, h: Array, w: Array) -> Array:
        """The product of an operand and a weight."""
        return lax.dot_general(*((w, h) if self.weight_first else (h, w)), **dict(self.asked))


@dataclasses.dataclass(frozen=True)
class _Traced:
    equations: list[_Equation]
    reach: dict[Name, frozenset[str]]  # on which of params, carry and x a variable depends
    constants: dict[Name, Any]
    param_names: list[Name]
    carry_names: list[Name]
    x_names: list[Name]
    outputs: list[Any]
    form: Any
    debug_info: Any

    @cached_property
    def readers(self) -> dict[Name, list[_Equation]]:
        """Who reads a variable."""
        found: dict[Name, list[_Equation]] = {}
        for equation in self.equations:
            for name in {a for a in equation.inputs if _is_name(a)}:
                found.setdefault(name, []).append(equation)
        return found

    @property
    def frontier(self) -> list[Name]:
        """What is computed from the input, and used together with the carry."""
        used = [a for e in self.equations if "carry" in e.reach for a in e.inputs] + self.outputs
        inputs = set(self.x_names)
        wanted = {
            a: None
            for a in used
            if _is_name(a) and self.reach[a] >= {"x"} and "carry" not in self.reach[a]
        }
        return [name for name in wanted if name not in inputs]

    def read(self, known: dict[Name, Any], atom: Any) -> Any:
        return known[atom] if _is_name(atom) else atom

    def compute(
        self,
        known: dict[Name, Any],
        params: Params,
        x: Any,
        wanted: Callable[[frozenset[str]], bool],
        affine: Affine,
    ) -> dict[Name, Any]:
        """Compute every equation whose dependence is `wanted`."""
        known = {**self.constants, **known}
        known |= dict(zip(self.param_names, jax.tree.leaves(params), strict=True))
        known |= dict(zip(self.x_names, jax.tree.leaves(x), strict=True))
        chosen = [e for e in self.equations if wanted(e.reach) and not e.is_done(known)]
        for equation in chosen:  # weights first, so that products can share
            if equation.reach <= {"params"}:
                self._evaluate(equation, known)
        for equation in chosen:
            if equation.is_done(known):
                continue
            weight = self._weight_place(equation)
            if weight is None:
                self._evaluate(equation, known)
            elif weight == 1 and _is_plain(equation):
                self._multiply(self._beside(equation, chosen), known, affine)
            else:
                h, w = known[equation.inputs[1 - weight]], known[equation.inputs[weight]]
                known[equation.outputs[0]] = affine(None, h, w, _linear(equation, weight))
        return known

    def _evaluate(self, equation: _Equation, known: dict[Name, Any]) -> None:
        pairs = zip(equation.equation.invars, equation.inputs, strict=True)
        inputs = {
            var: self.read(known, name) for var, name in pairs if not isinstance(var, Literal)
        }
        alone = Jaxpr(
            (),
            list(inputs),
            equation.equation.outvars,
            [equation.equation],
            debug_info=self.debug_info,
        )
        known.update(
            zip(
                equation.outputs,
                jaxpr_as_fun(ClosedJaxpr(alone, ()))(*inputs.values()),
                strict=True,
            )
        )

    def _weight_place(self, equation: _Equation) -> int | None:
        """Which factor of a product is a weight, the other being none; None without one."""
        if not _multiplies_floats(equation) or not equation.result.ndim:
            return None
        are_weights = [_is_name(a) and self.reach[a] <= {"params"} for a in equation.inputs]
        return are_weights.index(True) if sum(are_weights) == 1 else None

    def _beside(self, equation: _Equation, among: list[_Equation]) -> list[_Equation]:
        """This product `h @ w` and all others of the same h that ask for the same."""
        return [
            e
            for e in among
            if self._weight_place(e) == 1
            and e.inputs[0] == equation.inputs[0]
            and _is_plain(e)
            and _linear(e, 1) == _linear(equation, 1)
        ]

    def _multiply(self, together: list[_Equation], known: dict[Name, Any], affine: Affine) -> None:
        """One product for all; what is added to its parts without the carry is added by `affine`,
        where the engine can use it.
        """
        of_each = [self._sums(e.outputs[0], e.result.shape[-1], known) for e in together]
        sums = [found for of_one in of_each for found in of_one]
        weights = [known[e.inputs[1]] for e in together]
        h, w = (
            known[together[0].inputs[0]],
            weights[0] if len(weights) == 1 else jnp.concatenate(weights, axis=-1),
        )
        u = None
        if any(found.terms for found in sums):
            zero = jnp.zeros(1, w.dtype)
            terms = [
                [_cut(known[term], start, found.size) for term, start in found.terms]
                for found in sums
            ]
            u = tuple(
                reduce(jnp.add, of_one) if of_one else jnp.broadcast_to(zero, found.size)
                for of_one, found in zip(terms, sums, strict=True)
            )
        results = affine(u, h, w, _linear(together[0], 1))
        if u is None:
            edges = [sum(found.size for found in sums[:k]) for k in range(1, len(sums))]
            results = jnp.split(results, edges, axis=-1)
        known.update({name: None for found in sums for name in found.through})
        known.update({found.name: result for found, result in zip(sums, results, strict=True)})

    def _sums(self, name: Name, size: int, known: dict[Name, Any]) -> list["_Sum"]:
        """Where a product ends up after additions of what does not depend on the carry, and after
        being split into gates.
        """
        terms, through = [], []
        while name not in self.outputs and len(readers := self.readers.get(name, [])) == 1:
            (equation,) = readers
            place = next(k for k, a in enumerate(equation.inputs) if _is_name(a) and a == name)
            others = [a for k, a in enumerate(equation.inputs) if k != place]
            operation = equation.equation.primitive.name
            grows = equation.result.shape != equation.avals[place].shape
            added = (
                operation == "add"
                and not grows
                and len(others) == 1
                and _is_name(others[0])
                and others[0] in known
            )
            if added and "carry" not in self.reach[others[0]]:
                terms.append((others[0], 0))
                through.append(name)
                name = equation.outputs[0]
            elif (
                operation == "split"
                and equation.equation.params["axis"] == equation.avals[0].ndim - 1
            ):
                parts, start = [], 0
                for output, part in zip(
                    equation.outputs, equation.equation.params["sizes"], strict=True
                ):
                    for found in self._sums(output, part, known):
                        moved = [(term, start + found.start) for term, _ in terms]
                        parts.append(
                            found._replace(
                                start=start + found.start,
                                terms=found.terms + moved,
                                through=[*found.through, *through, name],
                            )
                        )
                    start += part
                return parts
            else:
                break
        return [_Sum(name, size, 0, terms, through)]


class _Sum(NamedTuple):
    """A part of a product with all that is added to it: `terms` are names, and where in them this
    part begins.
    """

    name: Name
    size: int
    start: int
    terms: list[tuple[Name, int]]
    through: list[Name]  # what need not be computed any more


def _multiplies_floats(equation: _Equation) -> bool:
    """Whether it is a product of floating numbers of one dtype."""
    if equation.equation.primitive is not lax.dot_general_p:
        return False
    h, w, result = (aval.dtype for aval in (*equation.avals, equation.result))
    return h == w and all(jnp.issubdtype(dtype, jnp.floating) for dtype in (h, result))


def _is_plain(equation: _Equation) -> bool:
    """Whether it is `h [..., in] @ w [in, out]`, so that another of the same h can join it."""
    h, w = equation.avals
    asked = equation.equation.params
    axes = (((h.ndim - 1,), (0,)), ((), ()))
    same = {aval.dtype for aval in (h, w, equation.result)}
    wide = same in ({jnp.dtype("float32")}, {jnp.dtype("float64")})
    placed = asked["dimension_numbers"] == axes and asked.get("out_sharding") is None
    return placed and wide and w.ndim == 2


def _linear(equation: _Equation, weight: int) -> Linear:
    """The product as `affine` takes it: the engine has faster forms of a plain one."""
    asked = equation.equation.params
    if weight == 1 and _is_plain(equation) and asked["precision"] is None:
        return matmul
    return _Dot(tuple(asked.items()), weight_first=weight == 0)


def _cut(term: Array, start: int, size: int) -> Array:
    if term.shape[-1:] in ((), (1,)):  # one number for all units
        return jnp.broadcast_to(term, (*term.shape[:-1], size))
    return term[..., start : start + size]


def _is_name(atom: Any) -> bool:
    return isinstance(atom, tuple)


def _trace(function: Callable[..., Any], params: Params, carry: Carry, x: Any) -> _Traced:
    closed, shape = jax.make_jaxpr(function, return_shape=True)(params, carry, x)
    constants: dict[Name, Any] = {}
    equations: list[_Equation] = []
    calls = iter(range(2**30))

    def inline(closed: ClosedJaxpr, arguments: list[Any]) -> list[Any]:
        """Write down the equations of a jaxpr and of those it calls; the names of its results."""
        call = next(calls)
        if any(isinstance(const, Tracer) for const in closed.consts):
            raise TypeError(
                "FunctionCell: function closes over a value that is being traced; pass it as a "
                "parameter or part of x"
            )
        constants.update(
            {
                (call, var): const
                for var, const in zip(closed.jaxpr.constvars, closed.consts, strict=True)
            }
        )
        names: dict[Any, Any] = dict(zip(closed.jaxpr.invars, arguments, strict=True))

        def atom(a: Any) -> Any:
            return a.val if isinstance(a, Literal) else names.get(a, (call, a))

        for e in closed.jaxpr.eqns:
            inner = (
                e.params.get("jaxpr")
                if e.primitive.name in ("jit", "pjit", "closed_call")
                else None
            )
            if isinstance(inner, ClosedJaxpr) and any(True for _ in _products(inner)):
                names.update(
                    zip(e.outvars, inline(inner, [atom(a) for a in e.invars]), strict=True)
                )
                continue
            outputs = tuple((call, v) for v in e.outvars)
            equations.append(_Equation(e, tuple(map(atom, e.invars)), outputs))
        return [atom(a) for a in closed.jaxpr.outvars]

    def named(kind: str, tree: Any) -> list[Name]:
        return [(-1, (kind, k)) for k in range(len(jax.tree.leaves(tree)))]

    groups = (named("params", params), named("carry", carry), named("x", x))
    outputs = inline(closed, [name for group in groups for name in group])
    reach: dict[Name, frozenset[str]] = {
        name: frozenset({name[1][0]}) for group in groups for name in group
    }
    reach |= {name: frozenset() for name in constants}
    effects = [e for e in equations if e.equation.effects]
    told = _ancestors(equations, [a for e in effects for a in e.inputs])
    told -= _ancestors(equations, outputs)
    placed = []
    for equation in equations:
        found = frozenset().union(*(reach[a] for a in equation.inputs if _is_name(a)))
        if equation.equation.effects or told.intersection(equation.outputs):
            found |= {"carry"}  # it happens in its step, not where many are projected at once
        placed.append(equation._replace(reach=found))
        reach |= dict.fromkeys(equation.outputs, found)
    return _Traced(
        placed,
        reach,
        constants,
        *groups,
        outputs,
        jax.tree.structure(shape),
        closed.jaxpr.debug_info,
    )


def _ancestors(equations: list[_Equation], names: list[Any]) -> set[Any]:
    """What these are computed from, they among it."""
    found = {name for name in names if _is_name(name)}
    for equation in reversed(equations):
        if found.intersection(equation.outputs):
            found |= {name for name in equation.inputs if _is_name(name)}
    return found


def _products(closed: ClosedJaxpr) -> Iterator[Any]:
    for equation in closed.jaxpr.eqns:
        if equation.primitive is lax.dot_general_p:
            yield equation
        for value in equation.params.values():
            if isinstance(value, ClosedJaxpr):
                yield from _products(value)
