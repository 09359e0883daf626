"""Cells made of cells, and the runner that runs the cells inside."""

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
from jaxrnn.core.call import check_pair
from jaxrnn.core.cell import C, Carry, Cell, P, Params, Take
from jaxrnn.core.check import name_of
from jaxrnn.core.dtypes import emit
from jaxrnn.core.kinds import Keys, WithContext
from jaxrnn.core.traced.values import through
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import Walk, without_masked

if TYPE_CHECKING:
    from jaxrnn.core.noise import Draws


class Composite(Cell[P, C]):
    """A cell made of cells. Its `run` passes each to a runner, so that each keeps its own stages.

    A subclass defines `init`, `initial_carry`, `run` and `out_features`. It keeps its cells in
    fields of the dataclass.

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Sum(jaxrnn.Composite):
    ...     a: jaxrnn.Cell
    ...     b: jaxrnn.Cell
    ...     def init(self, key, in_features, dtype=jnp.float32):
    ...         k_a, k_b = jax.random.split(key)
    ...         return self.a.init(k_a, in_features, dtype), self.b.init(k_b, in_features, dtype)
    ...     def initial_carry(self, params, input_shape):
    ...         cells = self.a, self.b
    ...         return tuple(c.initial_carry(p, input_shape) for c, p in zip(cells, params))
    ...     def run(self, params, xs, carry, runner):
    ...         a, ys_a = runner.part(0)(self.a, params[0], xs, carry[0])
    ...         b, ys_b = runner.part(1)(self.b, params[1], xs, carry[1])
    ...         return (a, b), ys_a + ys_b
    ...     @property
    ...     def out_features(self):
    ...         return self.a.out_features
    >>> cell = Sum(jaxrnn.GRU(4), jaxrnn.Elman(4))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    is_composite = True

    @abstractmethod
    def run(self, params: P, xs: Tree, carry: C, runner: "Runner") -> tuple[C, Tree]:
        """Run the cells inside, over time or for one step.

        Args:
            params: the parameters of all cells.
            xs: the inputs `[time, *batch, features]`, or `[*batch, features]` for one step.
            carry: the carries of all cells.
            runner: `runner(cell, params, xs, carry)` runs one cell and returns its carry and
                outputs. `runner.part(k)` is the same runner with a random key of its own for part
                k. `runner.reversed()` walks time in the opposite direction. `runner.draw(f)` calls
                `f(keys)` for every step and row, or returns None if the user passed no key.

        Returns:
            The new carries, and the outputs.
        """

    def step(
        self, params: P, carry: C, u: Tree, affine: Affine = default_affine
    ) -> tuple[C, Array]:
        """Take one step through all cells inside."""
        return substep(self, params, carry, u, affine)

    def _inner(self) -> list[Cell]:
        # not `vars`, which a dataclass with slots does not have
        fields = [getattr(self, field.name) for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        leaves = jax.tree.leaves(fields, is_leaf=lambda value: isinstance(value, Cell))
        return [leaf for leaf in leaves if isinstance(leaf, Cell)]

    @property
    def feature_axes(self) -> int:  # type: ignore[override]
        """The largest number that one of its cells has."""
        return max((cell.feature_axes for cell in self._inner()), default=1)

    @property
    def gates(self) -> int:
        """The number that all of its cells have.

        Raises:
            ValueError: the numbers differ.
        """
        numbers = {cell.gates for cell in self._inner()}
        if len(numbers) > 1:
            raise ValueError(
                f"{name_of(self)}: its cells have {sorted(numbers)} gates, expected one number, for"
                " a combinator outside changes the weights of all gates; put it around each cell"
            )
        return max(numbers, default=1)

    @property
    def causal(self) -> bool:
        return all(cell.causal for cell in self._inner())

    @property
    def noisy(self) -> bool:
        return any(cell.noisy for cell in self._inner())

    @property
    def takes_context(self) -> bool:
        return any(cell.takes_context for cell in self._inner())


def substep(
    cell: Cell[P, C], params: P, carry: C, x: Tree, affine: Affine = default_affine
) -> tuple[C, Any]:
    """Take one step of a cell within the step of another cell.

    It serves a deep transition (Pascanu et al. 2014), for example, or a cell that computes the
    input of another.

    It takes all three stages of the inner cell. All their products by the inner cell's weights go
    through `affine`, the input's product, too, so a method that replaces `affine` sees all of them.
    An inner cell gets no random numbers, as in inference. Wrap the outer cell to regularise it.

    Args:
        cell: the inner cell. It must be causal.
        params: its parameters; `jaxrnn.WithContext(params, context)` if it takes a context.
        carry: its carry before the step.
        x: its input, `[*batch, features]`.
        affine: the `affine` that the outer step gets.

    Returns:
        The inner cell's new carry, and its output in the dtype of `x`.

    Raises:
        TypeError: the cell needs later inputs.
        ValueError: the cell takes a context, and `params` holds none.

    A cell of two GRUs. Within one step, the second continues from the hidden state of the first:

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
    """A cell around one inner cell. It does what the inner cell does, unless a subclass differs."""

    cell: Cell[P, C]

    def inner(self, params: Params) -> Params:
        """Return the inner cell's part of the parameters."""
        return params

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> P:
        return self.cell.init(key, in_features, dtype)

    def initial_carry(self, params: P, input_shape: tuple[int, ...]) -> C:
        return self.cell.initial_carry(self.inner(params), input_shape)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*self.cell.output_shape(input_shape)[:-1], self.out_features)

    def prepare(self, params: P, context: Tree) -> Tree:
        return self.cell.prepare(self.inner(params), context)  # type: ignore[attr-defined]

    def read(self, params: P, ys: Tree, xs: Tree) -> Tree:
        return self.cell.read(self.inner(params), ys, xs)

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Tree:
        return self.cell.ends(ys, take, backwards)

    def in_features(self, params: P) -> int:
        return self.cell.in_features(self.inner(params))

    def labels(self, params: P) -> Tree:
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
    """What takes the steps of a cell: a `jaxrnn.methods.Method`, or `OneStep`."""

    def run(
        self, cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk, /
    ) -> tuple[Carry, Tree]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs a cell, over time or for one step."""

    method: Steps
    walk: Walk = dataclasses.field(default_factory=Walk)
    """The direction of time, the masked steps, and the boundaries between sequences."""

    draws: "Draws | None" = None
    """What noisy cells draw from. None means inference."""

    context: Tree = None
    """The context, for cells that take one."""

    changes: tuple[Callable[[Cell, Params], Params], ...] = ()
    """Functions that change the parameters of every cell before it runs, from first to last."""

    def __call__(self, cell: Cell[P, C], params: P, xs: Tree, carry: C) -> tuple[C, Any]:
        """Run a cell through its three stages. A composite runs itself, by its `run`."""
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
        """Call `function(params, *inputs)`. In a single step, its products go through `affine`."""
        affine = self.method.affine if isinstance(self.method, OneStep) else default_affine
        return through(affine, function, params, *inputs)

    def emitted(self, ys: Tree, xs: Tree) -> Tree:
        """Do to outputs what a loop does to them.

        Cast them to the dtype of the inputs, and set them to zero where a step is masked. Outputs
        that are computed after the loop need it.
        """
        return without_masked(emit(ys, jax.tree.leaves(xs)[0].dtype), self.walk.valid)

    def in_context(self, cell: Cell, params: Params) -> tuple[Cell, Params]:
        """Put the context into the parameters, if the cell takes one, so that any loop can run it.

        Raises:
            ValueError: the cell takes a context, and there is none.
        """
        if not cell.takes_context:
            return cell, params
        if self.context is None:
            raise ValueError(f"{name_of(cell)} takes a context, and got none; pass context=")
        prepare: Callable[..., Any] = cell.prepare  # type: ignore[attr-defined]
        return _InContext(cell), WithContext(params, prepare(params, self.context))

    def part(self, k: int) -> "Runner":
        """Return the same runner with a random key of its own for part k."""
        return self if self.draws is None else dataclasses.replace(self, draws=self.draws.part(k))

    def reversed(self) -> "Runner":
        """Return the same runner, walking time in the opposite direction.

        Raises:
            TypeError: the runner takes a single step, which has no direction.
        """
        if isinstance(self.method, OneStep):
            raise TypeError(
                "a layer that reads backwards needs the whole sequence, so it has no single step; "
                "run it with jaxrnn.scan"
            )
        return dataclasses.replace(self, walk=self.walk.reversed())

    def draw(self, function: Callable[[Keys], Any]) -> Tree:
        """Call `function(keys)` for every step and row. Return None if there is no key."""
        return None if self.draws is None else self.draws(function)


@dataclasses.dataclass(frozen=True)
class OneStep:
    """Takes a single step. Its input has no time axis."""

    affine: Affine = default_affine

    def run(
        self, cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk, /
    ) -> tuple[Carry, Tree]:
        """Project the input, and take the step."""
        del walk
        u = through(self.affine, cell.project, params, xs)
        carry, y = check_pair(cell, cell.step(params, carry, u, self.affine))
        return carry, emit(y, jax.tree.leaves(xs)[0].dtype)


@dataclasses.dataclass(frozen=True)
class StandIn(Delegate):
    """A cell that a runner puts in the place of `cell`. It has its name, and draws as it does."""

    @property
    def __name__(self) -> str:
        """The name of the inner cell's class, for messages."""
        return name_of(self.cell)

    def draw(self, keys: Keys) -> Tree:
        """Draw what the inner cell draws, if it is noisy."""
        draw: Callable[..., Any] = self.cell.draw  # type: ignore[attr-defined]
        return draw(keys)


@dataclasses.dataclass(frozen=True)
class Fed(StandIn):
    """A cell whose `params` hold more than the inner cell's, which are `params.params`."""

    def inner(self, params: Params) -> Params:
        return params.params

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> Params:
        """Refuse: the inner cell has made the parameters before."""
        raise NotImplementedError

    def project(self, params: Params, xs: Tree, *noise: Any) -> Tree:
        return self.cell.project(params.params, xs, *noise)

    def step(
        self, params: Params, carry: Carry, u: Tree, affine: Affine = default_affine
    ) -> tuple[Carry, Array]:
        return self.cell.step(params.params, carry, u, affine)


class _InContext(Fed):
    """A cell whose `step` gets the context with its parameters."""

    def step(
        self, params: WithContext, carry: Carry, u: Tree, affine: Affine = default_affine
    ) -> tuple[Carry, Array]:
        return self.cell.step(params, carry, u, affine)
