"""jaxrnn at home in `flax.linen`: `RNN`, and `RNNCell` for Flax's own `RNN` and `Bidirectional`."""

import dataclasses
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from jax import Array

from jaxrnn._flax import home, names, recipes
from jaxrnn.core.call import Flags
from jaxrnn.core.cell import Carry, Cell, Params, abstract_params
from jaxrnn.core.check import check_flag
from jaxrnn.drivers import step
from jaxrnn.foreign import FunctionCell
from jaxrnn.methods import MethodLike

__all__ = ["RNN", "RNNCell", "as_cell"]


class RNN(nn.Module):
    """A cell, run by `jaxrnn.scan`, whose parameters live in a Flax model.

    The parameters are variables under the cell's own names, `{"params": {"w_x": ..., "w_h": ...,
    "b": ...}}`; those of combinators are nested, `{"forward": {...}, "backward": {...}}`,
    `{"layer_0": {...}, "layer_1": {...}}`.

    Attributes:
        cell: any `jaxrnn.Cell`.
        time_major: whether time is the first axis of `xs`, `mask` and `reset`, rather than the one
            after the batch axes.
        dtype: what inputs and parameters are cast to before computing, and so the dtype of the
            output; not cast if None. The carry has at least float32.
        param_dtype: what parameters are initialised in.
        method: how the steps are run and differentiated, as in `jaxrnn.scan`.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`.

    >>> import jax, jax.numpy as jnp, jaxrnn.linen
    >>> rnn = jaxrnn.linen.RNN(jaxrnn.LSTM(4))
    >>> xs = jnp.ones((2, 7, 3))
    >>> variables = rnn.init(jax.random.key(0), xs)
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'b': (16,), 'w_h': (4, 16), 'w_x': (3, 16)}}
    >>> carry, ys = rnn.apply(variables, xs, lengths=jnp.array([7, 5]))
    >>> carry.h.shape, ys.shape
    ((2, 4), (2, 7, 4))
    """

    cell: Cell
    time_major: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    method: MethodLike = "bptt"

    def __post_init__(self) -> None:
        home.check_rnn(self.cell, "linen", self.time_major)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        xs: Any,
        carry: Carry = None,
        *,
        deterministic: bool = True,
        **flags: Unpack[Flags],
    ) -> tuple[Carry, Any]:
        """Run the cell over a sequence, as `jaxrnn.scan` does.

        Args:
            xs: inputs `[*batch, time, features]`, any number of batch axes; or a pytree of arrays
                that start `[*batch, time]`.
            carry: the carry before the first step; the cell's initial carry if left out.
            deterministic: False in training: cells that draw (`Dropout`, `Zoneout`, ...) then draw
                from the `"dropout"` stream, which no other cell asks for.
            **flags: `lengths [*batch]`, `mask [*batch, time]`, `reset [*batch, time]`, `reverse`
                and `context`, as in `jaxrnn.scan`.

        Returns:
            The carry after the last valid step, and `ys [*batch, time, out_features]`.

        Raises:
            ValueError: a shape or structure does not fit; the message says which and what was
                expected.
            TypeError: a dtype does not fit.
        """
        owner = "jaxrnn.linen.RNN"
        params = _params(self, home.sequence_feature_size(owner, self, xs))
        deterministic = check_flag(owner, "deterministic", deterministic)
        key = self.make_rng("dropout") if self.cell.noisy and not deterministic else None
        return home.run(owner, self, params, xs, carry, key, flags)


class RNNCell(nn.RNNCellBase):
    """A causal cell as a Flax `RNNCellBase`, for `flax.linen.RNN`, `flax.linen.Bidirectional` and
    code written around them.

    Its parameters have the names that they have in `RNN`. Flax's loop projects the input at every
    step: `RNN` is faster.

    Attributes:
        cell: any `jaxrnn.Cell` that needs no future input.
        dtype: what inputs and parameters are cast to before computing; not cast if None. The carry
            has at least float32.
        param_dtype: what parameters are initialised in.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or needs the whole sequence (`Bidirectional`).

    >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxrnn.linen
    >>> rnn = nn.RNN(jaxrnn.linen.RNNCell(jaxrnn.GRU(4)), return_carry=True)
    >>> xs = jnp.ones((2, 7, 3))
    >>> carry, ys = rnn.apply(rnn.init(jax.random.key(0), xs), xs, seq_lengths=jnp.array([7, 5]))
    >>> carry.shape, ys.shape
    ((2, 4), (2, 7, 4))
    """

    cell: Cell
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        home.check_rnn_cell(self.cell, "linen")
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: Carry, inputs: Any) -> tuple[Carry, Array]:
        """Take one step: `carry` as `initialize_carry` gives it, `inputs [*batch, features]`,
        output `[*batch, out_features]`.
        """
        params = _params(self, home.feature_size("jaxrnn.linen.RNNCell", self.cell, inputs))
        params, inputs = home.cast((params, inputs), self.dtype)
        return step(self.cell, params, carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Carry:
        """The cell's initial carry for one step's input of shape `input_shape = (*batch,
        *features)`.

        A cell that learns its initial carry has one only where the parameters are: in `apply`, or
        in a module that is bound.

        Raises:
            ValueError: the initial carry is learned, and the module is not bound to parameters.
        """
        in_features = input_shape[-1]
        if self.scope is None:
            return self._unbound_carry(input_shape)
        if "params" in self.variables:
            params = _find(self, in_features, self.variables["params"])
        else:  # within init: Flax's RNN asks for a carry before its first step makes the parameters
            params = self.cell.init(rng, in_features, self.param_dtype)
        return self.cell.initial_carry(home.cast(params, self.dtype), input_shape)

    @nn.nowrap
    def _unbound_carry(self, input_shape: tuple[int, ...]) -> Carry:
        """The initial carry of a cell that looks at no more than the shapes and dtypes of its
        parameters, as most do.
        """
        params = abstract_params(self.cell, input_shape[-1], self.param_dtype)
        try:
            return self.cell.initial_carry(
                jax.eval_shape(lambda p: home.cast(p, self.dtype), params), input_shape
            )
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"jaxrnn.linen.RNNCell: {type(self.cell).__name__} learns its initial carry, and "
                "this module has no parameters; "
                "call initialize_carry within apply, or as "
                "module.bind(variables).initialize_carry(...)"
            ) from error

    @property
    def num_feature_axes(self) -> int:
        """How many trailing axes of an input are features."""
        return self.cell.feature_axes


def _params(module: RNN | RNNCell, in_features: int) -> Params:
    """The module's parameters in the cell's own structure; drawn, all from one key, if they do not
    exist yet.
    """
    shapes = names.nested(abstract_params(module.cell, in_features, module.param_dtype))
    new = module.is_mutable_collection("params") and not all(
        module.has_variable("params", name) for name in shapes
    )
    drawn = (
        names.nested(module.cell.init(module.make_rng("params"), in_features, module.param_dtype))
        if new
        else {}
    )

    # of a parameter that exists, Flax asks for the shapes alone
    def init(_: Array, name: str) -> Any:
        return (
            drawn[name]
            if new
            else jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[name])
        )

    return _find(module, in_features, {name: module.param(name, init, name) for name in shapes})


def _find(module: RNN | RNNCell, in_features: int, variables: Any) -> Params:
    """The parameters in the cell's own structure, out of nested dicts."""
    flat = traverse_util.flatten_dict(variables, sep="/")

    def find(path: tuple[str, ...]) -> Any:
        if (name := "/".join(path)) not in flat:
            raise ValueError(
                f"jaxrnn.linen.{type(module).__name__}({type(module.cell).__name__}): there is no "
                f"parameter {name!r} among "
                f"{sorted(flat)}; initialise with the same cell, or rename them"
            )
        return flat[name]

    return names.gathered(abstract_params(module.cell, in_features, module.param_dtype), find)


def as_cell(module: nn.RNNCellBase) -> FunctionCell:
    """Any Flax cell as a `jaxrnn.Cell`: for `jaxrnn.scan`, its engine, lengths, masks and resets,
    and every combinator.

    Its parameters are the module's: `cell.init(key, in_features)`, or `variables["params"]` of an
    existing module.

    Args:
        module: a cell that needs no random stream in a step, with one feature axis.

    Raises:
        TypeError: it is not a Flax cell.

    >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxrnn
    >>> cell = as_cell(nn.GRUCell(4))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> h, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 5]))
    >>> ys.shape
    (7, 2, 4)
    """
    if not isinstance(module, nn.RNNCellBase):
        raise TypeError(
            "jaxrnn.linen.as_cell: expected a flax.linen.RNNCellBase such as nn.GRUCell(128), "
            f"got a {type(module).__name__}"
        )
    recipe = _recipe(module)
    make_params, make_carry, key = _Init(recipe), _Carry(recipe), jax.random.key(0)
    params = jax.eval_shape(lambda: make_params(key, 1, jnp.float32))
    _, y = jax.eval_shape(_Apply(recipe), params, make_carry(params, (1,)), jnp.ones(1))
    return FunctionCell(_Apply(recipe), make_params, make_carry, y.shape[-1])


def _recipe(module: nn.RNNCellBase) -> recipes.Recipe:
    """The class of a module, and those of its fields that are not the defaults."""
    fields = [f for f in dataclasses.fields(module) if f.init and f.name not in ("parent", "name")]
    values = [(f.name, getattr(module, f.name), f.default) for f in fields]
    own = [(name, value) for name, value, usual in values if value is not usual and value != usual]
    return recipes.Recipe(type(module), tuple(sorted(own)))


@dataclasses.dataclass(frozen=True)
class _Apply:
    recipe: recipes.Recipe

    def __call__(self, params: Params, carry: Carry, x: Any) -> Any:
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
    """Zeros, unless the module's carry_init draws."""
    return module.initialize_carry(jax.random.key(0), input_shape)
