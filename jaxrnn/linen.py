"""jaxrnn in `flax.linen`: the modules `RNN` and `RNNCell`.

`RNN` replaces `flax.linen.RNN`; `docs/flax.md` compares their names. `RNNCell` is for Flax's own
`RNN` and `Bidirectional`. `params` takes a cell's parameters out of a Flax model, and `variables`
puts them into one.
"""

from collections.abc import Mapping
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxrnn._flax import home, names
from jaxrnn._flax.linen_cells import as_cell
from jaxrnn.core.call import Flags, check_cell
from jaxrnn.core.cell import (
    C,
    Carry,
    Cell,
    P,
    Params,
    abstract_carry,
    abstract_params,
    check_input_shape,
)
from jaxrnn.core.check import check_flag
from jaxrnn.core.trees import Tree
from jaxrnn.drivers import step
from jaxrnn.methods import MethodLike

__all__ = ["RNN", "RNNCell", "as_cell", "params", "variables"]


def params(cell: Cell[P, C], variables: Mapping[str, Any]) -> P:
    """Return the parameters of an `RNN` or `RNNCell` in the cell's own structure.

    `jaxrnn.scan`, `jaxrnn.step`, `jaxrnn.save`, `jaxrnn.convert` and `jaxrnn.streams` take them.

    Args:
        cell: the cell of the module.
        variables: the variables of the module alone, `{"params": {...}}`, or the inner dict. For a
            module in a model, pass `variables["params"]["name_of_the_module"]`.

    Raises:
        ValueError: a parameter is missing or unknown, or has another shape than the cell's.
        TypeError: `cell` is not a `jaxrnn.Cell`.

    >>> import jax, jax.numpy as jnp, jaxrnn, jaxrnn.linen
    >>> cell = jaxrnn.LSTM(4)
    >>> variables = jaxrnn.linen.RNN(cell).init(jax.random.key(0), jnp.ones((2, 7, 3)))
    >>> carry, ys = jaxrnn.scan(cell, jaxrnn.linen.params(cell, variables), jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """
    owner = "jaxrnn.linen.params"
    check_cell(cell, "linen.params")
    tree = variables.get("params", variables)
    given = names.flat(tree if isinstance(tree, Mapping) else variables)
    like = abstract_params(cell, names.in_features(owner, cell, given))
    return names.gathered(like, lambda path: given["/".join(path)])


def variables(cell: Cell[P, C], params: P) -> dict[str, dict[str, Any]]:
    """Return the variables `{"params": {...}}` of an `RNN` or `RNNCell`: the inverse of `params`.

    Args:
        cell: the cell of the module.
        params: its parameters, in the cell's own structure.

    Raises:
        ValueError: the parameters are not those of the cell.
        TypeError: `cell` is not a `jaxrnn.Cell`.

    >>> import jax, jax.numpy as jnp, jaxrnn, jaxrnn.linen
    >>> cell = jaxrnn.GRU(4)
    >>> variables = jaxrnn.linen.variables(cell, cell.init(jax.random.key(0), in_features=3))
    >>> carry, ys = jaxrnn.linen.RNN(cell).apply(variables, jnp.ones((2, 7, 3)))
    >>> ys.shape
    (2, 7, 4)
    """
    check_cell(cell, "linen.variables")
    tree = names.nested(params)
    names.in_features("jaxrnn.linen.variables", cell, names.flat(tree))
    return {"params": tree}


class RNN(nn.Module):
    """A module that runs a cell over sequences, by `jaxrnn.scan`.

    The variables have the names of the cell's parameters: `{"params": {"w_x": ..., "w_h": ..., "b":
    ...}}`. Combinators nest them: `{"forward": {...}, "backward": {...}}`, or `{"layer_0": {...},
    "layer_1": {...}}`.

    Attributes:
        cell: any `jaxrnn.Cell`.
        outputs: which outputs the call returns: `"all"`, or one for each sequence. `"last"` is the
            output at the end of the cell's walk (`jaxrnn.sequences.last_output`); `"mean"` and
            `"max"` are taken over valid steps.
        time_major: whether time is the first axis of `xs`, `mask` and `reset`. By default, it
            follows the batch axes.
        deterministic: False in training, True otherwise. If False, noisy cells such as `Dropout`
            and `Zoneout` draw from the rng stream `"dropout"`. For a noisy cell, either this or the
            argument of the call has to be set, as in `flax.linen.Dropout`.
        dtype: the dtype that inputs and parameters are cast to, and thus the dtype of the output.
            None casts nothing. The carry is at least float32.
        param_dtype: the dtype in which parameters are initialised.
        method: how the steps are run and differentiated, as in `jaxrnn.scan`.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`.
        ValueError: `outputs` or `method` is unknown, or a flag is not a bool.

    >>> import jax, jax.numpy as jnp, jaxrnn.linen
    >>> rnn = jaxrnn.linen.RNN(jaxrnn.LSTM(4))
    >>> xs = jnp.ones((2, 7, 3))
    >>> variables = rnn.init(jax.random.key(0), xs)
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'b': (16,), 'w_h': (4, 16), 'w_x': (3, 16)}}
    >>> carry, ys = rnn.apply(variables, xs, lengths=jnp.array([7, 5]))
    >>> carry.h.shape, ys.shape
    ((2, 4), (2, 7, 4))
    >>> carry, y = rnn.apply(variables, xs[:, 0], carry, method="step")
    >>> y.shape
    (2, 4)
    """

    cell: Cell
    outputs: home.Outputs = "all"
    time_major: bool = False
    deterministic: bool | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    method: MethodLike = "bptt"

    def __post_init__(self) -> None:
        options = self.outputs, self.time_major, self.method, self.deterministic
        home.check_rnn(self.cell, "linen", *options)
        super().__post_init__()

    def __call__(
        self,
        xs: Tree,
        carry: Carry = None,
        *,
        deterministic: bool | None = None,
        **flags: Unpack[Flags],
    ) -> tuple[Carry, Any]:
        """Run the cell over a sequence, as `jaxrnn.scan` does.

        Args:
            xs: the inputs `[*batch, time, features]`, with any number of batch axes; or a pytree of
                arrays `[*batch, time, ...]`.
            carry: the carry before the first step; the cell's initial carry if left out.
            deterministic: as the attribute. Set one of the two.
            **flags: `lengths [*batch]`, `mask [*batch, time]`, `reset [*batch, time]`, `reverse`
                and `context`, as in `jaxrnn.scan`.

        Returns:
            The carry after the last valid step, and `ys [*batch, time, out_features]`. If `outputs`
            is not `"all"`, the second is `y [*batch, out_features]`.

        Raises:
            ValueError: a shape or a structure does not fit; or the cell is noisy, and
                `deterministic` is not set, or set twice.
            TypeError: a dtype does not fit, or a keyword is unknown.
        """
        owner = "jaxrnn.linen.RNN"
        own = self._own_params(home.sequence_feature_size(owner, self, xs, flags))
        return home.run(owner, self, own, xs, carry, self._key(owner, deterministic), flags)

    def step(
        self, x: Tree, carry: Carry, *, deterministic: bool | None = None, context: Tree = None
    ) -> tuple[Carry, Any]:
        """Take one step, as `jaxrnn.step` does: `rnn.apply(variables, x, carry, method="step")`.

        Args:
            x: the input of one step, `[*batch, features]`, with any number of batch axes; or a
                pytree of arrays.
            carry: the carry before the step. None means the cell's initial carry.
            deterministic: as in the call.
            context: as in the call.

        Returns:
            The new carry, and `y [*batch, out_features]`.

        Raises:
            ValueError: as in the call.
            TypeError: a dtype does not fit, or the cell needs later inputs (`Bidirectional`).
        """
        owner = "jaxrnn.linen.RNN.step"
        own = self._own_params(home.feature_size(owner, self.cell, x))
        return home.take_step(self, own, x, carry, self._key(owner, deterministic), context)

    @nn.compact
    def _own_params(self, in_features: int) -> Params:
        return _params(self, in_features)

    def _key(self, owner: str, deterministic: bool | None) -> Array | None:
        """Return the random key for the cell. It is None if the cell draws nothing."""
        if not self.cell.noisy:
            if deterministic is not None:
                check_flag(owner, "deterministic", deterministic)
            return None
        quiet = home.merged(owner, self.cell, self.deterministic, deterministic)
        return None if quiet else self.make_rng("dropout")


class RNNCell(nn.RNNCellBase):
    """A causal cell as a Flax `RNNCellBase`.

    `flax.linen.RNN`, `flax.linen.Bidirectional` and code around them can run it. Its parameters
    have the same names as in `RNN`. `RNN` is faster, because Flax's loop projects the input at
    every step.

    Attributes:
        cell: any `jaxrnn.Cell` that is causal, takes no context and draws nothing.
        dtype: the dtype that inputs and parameters are cast to. None casts nothing. The carry is at
            least float32.
        param_dtype: the dtype in which parameters are initialised.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or is not causal, takes a context, or is noisy.

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
    def __call__(self, carry: Carry, inputs: Tree) -> tuple[Carry, Array]:
        """Take one step.

        Args:
            carry: the carry, as `initialize_carry` returns it.
            inputs: the input of the step, `[*batch, features]`.

        Returns:
            The new carry, and the output `[*batch, out_features]`.

        Raises:
            ValueError: a shape or a structure does not fit.
            TypeError: a dtype does not fit.
        """
        own = _params(self, home.feature_size("jaxrnn.linen.RNNCell", self.cell, inputs))
        own, inputs = home.cast((own, inputs), self.dtype)
        return step(self.cell, own, carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: Array, input_shape: tuple[int, ...]) -> Carry:
        """Return the cell's initial carry.

        If the cell learns its initial carry, call this where the module has its parameters: in
        `apply`, or on a bound module.

        Args:
            rng: draws parameters while the module is initialised. Otherwise it is not used.
            input_shape: the shape of one step's input, `(*batch, *features)`.

        Raises:
            ValueError: the cell learns its initial carry, and the module has no parameters.
        """
        in_features = check_input_shape("RNNCell.initialize_carry", input_shape)[-1]
        if self.scope is None:
            return self._unbound_carry(input_shape)
        if "params" in self.variables:
            own = _find(self, in_features, self.variables["params"])
        else:  # in `init`: Flax's RNN asks for a carry before its first step makes the parameters
            own = self.cell.init(rng, in_features, self.param_dtype)
        return self.cell.initial_carry(home.cast(own, self.dtype), input_shape)

    @nn.nowrap
    def _unbound_carry(self, input_shape: tuple[int, ...]) -> Carry:
        """Return the initial carry without parameters.

        It works for cells that need nothing but the shapes and dtypes of the parameters, as most
        do.
        """
        form = abstract_params(self.cell, input_shape[-1], self.param_dtype)
        form = jax.eval_shape(lambda p: home.cast(p, self.dtype), form)
        abstract_carry(self.cell, form, input_shape)  # raises the cell's own errors
        try:
            return self.cell.initial_carry(form, input_shape)
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"jaxrnn.linen.RNNCell: {type(self.cell).__name__} learns its initial carry, but "
                "this module has no parameters; call initialize_carry within apply, or as "
                "module.bind(variables).initialize_carry(...)"
            ) from error

    @property
    def num_feature_axes(self) -> int:
        """How many trailing axes of an input are features."""
        return self.cell.feature_axes


def _params(module: RNN | RNNCell, in_features: int) -> Params:
    """Return the module's parameters in the cell's own structure.

    If they do not exist yet, draw all of them from one key.
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

    # for a parameter that exists, Flax calls this to check nothing but the shapes
    def init(_: Array, name: str) -> Any:
        return (
            drawn[name]
            if new
            else jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[name])
        )

    return _find(module, in_features, {name: module.param(name, init, name) for name in shapes})


def _find(module: RNN | RNNCell, in_features: int, variables: Any) -> Params:
    """Return the parameters of nested dicts in the cell's own structure."""
    flat = names.flat(variables)

    def find(path: tuple[str, ...]) -> Any:
        if (name := "/".join(path)) not in flat:
            raise ValueError(
                f"jaxrnn.linen.{type(module).__name__}({type(module.cell).__name__}): the "
                f"parameters are {sorted(flat)}, expected {name!r}, too; initialise them with the "
                "same cell, or rename them"
            )
        return flat[name]

    return names.gathered(abstract_params(module.cell, in_features, module.param_dtype), find)
