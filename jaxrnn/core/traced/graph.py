"""A traced step as a flat list of operations. Each records what it depends on."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import Array
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var
from jax.lax import dot_general_p

from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.traced.equations import INLINABLE, callee
from jaxrnn.core.trees import Tree

Reach = frozenset[str]
"""What a value depends on: a subset of `"params"`, `"carry"` and `"x"`."""


class Name(NamedTuple):
    """A variable of a jaxpr, in one call of it. Two calls give it two names."""

    call: tuple[int, ...]  # the positions of the nested calls that lead to the jaxpr
    variable: Var


Atom: TypeAlias = Name | Literal
"""An input of an operation."""


class Operation(NamedTuple):
    """One equation, with the names of its inputs and outputs."""

    equation: JaxprEqn
    inputs: tuple[Atom, ...]
    outputs: tuple[Name, ...]
    reach: Reach = frozenset()

    @property
    def avals(self) -> list[Any]:
        """The shapes and dtypes of its inputs."""
        return [atom.aval for atom in self.equation.invars]

    @property
    def result(self) -> Any:
        """The shape and dtype of its first output."""
        return self.equation.outvars[0].aval


@dataclasses.dataclass(frozen=True)
class Graph:
    """A traced step. Every operation stands after those whose outputs it reads."""

    operations: list[Operation]
    constants: dict[Name, Array]
    params: list[Name]
    carry: list[Name]
    x: list[Name]
    outputs: list[Atom]
    structure: Any  # the tree of the outputs
    debug_info: Any
    reach: dict[Name, Reach]

    @property
    def input_only(self) -> list[Operation]:
        """The operations that do not depend on the carry."""
        return [operation for operation in self.operations if "carry" not in operation.reach]

    @property
    def recurrent(self) -> list[Operation]:
        """The operations that depend on the carry, and those that do not depend on the input."""
        return [o for o in self.operations if "carry" in o.reach or "x" not in o.reach]

    @property
    def frontier(self) -> list[Name]:
        """The input-only values that a recurrent operation reads, or that the step returns.

        They are what `project` has to pass to the recurrence. The inputs themselves are left out.
        """
        used = [a for o in self.operations if "carry" in o.reach for a in o.inputs] + self.outputs
        names = dict.fromkeys(atom for atom in used if isinstance(atom, Name))
        inputs = set(self.x)
        return [name for name in names if self._is_input_only(name) and name not in inputs]

    def only_reader(self, name: Name) -> Operation | None:
        """Return the operation that reads a value.

        It is None if several operations read it, or none, or if the step returns the value.
        """
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def _is_input_only(self, name: Name) -> bool:
        return "x" in self.reach[name] and "carry" not in self.reach[name]

    @cached_property
    def _readers(self) -> dict[Name, list[Operation]]:
        found: dict[Name, list[Operation]] = {}
        for operation in self.operations:
            for name in _names(operation.inputs):
                found.setdefault(name, []).append(operation)
        return found


def trace(function: Callable[..., Any], params: Params, carry: Carry, x: Tree) -> Graph:
    """Trace `function(params, carry, x)`.

    An operation with an effect counts as depending on the carry, and so does whatever is computed
    for it alone. It then happens within its step, not where many inputs are projected at once.

    Raises:
        TypeError: the function closes over a value that is being traced.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(params, carry, x)
    names = iter([Name((), variable) for variable in closed.jaxpr.invars])
    arguments = {
        source: [next(names) for _ in jax.tree.leaves(tree)]
        for source, tree in (("params", params), ("carry", carry), ("x", x))
    }
    flat = _inlined(closed, [name for group in arguments.values() for name in group])
    effects = [o for o in flat.operations if o.equation.effects]
    told = _ancestors(flat.operations, (atom for o in effects for atom in o.inputs))
    told -= _ancestors(flat.operations, flat.outputs)
    reach: dict[Name, Reach] = {name: frozenset() for name in flat.constants}
    reach |= {name: frozenset({source}) for source, group in arguments.items() for name in group}
    operations = []
    for operation in flat.operations:
        found = frozenset().union(*(reach[name] for name in _names(operation.inputs)))
        if operation.equation.effects or told.intersection(operation.outputs):
            found |= {"carry"}
        operations.append(operation._replace(reach=found))
        reach |= dict.fromkeys(operation.outputs, found)
    return Graph(
        operations,
        flat.constants,
        **arguments,
        outputs=flat.outputs,
        structure=jax.tree.structure(shape),
        debug_info=closed.jaxpr.debug_info,
        reach=reach,
    )


class _Flat(NamedTuple):
    operations: list[Operation]
    constants: dict[Name, Array]
    outputs: list[Atom]


def _inlined(closed: ClosedJaxpr, arguments: Sequence[Atom], call: tuple[int, ...] = ()) -> _Flat:
    """Return the equations of a jaxpr. A call that holds a product is replaced by its equations."""
    if any(isinstance(const, Tracer) for const in closed.consts):
        raise TypeError(
            "FunctionCell: function closes over a value that is being traced, expected constants; "
            "pass the value as a parameter or as a part of x"
        )
    jaxpr = closed.jaxpr
    operations: list[Operation] = []
    constants = {
        Name(call, variable): const
        for variable, const in zip(jaxpr.constvars, closed.consts, strict=True)
    }
    elsewhere: dict[Var, Atom] = dict(zip(jaxpr.invars, arguments, strict=True))

    def atom(a: Var | Literal) -> Atom:
        return a if isinstance(a, Literal) else elsewhere.get(a, Name(call, a))

    for place, equation in enumerate(jaxpr.eqns):
        inputs = tuple(map(atom, equation.invars))
        inner = callee(equation, INLINABLE)
        if inner and _multiplies(inner):
            flat = _inlined(inner, inputs, (*call, place))
            operations += flat.operations
            constants |= flat.constants
            elsewhere |= zip(equation.outvars, flat.outputs, strict=True)
        else:
            outputs = tuple(Name(call, variable) for variable in equation.outvars)
            operations.append(Operation(equation, inputs, outputs))
    return _Flat(operations, constants, [atom(a) for a in jaxpr.outvars])


def _multiplies(closed: ClosedJaxpr) -> bool:
    """Return whether there is a product in a jaxpr, or in one that it calls."""
    return any(
        equation.primitive is dot_general_p
        or any(_multiplies(p) for p in equation.params.values() if isinstance(p, ClosedJaxpr))
        for equation in closed.jaxpr.eqns
    )


def _ancestors(operations: Sequence[Operation], atoms: Iterable[Atom]) -> set[Name]:
    """Return these names, and all that they are computed from."""
    found = _names(atoms)
    for operation in reversed(operations):
        if found.intersection(operation.outputs):
            found |= _names(operation.inputs)
    return found


def _names(atoms: Iterable[Atom]) -> set[Name]:
    return {atom for atom in atoms if isinstance(atom, Name)}
