"""Cells made of cells, and what runs the cells inside."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import C, Carry, Cell, Keys, P, Params, Take, WithContext
from jaxrnn.core.check import name_of
from jaxrnn.core.dtypes import emit
from jaxrnn.core.traced.values import through
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import Walk, without_masked

if TYPE_CHECKING:
    from jaxrnn.core.noise import Draws


class Composite(Cell[P, C]):
    """A cell made of cells: it hands each to a runner, so that each keeps its own stages."""

    is_composite = True

    @abstractmethod
    def run(self, params: P, xs: Any, carry: C, runner: "Runner") -> tuple[C, Any]:
        """Run the cells inside, over time or for one step.

        `runner(cell, params, xs, carry)` runs one; `runner.part(k)` is the same runner with a
        random key of its own for part k; `runner.reversed()` walks the other way; `runner.draw(f)`
        is `f(keys)` for every step and row, or None where the user passed no key.
        """

    def step(self, params: P, carry: C, u: Any, affine: Affine = default_affine) -> tuple[C, Array]:
        """One step through all parts."""
        return substep(self, params, carry, u, affine)

    def _inner(self) -> list[Cell]:
        leaves = jax.tree.leaves(vars(self), is_leaf=lambda value: isinstance(value, Cell))
        return [leaf for leaf in leaves if isinstance(leaf, Cell)]

    @property
    def feature_axes(self) -> int:  # type: ignore[override]
        """As many as any of its cells has."""
        return max((cell.feature_axes for cell in self._inner()), default=1)

    @property
    def noisy(self) -> bool:
        return any(cell.noisy for cell in self._inner())

    @property
    def takes_context(self) -> bool:
        return any(cell.takes_context for cell in self._inner())


def substep(
    cell: Cell[P, C], params: P, carry: C, x: Tree, affine: Affine = default_affine
) -> tuple[C, Any]:
    """One step of a cell within the step of another: a deep transition (Pascanu et al. 2014), a
    cell that picks another's input.

    All three stages of the inner cell are taken, and what they multiply by its weights goes through
    `affine`, the input's product, too: an engine that replaces `affine` knows all of them. An inner
    cell that draws does so for inference; wrap the outer one instead.

    Args:
        cell: the inner cell; it must be causal.
        params: its parameters; `jaxrnn.WithContext(params, context)` for one that takes a context.
        carry: its carry before the step.
        x: its input `[*batch, features]`.
        affine: the one that the outer step is handed.

    Returns:
        The inner cell's new carry, and its output in the dtype of `x`.

    Raises:
        TypeError: the cell needs the future.
        ValueError: the cell takes a context, and there is none.

    A cell of two GRUs, of which the second continues the state of the first within the step:

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Deep(jaxrnn.Cell):
    ...     first: jaxrnn.Cell
    ...     second: jaxrnn.Cell
    ...     def init(self, key, in_features, dtype=jnp.float32):
    ...         keys, size = jax.random.split(key), self.first.out_features
    ...         a = self.first.init(keys[0], in_features, dtype)
    ...         return a, self.second.init(keys[1], size, dtype)
    ...     def initial_carry(self, params, input_shape):
    ...         return self.first.initial_carry(params[0], input_shape)
    ...     def project(self, params, xs):
    ...         return self.first.project(params[0], xs)
    ...     def step(self, params, carry, u, affine=jaxrnn.affine):
    ...         h, y = self.first.step(params[0], carry, u, affine)
    ...         return jaxrnn.substep(self.second, params[1], h, y, affine)
    ...     @property
    ...     def out_features(self):
    ...         return self.second.out_features
    >>> cell = Deep(jaxrnn.GRU(4), jaxrnn.GRU(4))
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), 3), jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """
    context = None
    if isinstance(params, WithContext):
        params, context = params
    return Runner(method=OneStep(affine), context=context)(cell, params, x, carry)


@dataclasses.dataclass(frozen=True)
class Delegate(Cell[P, C]):
    """A cell around one cell, which is as that one is where a subclass does not say otherwise."""

    cell: Cell[P, C]

    def inner(self, params: Params) -> Params:
        """The cell's part of the parameters."""
        return params

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> P:
        return self.cell.init(key, in_features, dtype)

    def initial_carry(self, params: P, input_shape: tuple[int, ...]) -> C:
        return self.cell.initial_carry(self.inner(params), input_shape)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*self.cell.output_shape(input_shape)[:-1], self.out_features)

    def prepare(self, params: P, context: Any) -> Any:
        return self.cell.prepare(self.inner(params), context)  # type: ignore[attr-defined]

    def read(self, params: P, ys: Any, xs: Any) -> Any:
        return self.cell.read(self.inner(params), ys, xs)

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Tree:
        return self.cell.ends(ys, take, backwards)

    def in_features(self, params: P) -> int:
        return self.cell.in_features(self.inner(params))

    def labels(self, params: P) -> Any:
        return self.cell.labels(self.inner(params))

    def check_in_features(self, in_features: int) -> None:
        self.cell.check_in_features(in_features)

    @property
    def feature_axes(self) -> int:  # type: ignore[override]
        return self.cell.feature_axes

    @property
    def out_features(self) -> int:
        return self.cell.out_features

    @property
    def gates(self) -> int:
        return self.cell.gates

    @property
    def noisy(self) -> bool:
        return self.cell.noisy

    @property
    def takes_context(self) -> bool:
        return self.cell.takes_context

    @property
    def causal(self) -> bool:
        return self.cell.causal


class Steps(Protocol):
    """How the steps of a cell are taken: a `jaxrnn.methods.Method`, or `OneStep`."""

    def run(
        self, cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk, /
    ) -> tuple[Carry, Tree]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs a cell, over time or for one step."""

    method: Steps
    walk: Walk = dataclasses.field(default_factory=Walk)
    """The direction of time, the steps that are masked out, and the boundaries."""

    draws: "Draws | None" = None
    """What noisy cells draw from; None for inference."""

    context: Tree = None
    """What cells that take a context are given."""

    changes: tuple[Callable[[Cell, Params], Params], ...] = ()
    """What the parameters of every cell go through before it runs, first to last."""

    def __call__(self, cell: Cell[P, C], params: P, xs: Tree, carry: C) -> tuple[C, Any]:
        """Run a cell through its three stages; one made of cells by its own `run`."""
        if isinstance(cell, Composite):
            return cell.run(params, xs, carry, self)
        for change in self.changes:
            params = change(cell, params)
        cell, params = self.in_context(cell, params)
        if cell.noisy and self.draws is not None:
            cell, params, xs = self.draws.fed_to(cell, params, xs)
        first = carry
        carry, ys = self.method.run(cell, params, xs, carry, self.walk)
        if self.walk.all_carries:
            after, ys = ys
            carry = self.walk.states(first, after)
        read = self.apply(cell.read, params, ys, xs)
        if read is not ys:
            ys = self.emitted(read, xs)
        return carry, ys

    def apply(self, function: Callable[..., Any], params: Params, *inputs: Tree) -> Any:
        """`function(params, *inputs)`; in a single step, its products go through that `affine`."""
        affine = self.method.affine if isinstance(self.method, OneStep) else default_affine
        return through(affine, function, params, *inputs)

    def emitted(self, ys: Tree, xs: Tree) -> Tree:
        """Outputs that no loop has seen, as a loop gives them: in the dtype of the inputs, and zero
        where a step is masked out.
        """
        return without_masked(emit(ys, jax.tree.leaves(xs)[0].dtype), self.walk.valid)

    def in_context(self, cell: Cell, params: Params) -> tuple[Cell, Params]:
        """A cell and parameters for any loop: if it takes a context, the parameters hold that, too.

        Raises:
            ValueError: there is no context.
        """
        if not cell.takes_context:
            return cell, params
        if self.context is None:
            raise ValueError(f"{name_of(cell)} takes a context, and there is none; pass context=")
        prepare: Callable[..., Any] = cell.prepare  # type: ignore[attr-defined]
        return _InContext(cell), WithContext(params, prepare(params, self.context))

    def part(self, k: int) -> "Runner":
        """The same runner with another key, that of part k."""
        return self if self.draws is None else dataclasses.replace(self, draws=self.draws.part(k))

    def reversed(self) -> "Runner":
        """The same runner, walking the other way.

        Raises:
            TypeError: it takes a single step, which has no other way.
        """
        if isinstance(self.method, OneStep):
            raise TypeError(
                "a layer that reads backwards needs the whole sequence, so it has no single step; "
                "run it with jaxrnn.scan"
            )
        return dataclasses.replace(self, walk=self.walk.reversed())

    def draw(self, function: Callable[[Keys], Any]) -> Any:
        """`function(keys)` for every step and row, or None without a key."""
        return None if self.draws is None else self.draws(function)


@dataclasses.dataclass(frozen=True)
class OneStep:
    """Takes a single step, whose input has no time axis."""

    affine: Affine = default_affine

    def run(
        self, cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk, /
    ) -> tuple[Carry, Tree]:
        """Project, and take it."""
        del walk
        u = through(self.affine, cell.project, params, xs)
        carry, y = cell.step(params, carry, u, self.affine)
        return carry, emit(y, jax.tree.leaves(xs)[0].dtype)


@dataclasses.dataclass(frozen=True)
class Fed(Delegate):
    """A cell whose `params` hold more than its own, which are `params.params`."""

    @property
    def __name__(self) -> str:
        """That of the cell's class, for messages."""
        return name_of(self.cell)

    def inner(self, params: Params) -> Params:
        return params.params

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> Params:
        """Not asked for: the parameters were made before."""
        raise NotImplementedError

    def project(self, params: Params, xs: Tree, *noise: Any) -> Tree:
        return self.cell.project(params.params, xs, *noise)

    def step(
        self, params: Params, carry: Carry, u: Any, affine: Affine = default_affine
    ) -> tuple[Carry, Array]:
        return self.cell.step(params.params, carry, u, affine)

    def draw(self, keys: Keys) -> Any:
        """What the cell draws, if it is noisy."""
        draw: Callable[..., Any] = self.cell.draw  # type: ignore[attr-defined]
        return draw(keys)


class _InContext(Fed):
    """A cell whose `step` sees the context."""

    def step(
        self, params: WithContext, carry: Carry, u: Any, affine: Affine = default_affine
    ) -> tuple[Carry, Array]:
        return self.cell.step(params, carry, u, affine)
