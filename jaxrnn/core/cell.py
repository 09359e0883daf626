"""The contract between cells and drivers."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import jax
from jax import Array

from jaxrnn.core.affine import affine as default_affine

Params = Any
Carry = Any
Affine = Callable[..., Any]
DriverT = TypeVar("DriverT", bound="Driver")


class Cell(ABC):
    """One time step of a recurrence: a frozen dataclass of hyperparameters with pure methods.

    A cell never holds an array. It is hashable, compares by value, pickles, and is a pytree without
    leaves, so it passes through `jax.jit`, `jax.vmap` and `jax.grad` as an ordinary argument, and
    two equal cells share one compilation. Subclass it as a frozen dataclass and write `init`,
    `initial_carry`, `step` and `out_features`; every driver, combinator and home then works.

    The law of `affine`, through which `step` multiplies by its recurrent weights:

    * `affine(u, h, w, linear=matmul)` gives `(u_k + linear(h, w)_k)` for each `u_k`; `affine(None,
      h, w)` the product alone;
    * `w` depends on the parameters alone, and `linear` is bilinear;
    * it is called outside control flow and checkpoints, as often as wanted.

    If the output is a part of the new carry, `step` returns the same array for both: a combinator
    that changes the state then changes the output, too, and the engine stores it once.
    `jaxrnn.testing.check_cell` finds a cell that does not.

    Example, the recurrence `h_t = tanh(x_t W_x + h_{t-1} W_h)`:

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Plain(jaxrnn.Cell):
    ...     hidden: int
    ...     def init(self, key, in_features, dtype=jnp.float32):
    ...         k_x, k_h = jax.random.split(key)
    ...         draw = jax.nn.initializers.lecun_normal()
    ...         return {"w_x": draw(k_x, (in_features, self.hidden), dtype), "w_h": draw(k_h, (self.hidden, self.hidden), dtype)}
    ...     def initial_carry(self, params, input_shape):
    ...         return jnp.zeros((*input_shape[:-1], self.hidden))
    ...     def project(self, params, xs):
    ...         return xs @ params["w_x"]
    ...     def step(self, params, carry, u, affine=jaxrnn.affine):
    ...         (z,) = affine((u,), carry, params["w_h"])
    ...         h = jnp.tanh(z)
    ...         return h, h
    ...     @property
    ...     def out_features(self):
    ...         return self.hidden
    >>> cell = Plain(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    feature_axes: ClassVar[int] = 1
    """How many trailing axes of one step's input are features; the axes before them are batch axes.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)

    @abstractmethod
    def init(self, key: Array, in_features: int, dtype: Any = jax.numpy.float32) -> Params:
        """Draw the parameters: a NamedTuple of arrays, None where an option leaves one out. The
        only method that takes a key.
        """

    @abstractmethod
    def initial_carry(self, params: Params, input_shape: tuple[int, ...]) -> Carry:
        """The carry before the first step; `input_shape = (*batch, *features)` is the shape of one
        step's input.
        """

    def project(self, params: Params, xs: Any) -> Any:
        """All of a step that does not need the carry, for one step `[*batch, in]` or many `[time,
        *batch, in]` at once.
        """
        del params
        return xs

    @abstractmethod
    def step(
        self, params: Params, carry: Carry, u: Any, affine: Affine = default_affine
    ) -> tuple[Carry, Array]:
        """The rest of the step: from the carry and one projected input to the new carry and the
        output.
        """

    def run(self, params: Params, xs: Any, carry: Carry, drive: "Driver") -> tuple[Carry, Any]:
        """How a driver runs this cell; one made of cells hands each of them to `drive`, so that
        each keeps its own projection.

        `drive(cell, params, xs, carry)` runs a cell; `drive.part(k)` is the same driver with a
        random key of its own for part k; `drive.draw(function)` is `function(keys)` for every step
        and row, or None where the user passed no key."""
        return drive(self, params, xs, carry)

    def draw(self, keys: Any) -> Any:
        """What one step of one row draws, if the cell is `noisy`; `keys.step` is new at each step,
        `keys.sequence` in each sequence.

        Such a cell takes `project(params, xs, noise=None)`: the draws with the leading axes of
        `xs`, or None for inference. What `step` needs of them goes into `u`. Draw bools rather than
        floats where they will do: they have no gradient."""
        raise NotImplementedError(f"{type(self).__name__} is noisy and needs a method draw(keys)")

    def ends(self, ys: Any, take: Callable[[Any, bool], Any], backwards: bool = False) -> Any:
        """The outputs at the end of the walk: `take(ys, backwards)`; backwards, the first step is.

        A cell that walks the other way, or puts several walks side by side, says so here.
        """
        return take(ys, backwards)

    @property
    @abstractmethod
    def out_features(self) -> int:
        """The size of the last axis of the output."""

    def check_in_features(self, in_features: int) -> None:
        """Refuse an input size that this cell cannot take; most take any."""
        del in_features

    @property
    def gates(self) -> int:
        """How many matrices of equal width stand side by side on the last axis of its `w_h`."""
        return 1

    @property
    def noisy(self) -> bool:
        """Whether the cell, or one inside it, draws random numbers when the driver has a key.

        The Flax homes ask for a random stream only then, so a cell whose `run` draws says so.
        """
        return False

    @property
    def causal(self) -> bool:
        """Whether an output depends on the present and the past alone. A cell that is not causal
        has no single step.
        """
        return True


class Composite(Cell):
    """A cell made of cells: it defines `run`, and takes a single step by running its parts for one
    step.

    Its `project` is the identity, for each part projects its own input.
    """

    def step(
        self, params: Params, carry: Carry, u: Any, affine: Affine = default_affine
    ) -> tuple[Carry, Array]:
        """One step through all parts."""
        return self.run(params, u, carry, OneStep(affine))

    @property
    def noisy(self) -> bool:
        """Whether a cell among its fields is."""
        parts = jax.tree.leaves(vars(self), is_leaf=lambda value: isinstance(value, Cell))
        return any(part.noisy for part in parts if isinstance(part, Cell))


@dataclasses.dataclass(frozen=True)
class Delegate(Cell):
    """A cell around one cell, which is as that one is where a subclass does not say otherwise."""

    cell: Cell

    def init(self, key: Array, in_features: int, dtype: Any = jax.numpy.float32) -> Params:
        """Draw the cell's parameters."""
        return self.cell.init(key, in_features, dtype)

    def initial_carry(self, params: Params, input_shape: tuple[int, ...]) -> Carry:
        """The cell's initial carry."""
        return self.cell.initial_carry(params, input_shape)

    def check_in_features(self, in_features: int) -> None:
        """The cell's check."""
        self.cell.check_in_features(in_features)

    def ends(self, ys: Any, take: Callable[[Any, bool], Any], backwards: bool = False) -> Any:
        """Where the cell's are."""
        return self.cell.ends(ys, take, backwards)

    @property
    def feature_axes(self) -> int:  # type: ignore[override]
        """The cell's."""
        return self.cell.feature_axes

    @property
    def out_features(self) -> int:
        """The cell's."""
        return self.cell.out_features

    @property
    def gates(self) -> int:
        """The cell's."""
        return self.cell.gates

    @property
    def causal(self) -> bool:
        """Whether the cell is."""
        return self.cell.causal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Driver(ABC):
    """What a cell's `run` is handed: it runs a cell, and gives each part of one a driver with a key
    of its own.
    """

    draws: Any = None
    """What noisy cells draw from, a `jaxrnn.core.noise.Draws`; None for inference."""

    changes: tuple[Callable[[Cell, Params], Params], ...] = ()
    """What the parameters of every cell go through before it runs, first to last."""

    @abstractmethod
    def walk_through(self, cell: Cell, params: Params, xs: Any, carry: Carry) -> tuple[Carry, Any]:
        """Run a cell that draws nothing."""

    def __call__(self, cell: Cell, params: Params, xs: Any, carry: Carry) -> tuple[Carry, Any]:
        """Run a cell; one made of cells by its own `run`."""
        if isinstance(cell, Composite):
            return cell.run(params, xs, carry, self)
        for change in self.changes:
            params = change(cell, params)
        if cell.noisy and self.draws is not None:
            cell, params, xs = self.draws.fed_to(cell, params, xs)
        return self.walk_through(cell, params, xs, carry)

    def part(self: DriverT, k: int) -> DriverT:
        """The same driver, with another key: that of part k."""
        return self if self.draws is None else dataclasses.replace(self, draws=self.draws.part(k))

    @abstractmethod
    def reversed(self: DriverT) -> DriverT:
        """The same driver, walking the other way."""

    def draw(self, function: Callable[[Any], Any]) -> Any:
        """`function(keys)` for every step and row, or None without a key."""
        return None if self.draws is None else self.draws(function)


@dataclasses.dataclass(frozen=True)
class OneStep(Driver):
    """The driver of a single step."""

    affine: Affine = default_affine

    def walk_through(self, cell: Cell, params: Params, xs: Any, carry: Carry) -> tuple[Carry, Any]:
        """Take it."""
        return single_step(cell, params, xs, carry, self.affine)

    def reversed(self) -> "OneStep":
        """Refused: there is no other way."""
        raise TypeError(
            "a layer that reads backwards needs the whole sequence, so it has no single step; run "
            "it with jaxrnn.scan"
        )


def single_step(
    cell: Cell, params: Params, x: Any, carry: Carry, affine: Affine = default_affine
) -> tuple[Carry, Any]:
    """Project one input, take one step, and emit in the input's dtype."""
    carry, y = cell.step(params, carry, cell.project(params, x), affine)
    return carry, emit(y, jax.tree.leaves(x)[0].dtype)


def emit(y: Any, dtype: Any) -> Any:
    """The output in the dtype of the input."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), y)
