"""Cells of `flax.nnx` as cells of jaxrnn."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn._flax import home, recipes
from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.trees import Tree
from jaxrnn.foreign import FunctionCell


def as_cell(module: nnx.RNNCellBase | Callable[..., nnx.RNNCellBase]) -> FunctionCell:
    """Turn a Flax NNX cell into a `jaxrnn.Cell`, which every driver, method and combinator accepts.

    The parameters are an `nnx.State` of `nnx.Param` leaves: `cell.init(key, in_features)`, or
    `nnx.state(module, nnx.Param)` of a module. `nnx.update(module, params)` writes them back.

    Args:
        module: a cell of Flax with one feature axis and no state but `nnx.Param`, so without a
            random stream; or a function of `in_features` and `rngs` that builds one, such as
            `functools.partial(nnx.GRUCell, hidden_features=4)`. For a module, `init` builds
            another one with the same attributes. It draws with the default initialisers, because
            Flax's cells do not keep their own.

    Returns:
        The cell. Its products run as those of jaxrnn's own cells do (`jaxrnn.foreign`).

    Raises:
        TypeError: `module` is not an NNX cell, holds other state, or cannot be built from its
            attributes.

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
        raise TypeError(_expected(built, "builds"))
    _check_state(built)
    params, make_carry = nnx.state(built, nnx.Param), _Carry(recipe)
    carry = jax.eval_shape(lambda p: make_carry(p, (in_features,)), params)
    _, y = jax.eval_shape(_Apply(recipe), params, carry, jnp.ones(in_features))
    return FunctionCell(_Apply(recipe), _Init(recipe), make_carry, y.shape[-1])


@dataclasses.dataclass(frozen=True)
class _Apply:
    recipe: recipes.Recipe

    def __call__(self, params: Params, carry: Carry, x: Tree) -> Any:
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
        # the rngs count only for a `carry_init` that draws; the default is zeros
        return recipes.widened(module.initialize_carry(input_shape, nnx.Rngs(0)), params)


def _abstract(recipe: recipes.Recipe, in_features: int) -> Any:
    """Build the module, with shapes in place of arrays."""
    return nnx.eval_shape(lambda: recipe(in_features=in_features, rngs=nnx.Rngs(0)))


@lru_cache(maxsize=256)  # a step is traced often, and building a module takes milliseconds
def _graph(recipe: recipes.Recipe, in_features: int) -> Any:
    return nnx.graphdef(_abstract(recipe, in_features))


def _as_recipe(make: Callable[..., Any]) -> recipes.Recipe:
    """Return the recipe of a function that builds a module.

    A `functools.partial` compares by identity, so its function and arguments are taken apart.
    """
    if isinstance(make, partial) and not make.args:
        return recipes.Recipe(make.func, tuple(sorted(make.keywords.items())))
    return recipes.Recipe(make)


def _recipe_of(module: nnx.RNNCellBase) -> tuple[recipes.Recipe, int]:
    """Return a module's class with its arguments that are not the defaults, and `in_features`.

    Raises:
        TypeError: they do not build a module with the same graph and shapes.
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
    except Exception as error:  # a constructor that lacks arguments may raise anything
        raise TypeError(_not_built(module)) from error
    if not same or any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(arguments)):
        raise TypeError(_not_built(module))
    return recipe, in_features


def _form(module: Any) -> Any:
    graph, state = nnx.split(module)
    return graph, [leaf.shape for leaf in jax.tree.leaves(state)]


def _check_state(module: nnx.Module) -> None:
    """Refuse a module with state other than its parameters, for its step could depend on it."""
    others = [path for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Not(nnx.Param)))]
    if others:
        names = sorted(".".join(map(str, path)) for path in others)
        raise TypeError(
            f"jaxrnn.nnx.as_cell: {type(module).__name__} holds {names}, expected nothing but "
            "nnx.Params; leave out keep_rngs, and use jaxrnn.Dropout for dropout"
        )


def _not_built(module: nnx.Module) -> str:
    name = type(module).__name__
    return (
        f"jaxrnn.nnx.as_cell: {name} cannot be built again from its attributes, which init has to "
        f"do; pass functools.partial({name}, ...) in place of the module, which is called with "
        "in_features and rngs"
    )


def _expected(given: object, verb: str = "is") -> str:
    kind = type(given).__name__
    wanted = "a flax.nnx.RNNCellBase such as nnx.GRUCell(...)"
    return f"jaxrnn.nnx.as_cell: module {verb} a {kind}, expected {wanted}"
