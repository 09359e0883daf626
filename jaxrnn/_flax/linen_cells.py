"""Cells of `flax.linen` as cells of jaxrnn."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxrnn._flax import home, recipes
from jaxrnn.core.cell import Carry, Params
from jaxrnn.core.trees import Tree
from jaxrnn.foreign import FunctionCell


def as_cell(module: nn.RNNCellBase) -> FunctionCell:
    """Turn a Flax cell into a `jaxrnn.Cell`, which every driver, method and combinator accepts.

    The parameters are those of the module: `cell.init(key, in_features)`, or `variables["params"]`
    of an initialised module.

    Args:
        module: a cell of Flax with one feature axis. Its step must need no random stream.

    Returns:
        The cell. Its products run as those of jaxrnn's own cells do (`jaxrnn.foreign`).

    Raises:
        TypeError: `module` is not a Flax cell, or a field of it is not hashable.

    >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxrnn
    >>> cell = as_cell(nn.GRUCell(4))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> h, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 5]))
    >>> ys.shape
    (7, 2, 4)
    """
    if not isinstance(module, nn.RNNCellBase):
        raise TypeError(
            f"jaxrnn.linen.as_cell: module is a {type(module).__name__}, expected a "
            "flax.linen.RNNCellBase such as nn.GRUCell(128)"
        )
    recipe = _recipe(module)
    make_params, make_carry, key = _Init(recipe), _Carry(recipe), jax.random.key(0)
    params = jax.eval_shape(lambda: make_params(key, 1, jnp.float32))
    _, y = jax.eval_shape(_Apply(recipe), params, make_carry(params, (1,)), jnp.ones(1))
    return FunctionCell(_Apply(recipe), make_params, make_carry, y.shape[-1])


def _recipe(module: nn.RNNCellBase) -> recipes.Recipe:
    """Return the class of a module, and its fields that do not have their default."""
    fields = [f for f in dataclasses.fields(module) if f.init and f.name not in ("parent", "name")]
    values = [(f.name, getattr(module, f.name), f.default) for f in fields]
    own = [(name, value) for name, value, usual in values if value is not usual and value != usual]
    return recipes.Recipe(type(module), tuple(sorted(own)))


@dataclasses.dataclass(frozen=True)
class _Apply:
    recipe: recipes.Recipe

    def __call__(self, params: Params, carry: Carry, x: Tree) -> Any:
        after, y = self.recipe(parent=None).apply({"params": params}, carry, x)
        return recipes.as_carried(after, carry), y


@dataclasses.dataclass(frozen=True)
class _Init:
    recipe: recipes.Recipe

    def __call__(self, key: Array, in_features: int, dtype: Any) -> Params:
        module = self.recipe(parent=None)
        variables = module.init(key, _carry(module, (in_features,)), jnp.ones(in_features))
        return home.cast(variables["params"], dtype)


@dataclasses.dataclass(frozen=True)
class _Carry:
    recipe: recipes.Recipe

    def __call__(self, params: Params, input_shape: tuple[int, ...]) -> Carry:
        return recipes.widened(_carry(self.recipe(parent=None), input_shape), params)


def _carry(module: nn.RNNCellBase, input_shape: tuple[int, ...]) -> Carry:
    """Return the module's initial carry: zeros, unless its `carry_init` draws."""
    return module.initialize_carry(jax.random.key(0), input_shape)
