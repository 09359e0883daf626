"""The contract between cells and all that runs them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, NoReturn, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.description import constructor
from jaxrnn.core.dtypes import as_wide
from jaxrnn.core.trees import Tree, path_names

Params = Any
"""The parameters of some cell."""
Carry = Any
"""The carry of some cell."""
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    P = TypeVar("P", default=Any)
    """The type of a cell's parameters."""
    C = TypeVar("C", default=Any)
    """The type of its carry."""
else:  # a default needs Python 3.13
    P, C = TypeVar("P"), TypeVar("C")

Take = Callable[[Tree, bool], Tree]
"""`take(ys, backwards)`: the last outputs in time, or the first."""


class Cell(ABC, Generic[P, C]):
    """One time step of a recurrence: a frozen dataclass of hyperparameters with pure methods.

    A step has three stages, of which the middle one alone is sequential:

        us = project(params, xs)                            all that does not need the carry
        carry, y = step(params, carry, u)                   the recurrence
        ys = read(params, ys, xs)                           what needs the outputs, not the carry

    A cell never holds an array. It is hashable, compares by value, pickles, and is a pytree without
    leaves, so it passes through `jax.jit`, `jax.vmap` and `jax.grad` as an ordinary argument, and
    two equal cells share one compilation. Subclass it as a frozen dataclass and write `init`,
    `initial_carry`, `step` and `out_features`; every driver, combinator and home then works. Three
    bases say more: `LinearCell`, `NoisyCell`, `ContextCell`.

    The law of `affine`, through which `step` multiplies by its recurrent weights:

    * `affine(u, h, w, linear=matmul)` gives `(u_k + linear(h, w)_k)` for each `u_k`;
      `affine(None, h, w)` the product alone;
    * `w` depends on the parameters (and the context) alone, and `linear` is bilinear;
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
    ...         w_x = draw(k_x, (in_features, self.hidden), dtype)
    ...         return {"w_x": w_x, "w_h": draw(k_h, (self.hidden, self.hidden), dtype)}
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
    """How many trailing axes of one step's input are features; those before them are the batch."""

    roles: ClassVar[Mapping[str, str]] = {
        "w_x": "input",
        "w_h": "recurrent",
        "w_r": "projection",
        **dict.fromkeys(("p_i", "p_f", "p_o"), "peephole"),
        **dict.fromkeys(("b", "b_hn"), "bias"),
        "gain": "gain",
    }
    """What the parameters are, by name; one that is not here is "other". See `jaxrnn.labels`."""

    is_composite: ClassVar[bool] = False
    """Whether it is made of cells, which it runs itself: a `jaxrnn.Composite`."""

    def __repr__(self) -> str:
        return constructor(self) if is_dataclass(self) else object.__repr__(self)

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise a TypeError that says what runs a cell."""
        raise TypeError(
            f"a {type(self).__name__} is not called: jaxrnn.scan(cell, params, xs) runs it over a "
            "sequence, jaxrnn.step(cell, params, carry, x) takes one step"
        )

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)
        cls.__repr__ = cls.__repr__  # its own now: a dataclass would write one, with all fields
        if "run" in vars(cls) and not cls.is_composite:
            raise TypeError(
                f"{cls.__name__} writes run, which only a cell made of cells has: derive it from "
                "jaxrnn.Composite"
            )

    @abstractmethod
    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> P:
        """Draw the parameters: a NamedTuple of arrays, None where an option leaves one out."""

    @abstractmethod
    def initial_carry(self, params: P, input_shape: tuple[int, ...]) -> C:
        """The carry before the first step, for one step's input of shape `(*batch, *features)`."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of one step's output, for one step's input of shape `(*batch, *features)`: its last
        axis is another, unless a cell says more.
        """
        return (*input_shape[:-1], self.out_features)

    def project(self, params: P, xs: Tree) -> Tree:
        """All of a step that does not need the carry, for one step `[*batch, in]` or for many
        `[time, *batch, in]`: it treats leading axes alike.
        """
        del params
        return xs

    @abstractmethod
    def step(self, params: P, carry: C, u: Any, affine: Affine = default_affine) -> tuple[C, Array]:
        """The recurrence: from carry and projected input to the new carry and the output, before
        `read`. Call `jaxrnn.step` for a whole step.
        """

    def read(self, params: P, ys: Any, xs: Any) -> Any:
        """What is done to the outputs without the carry, for one step or for many: an output layer
        `y W_o`, say, or `Re(C h) + D x`. Both arguments have the same leading axes.
        """
        del params, xs
        return ys

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Tree:
        """The outputs at the end of the walk, `take(ys, backwards)`.

        A cell that walks the other way, or puts several walks side by side, says so here.
        """
        return take(ys, backwards)

    @property
    @abstractmethod
    def out_features(self) -> int:
        """The size of the last axis of the output."""

    def in_features(self, params: P) -> int:
        """The size of the last axis of the input, which its weights `[..., in, out]` tell.

        Raises:
            NotImplementedError: no parameter has the role "input", and the cell does not say.
        """
        leaves = zip(jax.tree.leaves(self.labels(params)), jax.tree.leaves(params), strict=True)
        for role, leaf in leaves:
            if role == "input" and leaf.ndim > 1:
                return leaf.shape[-2]
        name = type(self).__name__
        raise NotImplementedError(f"{name} has no input weight: write {name}.in_features(params)")

    def labels(self, params: P) -> Any:
        """The role of every parameter, in the structure of `params`."""

        def role(path: tuple[object, ...], _: Array) -> str:
            return self.roles.get((path_names(path) or [""])[-1], "other")

        return jax.tree_util.tree_map_with_path(role, params)

    def check_in_features(self, in_features: int) -> None:
        """Refuse an input size that this cell cannot take; most take any."""
        del in_features

    @property
    def gates(self) -> int:
        """How many matrices of equal width stand side by side in its recurrent weight."""
        return 1

    @property
    def noisy(self) -> bool:
        """Whether the cell, or one inside it, draws random numbers when the driver has a key."""
        return False

    @property
    def takes_context(self) -> bool:
        """Whether the cell, or one inside it, asks for a context."""
        return False

    @property
    def causal(self) -> bool:
        """Whether an output needs no later input; if it does, there is no single step."""
        return True


class LinearCell(Cell[P, C]):
    """`h_t = a_t ∘ h_{t-1} + b_t`, elementwise, real or complex; a and b do not depend on h.

    A subclass writes `coefficients` in place of `step`. The output is the state; what is made of it
    for all t at once stands in `read`.

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Average(jaxrnn.LinearCell):
    ...     decay: float
    ...     def init(self, key, in_features, dtype=jnp.float32):
    ...         return jnp.ones(in_features, dtype)
    ...     def initial_carry(self, params, input_shape):
    ...         return jnp.zeros(input_shape)
    ...     def coefficients(self, params, u):
    ...         return self.decay, (1 - self.decay) * params * u
    ...     @property
    ...     def out_features(self):
    ...         raise NotImplementedError
    >>> cell = Average(decay=0.5)
    >>> jaxrnn.scan(cell, jnp.ones(1), jnp.ones((3, 1)))[1][:, 0].tolist()
    [0.5, 0.75, 0.875]
    """

    @abstractmethod
    def coefficients(self, params: P, u: Any) -> tuple[Any, C]:
        """`a` and `b` of one step or of many: pytrees like the carry, or one number for `a`."""

    def step(self, params: P, carry: C, u: Any, affine: Affine = default_affine) -> tuple[C, Array]:
        del affine
        a, b = self.coefficients(params, u)
        if jax.tree_util.all_leaves([a]):
            a = jax.tree.map(lambda _: a, carry)

        def leaf(a: Array, h: Array, b: Array) -> Array:
            return as_wide(a, h) * h + as_wide(b, h)

        after = jax.tree.map(leaf, a, carry, b)
        return after, after


class Keys(NamedTuple):
    """What a `NoisyCell` draws from at one step of one row."""

    step: Array  # another at every step
    sequence: Array  # the same at all steps of a sequence

    def split(self) -> tuple["Keys", "Keys"]:
        """Two that are independent of each other."""
        (a, b), (c, d) = jax.random.split(self.step), jax.random.split(self.sequence)
        return Keys(a, c), Keys(b, d)


class NoisyCell(Cell[P, C]):
    """A cell that draws random numbers in training.

    It says with `draw` what one step of one row draws; `project` gets the draws of all steps and
    rows, and puts into `u` what `step` needs of them.
    """

    @abstractmethod
    def draw(self, keys: Keys) -> Any:
        """What one step of one row draws; `keys.step` is new at each step, `keys.sequence` in each
        sequence. Draw bools rather than floats where they will do: they have no gradient.
        """

    @abstractmethod
    def project(self, params: P, xs: Tree, noise: Any = None) -> Tree:
        """As `Cell.project`; `noise` has the leading axes of `xs`, and is None for inference."""

    @property
    def noisy(self) -> bool:
        return True


class WithContext(NamedTuple):
    """What a `ContextCell.step` is given as its parameters."""

    params: Params
    context: Any


class ContextCell(Cell[P, C]):
    """A cell that looks at a context: a pytree `[*batch, ...]` that stays the same over time, such
    as the memory that a decoder attends to, features of an image, a goal, static covariates.

    Drivers and homes take it as `context=`. It is stored once, gradients reach it, and it is split
    over devices as the batch is. `step` finds it in `params.context`, and the parameters in
    `params.params`; no other method sees it.

    >>> import dataclasses, jax, jax.numpy as jnp, jaxrnn
    >>> @dataclasses.dataclass(frozen=True)
    ... class Towards(jaxrnn.ContextCell):
    ...     def init(self, key, in_features, dtype=jnp.float32):
    ...         return jnp.full(in_features, 0.5, dtype)
    ...     def initial_carry(self, params, input_shape):
    ...         return jnp.zeros(input_shape)
    ...     def step(self, params, carry, u, affine=jaxrnn.affine):
    ...         rate, goal = params
    ...         h = carry + rate * (goal - carry) + u
    ...         return h, h
    ...     @property
    ...     def out_features(self):
    ...         raise NotImplementedError
    >>> goal = jnp.ones((2, 3))
    >>> h, ys = jaxrnn.scan(Towards(), jnp.full(3, 0.5), jnp.zeros((2, 2, 3)), context=goal)
    >>> float(h[0, 0])
    0.75
    """

    @abstractmethod
    def step(
        self, params: Any, carry: C, u: Any, affine: Affine = default_affine
    ) -> tuple[C, Array]:
        """The recurrence, with `params: jaxrnn.WithContext`."""

    def prepare(self, params: P, context: Any) -> Any:
        """What is made of the context once, before the first step; `step` gets this instead."""
        del params
        return context

    @property
    def takes_context(self) -> bool:
        return True


def abstract_params(cell: Cell[P, C], in_features: int, dtype: DTypeLike = jnp.float32) -> P:
    """The shapes and dtypes of `cell.init(key, in_features, dtype)`."""
    return _init.eval_shape(cell, in_features, dtype)


# never run: jit remembers the shapes, and tracing `init` takes longer than tracing a step
@partial(jax.jit, static_argnums=(1, 2))
def _init(cell: Cell[P, C], in_features: int, dtype: DTypeLike) -> P:
    return cell.init(jax.random.key(0), in_features, dtype)
