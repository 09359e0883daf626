"""jaxrnn at home in `flax.nnx`: `RNN`, and `RNNCell` for Flax's own `RNN` and `Bidirectional`."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn._flax import home, names, recipes
from jaxrnn.core.call import Flags
from jaxrnn.core.cell import Carry, Cell, Params, abstract_params
from jaxrnn.core.check import check_in_features
from jaxrnn.drivers import step
from jaxrnn.foreign import FunctionCell
from jaxrnn.methods import MethodLike

__all__ = ["RNN", "RNNCell", "as_cell"]


class _Home(nnx.Module):
    """A cell, and its parameters as `nnx.Param`s under the cell's own names."""

    if TYPE_CHECKING:  # the parameters are attributes too

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self, cell: Cell, in_features: int, dtype: Any, param_dtype: Any, rngs: nnx.Rngs
    ) -> None:
        owner = f"jaxrnn.nnx.{type(self).__name__}({type(cell).__name__})"
        in_features = check_in_features(cell, in_features)
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(
                f"{owner}: rngs is a {type(rngs).__name__}, expected a flax.nnx.Rngs such as "
                "nnx.Rngs(0)"
            )
        self.cell = cell
        self.in_features = in_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        for name, value in names.nested(cell.init(rngs.params(), in_features, param_dtype)).items():
            if hasattr(self, name):
                raise ValueError(
                    f"{owner}: parameter {name!r} has the name of an attribute of the module; "
                    "rename it in the cell"
                )
            setattr(self, name, _variables(value))

    def _params(self) -> Params:
        """The parameters in the cell's own structure."""

        def find(path: tuple[str, ...]) -> Array:
            node: Any = self
            for name in path:
                node = getattr(node, name)
            return node[...]

        return names.gathered(abstract_params(self.cell, self.in_features, self.param_dtype), find)


def _variables(tree: Any) -> Any:
    if isinstance(tree, dict):
        return nnx.Dict({name: _variables(value) for name, value in tree.items()})
    return nnx.Param(tree)


class RNN(_Home):
    """A cell, run by `jaxrnn.scan`, whose parameters live in a Flax model.

    Every parameter is an `nnx.Param` under the cell's own name, `rnn.w_h`; those of combinators are
    nested, `rnn.forward.w_h`, `rnn.layer_0.w_h`. The module has no other state, and no random
    numbers after it is built.

    Args:
        cell: any `jaxrnn.Cell`.
        in_features: size of the last axis of `xs`.
        time_major: whether time is the first axis of `xs`, `mask` and `reset`, rather than the one
            after the batch axes.
        dtype: what inputs and parameters are cast to before computing, and so the dtype of the
            output; not cast if None. The carry has at least float32.
        param_dtype: what parameters are initialised in.
        method: how the steps are run and differentiated, as in `jaxrnn.scan`.
        rngs: its `params` stream draws the parameters.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or `rngs` not a `flax.nnx.Rngs`.
        ValueError: `in_features` is not positive, or a parameter has the name of an attribute.

    >>> import jax, jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> rnn = jaxrnn.nnx.RNN(jaxrnn.LSTM(4), in_features=3, rngs=nnx.Rngs(0))
    >>> carry, ys = rnn(jnp.ones((2, 7, 3)), lengths=jnp.array([7, 5]))
    >>> carry.h.shape, ys.shape
    ((2, 4), (2, 7, 4))
    >>> graphdef, params = nnx.split(rnn, nnx.Param)
    >>> sorted(params)
    ['b', 'w_h', 'w_x']
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        time_major: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        method: MethodLike = "bptt",
        rngs: nnx.Rngs,
    ) -> None:
        home.check_rnn(cell, "nnx", time_major)
        self.time_major = time_major
        self.method: MethodLike = method
        self.deterministic = False
        super().__init__(cell, in_features, dtype, param_dtype, rngs)

    def __call__(
        self,
        xs: Any,
        carry: Carry = None,
        *,
        rngs: nnx.Rngs | None = None,
        **flags: Unpack[Flags],
    ) -> tuple[Carry, Any]:
        """Run the cell over a sequence, as `jaxrnn.scan` does.

        Args:
            xs: inputs `[*batch, time, features]`, any number of batch axes; or a pytree of arrays
                that start `[*batch, time]`.
            carry: the carry before the first step; the cell's initial carry if left out.
            rngs: in training, what cells that draw (`Dropout`, `Zoneout`, ...) draw from: its
                `dropout` stream. Nothing is drawn without it, or while `deterministic` is True,
                which `model.eval()` sets and `model.train()` undoes.
            **flags: `lengths [*batch]`, `mask [*batch, time]`, `reset [*batch, time]`, `reverse`
                and `context`, as in `jaxrnn.scan`.

        Returns:
            The carry after the last valid step, and `ys [*batch, time, out_features]`.

        Raises:
            ValueError: a shape or structure does not fit; the message says which and what was
                expected.
            TypeError: a dtype does not fit.
        """
        owner = "jaxrnn.nnx.RNN"
        home.sequence_feature_size(owner, self, xs)
        draws = self.cell.noisy and not self.deterministic
        key = rngs.dropout() if draws and rngs is not None else None
        return home.run(owner, self, self._params(), xs, carry, key, flags)


class RNNCell(_Home, nnx.RNNCellBase):
    """A causal cell as a Flax `RNNCellBase`, for `flax.nnx.RNN`, `flax.nnx.Bidirectional` and code
    written around them.

    Its parameters have the names that they have in `RNN`. Flax's loop projects the input at every
    step: `RNN` is faster.

    Args:
        cell: any `jaxrnn.Cell` that needs no future input.
        in_features: size of the last axis of an input.
        dtype: what inputs and parameters are cast to before computing; not cast if None. The carry
            has at least float32.
        param_dtype: what parameters are initialised in.
        rngs: its `params` stream draws the parameters.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or needs the whole sequence (`Bidirectional`);
            `rngs` is not a `flax.nnx.Rngs`.
        ValueError: `in_features` is not positive, or a parameter has the name of an attribute.

    >>> import jax, jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> cell = jaxrnn.nnx.RNNCell(jaxrnn.GRU(4), in_features=3, rngs=nnx.Rngs(0))
    >>> rnn = nnx.RNN(cell, return_carry=True)
    >>> carry, ys = rnn(jnp.ones((2, 7, 3)), seq_lengths=jnp.array([7, 5]))
    >>> carry.shape, ys.shape
    ((2, 4), (2, 7, 4))
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        home.check_rnn_cell(cell, "nnx")
        super().__init__(cell, in_features, dtype, param_dtype, rngs)

    def __call__(self, carry: Carry, inputs: Any) -> tuple[Carry, Array]:
        """Take one step: `carry` as `initialize_carry` gives it, `inputs [*batch, features]`,
        output `[*batch, out_features]`.
        """
        home.feature_size("jaxrnn.nnx.RNNCell", self.cell, inputs)
        params, inputs = home.cast((self._params(), inputs), self.dtype)
        return step(self.cell, params, carry, inputs)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Carry:
        """The cell's initial carry for one step's input of shape `input_shape = (*batch,
        *features)`; `rngs` is not used.

        Raises:
            ValueError: a `carry_init` is given, which the cell would have to ignore.
        """
        del rngs
        if carry_init is not None:
            raise ValueError(
                f"jaxrnn.nnx.RNNCell: {type(self.cell).__name__} has an initial carry of its own, "
                "so carry_init must be None; "
                "pass another start as initial_carry to flax.nnx.RNN"
            )
        return self.cell.initial_carry(home.cast(self._params(), self.dtype), input_shape)

    @property
    def num_feature_axes(self) -> int:
        """How many trailing axes of an input are features."""
        return self.cell.feature_axes


def as_cell(module: nnx.RNNCellBase | Callable[..., nnx.RNNCellBase]) -> FunctionCell:
    """Any Flax NNX cell as a `jaxrnn.Cell`: for `jaxrnn.scan`, its engine, and combinators.

    Its parameters are a state of `nnx.Param`s: `cell.init(key, in_features)`, or those of a module,
    `nnx.state(module, nnx.Param)`. `nnx.update(module, params)` brings them back.

    Args:
        module: a cell with one feature axis and no state but `nnx.Param`s, so no random stream in a
            step. Or how to build one: `functools.partial(nnx.GRUCell, hidden_features=4)`, or a
            function of `in_features` and `rngs`. Of a module, `init` builds another with the same
            attributes. Flax's cells do not keep their initialisers: it draws with the default ones.

    Raises:
        TypeError: it is no NNX cell, holds other state, or cannot be built from its attributes.

    >>> import jax.numpy as jnp, jaxrnn
    >>> from flax import nnx
    >>> module = nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))
    >>> cell, params = as_cell(module), nnx.state(module, nnx.Param)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """
    if isinstance(module, nnx.RNNCellBase):
        recipe, in_features = _recipe_of(module)
    elif callable(module) and not isinstance(module, nnx.Module):
        recipe, in_features = _as_recipe(module), 1
    else:
        raise TypeError(_expected(module))
    built = _abstract(recipe, in_features)
    if not isinstance(built, nnx.RNNCellBase):
        raise TypeError(f"{_expected(built)} from {recipe.make}")
    _check_state(built)
    params, make_carry = nnx.state(built, nnx.Param), _Carry(recipe)
    carry = jax.eval_shape(lambda p: make_carry(p, (in_features,)), params)
    _, y = jax.eval_shape(_Apply(recipe), params, carry, jnp.ones(in_features))
    return FunctionCell(_Apply(recipe), _Init(recipe), make_carry, y.shape[-1])


@dataclasses.dataclass(frozen=True)
class _Apply:
    recipe: recipes.Recipe

    def __call__(self, params: Params, carry: Carry, x: Any) -> Any:
        module = nnx.merge(_graph(self.recipe, x.shape[-1]), params)
        after, y = module(carry, x)
        return recipes.as_carried(after, carry), y


@dataclasses.dataclass(frozen=True)
class _Init:
    recipe: recipes.Recipe

    def __call__(self, key: Array, in_features: int, dtype: Any) -> Params:
        module = self.recipe(in_features=in_features, rngs=nnx.Rngs(key))
        return home.cast(nnx.state(module, nnx.Param), dtype)


@dataclasses.dataclass(frozen=True)
class _Carry:
    recipe: recipes.Recipe

    def __call__(self, params: Params, input_shape: tuple[int, ...]) -> Carry:
        module = nnx.merge(_graph(self.recipe, input_shape[-1]), params)
        # zeros, unless its carry_init draws
        return recipes.widened(module.initialize_carry(input_shape, nnx.Rngs(0)), params)


def _abstract(recipe: recipes.Recipe, in_features: int) -> Any:
    """The module, with shapes in place of arrays."""
    return nnx.eval_shape(lambda: recipe(in_features=in_features, rngs=nnx.Rngs(0)))


@lru_cache(maxsize=256)  # a step is traced often, and building a module takes milliseconds
def _graph(recipe: recipes.Recipe, in_features: int) -> Any:
    return nnx.graphdef(_abstract(recipe, in_features))


def _as_recipe(make: Callable[..., Any]) -> recipes.Recipe:
    """A function that builds a module; a partial one, which compares by identity, by its parts."""
    if isinstance(make, partial) and not make.args:
        return recipes.Recipe(make.func, tuple(sorted(make.keywords.items())))
    return recipes.Recipe(make)


def _recipe_of(module: nnx.RNNCellBase) -> tuple[recipes.Recipe, int]:
    """A module's class with its arguments that are not the defaults, and its `in_features`.

    Raises:
        TypeError: that does not build a module with the same graph and shapes.
    """
    _check_state(module)
    kept, parameters = vars(module), inspect.signature(type(module).__init__).parameters
    arguments = []
    for name, default in ((p.name, p.default) for p in [*parameters.values()][1:]):
        value = kept.get(name, default)
        if name not in ("in_features", "rngs") and value is not default and value != default:
            arguments.append((name, value))
    try:
        recipe = recipes.Recipe(type(module), tuple(sorted(arguments)))
        in_features = kept["in_features"]
        same = _form(_abstract(recipe, in_features)) == _form(module)
    except Exception as error:  # whatever a constructor raises that is called with too little
        raise TypeError(_not_built(module)) from error
    if not same or any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(arguments)):
        raise TypeError(_not_built(module))
    return recipe, in_features


def _form(module: Any) -> Any:
    graph, state = nnx.split(module)
    return graph, [leaf.shape for leaf in jax.tree.leaves(state)]


def _check_state(module: nnx.Module) -> None:
    """Refuse a module whose step would depend on more than its parameters."""
    others = [path for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Not(nnx.Param)))]
    if others:
        names = sorted(".".join(map(str, path)) for path in others)
        raise TypeError(
            f"jaxrnn.nnx.as_cell: {type(module).__name__} holds {names}, expected nnx.Params "
            "alone, as a step depends on them alone; leave out keep_rngs, and use jaxrnn.Dropout"
        )


def _not_built(module: nnx.Module) -> str:
    name = type(module).__name__
    return (
        f"jaxrnn.nnx.as_cell: {name} cannot be built again from its attributes, as init has to; "
        f"pass how to build it instead of the module, functools.partial({name}, ...), "
        "which is called with in_features and rngs"
    )


def _expected(given: Any) -> str:
    kind = type(given).__name__
    wanted = "a flax.nnx.RNNCellBase such as nnx.GRUCell(...)"
    return f"jaxrnn.nnx.as_cell: expected {wanted}, got a {kind}"
