"""The contract between a cell and everything that runs it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.description import constructor
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
"""`take(ys, backwards)` returns the output at the last step in time, or at the first if
`backwards`.
"""


class Cell(ABC, Generic[P, C]):
    """One time step of a recurrence: a frozen dataclass of hyperparameters with pure methods.

    A time step has three stages. Only the middle one is sequential:

        us = project(params, xs)                            everything that needs no carry
        carry, y = step(params, carry, u)                   the recurrence
        ys = read(params, ys, xs)                           the rest of the outputs, without carry

    A cell holds no array. It is hashable, compares by value, can be pickled, and is a pytree
    without leaves. It therefore passes through `jax.jit`, `jax.vmap` and `jax.grad` as an ordinary
    argument, and two equal cells share one compilation.

    To write a cell, subclass `Cell` as a frozen dataclass and define `init`, `initial_carry`,
    `step` and `out_features`. Every driver, combinator and Flax module then accepts it. Three
    subclasses cover special cases: `LinearCell`, `NoisyCell` and `ContextCell`.

    `step` multiplies by its recurrent weights through the `affine` that it is given. The law of
    `affine`:

    * `affine(u, h, w, linear=matmul)` returns the tuple of `u_k + linear(h, w)_k`, one for each
      `u_k`. `affine(None, h, w)` returns the product alone;
    * `w` depends on nothing but the parameters and the context, and `linear` is bilinear;
    * `step` calls it outside control flow and checkpoints, any number of times.

    If the output is a part of the new carry, `step` returns the same array for both. A combinator
    that changes the state then changes the output, too, and BPTT stores the array once.
    `jaxrnn.testing.check_cell` reports a cell that returns two arrays.

    Example: the recurrence `h_t = tanh(x_t W_x + h_{t-1} W_h)`.

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
    """How many trailing axes of one step's input are features. The axes before them are batch."""

    roles: ClassVar[Mapping[str, str]] = {
        "w_x": "input",
        "w_h": "recurrent",
        "w_r": "projection",
        **dict.fromkeys(("p_i", "p_f", "p_o"), "peephole"),
        **dict.fromkeys(("b", "b_hn"), "bias"),
        "gain": "gain",
    }
    """The role of each parameter, by its name; "other" if the name is not listed. `jaxrnn.labels`
    returns the roles.
    """

    is_composite: ClassVar[bool] = False
    """Whether the cell is made of cells and runs them itself. True for a `jaxrnn.Composite`."""

    def __repr__(self) -> str:
        return constructor(self) if is_dataclass(self) else object.__repr__(self)

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise a TypeError that names the drivers: a cell is not a function.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"a {type(self).__name__} is not called: jaxrnn.scan(cell, params, xs) runs it over a "
            "sequence, and jaxrnn.step(cell, params, carry, x) takes one step"
        )

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)
        # Set on the class itself, so that `dataclass` does not generate one that shows all fields.
        cls.__repr__ = cls.__repr__
        if "initial_carry" in vars(cls):
            cls.initial_carry = _checking_shape(cls.initial_carry)
        if "run" in vars(cls) and not cls.is_composite:
            raise TypeError(
                f"{cls.__name__} defines run, which only a cell made of cells may define; derive "
                "it from jaxrnn.Composite"
            )

    @abstractmethod
    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> P:
        """Draw the parameters.

        Args:
            key: the random key; two keys give different parameters.
            in_features: the size of the last axis of the input.
            dtype: the dtype of the parameters.

        Returns:
            A pytree of real arrays, usually a NamedTuple. A parameter that an option leaves out is
            None.
        """

    @abstractmethod
    def initial_carry(self, params: P, input_shape: tuple[int, ...]) -> C:
        """Return the carry before the first step.

        Args:
            params: the cell's parameters.
            input_shape: the shape of one step's input, `(*batch, *features)`.

        Raises:
            ValueError: `input_shape` is not such a shape. This holds for every subclass.
        """

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one step's output, from that of its input, `(*batch, *features)`.

        The default replaces the last axis by `out_features`.
        """
        return (*input_shape[:-1], self.out_features)

    def project(self, params: P, xs: Tree) -> Tree:
        """Compute the part of a step that needs no carry. The default returns `xs`.

        `xs` is one step `[*batch, in]` or many, `[time, *batch, in]`. All leading axes are treated
        alike.
        """
        del params
        return xs

    @abstractmethod
    def step(
        self, params: P, carry: C, u: Tree, affine: Affine = default_affine
    ) -> tuple[C, Array]:
        """Compute the recurrence of one step.

        `jaxrnn.step` takes a whole step: `project`, this and `read`.

        Args:
            params: the cell's parameters.
            carry: the carry before the step.
            u: the projected input, as `project` returns it for one step.
            affine: multiplies by recurrent weights; see the law of `affine` in `Cell`.

        Returns:
            The new carry, and the output before `read`.
        """

    def read(self, params: P, ys: Tree, xs: Tree) -> Tree:
        """Finish the outputs of `step` without the carry. The default returns `ys`.

        Examples are an output layer `y W_o`, and `Re(C h) + D x`. `ys` and `xs` hold one step or
        many, and have the same leading axes. `xs` is the input, before `project`.
        """
        del params, xs
        return ys

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Tree:
        """Return the outputs at the end of the walk, by default `take(ys, backwards)`.

        A cell overrides this if it walks in the other direction, or concatenates the outputs of
        several walks.

        Args:
            ys: the outputs of all steps.
            take: `take(ys, backwards)` picks the last step in time, or the first.
            backwards: whether time is walked from the last step to the first.
        """
        return take(ys, backwards)

    @property
    @abstractmethod
    def out_features(self) -> int:
        """The size of the last axis of the output."""

    def in_features(self, params: P) -> int:
        """Return the size of the last axis of the input.

        The default reads it from the first parameter `[..., in, out]` with the role "input".

        Raises:
            NotImplementedError: there is no such parameter, and the cell does not override this.
        """
        leaves = zip(jax.tree.leaves(self.labels(params)), jax.tree.leaves(params), strict=True)
        for role, leaf in leaves:
            if role == "input" and leaf.ndim > 1:
                return leaf.shape[-2]
        name = type(self).__name__
        raise NotImplementedError(
            f'{name}.in_features: no parameter [..., in, out] has the role "input"; override '
            f"{name}.in_features(params)"
        )

    def labels(self, params: P) -> Tree:
        """Return the role of every parameter, in the structure of `params`."""

        def role(path: tuple[object, ...], _: Array) -> str:
            return self.roles.get((path_names(path) or [""])[-1], "other")

        return jax.tree_util.tree_map_with_path(role, params)

    def check_in_features(self, in_features: int) -> None:
        """Raise an error if the cell cannot take inputs of this size. The default accepts any."""
        del in_features

    @property
    def gates(self) -> int:
        """How many matrices of equal width its recurrent weight concatenates, one per gate."""
        return 1

    @property
    def noisy(self) -> bool:
        """Whether the cell, or one inside it, draws random numbers when a driver gets a key."""
        return False

    @property
    def takes_context(self) -> bool:
        """Whether the cell, or one inside it, needs a context."""
        return False

    @property
    def causal(self) -> bool:
        """Whether no output needs a later input. If False, `jaxrnn.step` refuses the cell."""
        return True


def _checking_shape(initial_carry: Callable[..., C]) -> Callable[..., C]:
    """Return `initial_carry`, which then refuses an `input_shape` that is no shape."""

    @wraps(initial_carry)
    def checked(cell: Cell, params: Params, input_shape: tuple[int, ...]) -> C:
        shape = check_input_shape(f"{type(cell).__name__}.initial_carry", input_shape)
        return initial_carry(cell, params, shape)

    return checked


def check_input_shape(owner: str, input_shape: object) -> tuple[int, ...]:
    """Refuse anything but a shape with features, such as a batch size or the input itself."""
    if isinstance(input_shape, tuple | list) and input_shape:
        return tuple(input_shape)
    is_array = isinstance(input_shape, Array | np.ndarray)
    given = f"an array of shape {input_shape.shape}" if is_array else repr(input_shape)
    raise ValueError(
        f"{owner}: input_shape is {given}, expected (*batch, *features), the shape of one step's "
        "input; pass xs.shape[1:]"
    )


def abstract_params(cell: Cell[P, C], in_features: int, dtype: DTypeLike = jnp.float32) -> P:
    """Return the shapes and dtypes of `cell.init(key, in_features, dtype)`."""
    return _init.eval_shape(cell, in_features, dtype)


def abstract_carry(cell: Cell[P, C], params: P, input_shape: tuple[int, ...]) -> C:
    """Return the shapes and dtypes of `cell.initial_carry(params, input_shape)`."""
    return jax.eval_shape(lambda params: cell.initial_carry(params, input_shape), params)


def one_row(cell: Cell, in_features: int) -> tuple[int, ...]:
    """Return the shape of one step's input without batch axes, `(*space, in_features)`.

    An image has no pixels. The carry then has its form whatever the kernel, which would not fit in
    an image of one pixel.
    """
    return (*[0] * (cell.feature_axes - 1), in_features)


# This is never run. jit caches the shapes: tracing `init` takes longer than tracing a step.
@partial(jax.jit, static_argnums=(1, 2))
def _init(cell: Cell[P, C], in_features: int, dtype: DTypeLike) -> P:
    return cell.init(jax.random.key(0), in_features, dtype)
